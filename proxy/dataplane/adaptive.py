"""`max_inflight = "adaptive"`: how many requests an instance can take before it only queues them inside.

A gradient as in Netflix's concurrency-limits: a base stands for the response time of an instance without a queue, and
the limit follows the quotient of base and present response time. It grows only while it is used, and each step leaves
room for a small queue, so that growth can be noticed at all.

Where it differs from `Gradient2Limit.java`: there the base is a plain long average, which creeps up under a load that
never lets go, and the limit with it. Here the base follows faster answers quickly and slower ones hardly, and every
PROBE_EVERY answers the limit steps back for a moment, so that the base is seen again.

Each worker estimates for itself from the answers it sees; what it compares with its estimate is the number in flight
over all workers.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 20
LEAST: Final = 4
MOST: Final = 1000
QUEUE: Final = 4
"""Requests that may wait inside the instance. Netflix's default."""
TOLERANCE: Final = 1.5
"""The response time may be so many times the base before the limit shrinks."""
SMOOTHING: Final = 0.2
FASTER: Final = 1 / 50
SLOWER: Final = 1 / 6000
"""How far the base goes towards an answer that is faster, or slower, than it."""
PROBE_EVERY: Final = 1000
PROBE: Final = 0.6


class Gradient:
    """`limit` is the slots to have. Feed it each answer."""

    __slots__ = ("_base", "_limit", "_seen", "limit")

    def __init__(self) -> None:
        self._limit = float(FIRST)
        self._base = 0.0
        self._seen = 0
        self.limit = FIRST

    def __repr__(self) -> str:
        return f"<Gradient {self.limit}, usually {self._base * 1000:.1f} ms>"

    def answered(self, seconds: float, inflight: int) -> int:
        """An answer took `seconds` while `inflight` were there; the limit from now on."""
        self._seen += 1
        base = self._base
        base += (seconds - base) * (1.0 if self._seen == 1 else FASTER if seconds < base else SLOWER)
        self._base = base
        if inflight < self._limit / 2:
            return self.limit  # not used: nothing is learned about more
        if self._seen % PROBE_EVERY == 0:
            self._limit = max(LEAST, self._limit * PROBE)
        gradient = max(0.5, min(1.0, TOLERANCE * base / seconds)) if seconds > 0.0 else 1.0
        wanted = self._limit * gradient + QUEUE
        self._limit = max(LEAST, min(MOST, self._limit * (1 - SMOOTHING) + wanted * SMOOTHING))
        self.limit = int(self._limit)
        return self.limit

    def failed(self) -> int:
        """A request ran into a time limit: as a drop in Netflix's AIMD."""
        self._limit = max(LEAST, self._limit * 0.9)
        self.limit = int(self._limit)
        return self.limit
