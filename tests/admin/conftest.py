"""A whole Triage, started once for these tests, and a client of its admin API."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).parent / "app.py"
LONG = 40.0

CONFIG = f"""
[gateway]
listen = ["127.0.0.1:0"]
data_dir = "var"
workers = 1
[admin]
listen = "127.0.0.1:0"
url = "https://ops.example.com"
[keep]
whole = [{{ path = "/raise", headers = true }}]
[apps.web]
timeouts = {{ first_byte = "1s" }}
retries = {{ attempts = 0 }}
[apps.web.diagnose]
on = []
[apps.web.process]
command = "{sys.executable} {APP} {{port}}"
instances = 2
user = "root"
env = {{ API_TOKEN = "very-secret" }}
[apps.web.health]
path = "/healthz"
interval = "1s"
[apps.away]
hosts = ["away.example.com"]
addresses = ["http://127.0.0.1:9"]
"""


class Triage:
    """One running gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "var"
        self.config = folder / "config.toml"
        text = CONFIG if os.geteuid() == 0 else CONFIG.replace('user = "root"\n', "")
        self.config.write_text(text)
        self.text = text
        self.socket = str(self.data / "run" / "admin.sock")
        self.url = ""  # of the apps
        self.admin = ""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("TRIAGE_", "XDG_"))}
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy.main", "serve", "-c", str(self.config)],
            cwd=folder, env={**env, "PYTHONPATH": str(ROOT), "SOME_API_TOKEN": "geheim"}, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log,
        )  # fmt: skip

    @property
    def token(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

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
    folder = Path(tempfile.mkdtemp(prefix="triage-"))  # short: a Unix socket is in it
    made = Triage(folder)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Api:
    """Calls over the Unix socket, without a token, and over TCP."""

    def __init__(self, triage: Triage, unix: aiohttp.ClientSession, tcp: aiohttp.ClientSession) -> None:
        self.triage = triage
        self.unix = unix
        self.tcp = tcp

    async def get(self, path: str, /, **params: str | int) -> Any:
        """The decoded answer of a call that must succeed."""
        status, value = await self.call("GET", path, **params)
        assert status == 200, value
        return value

    async def call(self, verb: str, path: str, /, body: Any = None, **params: str | int) -> tuple[int, Any]:
        url = f"http://localhost{path if path.startswith('/') else f'/api/v1/{path}'}"
        async with self.unix.request(verb, url, params=params, json=body) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def over_tcp(
        self, path: str, method: str = "GET", token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self.tcp.request(method, f"{self.triage.admin}{path}", headers=headers) as answer:
            data = await answer.read()
            return answer.status, orjson.loads(data) if "json" in answer.content_type else data.decode()

    async def app(self, path: str, method: str = "GET", data: bytes | None = None, **headers: str) -> tuple[int, str]:
        """A request through the gateway: status and its id."""
        async with self.tcp.request(method, f"{self.triage.url}{path}", data=data, headers=headers) as answer:
            await answer.read()
            return answer.status, answer.headers["X-Request-ID"]

    async def kept(self, id: str) -> Any:
        """The record of a request, as soon as it has come from the worker."""

        async def look() -> Any:
            status, value = await self.call("GET", f"requests/{id}")
            return value if status == 200 else None

        return await self.until(look, f"request {id} is there")

    async def listed(self, id: str) -> Any:
        """Likewise, out of the kept ones: the worker's flight recorder has it sooner."""

        async def look() -> Any:
            return next((one for one in (await self.get("requests", limit=1000))["items"] if one["id"] == id), None)

        return await self.until(look, f"request {id} is listed")

    @staticmethod
    async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
        deadline = time.monotonic() + LONG
        while True:
            if found := await condition():
                return found
            assert time.monotonic() < deadline, f"not within {LONG:g} s: {what}"
            await asyncio.sleep(0.03)

    async def both_ready(self) -> None:
        async def look() -> bool:
            return (await self.get("apps/web"))["ready"] == 2 and not (await self.get("apps/web"))["starting"]

        await self.until(look, "both instances are ready")


@pytest.fixture
async def api(triage: Triage) -> AsyncIterator[Api]:
    timeout = aiohttp.ClientTimeout(total=LONG)
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(triage.socket, limit=0), timeout=timeout) as unix,
        aiohttp.ClientSession(timeout=timeout) as tcp,
    ):
        made = Api(triage, unix, tcp)

        async def up() -> bool:
            assert triage.process.poll() is None, triage.said()
            try:
                return bool((await made.call("GET", "/readyz", app="web"))[0] == 200)
            except aiohttp.ClientError:
                return False

        await made.until(up, "it is ready")
        if not triage.url:
            gateway = (await made.get("status"))["gateway"]
            triage.url, triage.admin = gateway["listen"][0], gateway["admin"]
        await made.both_ready()
        yield made
