"""Statistics in plain Python: intervals, exact tests, steps in a series. Pure.

Constants were chosen by simulation, which the tests repeat. A running sum (CUSUM) over so few values alarms in 7 to
26 % of quiet windows, and a test of trend on each warm-up and daily ramp; so `step` wants a jump that is over the
noise, sudden, and lasts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation. Raises ValueError when there are none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)


def mad(values: Sequence[float]) -> float:
    """Median absolute deviation, scaled to be a standard deviation where values are normal."""
    middle = median(values)
    return 1.4826 * median([abs(value - middle) for value in values])


def known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share that holds also for few and for rare ones."""
    if of <= 0:
        return 0.0, 1.0
    p = hits / of
    scale = 1 + z * z / of
    middle = (p + z * z / (2 * of)) / scale
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def fisher(a: int, n: int, b: int, m: int) -> float:
    """How likely `a` of `n` or more would be, were it no more often than `b` of `m`. One-sided, exact."""
    if n <= 0 or m <= 0:
        return 1.0
    hits, total = a + b, n + m
    base = _choose(total, n)
    cases = range(max(a, n - (total - hits)), min(hits, n) + 1)
    terms = [_choose(hits, k) + _choose(total - hits, n - k) - base for k in cases]
    return min(1.0, sum(math.exp(term) for term in terms))


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def holm(ps: Sequence[float], alpha: float) -> list[bool]:
    """Which of several tests hold, so that one false one among all of them is no likelier than `alpha`."""
    held = [False] * len(ps)
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        if ps[at] > alpha / (len(ps) - rank):
            break
        held[at] = True
    return held


@dataclass(frozen=True, slots=True)
class Step:
    """A jump from one level to another: `at` is the index of the first value of the new one."""

    at: int
    before: float
    after: float


def step(values: Sequence[float], *, least: int = 8, ratio: float = 1.5, floor: float = 0.0) -> Step | None:
    """The largest jump upwards, if it is one: sudden, well over the noise, and lasting to the end.

    `least` values on either side; `after` is at least `ratio` times `before` and `floor` above it. A ramp, a spike
    and a warm-up are none.
    """
    n = len(values)
    if n < 2 * least:
        return None
    best, cost = 0, math.inf
    for at in range(least, n - least + 1):
        now = _spread(values[:at]) + _spread(values[at:])
        if now < cost:
            best, cost = at, now
    # Least absolute deviation may put the border a little off; the first that belongs to the upper level is it.
    left, right = values[:best], values[best:]
    before, after = median(left), median(right)
    gap = after - before
    if gap <= floor or after < ratio * before:
        return None
    noise = max(mad(left), mad(right))
    if gap < 4 * noise or quantile(right, 0.2) < quantile(left, 0.8) + 0.25 * gap:
        return None
    near = min(least, 8)
    if median(right[:near]) - median(left[-near:]) < 0.6 * gap:  # it crept there
        return None
    if median(right[-near:]) - before < 0.5 * gap:  # it came back
        return None
    while best > least and values[best - 1] > before + 0.5 * gap:
        best -= 1
    return Step(best, before, after)


def _spread(values: Sequence[float]) -> float:
    """Sum of distances from the median."""
    middle = median(values)
    return sum(abs(value - middle) for value in values)


def buckets(values: Sequence[float | None], width: int) -> list[float | None]:
    """Means of what is known, `width` at a time; the first one may be of fewer, so that the last is whole."""
    found: list[float | None] = []
    first = len(values) % width
    parts = [values[:first]] if first else []
    parts += [values[at : at + width] for at in range(first, len(values), width)]
    for part in parts:
        there = known(part)
        found.append(sum(there) / len(there) if there else None)
    return found


def slope(values: Sequence[float]) -> float:
    """Theil and Sen: the median slope between all pairs, per step."""
    n = len(values)
    return median([(values[j] - values[i]) / (j - i) for i in range(n) for j in range(i + 1, n)]) if n > 1 else 0.0
