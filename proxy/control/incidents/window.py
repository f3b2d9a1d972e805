"""What happened in the last seconds, from two readings of an app. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.control.autoheal.contract import Reading
from proxy.control.incidents import hits
from proxy.control.incidents.scene import AppScene

Counts = Callable[[str], bool]
"""Whether a fault of that name is one of those that are looked for."""


@dataclass(frozen=True, slots=True)
class Window:
    """`asked`: requests that could have been served: not those that clients, an operator or nobody spoilt."""

    seconds: float
    asked: int
    faults: dict[str, int]  # those looked for, the most frequent first
    since: float  # Unix seconds of the reading it begins with

    @property
    def hit(self) -> int:
        return sum(self.faults.values())

    @property
    def share(self) -> float:
        return min(1.0, self.hit / self.asked) if self.asked else 0.0

    @property
    def main(self) -> str:
        """The fault that is most of it; "" without any."""
        return next(iter(self.faults), "")


def over(scene: AppScene, seconds: float, counts: Counts) -> Window | None:
    """The last `seconds`; None where nothing is known."""
    if scene.series is None:
        return None
    last, first = scene.series.last, scene.series.before(scene.now - seconds)
    if last is None or first is None or first.at >= last.at:
        return None
    return between(first, last, counts)


def between(first: Reading, last: Reading, counts: Counts) -> Window:
    faults: dict[str, int] = {}
    spoilt = 0
    for name, count in last.faults.items():
        more = count - first.faults.get(name, 0)
        if more > 0 and counts(name):
            faults[name] = more
        if more > 0 and not hits.serious(name):
            spoilt += more
    asked = max(sum(faults.values()), last.requests - first.requests - spoilt)
    ordered = dict(sorted(faults.items(), key=lambda item: -item[1]))
    return Window(last.at - first.at, asked, ordered, first.unix or last.unix - (last.at - first.at))


def first_sign(scene: AppScene, window: Window, counts: Counts) -> float:
    """Unix seconds of the reading in which the first of them was counted."""
    series = scene.series
    if series is None or series.last is None:
        return scene.unix
    low = series.before(series.last.at - window.seconds)
    if low is None:
        return scene.unix
    base = sum(count for name, count in low.faults.items() if counts(name))
    for second in range(1, int(window.seconds) + 1):
        at = series.before(low.at + second)
        if at is not None and sum(count for name, count in at.faults.items() if counts(name)) > base:
            return at.unix or scene.unix
    return scene.unix
