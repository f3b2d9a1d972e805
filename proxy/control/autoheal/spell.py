"""`for`: how long a condition has been met without a break. Times are monotonic seconds.

Always true: a gap in which nobody looked (control was replaced, the machine slept) of more than GAP begins it anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GAP: Final = 20.0
"""Control is back within a few seconds of its death, 10 at most between two tries."""


@dataclass(slots=True)
class Spell:
    since: float = 0.0  # 0.0: it is not met
    seen: float = 0.0  # when it was looked at last

    def update(self, met: bool, now: float, gap: float = GAP) -> float:
        """Seconds that it has been met by now; 0.0 also when it is met from now on."""
        if not met:
            self.since = 0.0
        elif not self.since or now - self.seen > gap or now < self.seen:
            self.since = now
        self.seen = now
        return now - self.since if self.since else 0.0
