"""Readings in order, thinned with age: 1 s for 2 min, 10 s for 20 min, 60 s for 25 h.

Always true:
  - times grow strictly: a reading that is not younger than the last one is dropped;
  - a look up to `keep` seconds back finds a reading, if there was one; what is older goes in time;
  - memory is bounded by the tiers, whatever the rate of readings.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from proxy.control.autoheal.contract import Reading

TIERS: Final = ((0.9, 120.0), (10.0, 1200.0), (60.0, 90_000.0))
"""Seconds between two readings, and how far back: 2 min, 20 min, 25 h. A tick of a second comes a little early at
times, hence 0.9."""
SLACK: Final = 64
"""Readings of the past that may pile up before the list is cut: cutting moves all that is behind."""


class Thinned:
    """The Series of the contract."""

    __slots__ = ("_at", "_tiers", "keep")

    def __init__(self, keep: float = TIERS[0][1]) -> None:
        self.keep = keep
        """Seconds back that someone looks; further back nothing is kept."""
        self._tiers: tuple[list[Reading], ...] = tuple([] for _ in TIERS)
        self._at: tuple[list[float], ...] = tuple([] for _ in TIERS)

    def __repr__(self) -> str:
        first, last = self.first, self.last
        span = last.at - first.at if first is not None and last is not None else 0.0
        return f"<Series {len(self)} readings over {span:.0f} s>"

    def __len__(self) -> int:
        return sum(len(tier) for tier in self._tiers)

    @property
    def first(self) -> Reading | None:
        return min((tier[0] for tier in self._tiers if tier), key=lambda one: one.at, default=None)

    @property
    def last(self) -> Reading | None:
        return self._tiers[0][-1] if self._tiers[0] else None

    def before(self, at: float) -> Reading | None:
        best: Reading | None = None
        for times, tier in zip(self._at, self._tiers, strict=True):
            place = bisect_right(times, at)
            if place and (best is None or tier[place - 1].at > best.at):
                best = tier[place - 1]
        return best if best is not None else self.first

    def add(self, reading: Reading) -> None:
        reached = 0.0
        for (step, reach), times, tier in zip(TIERS, self._at, self._tiers, strict=True):
            if reached and self.keep <= reached:
                return  # nobody looks so far back
            if not times or reading.at - times[-1] >= step:
                times.append(reading.at)
                tier.append(reading)
                old = bisect_right(times, reading.at - min(reach, self.keep)) - 1
                if old >= SLACK or old > len(times) // 2:
                    del times[:old], tier[:old]
            elif not reached:
                return
            reached = reach

    def clear(self) -> None:
        for times, tier in zip(self._at, self._tiers, strict=True):
            times.clear()
            tier.clear()
