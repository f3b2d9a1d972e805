"""What is started for an instance: arguments, environment, and the place where it shall listen.

Two variables are set unless the app's environment says otherwise. PYTHONUNBUFFERED: Python buffers whole blocks when
its output is a pipe, and the last words of a killed app would be lost with the buffer. PYTHONFAULTHANDLER: an app that
does not end when it is told to writes the stacks of its threads before it is killed.
"""

from __future__ import annotations

import os
import pwd
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from proxy.config import Process, filled
from proxy.config import environment as inherited_environment
from proxy.config.listen import LONGEST_UNIX
from proxy.control.ports import LOOPBACK

BACKLOG: Final = 1024


def arguments(process: Process, name: str, port: int, path: str) -> list[str]:
    """The command with its placeholders filled in. Other braces stay as they are."""
    return filled(process.command, {"port": port, "socket": path, "name": name})


def environment(process: Process, inherited: Mapping[str, str], name: str, port: int, path: str) -> dict[str, str]:
    """The whole environment of an instance. Its place wins over anything inherited: it must listen there."""
    preset = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    env = preset | inherited_environment(process, inherited) | {"TRIAGE_INSTANCE": name}
    if port:
        env["PORT"] = str(port)
    if path:
        env["SOCKET"] = path
    return env


def socket_path(data_dir: Path, name: str, user: str | None) -> str:
    """Where an instance with `bind = "unix"` shall listen; its folder exists afterwards, and is its user's.

    A path that does not fit into a socket address goes to a folder of the same purpose under /tmp.
    """
    folder = data_dir / "run" / "instances"
    if len(os.fsencode(folder / f"{name}.sock")) > LONGEST_UNIX:
        folder = Path("/tmp") / f"triage-{os.getuid()}-{zlib.crc32(os.fsencode(data_dir)):08x}"
    if user and os.geteuid() == 0 and user not in ("root", "0"):
        folder = folder / user
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    else:
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    path = folder / f"{name}.sock"
    path.unlink(missing_ok=True)
    return str(path)


def inherited_socket() -> socket.socket:
    """A listening socket for `bind = "fd"`: the instance accepts on descriptor 3 (LISTEN_FDS=1)."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.bind((LOOPBACK, 0))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
