"""A whole Triage with an app that has much to look into, started once for a module, and a client of its API."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).parent / "app.py"
LONG = 40.0
T = TypeVar("T")

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
data_dir = "var"
workers = 1
[admin]
listen = "127.0.0.1:0"
[apps.web.diagnose]
on = []
[apps.web.process]
command = "{python} {app} {{port}} {folder} --db-password geheim"
user = "root"
memory = "900MB"
env = {{ API_TOKEN = "very-secret", DATABASE_URL = "postgres://app:hush@db/app", PLAIN = "seen" }}
[apps.web.health]
path = "/healthz"
[apps.away]
hosts = ["away.example.com"]
addresses = ["http://127.0.0.1:9"]
{more}
"""
NODE = """
[apps.node]
hosts = ["node.example.com"]
[apps.node.diagnose]
on = []
[apps.node.process]
command = "{node} {script}"
user = "root"
"""


def until(condition: Callable[[], T], what: str, within: float = LONG) -> T:
    deadline = time.monotonic() + within
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.03)


class Triage:
    """One running gateway, and calls of its API over the Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        more = ""
        if node := shutil.which("node"):
            more = NODE.format(node=node, script=Path(__file__).parent / "app.js")
        text = CONFIG.format(python=sys.executable, app=APP, folder=folder, more=more)
        (folder / "config.toml").write_text(text if os.geteuid() == 0 else text.replace('user = "root"\n', ""))
        env = {name: value for name, value in os.environ.items() if not name.startswith(("TRIAGE_", "XDG_"))}
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy.main", "serve", "-c", str(folder / "config.toml")],
            cwd=folder, env={**env, "PYTHONPATH": str(ROOT), "SOME_API_TOKEN": "geheim"}, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log,
        )  # fmt: skip
        until(self.up, "web serves")
        self.name = self.items("apps/web/instances")[0]["id"]

    def up(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
        with contextlib.suppress(OSError):
            return self.call("GET", "apps/web")[1].get("ready") == 1
        return False

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> tuple[int, Any]:
        """`@` is the instance of web."""
        status, data = self._asked(method, path, body, params)
        return status, json.loads(data)

    def raw(self, path: str, **params: Any) -> bytes:
        status, data = self._asked("GET", path, None, params)
        assert status == 200, data[:500]
        return data

    def _asked(self, method: str, path: str, body: Any, params: dict[str, Any]) -> tuple[int, bytes]:
        path = path.replace("@", f"apps/web/instances/{getattr(self, 'name', '')}")
        connection = http.client.HTTPConnection("localhost", timeout=LONG)
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.settimeout(LONG)
            connection.sock.connect(str(self.folder / "var" / "run" / "admin.sock"))
            content = {} if body is None else {"Content-Type": "application/json"}
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/api/v1/{path}?{urlencode(params)}", data, content)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def get(self, path: str, **params: Any) -> Any:
        status, found = self.call("GET", path, **params)
        assert status == 200, found
        return found

    def items(self, path: str, **params: Any) -> list[dict[str, Any]]:
        return self.get(path, **params)["items"]

    def over(self, operation: dict[str, Any]) -> dict[str, Any]:
        """An operation at its end."""
        return until(
            lambda: found if (found := self.get(f"operations/{operation['id']}"))["state"] != "running" else None,
            f"{operation['id']} is over",
        )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.log.close()


@pytest.fixture(scope="module")
def triage() -> Iterator[Triage]:
    folder = Path(tempfile.mkdtemp(prefix="triage-"))
    made = None
    try:
        made = Triage(folder)
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)
