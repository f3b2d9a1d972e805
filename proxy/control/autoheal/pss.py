"""What a process tree really takes: memory that its processes share counted once.

Resident sizes added up count a preforking server's shared pages once per worker, and a rule about its limit would act
on memory that nobody uses. Reading it rightly (smaps_rollup) walks page tables, so it is done only where it matters:
several processes, no cgroup that knows better, and near to the limit; in a thread, each 10 s at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NEAR: Final = 0.7
"""Of the limit, from which on it is looked at closely."""
EVERY: Final = 10.0
HOLDS: Final = 35.0
"""Seconds for which a look is good: three of them, and a bit."""


def measured(pids: Sequence[int]) -> int | None:
    """Bytes, by proportional set size; None if one of them cannot be read."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith((b"Pss:", b"SwapPss:")))
        except (ProcessLookupError, FileNotFoundError):
            continue  # it has ended meanwhile
        except OSError:
            return None
    return total or None


@dataclass(slots=True)
class Closely:
    """Of one instance. Times are monotonic seconds."""

    at: float = float("-inf")  # of the last look, or of its beginning
    value: int | None = None
    share: float = 1.0  # of the resident sizes, then
    busy: bool = False

    def memory(self, rss: int, limit: int | None, pids: Sequence[int], now: float) -> int:
        """What counts as its memory now: resident sizes, or the part of them that was found to be real."""
        if len(pids) > 1 and limit and rss > NEAR * limit and not self.busy and now - self.at >= EVERY:
            self.busy, self.at = True, now
            asyncio.get_running_loop().run_in_executor(None, measured, tuple(pids)).add_done_callback(
                lambda found: self._came(found, rss)
            )
        if self.value is None or now - self.at > HOLDS:
            return rss
        return int(rss * self.share)

    def _came(self, found: asyncio.Future[int | None], rss: int) -> None:
        self.busy = False
        if not found.cancelled() and found.exception() is None:
            self.value = found.result()
            self.share = min(1.0, self.value / rss) if self.value else 1.0
