"""What a process runs in: its cgroup with limits and pressure, the machine, and the disks it writes to."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from proxy.diagnostics import cgroup, machine
from proxy.diagnostics.artifacts import Cgroup
from proxy.diagnostics.collectors import environment
from proxy.diagnostics.inside.opened import shown

_PRESSURE: Final = re.compile(r"(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)")
MEMORY: Final = {
    "MemTotal": "total", "MemAvailable": "available", "MemFree": "free", "Cached": "cached", "Dirty": "dirty",
    "Shmem": "shared", "SReclaimable": "reclaimable", "SwapTotal": "swap_total", "SwapFree": "swap_free",
    "CommitLimit": "commit_limit", "Committed_AS": "committed",
}  # fmt: skip


def group(pid: int, tree: set[int]) -> dict[str, Any] | None:
    """The cgroup of a process: what is in force there, and above it; None: none can be seen. `tree`: the processes
    that are meant to be in it, by which it is told whether it is theirs alone. Raises OSError."""
    where = cgroup.place(pid)
    if where is None:
        return None
    found = cgroup.describe(where, tree)
    values = {name: parsed(text) for name, text in found.values.items()}
    return {
        "version": found.version,
        "path": shown(found.path),
        "own": found.own,
        "memory_limit": cgroup.memory_limit(where),
        "memory": _working_set(found),
        "cores": cgroup.quota(where),
        "pressure": {
            name.removesuffix(".pressure"): value
            for name, value in values.items() if name.endswith(".pressure") and isinstance(value, dict)
        },
        "values": {name: value for name, value in values.items() if not name.endswith(".pressure")},
        "above": {
            shown(path): {name: parsed(text) for name, text in files.items()} for path, files in found.above.items()
        },
    }  # fmt: skip


def _working_set(found: Cgroup) -> int | None:
    """Bytes: all that is charged, less file pages that can be dropped at once."""
    for total, inactive in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
        used, stat = found.values.get(total, ""), parsed(found.values.get("memory.stat", ""))
        if used.isdigit():
            return max(0, int(used) - (stat.get(inactive, 0) if isinstance(stat, Mapping) else 0))
    return None


def parsed(text: str) -> Any:
    """A number, names with numbers, pressure with its shares of 10, 60 and 300 s, or the text as it is."""
    if text.isdigit():
        return int(text) if int(text) < cgroup.UNLIMITED else "max"
    if stalls := _PRESSURE.findall(text):
        return {
            kind: {"10s": _share(ten), "60s": _share(sixty), "300s": _share(more), "total_s": int(total) / 1e6}
            for kind, ten, sixty, more, total in stalls
        }
    rows = [line.split() for line in text.splitlines()]
    if rows and all(len(row) == 2 and row[1].isdigit() for row in rows):
        return {row[0]: int(row[1]) if int(row[1]) < cgroup.UNLIMITED else "max" for row in rows}
    return shown(" ".join(text.split()))


def _share(text: str) -> float:
    """Of the time, 0 to 1."""
    return round(float(text) / 100, 4)


def host(paths: Iterable[str]) -> dict[str, Any]:
    """The machine as it is. `paths`: whose disks are asked; that may hang."""
    words: dict[str, str] = {}
    notes = []
    try:
        environment.host(words)
    except OSError as error:
        notes.append(f"kernel and distribution: {(error.strerror or str(error)).lower()}")
    memory = machine.table("meminfo")
    return {
        "name": platform.node(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "uptime_s": round(time.clock_gettime(time.CLOCK_BOOTTIME), 1),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)),
        "load": [round(one, 2) for one in os.getloadavg()],
        "memory": {name: memory[key] for key, name in MEMORY.items() if key in memory},
        "pressure": {
            name: value for name in ("cpu", "memory", "io")
            if isinstance(value := parsed(machine.text(f"pressure/{name}").strip()), dict)
        },
        "disks": [_disk(path) for path in dict.fromkeys(paths)],
        "settings": {name: shown(value) for name, value in words.items()},
        "notes": notes,
    }  # fmt: skip


def _disk(path: str) -> dict[str, Any]:
    try:
        found = os.statvfs(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return {"path": shown(path), "size": None, "free": None, "files_free": None, "read_only": None, "error": why}
    return {
        "path": shown(path), "size": found.f_frsize * found.f_blocks, "free": found.f_frsize * found.f_bavail,
        "files_free": found.f_favail, "read_only": bool(found.f_flag & os.ST_RDONLY), "error": "",
    }  # fmt: skip
