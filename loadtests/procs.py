"""What the kernel says a process costs: CPU seconds and memory, read from /proc.

Linux only. A process that has ended reads as nothing; its last figures are lost, so callers
measure while the peer lives.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: resident, and proportional (shared pages divided among their users)."""

    rss: int
    pss: int


@dataclass(frozen=True, slots=True)
class Stat:
    """Of /proc/PID/stat: clock ticks of all its threads together, and the tick after boot it began at."""

    parent: int
    state: str
    ticks: int
    began: int


def stat(pid: int) -> Stat | None:
    """None when it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")  # a name may be any bytes
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and parentheses: the fields start after the last one. proc(5)
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(int(fields[1]), fields[0], int(fields[11]) + int(fields[12]), int(fields[19]))


def tree(root: int) -> list[int]:
    """`root` and everything under it, by one sweep over /proc; root first."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := stat(int(name))) is not None:
            children.setdefault(found.parent, []).append(int(name))
    pids = [root]
    for pid in pids:
        pids.extend(children.get(pid, ()))
    return pids


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system seconds so far of these processes together."""
    read = (stat(pid) for pid in pids)
    return sum(found.ticks for found in read if found is not None) / TICKS


def name_of(pid: int) -> str:
    """The name the process gave itself (PR_SET_NAME), at most 15 bytes; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def resident(pids: Iterable[int]) -> int:
    """Resident bytes of these processes together, cheaply: for samples while a load runs."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE


def memory(pids: Iterable[int]) -> Memory:
    """Resident and proportional memory of these processes together."""
    rss = pss = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        for line in rollup.splitlines():
            match line.split():
                case ["Rss:", kib, _]:
                    rss += int(kib) * 1024
                case ["Pss:", kib, _]:
                    pss += int(kib) * 1024
                case _:
                    pass
    return Memory(rss, pss)
