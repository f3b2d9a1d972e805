"""The cgroup of a process: where it lies, its counters and limits, and those of the groups above it, which bind it too.

Both versions, and the hybrid of them. Paths are seen from this process's own mounts; in a container what lies outside
is not seen, and the topmost folder that can be seen stands in for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import Cgroup

VERSION_2: Final = (
    "memory.current", "memory.max", "memory.high", "memory.peak", "memory.swap.current", "memory.swap.max",
    "memory.events", "memory.stat", "memory.pressure", "cpu.stat", "cpu.max", "cpu.pressure", "pids.current",
    "pids.max", "pids.events", "io.pressure",
)  # fmt: skip
VERSION_1: Final = {
    "memory": ("memory.usage_in_bytes", "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt",
               "memory.memsw.limit_in_bytes", "memory.oom_control", "memory.stat"),
    "cpu": ("cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "pids": ("pids.current", "pids.max", "pids.events"),
}  # fmt: skip
ABOVE: Final = (
    "memory.max", "memory.current", "memory.events", "memory.limit_in_bytes", "memory.usage_in_bytes",
    "memory.oom_control", "cpu.max", "cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us", "pids.max", "pids.current",
)  # fmt: skip
COUNTED: Final = ("cpu.stat", "memory.events", "memory.oom_control", "memory.failcnt", "pids.events")
"""Files with counters that only grow (and a few values beside them)."""
NOT_COUNTERS: Final = frozenset({"oom_kill_disable", "under_oom"})
UNLIMITED: Final = 1 << 60
"""What version 1 writes for no limit is near 2^63."""


@dataclass(frozen=True, slots=True)
class Place:
    """Folders of each controller, the group's own first, up to the topmost that can be seen."""

    version: int
    path: str
    folders: dict[str, tuple[Path, ...]]


def place(pid: int) -> Place | None:
    """Where the process is; None when no cgroup can be seen. Raises FileNotFoundError when it is gone."""
    text = (proc.PROC / str(pid) / "cgroup").read_text(errors="surrogateescape")
    rows = [line.split(":", 2) for line in text.splitlines()]
    mounts = list(_mounts())
    path2 = next((path for number, _, path in rows if number == "0"), "")
    for kind, _, root, point in mounts:
        if kind == "cgroup2":
            folders = _chain(point, root, path2)
            if any((folder / "memory.current").exists() or (folder / "cpu.max").exists() for folder in folders):
                return Place(2, path2, dict.fromkeys(("memory", "cpu", "pids"), folders))
    found: dict[str, tuple[Path, ...]] = {}
    path1 = ""
    for controller in VERSION_1:
        path = next((path for _, given, path in rows if controller in given.split(",")), None)
        for kind, options, root, point in mounts:
            if path is not None and kind == "cgroup" and controller in options:
                found[controller] = _chain(point, root, path)
                path1 = path if controller == "memory" or not path1 else path1
                break
    return Place(1, path1, found) if found else None


def _mounts() -> Iterator[tuple[str, frozenset[str], str, Path]]:
    """Type, options of the file system, its folder that is mounted, where (proc_pid_mountinfo(5))."""
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(maxsplit=2)
        if kind in ("cgroup", "cgroup2"):
            yield kind, frozenset(options.split(",")), fields[3], Path(fields[4])


def _chain(point: Path, root: str, path: str) -> tuple[Path, ...]:
    below = path if root == "/" else path[len(root) :] if (path + "/").startswith(root + "/") else ""
    folder = point / below.lstrip("/")
    if ".." in Path(below).parts or not folder.is_dir():
        folder = point  # of outside this container
    return (folder, *(above for above in folder.parents if above == point or point in above.parents))


def describe(where: Place, tree: set[int]) -> Cgroup:
    """What stands in its files. `tree`: the instance's processes."""
    found = Cgroup(path=where.path, version=where.version)
    names = VERSION_2 if where.version == 2 else ()
    for controller, folders in where.folders.items():
        for name in names or VERSION_1[controller]:
            if name not in found.values and (text := _text(folders[0] / name)) is not None:
                found.values[name] = text
        for folder in folders[1:]:
            for name in ABOVE:
                if (names or name in VERSION_1[controller]) and (text := _text(folder / name)) is not None:
                    found.above.setdefault(_short(folder, folders), {})[name] = text
    first = where.folders.get("memory") or next(iter(where.folders.values()))
    members = {int(line) for line in (_text(first[0] / "cgroup.procs") or "").split() if line.isdigit()}
    found.own = bool(members) and members <= tree
    return found


def _short(folder: Path, folders: tuple[Path, ...]) -> str:
    """ "/" for the topmost that can be seen."""
    return "/" + str(folder.relative_to(folders[-1])).removeprefix(".")


def counters(where: Place) -> dict[str, float]:
    """ "cpu.stat nr_throttled" to its value; of the groups above as "/path: cpu.stat nr_throttled"."""
    found: dict[str, float] = {}
    for folders in dict.fromkeys(where.folders.values()):
        for folder in folders:
            before = "" if folder == folders[0] else f"{_short(folder, folders)}: "
            for name in COUNTED:
                for line in (_text(folder / name) or "").splitlines():
                    key, _, value = line.rpartition(" ")
                    if key not in NOT_COUNTERS and value.isdigit():
                        found[f"{before}{name} {key}".rstrip()] = float(value)
    return found


def grown(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """Those of two looks at `counters` that moved, by how much."""
    return {name: value - before[name] for name, value in now.items() if value != before.get(name, value)}


def throttling(now: dict[str, float], before: dict[str, float]) -> tuple[float, float] | None:
    """Of two looks at `counters`: the share of periods in which it, or a group above, was throttled, and the seconds.

    None: no group has a quota. Seconds are of all its CPUs together, so they may pass those of the clock.
    """
    most: tuple[float, float] | None = None
    for name, value in now.items():
        group, found, _ = name.partition("cpu.stat nr_periods")
        if not found or not value:
            continue
        periods = value - before.get(name, value)
        throttled = now.get(f"{group}cpu.stat nr_throttled", 0.0) - before.get(f"{group}cpu.stat nr_throttled", 0.0)
        seconds = sum(
            (now[key] - before[key]) / scale
            for key, scale in ((f"{group}cpu.stat throttled_time", 1e9), (f"{group}cpu.stat throttled_usec", 1e6))
            if key in now and key in before
        )
        share = min(1.0, throttled / periods) if periods > 0 else 0.0
        most = max(most or (0.0, 0.0), (share, max(0.0, seconds)))
    return most


def quota(where: Place) -> float | None:
    """Cores that it may use: the least of its own and those above; None: no limit."""
    found: list[float] = []
    for folder in where.folders.get("cpu", ()):
        if where.version == 2:
            most, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
        else:
            most, period = _text(folder / "cpu.cfs_quota_us") or "-1", _text(folder / "cpu.cfs_period_us") or "0"
        if most.isdigit() and period.isdigit() and int(period):
            found.append(int(most) / int(period))
    return min(found, default=None)


def memory_limit(where: Place) -> int | None:
    """Bytes: the least of its own and those above; None: no limit."""
    found = []
    for folder in where.folders.get("memory", ()):
        text = _text(folder / ("memory.max" if where.version == 2 else "memory.limit_in_bytes")) or "max"
        if text.isdigit() and int(text) < UNLIMITED:
            found.append(int(text))
    return min(found, default=None)


def _text(path: Path) -> str | None:
    """None: this kernel has no such file, or it may not be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None
