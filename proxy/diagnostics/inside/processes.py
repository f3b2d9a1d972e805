"""Processes in one line each: what they are, what they use, and their share of the CPU between two looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from proxy.diagnostics.inside.opened import Opened, began, breathe, kib, state, user
from proxy.diagnostics.proc import TICK

LINKS: Final = 20_000
"""Descriptors of one answer that are looked at to tell which are sockets: 2 µs each."""
FIGURES: Final = {
    "cpu": "percent of one core, between two looks half a second apart",
    "memory": "bytes in RAM (VmRSS); what processes share is counted for each of them",
    "private": "bytes that no other process shares, swapped out ones too (RssAnon + VmSwap)",
}  # fmt: skip
"""What the figures are, for people."""


@dataclass(slots=True)
class Left:
    """How much of the bounded work of one answer is left."""

    links: int = LINKS


def line(one: Opened, left: Left) -> dict[str, Any]:
    """Raises ProcessLookupError when it ended meanwhile."""
    stat, status = one.stat, one.pairs("status")
    files = one.maybe("descriptors", lambda: one.count("fd")) if not one.zombie else 0
    anonymous = kib(status, "RssAnon")
    return {
        "id": str(one.pid),
        "pid": one.pid,
        "parent": int(stat[1]),
        "name": one.name(),
        "command": one.command(),
        "user": user(int(status.get("Uid", "0 0").split()[1])),
        "state": state(stat[0]),
        "start": one.started,
        "began": began(one.started),
        "cpu_s": round(cpu(stat), 3),
        "cpu": None,
        "memory": kib(status, "VmRSS") or 0,  # a zombie has none
        "private": anonymous + (kib(status, "VmSwap") or 0) if anonymous is not None else None,
        "threads": int(stat[17]),
        "files": files,
        "sockets": _sockets(one, files, left) if files is not None else None,
        "notes": one.notes,
    }


def ended(pid: int) -> dict[str, Any]:
    """Of one that ended while it was read."""
    return {"id": str(pid), "pid": pid, "state": "ended", "notes": ["it ended while it was looked at"]}


def lines(wanted: Iterable[tuple[int, int]]) -> dict[int, dict[str, Any]]:
    """By pid, of pids and starts."""
    left, found = Left(), {}
    for turn, (pid, start) in enumerate(wanted):
        breathe(turn, 3)
        try:
            with Opened(pid, start) as one:
                found[pid] = line(one, left)
        except (ProcessLookupError, FileNotFoundError):
            found[pid] = ended(pid)
        except OSError as error:
            found[pid] = {**ended(pid), "state": "hidden", "notes": [f"it may not be looked at: {error.strerror}"]}
    return found


def cpu(stat: list[str]) -> float:
    """Seconds, user and system, of a stat file's fields from the state on."""
    return (int(stat[11]) + int(stat[12])) / TICK


def seconds(wanted: Iterable[tuple[int, int]]) -> dict[int, float]:
    """CPU seconds by pid, of those that still run."""
    found = {}
    for pid, start in wanted:
        try:
            with Opened(pid, start) as one:
                found[pid] = cpu(one.stat)
        except OSError:
            continue
    return found


def percent(before: float, now: float | None, lasted: float) -> float | None:
    """Of one core; None: it has ended."""
    return None if now is None or lasted <= 0 else round(max(0.0, now - before) / lasted * 100, 1)


def _sockets(one: Opened, files: int, left: Left) -> int | None:
    if files > left.links:
        one.note(f"sockets are not counted: {files:,} descriptors")
        return None
    left.links -= files
    names = one.maybe("descriptors", lambda: one.names("fd"))
    if names is None:
        return None
    found = 0
    for turn, name in enumerate(names):
        breathe(turn)
        try:
            found += one.raw_link(f"fd/{name}").startswith(b"socket:")
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return found
