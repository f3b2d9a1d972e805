"""Stacks for an answer about what hangs now: an answer waits WITHIN seconds for them, whatever py-spy needs.

What comes later is there for the next one who asks, within FRESH seconds: a process is looked into once at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from proxy.control.stacks import NoStacks

WITHIN: Final = 0.6
"""Seconds: an answer is there within one, and findings are drawn meanwhile."""
FRESH: Final = 5.0


class Hanging:
    """`take` gives the text for a pid, or raises NoStacks or OSError."""

    def __init__(self, take: Callable[[int], Awaitable[str]]) -> None:
        self._take = take
        self._taken: dict[tuple[int, ...], tuple[float, asyncio.Task[str]]] = {}

    def __repr__(self) -> str:
        return f"<Hanging: {len(self._taken)} looked into>"

    async def stacks(self, pids: Iterable[int]) -> str:
        """Of the first of these that has any; "" where none has, or none in time."""
        key, now = tuple(pids), time.monotonic()
        for old in [each for each, (at, task) in self._taken.items() if task.done() and now - at > FRESH]:
            del self._taken[old]
        if key not in self._taken:
            self._taken[key] = (now, asyncio.create_task(self._first(key)))
        _, task = self._taken[key]
        await asyncio.wait([task], timeout=WITHIN)
        return task.result() if task.done() and not task.cancelled() else ""

    async def _first(self, pids: tuple[int, ...]) -> str:
        for pid in pids:
            try:
                return await self._take(pid)
            except (NoStacks, OSError):
                continue
        return ""
