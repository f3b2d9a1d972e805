"""The machine, read in a thread: a disk of the network may hang, and then only this look does."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from proxy.control import room
from proxy.control.incidents.scene import Host

STAT: Final = Path("/proc/stat")
VMSTAT: Final = Path("/proc/vmstat")
MEMINFO: Final = Path("/proc/meminfo")
PRESSURE: Final = Path("/proc/pressure/memory")


class HostReader:
    """Remembers the counts of the look before."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir
        self._cpu: tuple[int, int, int] | None = None  # all, idle, steal
        self._swap: tuple[float, int] | None = None

    def read(self) -> Host:
        """Some 0.3 ms, in a thread."""
        now = time.monotonic()
        free, size, inodes_free, inodes = self._disk()
        busy, steal = self._processors()
        swapped, kills = self._virtual(now)
        return Host(
            now, str(self._path), free, size, inodes_free, inodes, _total(), room.free(), _stall(), swapped, kills,
            busy, steal,
        )  # fmt: skip

    def _disk(self) -> tuple[int | None, int | None, int | None, int | None]:
        try:
            found = os.statvfs(self._path)
        except OSError:
            return None, None, None, None
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail, found.f_files

    def _processors(self) -> tuple[float | None, float | None]:
        try:
            with STAT.open() as file:
                parts = [int(part) for part in file.readline().split()[1:9]]
        except (OSError, ValueError):
            return None, None
        if len(parts) < 8:
            return None, None
        seen = (sum(parts), parts[3] + parts[4], parts[7])
        before, self._cpu = self._cpu, seen
        if before is None or seen[0] <= before[0]:
            return None, None
        whole = seen[0] - before[0]
        return 1.0 - (seen[1] - before[1]) / whole, max(0, seen[2] - before[2]) / whole

    def _virtual(self, now: float) -> tuple[float | None, int | None]:
        try:
            text = VMSTAT.read_text()
        except OSError:
            return None, None
        wanted = ("pswpin ", "pswpout ", "oom_kill ")
        found = {line.split()[0]: int(line.split()[1]) for line in text.splitlines() if line.startswith(wanted)}
        swap = found.get("pswpin", 0) + found.get("pswpout", 0)
        before, self._swap = self._swap, (now, swap)
        rate = None
        if before is not None and now > before[0]:
            rate = max(0, swap - before[1]) / (now - before[0])
        return rate, found.get("oom_kill")


def _total() -> int | None:
    try:
        with MEMINFO.open() as file:
            return int(file.readline().split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None


def _stall() -> float | None:
    try:
        for line in PRESSURE.read_text().splitlines():
            if line.startswith("full avg10="):
                return float(line.split()[1].partition("=")[2]) / 100.0
    except (OSError, ValueError, IndexError):
        pass
    return None
