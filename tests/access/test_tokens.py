"""Tokens are made, listed, revoked; kept as hashes; and a damaged file opens nothing."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import psutil
import pytest

from proxy.admin import tokens as of_tokens
from proxy.admin.tokens import Refused, Tokens
from tests.e2e.support import LONG, until

pytestmark = pytest.mark.slow

WHOAMI = "/api/v1/whoami"
TOKENS = "/api/v1/tokens"


def test_a_token_is_told_once_and_kept_as_a_hash(triage, name: str) -> None:
    answer = triage.local("POST", TOKENS, {"name": name, "role": "operator", "for": "90d", "reason": "for CI"})
    made = answer.value
    assert answer.status == 201 and answer.headers["Location"] == f"{TOKENS}/{made['id']}"
    assert made["token"].startswith(f"triage_{made['id']}_") and made["by"] == f"uid {os.geteuid()}"
    path = triage.data / of_tokens.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert triage.call("GET", WHOAMI, made["token"]).value["role"] == "operator"
    listed = next(one for one in triage.local("GET", TOKENS).value["items"] if one["name"] == name)
    assert listed["last_from"] == "127.0.0.1" and listed["last_used"] and listed["expires"]
    secret = made["token"].rpartition("_")[2]
    everything = [file for file in triage.data.rglob("*") if file.is_file()]
    assert path in everything
    for file in [*everything, triage.folder / "log"]:
        assert secret.encode() not in file.read_bytes(), file
    assert secret not in str(triage.local("GET", "/api/v1/events?limit=1000").value)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({}, 400, "bad-field"),
        ({"name": "x"}, 400, "bad-field"),
        ({"name": "x", "role": "root"}, 400, "bad-field"),
        ({"name": "a b", "role": "viewer"}, 400, "bad-field"),
        ({"name": "../x", "role": "viewer"}, 400, "bad-field"),
        ({"name": "x" * 61, "role": "viewer"}, 400, "bad-field"),
        ({"name": "admin.token", "role": "viewer"}, 400, "bad-field"),
        ({"name": "x", "role": "viewer", "for": "-1s"}, 400, "bad-field"),
        ({"name": "x", "role": "viewer", "hash": "0"}, 400, "unknown-field"),
    ],
)
def test_what_no_token_can_be_is_refused(triage, body, status: int, kind: str) -> None:
    answer = triage.local("POST", TOKENS, body)
    assert (answer.status, answer.kind) == (status, kind) and answer.value["detail"]


def test_a_name_is_taken_once_and_a_revoked_token_is_nobodys(triage, name: str) -> None:
    id, text = triage.make(name, "viewer")
    assert triage.local("POST", TOKENS, {"name": name, "role": "admin"}).kind == "tokens-name-taken"
    assert triage.call("GET", WHOAMI, text).status == 200
    assert triage.local("DELETE", f"{TOKENS}/{name}").status == 204
    assert triage.call("GET", WHOAMI, text).kind == "wrong-token"
    assert triage.local("DELETE", f"{TOKENS}/{id}").kind == "no-such-token"
    assert triage.local("DELETE", f"{TOKENS}/admin.token").kind == "admin-token"
    assert id not in (triage.data / of_tokens.FILE).read_text()


def ends(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, seconds: list[float]) -> None:
    began = time.monotonic()
    try:
        while answer.read1(65536):
            pass
    except (OSError, http.client.HTTPException):
        pass
    seconds.append(time.monotonic() - began)
    connection.close()


def following(triage, token: str) -> tuple[threading.Thread, list[float]]:
    connection = http.client.HTTPConnection("127.0.0.1", triage.port, timeout=LONG)
    path = "/api/v1/metrics/stream?follow=true"
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.read1(10)
    seconds: list[float] = []
    thread = threading.Thread(target=ends, args=(connection, answer, seconds))
    thread.start()
    return thread, seconds


def test_what_a_token_has_open_ends_with_it(triage, name: str) -> None:
    """Revoked, expired or logged out: streams are cut at once, and others' go on."""
    id, text = triage.make(name, "viewer")
    _, other = triage.make(f"{name}.other", "viewer", **{"for": "2s"})
    cut, spared = following(triage, text), following(triage, other)
    link = triage.call("POST", "/api/v1/login-links", text, {}).value["url"].rpartition("?")[2]
    cookie = triage.call("GET", f"/login?{link}").headers["Set-Cookie"].partition(";")[0]
    assert triage.call("GET", WHOAMI, Cookie=cookie).status == 200
    late = triage.call("POST", "/api/v1/login-links", text, {}).value["url"].rpartition("?")[2]
    assert triage.local("DELETE", f"{TOKENS}/{id}").status == 204
    cut[0].join(LONG)
    assert cut[1] and cut[1][0] < LONG / 2
    assert triage.call("GET", WHOAMI, Cookie=cookie).status == 401
    assert "Set-Cookie" not in triage.call("GET", f"/login?{late}").headers
    spared[0].join(LONG)  # its token expires
    assert spared[1] and spared[1][0] < LONG / 2
    assert triage.call("GET", WHOAMI, other).kind == "token-expired"


