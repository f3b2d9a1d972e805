"""The board: how many requests are where, seen by all workers and by control.

One memfd, mapped by everybody. `inflight[instance row][worker]` counts requests from the pick on (before
connect); `waiting[app row][worker]` says how many wait in that worker's queue and since when the oldest does.
A memfd rather than multiprocessing.shared_memory, which unlinks its segment when one process exits.

Always true:
  - a worker writes only its own column, so no cell has two writers (rate limits aside, which bear it);
  - a row belongs to one instance until every worker has acknowledged a table without it, and nothing is on it;
  - control zeroes the column of a worker that died.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

LAYOUT: Final = 1
"""Raised, with the protocol, when anything below moves: then each kind of worker has a board of its own."""
COLUMNS: Final = 16
"""Most worker processes. 16 int32 are one cache line, so a row is read in one."""
ROWS: Final = 8192
APPS: Final = 512
_INFLIGHT: Final = 4096
_COUNTS: Final = _INFLIGHT + ROWS * COLUMNS * 4
_SINCE: Final = _COUNTS + APPS * COLUMNS * 4
RATE_CELLS: Final = 131_072
"""Clients of all rate limits together that are told apart; 16 bytes each, taken as they are used."""
_MARKS: Final = _SINCE + APPS * COLUMNS * 8
_TIMES: Final = _MARKS + RATE_CELLS * 8
SIZE: Final = _TIMES + RATE_CELLS * 8


def create() -> int:
    """A descriptor of a new, empty board. Pages are taken only as rows are used."""
    fd = os.memfd_create("triage-board", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    return fd


class Board:
    """A mapping of the board. Sums look at `columns` columns from `first` on: those that workers have now."""

    __slots__ = ("_map", "columns", "counts", "first", "inflight", "rate_marks", "rate_times", "since")

    def __init__(self, fd: int, columns: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        view = memoryview(self._map)
        self.inflight = view[_INFLIGHT:_COUNTS].cast("i")
        """Flat: `inflight[row * COLUMNS + worker]`."""
        self.counts = view[_COUNTS:_SINCE].cast("i")
        self.since = view[_SINCE:_MARKS].cast("d")
        """Monotonic seconds since which the oldest of that worker's queue waits; 0.0 when none does."""
        self.rate_marks = view[_MARKS:_TIMES].cast("Q")
        """The cells of the rate limits (see dataplane/buckets.py); the one region that has several writers."""
        self.rate_times = view[_TIMES:SIZE].cast("d")
        self.columns = columns
        self.first = 0

    def total(self, row: int) -> int:
        """Requests in flight on an instance, over all workers."""
        base = row * COLUMNS + self.first
        return sum(self.inflight[base : base + self.columns])

    def waiting(self, app: int) -> int:
        """Requests waiting in an app's queues, over all workers."""
        base = app * COLUMNS + self.first
        return sum(self.counts[base : base + self.columns])

    def oldest(self, app: int) -> float:
        """Since when the oldest waits, over all workers; 0.0 when none does."""
        base = app * COLUMNS + self.first
        return min((at for at in self.since[base : base + self.columns] if at), default=0.0)

    def zero_column(self, worker: int) -> None:
        """After a worker's death: what it held is free."""
        for row in range(ROWS):
            index = row * COLUMNS + worker
            if self.inflight[index]:
                self.inflight[index] = 0
        for app in range(APPS):
            index = app * COLUMNS + worker
            self.counts[index] = 0
            self.since[index] = 0.0

    def zero_row(self, row: int) -> None:
        """Before a row is given to another instance."""
        for index in range(row * COLUMNS, (row + 1) * COLUMNS):
            self.inflight[index] = 0
