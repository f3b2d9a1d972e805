"""The Unix socket: its owner, root and the group `triage`, and nobody else."""

from __future__ import annotations

import grp
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from proxy.admin import guard
from tests.e2e.support import LONG

NOBODY = 65534
CALL = """
import http.client, os, socket, sys
groups, gid, uid, path, *token = sys.argv[1:]
os.setgroups([int(one) for one in groups.split(",") if one])
os.setgid(int(gid))
os.setuid(int(uid))
sock = socket.socket(socket.AF_UNIX)
sock.connect(path)
connection = http.client.HTTPConnection("localhost")
connection.sock = sock
connection.request("GET", "/api/v1/whoami", headers={"Authorization": f"Bearer {token[0]}"} if token else {})
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")


def began(path: str, *token: str, groups: str = "", gid: int = NOBODY) -> subprocess.Popen[str]:
    """A call by another user."""
    return subprocess.Popen(
        [sys.executable, "-c", CALL, groups, str(gid), str(NOBODY), path, *token],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(call: subprocess.Popen[str]) -> str:
    return "".join(call.communicate(timeout=LONG))


@root
@pytest.mark.slow
def test_another_user_gets_no_further_than_the_file(triage) -> None:
    path = Path(triage.socket)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    folders = [triage.folder, triage.data, path.parent]
    modes = {one: stat.S_IMODE(one.stat().st_mode) for one in (*folders, path)}
    try:
        for folder in folders:
            folder.chmod(0o755)
        assert "PermissionError" in said(began(triage.socket))
        path.chmod(0o666)  # as if somebody had opened it: the kernel still says who asks
        assert said(began(triage.socket)).startswith("401 ")
        asked = said(began(triage.socket, triage.token))
        assert asked.startswith("200 ") and '"name":"admin.token"' in asked, asked
    finally:
        for one, mode in modes.items():
            one.chmod(mode)


@root
@pytest.mark.slow
def test_the_group_is_what_the_kernel_says_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was when the peer connected: not what /proc says of a process that may be another by now."""
    group = next(one for one in grp.getgrall() if one.gr_gid not in (0, 4, NOBODY))
    monkeypatch.setattr(guard, "GROUP", group.gr_name)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        os.chmod(folder, 0o755)
        path = f"{folder}/s"
        listening.bind(path)
        os.chmod(path, 0o666)
        listening.listen()
        listening.settimeout(LONG)
        own, others = group.gr_gid, f"4,{group.gr_gid}"
        for groups, gid, wanted in ((others, NOBODY, True), ("", own, True), ("4", NOBODY, False)):
            call = began(path, groups=groups, gid=gid)
            conn, _ = listening.accept()
            with conn:
                found = guard._PEER.unpack(conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, guard._PEER.size))
                assert found[1:] == (NOBODY, gid)
                assert guard._in_group(conn, gid) is wanted
            said(call)