def terminal(triage, **headers: str) -> socket.socket:
    """An open terminal: a WebSocket after its handshake."""
    sock = socket.create_connection(("127.0.0.1", triage.port), timeout=LONG)
    lines = {
        "Host": f"127.0.0.1:{triage.port}", "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers,
    }  # fmt: skip
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    sock.sendall(f"GET /api/v1/console?cols=80&rows=24 HTTP/1.1\r\n{text}\r\n".encode())
    data = b""
    while b"begun" not in data:
        part = sock.recv(4096)
        assert part, data
        data += part
    assert data.startswith(b"HTTP/1.1 101"), data
    return sock


def is_over(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    sock.close()
    return True


def test_a_terminal_ends_with_its_token_and_with_its_login(triage, name: str) -> None:
    """The WebSocket, and the processes behind it."""
    id, text = triage.make(name, "admin")
    by_token = terminal(triage, Authorization=f"Bearer {text}")
    answer = triage.call("POST", "/login", None, {"token": triage.token})
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    by_login = terminal(triage, Cookie=cookie, Origin=triage.admin)
    there = {one["by"]: one["pid"] for one in triage.local("GET", "/api/v1/consoles").value["items"]}
    assert set(there) == {name, "admin.token"}
    assert triage.local("DELETE", f"{TOKENS}/{id}").status == 204
    assert is_over(by_token)
    until(lambda: not psutil.pid_exists(there[name]), "its shell has ended")
    assert psutil.pid_exists(there["admin.token"])
    assert triage.call("POST", "/logout", None, {}, Cookie=cookie, Origin=triage.admin).status == 204
    assert is_over(by_login)
    until(lambda: not psutil.pid_exists(there["admin.token"]), "its shell has ended")
    began = triage.audit(path="/api/v1/console", status=101)
    assert {one["data"]["who"] for one in began} >= {name, "admin.token"}


def control_of(triage) -> psutil.Process | None:
    for one in psutil.Process(triage.process.pid).children():
        try:
            if "control" in one.cmdline():
                return one
        except psutil.Error:
            continue
    return None


def test_tokens_outlive_control_and_a_damaged_file_opens_nothing(triage, name: str) -> None:
    _, text = triage.make(name, "operator")
    path: Path = triage.data / of_tokens.FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    control = until(lambda: control_of(triage), "control is there")
    os.kill(control.pid, signal.SIGKILL)

    def again() -> bool:
        found = control_of(triage)
        try:
            return found is not None and found.pid != control.pid and triage.local("GET", "/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    until(again, "another control answers")
    said = triage.local("GET", "/api/v1/events?kind=tokens-damaged").value["items"]
    assert said and str(path) in said[0]["words"] and "no token of it is taken" in said[0]["words"]
    assert triage.call("GET", WHOAMI, text, source=triage.elsewhere()).kind == "wrong-token"
    for method, where, body in (
        ("GET", TOKENS, None), ("POST", TOKENS, {"name": "new", "role": "admin"}), ("DELETE", f"{TOKENS}/x", None)
    ):  # fmt: skip
        answer = triage.local(method, where, body)
        assert (answer.status, answer.kind) == (503, "tokens-damaged") and answer.value["hint"]
    assert path.read_bytes() == whole[:-40]  # never overwritten
    assert triage.call("GET", WHOAMI, triage.token).status == 200
    path.write_bytes(whole)
    os.chmod(path, 0o600)
    assert any(one["name"] == name for one in triage.local("GET", TOKENS).value["items"])
    assert triage.call("GET", WHOAMI, text).value["role"] == "operator"


# --- the file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"[]", b"{", b'{"form": 2, "tokens": []}', b'{"form": 1, "tokens": [{}]}', b"\xff\xfe", b"null",
        b'{"form": 1, "tokens": [{"id": "00000000", "name": "x", "role": "root", "hash": "' + b"0" * 64
        + b'", "made": 1, "expires": null, "by": ""}]}',
        b'{"form": 1, "tokens": [{"id": "00000000", "name": "x", "role": "admin", "hash": "", "made": 1,'
        b' "expires": null, "by": ""}]}',
    ],
)  # fmt: skip
def test_a_file_that_was_not_written_so_is_not_believed(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / of_tokens.FILE
    path.write_bytes(damage)
    path.chmod(0o600)
    found = Tokens(tmp_path, "a" * 43)
    assert found.damage and len(found.all()) == 1 and path.read_bytes() == damage


def test_a_file_of_others_is_not_believed(tmp_path: Path) -> None:
    good = b'{"form": 1, "tokens": []}'
    (tmp_path / "elsewhere").write_bytes(good)
    path = tmp_path / of_tokens.FILE
    os.symlink(tmp_path / "elsewhere", path)
    assert Tokens(tmp_path, "x").damage
    path.unlink()
    os.mkfifo(path)
    assert Tokens(tmp_path, "x").damage
    path.unlink()
    path.write_bytes(good)
    path.chmod(0o646)
    assert "lets others write" in Tokens(tmp_path, "x").damage
    path.chmod(0o644)
    assert not Tokens(tmp_path, "x").damage and stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        assert Tokens(tmp_path, "x").damage


async def test_a_token_that_cannot_be_saved_is_not_made(tmp_path: Path) -> None:
    """And one whose revocation can't be is refused all the same."""
    found = Tokens(tmp_path, "x")
    token, text = await found.make("first", "viewer", None, "me")
    (tmp_path / f".{of_tokens.FILE}.{os.getpid()}").mkdir()  # where it would be written first
    with pytest.raises(Refused, match="could not be written"):
        await found.make("second", "admin", None, "me")
    assert [one.name for one in found.all()] == ["admin.token", "first"]
    assert found.find(text) == token
    with pytest.raises(Refused, match="could not be written"):
        await found.revoke(token.id)
    assert found.find(text) is None


async def test_there_are_never_more_than_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Tokens(tmp_path, "x")
    monkeypatch.setattr(of_tokens, "MOST", 3)
    for number in range(3):
        await found.make(f"t{number}", "viewer", None, "me")
    with pytest.raises(Refused, match="There are 3 tokens"):
        await found.make("more", "viewer", None, "me")


def test_no_text_makes_asking_fail(tmp_path: Path) -> None:
    found = Tokens(tmp_path, "weak")
    for text in ("", "triage_", "triage_00000000_", "triage_00000000_" + "x" * 43, "\udcff", "ü" * 5000, "weak "):
        assert found.find(text) is None
    admin = found.find("weak")
    assert admin is not None and admin.role == "admin" and not found.strong(admin)
