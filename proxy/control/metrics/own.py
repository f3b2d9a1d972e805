"""What Triage itself uses, and how the host stands: read once a second, in a thread, beside the sweep of /proc."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.control.sampling import TICK, read_stat

DISK_EVERY: Final = 5.0
LAG_EVERY: Final = 0.1
"""Seconds between two looks at control's own loop: what holds it longer is always seen."""


@dataclass(frozen=True, slots=True)
class Use:
    """Of one process of Triage."""

    at: float  # monotonic
    cpu_seconds: float
    memory: int
    cpu: float = 0.0  # cores, since the look before
    pid: int = 0


@dataclass(slots=True)
class Host:
    """None: not known."""

    cpu: float | None = None  # cores in use, since the look before
    memory_available: int | None = None
    load: float | None = None  # of one minute
    disk_free: int | None = None  # bytes that Triage may write to the disk of data_dir


@dataclass(slots=True)
class Own:
    """`look` is called in a thread, one call at a time; the rest is read anywhere."""

    folder: Path
    processes: dict[str, Use] = field(default_factory=dict)  # "control", "launcher", "worker1" …
    host: Host = field(default_factory=Host)
    _busy: float = 0.0
    _busy_at: float = 0.0
    _disk_at: float = float("-inf")
    _disk: threading.Thread | None = None

    def look(self, pids: Mapping[str, int], now: float) -> None:
        """`now` is monotonic."""
        found: dict[str, Use] = {}
        for name, pid in pids.items():
            stat = read_stat(pid)
            if stat is None:
                continue
            before = self.processes.get(name)
            cpu = 0.0
            if before is not None and before.pid == pid and now > before.at:
                cpu = max(0.0, (stat.cpu - before.cpu_seconds) / (now - before.at))
            found[name] = Use(now, stat.cpu, stat.rss, cpu, pid)
        self.processes = found
        busy = _busy_seconds()
        cpu_now: float | None = None
        if busy is not None:
            if self._busy_at and now > self._busy_at:
                cpu_now = max(0.0, (busy - self._busy) / (now - self._busy_at))
            self._busy, self._busy_at = busy, now
        self.host.cpu = cpu_now
        self.host.memory_available = _available()
        self.host.load = os.getloadavg()[0]
        if now - self._disk_at >= DISK_EVERY and (self._disk is None or not self._disk.is_alive()):
            self._disk_at = now  # apart: a disk that hangs shall hold nothing else up
            self._disk = threading.Thread(target=self._look_at_disk, name="disk", daemon=True)
            self._disk.start()
        elif now - self._disk_at > 6 * DISK_EVERY:
            self.host.disk_free = None  # it does not answer

    def _look_at_disk(self) -> None:
        try:
            found = os.statvfs(self.folder)
            self.host.disk_free = found.f_bavail * found.f_frsize
        except OSError:
            self.host.disk_free = None


def _busy_seconds() -> float | None:
    """Of all CPUs since boot: what was neither idle nor waiting for disks, proc(5)."""
    try:
        with open("/proc/stat", "rb") as file:
            fields = file.readline().split()
        user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / TICK


def _available() -> int | None:
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


class Lag:
    """How late control's own loop is: a call each LAG_EVERY seconds, and when it came."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds, of the last look."""
        self._largest = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """On the loop that is looked at."""
        self._next(asyncio.get_running_loop())

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def take(self) -> float:
        """The largest since it was asked last."""
        found, self._largest = max(self._largest, self.now), 0.0
        return found

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        due = time.monotonic() + LAG_EVERY
        self._handle = loop.call_later(LAG_EVERY, self._came, loop, due)

    def _came(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.now = max(0.0, time.monotonic() - due)
        self._largest = max(self._largest, self.now)
        self._next(loop)
