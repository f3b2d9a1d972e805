"""One coarse timer wheel for all deadlines of a worker.

A thing with deadlines is an *entry*: it has `due` (monotonic seconds; INFINITE when it has none), `wheel_due` (when the
wheel will next look at it; INFINITE when it is not in the wheel) and `on_due(now)`. Moving a deadline later costs one
assignment: the wheel looks at the old time, sees that nothing is due, and puts the entry where it belongs.

Always true:
  - `on_due` is never called before `due`, and at most one tick after it;
  - an entry is held for FAR at most after its deadline is gone, however far that was: of 5,000 connections a second
    that end with 30 s of a deadline left the wheel would hold 150,000;
  - an entry is in one live bucket at most; what a bucket still holds from before is told by `wheel_due` and skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

TICK: Final = 0.05
INFINITE: Final = float("inf")
FAR: Final = 2.0
"""Seconds. What is due later is looked at until then in such steps: 0.3 µs for each connection."""
_FAR: Final = int(FAR / TICK)


class Entry(Protocol):
    due: float
    wheel_due: float

    def on_due(self, now: float) -> None: ...


class Wheel:
    __slots__ = ("_broke", "_buckets", "_next")

    def __init__(self, now: float, broke: Callable[[Exception, Entry], None] | None = None) -> None:
        """`broke` hears of an `on_due` that raised; the others are called all the same."""
        self._broke = broke
        self._buckets: dict[int, list[Entry]] = {}
        self._next = int(now / TICK)

    def arm(self, entry: Entry, due: float) -> None:
        """Set a deadline; a caller in a hurry sets `due` itself and calls this only if `due < wheel_due`."""
        entry.due = due
        if due < entry.wheel_due:
            slot = int(due / TICK) + 1
            next = self._next
            if slot <= next + _FAR:
                entry.wheel_due = due
                if slot < next:
                    slot = next
            else:
                slot = next + _FAR
                entry.wheel_due = (slot - 1) * TICK
            bucket = self._buckets.get(slot)
            if bucket is None:
                self._buckets[slot] = [entry]
            else:
                bucket.append(entry)

    def turn(self, now: float) -> None:
        """Look at all that is due by `now`."""
        last = int(now / TICK)
        while self._next <= last:
            bucket = self._buckets.pop(self._next, None)
            self._next += 1
            if bucket is None:
                continue
            for entry in bucket:
                looked_for = entry.wheel_due
                if looked_for > now:
                    continue  # it was armed earlier since, looked at, and armed again for later
                entry.wheel_due = INFINITE
                due = entry.due
                if due <= now:
                    entry.due = INFINITE
                    try:
                        entry.on_due(now)
                    except Exception as error:
                        if self._broke is None:
                            raise
                        self._broke(error, entry)
                elif due != INFINITE:
                    self.arm(entry, due)

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())
