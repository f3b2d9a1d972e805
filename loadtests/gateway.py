"""Triage started for a load test of its own: its processes by role, its metrics, its memory over time."""

from __future__ import annotations

import re
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from loadtests import procs
from loadtests.ask import get
from loadtests.lab import Failed, Lab
from loadtests.peers.peer import Running, Site
from loadtests.peers.triage import ENVIRONMENT, TRIAGE, serve
from loadtests.stage import answers

LAUNCHER: Final = "triage"
CONTROL: Final = "triage-control"
WORKER: Final = "triage-worker1"
DETAILS: Final = re.compile(rb'\r\nproxy-status:[^\r]*details="?([a-z-]+)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway. Roles are the names its processes give themselves."""

    site: Site
    process: subprocess.Popen[bytes]

    def pids(self, role: str | None = None) -> list[int]:
        """Its processes; those of one role, when named."""
        pids = procs.tree(self.process.pid)
        return pids if role is None else [pid for pid in pids if procs.name_of(pid) == role]

    def worker(self) -> int:
        """The pid of its one worker."""
        return self._one(WORKER)

    def control(self) -> int:
        """The pid of control."""
        return self._one(CONTROL)

    def _one(self, role: str) -> int:
        found = self.pids(role)
        if len(found) != 1:
            names = ", ".join(f"{procs.name_of(pid)} ({pid})" for pid in self.pids())
            raise Failed(f"{len(found)} processes are named {role}, not one; there are {names}")
        return found[0]

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by the names of its processes."""
        found: dict[str, float] = {}
        for pid in self.pids():
            name = procs.name_of(pid)
            found[name] = found.get(name, 0.0) + procs.cpu_seconds([pid])
        return found

    def metrics(self, name_holds: str) -> dict[str, float]:
        """Series of /metrics whose name holds this, by name and labels."""
        answer = get(self.site.admin_port, "/metrics")
        if answer.status != 200:
            raise Failed(f"/metrics answered {answer.status}: {answer.content[:200]!r}")
        found = {}
        for line in answer.content.decode().splitlines():
            if not line.startswith("#") and name_holds in line.partition("{")[0]:
                series, _, value = line.rpartition(" ")
                found[series] = float(value)
        return found

    def said(self, lab: Lab) -> str:
        """The last lines of its own log."""
        return lab.said(self.process)

    def running(self) -> Running:
        """The same, as a peer of the benchmark."""
        return Running(TRIAGE, self.site, self.process)


def start_gateway(
    lab: Lab, site: Site, config: str, *, ready: Callable[[], bool] | None = None, within: float = 30.0
) -> Gateway:
    """Serve a config on the proxy's core; wait until /small answers 200 or `ready` says so."""
    program = TRIAGE.find()
    if program is None:
        raise Failed(f"triage is not installed: {TRIAGE.get}")
    path = site.write("config.toml", config)
    process = lab.start(serve(path, program), core=lab.proxy_core, env=ENVIRONMENT)
    lab.wait_until(ready or (lambda: answers(site.port)), process, "triage", deadline=within)
    gateway = Gateway(site, process)
    # A worker may answer before it has named itself.
    named = {CONTROL, WORKER}
    lab.wait_until(lambda: named <= {procs.name_of(pid) for pid in gateway.pids()}, process, "triage's names")
    return gateway


def fault_of(head: bytes) -> str | None:
    """The fault's name in an answer's Proxy-Status, for open_loop's `kind`."""
    found = DETAILS.search(head)
    return found[1].decode() if found else None


class Watch:
    """`with Watch(pids):` resident memory of processes, sampled by a thread once a second."""

    def __init__(self, pids: Sequence[int], interval: float = 1.0) -> None:
        self.pids = pids
        self.interval = interval
        self.samples: list[tuple[float, int]] = []  # (monotonic, bytes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.samples.append((time.monotonic(), procs.resident(self.pids)))
            if self._stop.wait(self.interval):
                return

    def growth(self) -> tuple[int, int]:
        """Median bytes in the second and in the last fifth of the time watched; the first is for filling."""
        sizes = [size for _, size in self.samples]
        fifth = max(1, len(sizes) // 5)
        return int(statistics.median(sizes[fifth : 2 * fifth] or sizes)), int(statistics.median(sizes[-fifth:]))


    def tenths(self) -> list[int]:
        """Bytes at the beginning and after each tenth of the time watched: whether it levels off."""
        sizes = [size for _, size in self.samples]
        return [sizes[round(tenth / 10 * (len(sizes) - 1))] for tenth in range(11)]


def flat(before: int, after: int) -> bool:
    """Whether memory stood still: at most 5 % and 2 MiB more. An allocator's slack is no leak."""
    return after <= before * 1.05 + 2 * 2**20
