"""A world whose counts and clock a test moves, and a whole Triage with a client of its admin API."""

from __future__ import annotations

import asyncio
import os
import random
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

from proxy.config import App, Process
from proxy.control.counters import Counters
from proxy.control.metrics.own import Own
from proxy.control.metrics.rings import Rings
from proxy.control.state import AppState, InstanceState, Lifecycle, Usage, WorkerState
from proxy.link import board as boards
from proxy.link.histogram import bucket
from proxy.link.messages import Row, Stats

ROOT = Path(__file__).resolve().parents[2]
LONG = 40.0
APP = ROOT / "tests" / "admin" / "app.py"
CONFIG = f"""
[gateway]
listen = ["127.0.0.1:0"]
data_dir = "var"
workers = 1
[admin]
listen = "127.0.0.1:0"
[apps.web]
timeouts = {{ first_byte = "1s" }}
retries = {{ attempts = 0 }}
[apps.web.diagnose]
on = []
[apps.web.process]
command = "{sys.executable} {APP} {{port}}"
instances = 2
user = "root"
[apps.web.health]
path = "/healthz"
interval = "1s"
"""


class World:
    """One app of some instances, one worker, and what it counted; its own clock."""

    def __init__(self, instances: int = 2, fresh: bool = True) -> None:
        fd = boards.create()
        self.board = boards.Board(fd, 2)
        os.close(fd)
        self.counters = Counters()
        self.now, self.at = 1000.0, 1_800_000_000.0
        self.settled = True
        self.app = AppState("web", App(process=Process(command=("x",), instances=instances)), 0, wanted=instances)
        for number in range(1, instances + 1):
            name = f"web-{number}"
            self.app.instances[name] = InstanceState(
                name, "web", "process", number, lifecycle=Lifecycle.READY, pid=number, started=self.now
            )
        self.worker = WorkerState(0, pid=1)
        self.kept: list[Any] = []
        self.own = Own(Path("/"))
        self.rings = Rings(
            {"web": self.app}, self.counters, self.board, lambda: [self.worker], lambda: self.settled, self.own,
            fresh=fresh, keep=self.kept.append,
        )  # fmt: skip
        self.rows: dict[str, Row] = {}
        self.heard([])

    def heard(self, rows: list[Row], epoch: str = "a") -> None:
        stats = Stats(0, epoch, self.now, 100, 2000, 5, 9, 3, 1, 1, 0, 0, "", "", False, 40_000_000, rows)
        self.worker.stats = stats
        self.counters.apply(stats, self.at)
        self.rings.heard(stats)

    def count(self, instance: str, times: list[float], fault: str = "") -> None:
        """Requests that took so long, told by the worker."""
        before = self.rows.get(instance)
        total = dict(before.total) if before else {}
        for one in times:
            total[bucket(one)] = total.get(bucket(one), 0) + 1
        faults = dict(before.faults) if before else {}
        if fault:
            faults[fault] = faults.get(fault, 0) + len(times)
        requests = (before.requests if before else 0) + len(times)
        spent = (before.total_sum if before else 0.0) + sum(times)
        row = Row(
            "web", instance, requests, [0, requests, 0, 0, 0, 0], faults, 10 * requests, 20 * requests, 1, 0, total,
            spent, dict(total), spent, 0.001 * requests,
        )  # fmt: skip
        self.rows[instance] = row
        self.heard([row])

    def use(self, instance: str, **fields: Any) -> None:
        state = self.app.instances[instance]
        state.usage = Usage(self.now, pids=(state.pid,), **fields)

    def second(self, after: float = 1.0) -> None:
        self.now += after
        self.at += after
        for _ in self.rings.work(self.now, self.at):
            pass

    def busy(self, seconds: int, seed: int = 1) -> list[float]:
        """Every instance answers some requests in each of so many seconds; the times that they took."""
        rng = random.Random(seed)
        all_times = []
        for _ in range(seconds):
            for name in self.app.instances:
                times = [rng.lognormvariate(-4, 0.8) for _ in range(rng.randrange(1, 12))]
                all_times += times
                self.count(name, times)
                self.use(
                    name, cpu=rng.random(), rss=40_000_000 + 4096 * rng.randrange(2000), threads=4, descriptors=20,
                    processes=2, private=30_000_000, connections=7, cpu_time=self.now / 10, write_total=int(self.now),
                    read_total=0,
                )  # fmt: skip
            self.second()
        return all_times


@pytest.fixture
def world() -> World:
    return World()


# --- a whole one ------------------------------------------------------------------------------------------


class Triage:
    """One running gateway."""

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        self.socket = str(folder / "var" / "run" / "admin.sock")
        (folder / "config.toml").write_text(config if os.geteuid() == 0 else config.replace('user = "root"\n', ""))
        env = {name: value for name, value in os.environ.items() if not name.startswith(("TRIAGE_", "XDG_"))}
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy.main", "serve", "-c", str(folder / "config.toml")],
            cwd=folder, env={**env, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

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


class Api:
    """Calls over the Unix socket."""

    def __init__(self, triage: Triage, unix: aiohttp.ClientSession, tcp: aiohttp.ClientSession) -> None:
        self.triage, self.unix, self.tcp = triage, unix, tcp
        self.url = ""

    async def call(self, path: str, accept: str = "*/*", /, **params: str | int) -> tuple[int, Any]:
        url = f"http://localhost{path if path.startswith('/') else f'/api/v1/{path}'}"
        async with self.unix.get(url, params=params, headers={"Accept": accept}) as answer:
            data = await answer.read()
            return answer.status, orjson.loads(data) if "json" in answer.content_type else data.decode()

    async def get(self, path: str, accept: str = "*/*", /, **params: str | int) -> Any:
        status, value = await self.call(path, accept, **params)
        assert status == 200, value
        return value

    async def app(self, path: str) -> int:
        async with self.tcp.get(f"{self.url}{path}") as answer:
            await answer.read()
            return answer.status

    @staticmethod
    async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
        deadline = time.monotonic() + LONG
        while not (found := await condition()):
            assert time.monotonic() < deadline, f"not within {LONG:g} s: {what}"
            await asyncio.sleep(0.05)
        return found


@pytest.fixture(scope="module")
def triage() -> Iterator[Triage]:
    folder = Path(tempfile.mkdtemp(prefix="triage-"))  # short: a Unix socket is in it
    made = Triage(folder, CONFIG)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def api(triage: Triage) -> AsyncIterator[Api]:
    timeout = aiohttp.ClientTimeout(total=LONG)
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(triage.socket, limit=0), timeout=timeout) as unix,
        aiohttp.ClientSession(timeout=timeout) as tcp,
    ):
        made = Api(triage, unix, tcp)

        async def ready() -> bool:
            assert triage.process.poll() is None, triage.said()[-4000:]
            try:
                return bool((await made.get("apps/web"))["ready"] == 2)
            except (aiohttp.ClientError, AssertionError):
                return False

        await made.until(ready, "both instances are ready")
        made.url = (await made.get("status"))["gateway"]["listen"][0]
        yield made
