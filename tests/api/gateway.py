"""A whole Triage for these tests: `with started(folder) as gateway`. Also what `make fuzz-api` runs against."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "tests" / "admin" / "app.py"
LONG = 40.0
USER = 'user = "root"\n' if os.geteuid() == 0 else ""

CONFIG = f"""
[gateway]
listen = ["127.0.0.1:0"]
data_dir = "var"
workers = 1
[admin]
listen = "127.0.0.1:0"
[keep]
whole = [{{ path = "/raise", headers = true }}]
[notify.nobody]
webhook = "http://127.0.0.1:9/hook"
[[alerts]]
name = "errors"
when = {{ fault_ratio = {{ above = "5%", count = 20, for = "1m" }} }}
notify = ["nobody"]
[apps.web]
timeouts = {{ first_byte = "1s" }}
retries = {{ attempts = 0 }}
[apps.web.diagnose]
on = []
[apps.web.process]
command = "{sys.executable} {APP} {{port}}"
instances = 2
{USER}stop = {{ timeout = "2s" }}
env = {{ API_TOKEN = "very-secret" }}
[apps.web.health]
path = "/healthz"
interval = "1s"
[[apps.web.autoheal]]
name = "slow"
when = {{ slow = {{ above = "5s", count = 20, within = "1m" }} }}
then = ["collect", "recycle"]
[apps.away]
hosts = ["away.example.com"]
addresses = ["http://127.0.0.1:9"]
[apps.away.diagnose]
on = []
"""


class Gateway:
    """One running Triage."""

    def __init__(self, folder: Path, config: str = CONFIG) -> None:
        self.folder = folder
        self.data = folder / "var"
        self.config = folder / "config.toml"
        self.config.write_text(config)
        self.socket = str(self.data / "run" / "admin.sock")
        self.admin = self.url = ""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("TRIAGE_", "XDG_"))}
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy.main", "serve", "-c", str(self.config)],
            cwd=folder, env={**env, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log,
        )  # fmt: skip

    @property
    def token(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    @property
    def port(self) -> int:
        """Of the admin API."""
        return int(self.admin.rpartition(":")[2])

    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Over the Unix socket, without a token: status, decoded answer, fields of the head."""
        connection = http.client.HTTPConnection("localhost", timeout=LONG)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(LONG)
        try:
            connection.sock.connect(self.socket)
            data = None if body is None else json.dumps(body).encode()
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            fields = {**({"Content-Type": "application/json"} if data is not None else {}), **given}
            connection.request(method, path if path.startswith("/") else f"/api/v1/{path}", data, fields)
            answer = connection.getresponse()
            raw = answer.read()
            kind = answer.headers.get("Content-Type", "")
            value = json.loads(raw) if raw and "json" in kind else raw.decode(errors="replace")
            return answer.status, value, {name.lower(): value for name, value in answer.headers.items()}
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, value, _ = self.call("GET", path)
        assert status == 200, value
        return value

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """What it gives, as soon as that is true."""
        deadline = time.monotonic() + LONG
        while True:
            assert self.process.poll() is None, self.said()
            with contextlib.suppress(OSError, http.client.HTTPException):
                if found := condition():
                    return found
            assert time.monotonic() < deadline, f"not within {LONG:g} s: {what}\n{self.said()}"
            time.sleep(0.03)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LONG)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.log.close()


@contextlib.contextmanager
def started(config: str = CONFIG) -> Iterator[Gateway]:
    """A gateway whose instances are ready."""
    with tempfile.TemporaryDirectory(prefix="triage-") as folder:
        made = Gateway(Path(folder), config)
        try:
            made.until(lambda: made.call("GET", "/readyz?app=web")[0] == 200, "it is ready")
            status = made.get("status")["gateway"]
            made.url, made.admin = status["listen"][0], status["admin"]
            made.until(lambda: made.get("apps/web")["ready"] == 2, "both instances are ready")
            yield made
        finally:
            made.stop()
