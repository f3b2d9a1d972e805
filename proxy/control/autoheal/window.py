"""What happened between two readings, and what a gauge is now: what the conditions have in common. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Reading, Seen, Series, Unit

LATE: Final = 2.0
"""Seconds by which the first reading of a window may be too young: readings come once a second, roughly."""


@dataclass(frozen=True, slots=True)
class Window:
    """From `first` to `last`; `whole` if it is as long as was asked."""

    first: Reading
    last: Reading
    whole: bool

    @property
    def seconds(self) -> float:
        return self.last.at - self.first.at

    def grown(self, count: Callable[[Reading], int]) -> int:
        """By how much a count grew; never negative."""
        return max(0, count(self.last) - count(self.first))


def window(series: Series, now: float, within: float) -> Window | None:
    """The last `within` seconds as far as they are known; None without a reading."""
    last = series.last
    first = series.before(now - within)
    if last is None or first is None:
        return None
    return Window(first, last, first.at <= now - within + LATE)


def unknown(condition: Condition, threshold: float, unit: Unit, words: str) -> Seen:
    """Nothing can be said; so nothing is met."""
    return Seen(False, None, threshold, unit, words, below=condition.below is not None)


def counted(condition: Condition, series: Series, now: float, count: Callable[[Reading], int], what: str) -> Seen:
    """So many at least in `within`, as `count` says; with `below`, fewer than that in all of it."""
    found = window(series, now, condition.within)
    if found is None:
        return unknown(condition, float(condition.count), "", "no reading yet")
    number = found.grown(count)
    words = f"{units.count(number)} {what} in the last {units.write_duration(condition.within)}"
    if condition.below is not None:
        return Seen(found.whole and number < condition.count, float(number), float(condition.count), "", words, True)
    return Seen(number >= condition.count, float(number), float(condition.count), "", words)


def gauge(condition: Condition, value: float | None, unit: Unit, words: str) -> Seen:
    """More than `above`, or less than `below`."""
    below = condition.below is not None
    threshold = condition.below if condition.below is not None else condition.above
    assert threshold is not None, "the config's reader wants one of them"
    if value is None:
        return unknown(condition, threshold, unit, words)
    return Seen(value < threshold if below else value > threshold, value, threshold, unit, words, below)


def share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


