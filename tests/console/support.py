"""A whole Triage with the Console on; raw HTTP and WebSockets to it."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import io
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).parents[1] / "admin" / "app.py"
LONG = 40.0
USER = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
data_dir = "var"
workers = 1
[admin]
listen = "127.0.0.1:0"
console = true
upload = "8MB"
console_idle = "{idle}"
roots = {{ site = "site", all = "." }}
[apps.web]
[apps.web.diagnose]
on = []
[apps.web.process]
command = "{python} {app} {{port}}"
cwd = "site"
{own}
env = {{ GREETING = "hello" }}
[apps.web.health]
path = "/healthz"
interval = "1s"
[apps.other]
hosts = ["other.example.com"]
[apps.other.process]
command = "sleep 1000000"
cwd = "/"
instances = 0
user = "{user}"
env = {{ GREETING = "other" }}
[apps.away]
hosts = ["away.example.com"]
addresses = ["http://127.0.0.1:9"]
"""

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, within: float = LONG) -> T:
    """The first true value of `condition`."""
    deadline = time.monotonic() + within
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.02)


@dataclass
class Answer:
    """Of raw HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        return str(self.json["type"]).removeprefix("urn:triage:")


class Triage:
    """One running gateway."""

    def __init__(self, idle: str = "30m") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="console-"))  # short: a Unix socket is in it
        self.folder.chmod(0o755)
        self.site = self.folder / "site"
        self.site.mkdir()
        self.data = self.folder / "var"
        own = 'user = "root"' if os.geteuid() == 0 else ""
        text = CONFIG.format(python=sys.executable, app=APP, idle=idle, own=own, user=USER)
        (self.folder / "config.toml").write_text(text)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("TRIAGE_", "XDG_"))}
        self.log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy.main", "serve", "-c", str(self.folder / "config.toml")],
            cwd=self.folder, env={**env, "HOME": str(self.folder), "PYTHONPATH": str(ROOT), "SOME_API_TOKEN": "geheim"},
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )  # fmt: skip
        LAUNCHERS.add(self.process.pid)
        self.port = 0
        try:
            until(self._up, "it is ready")
        except BaseException:
            self.stop()
            raise

    def _up(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()[-4000:]
        try:
            status = self.call("GET", "/api/v1/status")
        except OSError:
            return False
        if status.status != 200 or not (status.json["apps"] and self.call("GET", "/api/v1/apps/web").json["ready"]):
            return False
        self.port = int(status.json["gateway"]["admin"].rpartition(":")[2])
        return True

    @property
    def token(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    @property
    def control(self) -> int:
        """Its pid."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().startswith("triage-control"))

    def socket(self) -> socket.socket:
        """A connection to the admin API, over its Unix socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(LONG)
        try:
            sock.connect(str(self.data / "run" / "admin.sock"))
        except OSError:
            sock.close()
            raise
        return sock

    def raw(self, data: bytes) -> Answer:
        """One request as it is, and its answer."""
        with self.socket() as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                sock.sendall(data)
            return answer_of(sock)

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """`headers`: with _ for -."""
        fields = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return self.raw(head.encode("latin-1") + b"\r\n" + body)

    def vfs(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        return self.call(method, f"/api/v1/vfs/{path}", body, **headers)

    def command(self, command: Any, **fields: Any) -> list[tuple[str, Any]]:
        """Its events."""
        body = json.dumps({"command": command, **fields}).encode()
        answer = self.call("POST", "/api/v1/command", body, Content_Type="application/json")
        assert answer.status == 200, answer.body
        return events_of(answer.body)

    def terminal(self, query: str = "", **options: Any) -> ClientConnection:
        headers = {"Authorization": f"Bearer {self.token}"}
        return connect(
            f"ws://127.0.0.1:{self.port}/api/v1/console?{query}", additional_headers=headers, compression=None,
            open_timeout=LONG, close_timeout=LONG, max_size=None, **options,
        )  # fmt: skip

    def noted(self, kind: str = "console") -> list[dict[str, Any]]:
        """Events, newest first."""
        return list(self.call("GET", f"/api/v1/events?kind={kind}&limit=200").json["items"])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LONG)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()
            shutil.rmtree(self.folder, ignore_errors=True)


def answer_of(sock: socket.socket) -> Answer:
    """What comes until it is whole, or the connection is closed."""
    data, whole = bytearray(), float("inf")
    with contextlib.suppress(ConnectionResetError):
        while len(data) < whole and (piece := sock.recv(1 << 16)):
            data += piece
            head, end, _ = bytes(data[: 1 << 14]).partition(b"\r\n\r\n")
            if end and (said := re.search(rb"(?i)\r\ncontent-length: (\d+)", head)):
                whole = len(head) + 4 + int(said[1]) * (head[9:12] != b"304")
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    return Answer(int(lines[0].split()[1]), headers, body)


def unchunked(data: bytes) -> bytes:
    """The content of a chunked body."""
    found, file = [], io.BytesIO(data)
    while line := file.readline():
        found.append(file.read(int(line, 16)))
        file.readline()
    return b"".join(found)


def events_of(data: bytes) -> list[tuple[str, Any]]:
    """Of a stream: kind and value."""
    found = []
    for message in data.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in message.split("\n") if ": " in line and line[0] != ":")
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def exchange(one: Path, other: Path) -> None:
    """The two change their names at once: renameat2 with RENAME_EXCHANGE."""
    at_fdcwd, flag = -100, 2
    if ctypes.CDLL(None, use_errno=True).renameat2(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), flag):
        raise OSError(ctypes.get_errno(), "renameat2")


def alive(pid: int) -> bool:
    """It runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


LAUNCHERS: set[int] = set()
"""Pids of those that were started here: another run of these tests may be under way."""


def with_argument(text: str) -> list[int]:
    """Processes of ours that have it in their arguments."""
    found = []
    marks = [f"TRIAGE_LAUNCHER={pid}:".encode() for pid in LAUNCHERS]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)):
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    env = (entry / "environ").read_bytes()
                    found += [int(entry.name)] * any(mark in env for mark in marks)
    return found


def handshake(path: str, **headers: str) -> bytes:
    """Of a WebSocket, as it is on the wire."""
    fields = {
        "Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), **headers,
    }  # fmt: skip
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()
