"""When a try is repeated, and when it is given up. Pure."""

from __future__ import annotations

from typing import Final

FIRST: Final = 1.0
LONGEST: Final = 120.0
"""Seconds between two tries: a receiver that is back hears within two minutes of what is open."""
JITTER: Final = 0.2
GIVE_UP: Final = 3600.0
"""Seconds from the first try of a message to the last."""
FAILING: Final = 2
"""Tries that fail one after another before it is said: one may be a blink."""


def pause(failures: int, chance: float, after: float = 0.0) -> float:
    """Seconds before the next try, after so many failures in a row. `chance` is 0 to 1, `after` what the receiver
    asked for."""
    wait = min(LONGEST, FIRST * 2.0 ** min(max(0, failures - 1), 20))
    return max(after, wait * (1.0 + JITTER * (2.0 * chance - 1.0)))


def hopeless(first_try: float, now: float) -> bool:
    """Whether it has been tried for long enough."""
    return now - first_try >= GIVE_UP
