"""When a dead control is started again, and with how much of its past. Pure; times are CLOCK_MONOTONIC.

Always true:
  - a control is started again, for ever; only the wait grows;
  - one that handed over has not died, and its successor gets what it wrote;
  - once `fresh`, every next one is fresh until one has lived `SETTLED`: what kills is not tried again.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 0.1
LONGEST: Final = 10.0
SETTLED: Final = 30.0
QUICK: Final = 3
WITHIN: Final = 10.0


class Restarts:
    def __init__(self) -> None:
        self.deaths = 0
        self.fresh = False
        self._delay = FIRST
        self._recent: list[float] = []

    def died(self, now: float, lived: float) -> float:
        """Count a death; returns the seconds to wait before the next start."""
        self.deaths += 1
        if lived >= SETTLED:
            self._delay, self._recent, self.fresh = FIRST, [], False
        self._recent = [at for at in self._recent if now - at < WITHIN] + [now]
        if len(self._recent) >= QUICK:
            self.fresh = True
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST)
        return delay

    def handed_over(self) -> None:
        self._delay, self._recent, self.fresh = FIRST, [], False
