"""The newest batches of lines, in memory, for those that follow: a ring, bounded in bytes.

Each batch knows how many lines of its instance, its app and of all came before it: so who follows knows exactly how
many it missed, whatever it asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Final

from proxy.control.logs.lines import Batch

MOST: Final = 8 << 20
"""Bytes of batches, with what Python needs for them."""


class Recent:
    """On control's loop."""

    def __init__(self, most: int = MOST) -> None:
        self.ring: deque[Batch] = deque()
        self.weight = 0
        self.most = most
        self.last = 0
        """Number of the newest batch."""
        self.listeners: list[Callable[[Batch], None]] = []
        self.encoded: dict[int, Awaitable[bytes]] = {}
        """By a batch's number, as those that follow send it: made once for all of them, and kept for the newest."""
        self._lines: dict[tuple[str, str], int] = {}  # by (app, instance); (app, "*"): of the app; ("", ""): of all

    def add(self, batch: Batch) -> None:
        self.last += 1
        batch.number = self.last
        count, keys = len(batch.lines), ((batch.app, batch.instance), (batch.app, "*"), ("", ""))
        instance, app, total = (self._lines.get(key, 0) for key in keys)
        batch.before = (instance, app, total)
        for key in keys:
            self._lines[key] = self._lines.get(key, 0) + count
        self.ring.append(batch)
        self.weight += batch.weight
        while self.weight > self.most and len(self.ring) > 1:
            self.weight -= self.ring.popleft().weight
        for call in self.listeners:
            call(batch)

    def forget(self, app: str, instance: str) -> None:
        """It is gone: its lines are not counted any more."""
        self._lines.pop((app, instance), None)

    def lines(self, app: str, instance: str) -> int:
        """Lines so far of that instance, that app ("" for the instance), or of all ("" for both)."""
        if instance and not app:
            return sum(count for (_, name), count in self._lines.items() if name == instance)
        return self._lines.get((app, instance) if instance else (app, "*") if app else ("", ""), 0)

    def after(self, number: int, most: int) -> list[Batch]:
        """Batches later than a number, oldest first."""
        if number >= self.last:
            return []
        at = bisect_right(self.ring, number, key=lambda batch: batch.number)
        return list(islice(self.ring, at, at + most))

    def unwritten(self) -> Iterator[Batch]:
        """Those that are not in a file: on their way, or not written. Oldest first."""
        return (batch for batch in self.ring if batch.kept != 1)
