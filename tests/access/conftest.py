"""One gateway whose admin API is attacked: http.client and plain sockets, from as many loopback addresses as wanted."""

from __future__ import annotations

import http.client
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import trustme

from tests.e2e.support import LONG, ROOT, environment, until

APP = ROOT / "tests" / "admin" / "app.py"

CONFIG = f"""
[gateway]
listen = ["127.0.0.1:0"]
data_dir = "var"
workers = 1
[admin]
listen = "127.0.0.1:0"
url = "https://ops.example.com:8443"
console = true
[apps.web]
diagnose = {{ on = [] }}
[apps.web.process]
command = "{sys.executable} {APP} {{port}}"
user = "root"
[apps.web.health]
path = "/healthz"
interval = "1s"
[apps.away]
hosts = ["away.example.com"]
addresses = ["http://127.0.0.1:9"]
diagnose = {{ on = [] }}
"""


class Answer(NamedTuple):
    status: int
    kind: str  # of a problem: the end of its type
    value: Any
    headers: http.client.HTTPMessage


class Triage:
    """One running gateway. `secure`: its admin listener speaks TLS, with the authority's certificate."""

    def __init__(self, folder: Path, text: str, authority: trustme.CA | None = None) -> None:
        self.folder, self.data = folder, folder / "var"
        self.config = folder / "config.toml"
        self.config.write_text(text if os.geteuid() == 0 else text.replace('user = "root"\n', ""))
        self.socket = str(self.data / "run" / "admin.sock")
        self.context = ssl.create_default_context() if authority is not None else None
        if authority is not None and self.context is not None:
            authority.configure_trust(self.context)
        self._addresses = (f"127.{a}.{b}.{c}" for a in range(1, 200) for b in range(256) for c in range(1, 255))
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy.main", "serve", "-c", str(self.config)],
            cwd=folder, env=environment(""), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        until(self._up, "it answers, and its app is ready")
        gateway = self.local("GET", "/api/v1/status").value["gateway"]
        self.url, self.admin = gateway["listen"][0], gateway["admin"]
        self.port = int(self.admin.rpartition(":")[2])

    def _up(self) -> bool:
        assert self.process.poll() is None, self.said()
        try:
            return self.local("GET", "/readyz?app=web").status == 200
        except (OSError, http.client.HTTPException):
            return False

    @property
    def token(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def elsewhere(self) -> str:
        """A loopback address that nobody has called from."""
        return next(self._addresses)

    def call(
        self, method: str, path: str, token: str | None = None, body: Any = None, *, source: str = "", **headers: str
    ) -> Answer:
        """One call over TCP on a connection of its own."""
        place = (source or "127.0.0.1", 0)
        if self.context is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=LONG, source_address=place, context=self.context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG, source_address=place)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return ask(connection, method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})

    def local(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Over the Unix socket, as its owner."""
        connection = http.client.HTTPConnection("localhost", timeout=LONG)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(LONG)
        try:
            connection.sock.connect(self.socket)
        except OSError:
            connection.close()
            raise
        return ask(connection, method, path, body, headers)

    def make(self, name: str, role: str, **more: Any) -> tuple[str, str]:
        """A token: its id and its text."""
        answer = self.local("POST", "/api/v1/tokens", {"name": name, "role": role, **more})
        assert answer.status == 201, answer
        return answer.value["id"], answer.value["token"]

    def audit(self, **wanted: Any) -> list[dict[str, Any]]:
        """Events of kind audit whose data has all this, newest first."""
        events = self.local("GET", "/api/v1/events?kind=audit&limit=1000").value["items"]
        return [one for one in events if all(one["data"].get(name) == value for name, value in wanted.items())]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._log.close()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: dict[str, str]
) -> Answer:
    """One call; of an endless answer the head only."""
    content = None
    if body is not None:
        content, headers = orjson.dumps(body), {"Content-Type": "application/json", **headers}
    try:
        connection.request(method, path, content, {"Connection": "close", **headers})
        answer = connection.getresponse()
        endless = "event-stream" in (answer.getheader("Content-Type") or "")
        data = b"" if endless else answer.read()
        answer.close()
    finally:
        connection.close()
    value: Any = data
    if "json" in (answer.getheader("Content-Type") or "") and data:
        value = orjson.loads(data)
    kind = str(value.get("type", "")).removeprefix("urn:triage:") if isinstance(value, dict) else ""
    return Answer(answer.status, kind, value, answer.headers)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="triage-"))  # short: a Unix socket is in it
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def triage(folder: Path) -> Iterator[Triage]:
    made = Triage(folder, CONFIG)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def name() -> str:
    """Of a token, used once."""
    return f"t{next(_NUMBERS)}"


_NUMBERS = itertools.count(1)
