"""What process trees use: one sweep of /proc a second serves all of them.

psutil's children() walks every process at each call, so the sweep reads /proc/PID/stat itself. It runs in a thread:
with hundreds of processes it would hold the loop too long.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from proxy.control.state import Usage

TICK: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """What counts of /proc/PID/stat, proc(5)."""

    parent: int
    group: int
    state: str
    cpu: float  # seconds, user and system
    threads: int
    start: int  # clock ticks since boot
    rss: int


def read_stat(pid: int) -> Stat | None:
    """None: there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except OSError:
        return None
    fields = data[data.rindex(b")") + 2 :].split()
    return Stat(
        parent=int(fields[1]),
        group=int(fields[2]),
        state=fields[0].decode(),
        cpu=(int(fields[11]) + int(fields[12])) / TICK,
        threads=int(fields[17]),
        start=int(fields[19]),
        rss=int(fields[21]) * PAGE,
    )


def alive(pid: int, start: int = 0) -> bool:
    """It runs, is no zombie, and (with `start`) is the one that was meant."""
    stat = read_stat(pid)
    return stat is not None and stat.state not in "ZX" and (not start or stat.start == start)


def sweep() -> dict[int, Stat]:
    """All processes."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = read_stat(int(name))
            if stat is not None:
                found[int(name)] = stat
    return found


def trees(processes: Mapping[int, Stat], roots: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The pids of each root's tree, the root first. Orphans of its process group belong to it too."""
    children: dict[int, list[int]] = {}
    groups: dict[int, list[int]] = {}
    for pid, stat in processes.items():
        children.setdefault(stat.parent, []).append(pid)
        groups.setdefault(stat.group, []).append(pid)
    found = {}
    for name, root in roots.items():
        if root not in processes:
            continue
        tree = [root]
        seen = {root}
        for pid in tree:  # grows while it is walked
            for child in (*children.get(pid, ()), *(groups.get(pid, ()) if pid == root else ())):
                if child not in seen:
                    seen.add(child)
                    tree.append(child)
        found[name] = tuple(tree)
    return found


def sample(roots: Mapping[str, int], now: float) -> dict[str, Usage]:
    """Usage of each root's tree; `cpu` (a rate) is left for who knows the sample before."""
    processes = sweep()
    found = {}
    for name, pids in trees(processes, roots).items():
        stats = [processes[pid] for pid in pids]
        descriptors = [_descriptors(pid) for pid in pids]
        found[name] = Usage(
            at=now,
            cpu_seconds=sum(stat.cpu for stat in stats),
            rss=sum(stat.rss for stat in stats),
            processes=len(pids),
            threads=sum(stat.threads for stat in stats),
            descriptors=sum(descriptors),
            descriptors_most=max(descriptors),
            pids=pids,
        )
    return found


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def rate(before: Usage | None, after: Usage) -> float:
    """Cores in use between two samples."""
    if before is None or after.at <= before.at:
        return 0.0
    return max(0.0, (after.cpu_seconds - before.cpu_seconds) / (after.at - before.at))
