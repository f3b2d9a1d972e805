"""Reading /proc of a tree of processes.

What may not be read raises PermissionError, what is gone FileNotFoundError or ProcessLookupError.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
TICK: Final = os.sysconf("SC_CLK_TCK")
MOST: Final = 64
"""Processes that are looked at."""


class Stat(NamedTuple):
    name: str
    state: str
    parent: int
    group: int
    cpu: float  # seconds
    threads: int
    started: int  # clock ticks since boot


def stat(path: Path) -> Stat:
    """Of a process or thread folder. The name may hold anything, a ')' too (proc(5))."""
    before, _, after = path.joinpath("stat").read_text(errors="replace").rpartition(")")
    fields = after.split()
    return Stat(
        before.partition("(")[2], fields[0], int(fields[1]), int(fields[2]), (int(fields[11]) + int(fields[12])) / TICK,
        int(fields[17]), int(fields[19]),
    )  # fmt: skip


def tree(root: int, started: int = 0) -> dict[int, Stat]:
    """The processes below `root`, itself first, and those left in its group.

    Raises ProcessLookupError when it does not run, or another process has its number now."""
    found: dict[int, Stat] = {}
    for name in os.listdir(PROC):
        if name.isdigit():
            try:
                found[int(name)] = stat(PROC / name)
            except OSError:
                continue  # it ended meanwhile
    first = found.get(root)
    if not root or first is None or first.state in "ZX" or (started and first.started != started):
        raise ProcessLookupError(f"process {root} does not run any more" if root else "no process of it can be seen")
    children: dict[int, list[int]] = {}
    for pid, one in found.items():
        children.setdefault(one.parent, []).append(pid)
    order = [root]
    for pid in order:  # grows while it is walked
        order.extend(child for child in children.get(pid, ()) if child not in order)
    order.extend(pid for pid, one in found.items() if one.group == root and pid not in order)
    return {pid: found[pid] for pid in order[:MOST]}


def command(pid: int) -> list[str]:
    """Its arguments."""
    data = (PROC / str(pid) / "cmdline").read_bytes()
    return [word.decode(errors="replace") for word in data.split(b"\0")[:-1]]


def maybe_exe(pid: int) -> str | None:
    try:
        return os.readlink(PROC / str(pid) / "exe")
    except OSError:
        return None


def python(pid: int) -> bool:
    """Whether Python runs in it, as its program or as a library (uWSGI)."""
    exe = maybe_exe(pid) or ""
    if Path(exe).name.startswith("python"):
        return True
    try:
        with (PROC / str(pid) / "maps").open(errors="replace") as file:
            return any("libpython" in line for line in file)
    except OSError:
        return False
