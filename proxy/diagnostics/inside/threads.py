"""Threads of a process: what each is called, where it stands, and what it waits for. None is stopped for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from proxy.diagnostics import asleep
from proxy.diagnostics.inside.opened import Opened, breathe, shown, state
from proxy.diagnostics.inside.processes import cpu
from proxy.diagnostics.runtimes import kernel

MOST: Final = 20_000
"""Threads that are counted."""


def page(one: Opened, after: int, most: int) -> tuple[list[dict[str, Any]], int | None, int]:
    """In the order of their numbers, from the first above `after` on; the number to go on after; how many there are."""
    ids = sorted(int(name) for name in one.names("task")[:MOST])
    wanted = [id for id in ids if id > after]
    found = []
    for turn, id in enumerate(wanted[:most]):
        breathe(turn, 5)
        if (each := _thread(one, id)) is not None:
            found.append(each)
    return found, wanted[most - 1] if len(wanted) > most else None, len(ids)


def _thread(one: Opened, id: int) -> dict[str, Any] | None:
    """None: it has ended."""
    at = f"task/{id}"
    try:
        stat = one.fields(f"{at}/stat")
        name = shown(one.read(f"{at}/comm", 64).rstrip(b"\n"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    place = one.maybe("wait channels", lambda: one.read(f"{at}/wchan", 256).decode("ascii", "replace"))
    sleeps = one.maybe("system calls", lambda: asleep.on(one.pid, id)) or []
    return {
        "id": str(id),
        "tid": id,
        "pid": one.pid,
        "name": name,
        "main": id == one.pid,
        "state": state(stat[0]),
        "cpu_s": round(cpu(stat), 3),
        "cpu": None,
        "wait_channel": "" if place in (None, "0") else place,
        "call": kernel.syscall(Path(f"/proc/{one.pid}/task/{id}")) or "",
        "waits_on": [f"{does} {_target(one, number)}" for does, number in sleeps],
        "processor": int(stat[36]) if len(stat) > 36 and stat[36].isdigit() else None,
    }


def _target(one: Opened, number: int) -> str:
    """What a descriptor leads to."""
    try:
        return f"{number} ({one.link(f'fd/{number}')})"
    except OSError:
        return str(number)


def seconds(one: Opened, ids: list[int]) -> dict[int, float]:
    """CPU seconds by thread, of those that still run."""
    found = {}
    for id in ids:
        try:
            found[id] = cpu(one.fields(f"task/{id}/stat"))
        except OSError:
            continue
    return found
