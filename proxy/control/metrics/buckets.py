"""Values into steps of time, and what a step shows of them.

Counts are added and divided by the seconds in which they were counted; gauges are weighed by the seconds that they
stand for; percentiles come from merged histograms. A step without a value is not known: None, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.control.metrics.ring import FIELDS, Part, decode
from proxy.control.metrics.table import QUANTILES, Metric
from proxy.control.store.points import Point
from proxy.link.histogram import EDGES, merge, quantile

STEPS: Final = (
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 14_400, 21_600, 43_200, 86_400,
)  # fmt: skip
MOST: Final = 300
"""Points of a series, where no step was asked for."""


@dataclass(slots=True)
class Cell:
    """Of one step."""

    seconds: float = 0.0  # that its values cover
    sum: float = 0.0  # of counts, of values of a histogram, of a gauge times its seconds
    largest: float = -math.inf
    last: float = 0.0
    last_at: float = 0.0
    counts: dict[int, int] = field(default_factory=dict)
    number: int = 0  # of values, where there is no histogram

    def gauge(self, mean: float, peak: float, last: float, at: float, seconds: float) -> None:
        self.seconds += seconds
        self.sum += mean * seconds
        self.largest = max(self.largest, peak)
        if at >= self.last_at:
            self.last, self.last_at = last, at

    def value(self, metric: Metric, stat: str) -> Any:
        """None: not known."""
        if metric.kind == "counter":
            if not self.seconds:
                return None
            return self.sum * metric.scale / self.seconds if stat == "rate" else self.sum * metric.scale
        if metric.kind == "gauge":
            if not self.seconds:
                return None
            found = {"mean": self.sum / self.seconds, "max": self.largest, "last": self.last}[stat]
            return found * metric.scale
        return self._histogram(stat)

    def _histogram(self, stat: str) -> Any:
        if not self.seconds:
            return None
        number = sum(self.counts.values()) or self.number
        if stat == "count":
            return number
        if stat == "heatmap":
            return [[_low(index), _high(index), self.counts[index]] for index in sorted(self.counts)]
        if not number:
            return None
        if stat == "mean":
            return self.sum / number
        return _high(max(self.counts)) if stat == "max" else quantile(self.counts, QUANTILES[stat])


Cells = dict[int, Cell]
"""By number of the step."""


def _low(index: int) -> float:
    return EDGES[index - 1] if index else 0.0


def _high(index: int) -> float:
    return EDGES[min(index, len(EDGES) - 1)]


@dataclass(frozen=True, slots=True)
class Axis:
    """Steps from `start` on; a value of the time `at` belongs to the step that ends at or after it."""

    start: int  # Unix seconds, a multiple of `step`
    until: int
    step: int

    @property
    def length(self) -> int:
        return max(1, math.ceil((self.until - self.start) / self.step))

    def place(self, at: float) -> int:
        """-1: outside."""
        found = math.ceil((at - self.start) / self.step) - 1
        return found if 0 <= found < self.length else -1

    def times(self) -> list[int]:
        """The end of each step."""
        ends = [self.start + self.step * (number + 1) for number in range(self.length)]
        return [min(end, self.until) for end in ends]


def axis(since: float, until: float, step: int = 0) -> Axis:
    """`step` 0: the finest with MOST steps at most."""
    wanted = (until - since) / MOST
    step = step or next((one for one in STEPS if one >= wanted), math.ceil(wanted / STEPS[-1]) * STEPS[-1])
    start = int(since) // step * step
    return Axis(start, max(int(until), start + 1), step)


class Reader:
    """What one metric takes from points and seconds. `fault`: of faults, only those of this name."""

    def __init__(self, metric: Metric, fault: str = "") -> None:
        self.metric = metric
        self.fault = fault
        self._field = {"memory_mean": "memory"}.get(metric.field, metric.field)  # a second has one value of it

    def in_rings(self, columns: Iterable[str]) -> bool:
        """Whether seconds have it."""
        return self._field in FIELDS or self._field in columns

    def point(self, cells: Cells, place: int, at: float, point: Point) -> None:
        metric = self.metric
        if metric.kind == "histogram":
            self._add_histogram(cells, place, point, point.seconds)
            return
        value = _read(point, metric.field)
        if value is None:
            return
        cell = cells.get(place) or cells.setdefault(place, Cell())
        if metric.kind == "counter":
            cell.sum += self._count(value)
            cell.seconds += point.seconds
            return
        mean = _read(point, metric.mean) if metric.mean else None
        peak = _read(point, metric.peak) if metric.peak else None
        seconds = point.seconds or 1.0
        cell.gauge(value if mean is None else mean, value if peak is None else max(peak, value), value, at, seconds)

    def part(self, cells: Cells, axis: Axis, part: Part, after: float) -> None:
        """Seconds of a ring, those later than `after`."""
        if self._field in FIELDS:
            self._counted(cells, axis, part, after)
            return
        column = part.columns.get(self._field)
        if column is None:
            return
        counter = self.metric.kind == "counter"
        for second, value in enumerate(column, part.start):
            place = axis.place(second) if second > after and value == value else -1
            if place < 0:
                continue
            cell = cells.get(place) or cells.setdefault(place, Cell())
            if counter:
                cell.sum += value
                cell.seconds += 1.0
            else:
                cell.gauge(value, value, value, second, 1.0)

    def _counted(self, cells: Cells, axis: Axis, part: Part, after: float) -> None:
        histogram = self.metric.kind == "histogram"
        for index, covered in enumerate(part.columns["counted"]):
            second = part.start + index
            place = axis.place(second) if second > after and covered == covered else -1
            if place < 0:
                continue
            cell = cells.get(place) or cells.setdefault(place, Cell())
            data = part.counts[index]
            if not data:
                cell.seconds += covered
            elif histogram:
                self._add_histogram(cells, place, decode(data), covered)
            else:
                cell.sum += self._count(getattr(decode(data), self._field))
                cell.seconds += covered

    def _count(self, value: Any) -> float:
        if self.metric.index >= 0:
            return float(value[self.metric.index])
        if isinstance(value, Mapping):
            return float(value.get(self.fault, 0) if self.fault else sum(value.values()))
        return float(value)

    def _add_histogram(self, cells: Cells, place: int, of: Any, seconds: float) -> None:
        cell = cells.get(place) or cells.setdefault(place, Cell())
        cell.seconds += seconds
        cell.sum += getattr(of, self.metric.sum)
        value = getattr(of, self.metric.field)
        if isinstance(value, dict):
            merge(cell.counts, value)
        else:
            cell.number += value


def _read(point: Point, name: str) -> Any:
    """None: not known."""
    if name.startswith("own."):
        return getattr(point.own, name[4:]) if point.own is not None else None
    return getattr(point, name)


def together(metric: Metric, parts: Iterable[Cells]) -> Cells:
    """Of several apps, as if they were one: counts and gauges are added, seconds are the same for all."""
    found: Cells = {}
    for cells in parts:
        for place, one in cells.items():
            cell = found.get(place)
            if cell is None:
                found[place] = one
                continue
            if metric.kind == "gauge" and cell.seconds and one.seconds:
                seconds = max(cell.seconds, one.seconds)
                cell.sum = (cell.sum / cell.seconds + one.sum / one.seconds) * seconds
                cell.seconds = seconds
                cell.largest += one.largest
                cell.last += one.last
                continue
            cell.seconds = max(cell.seconds, one.seconds)
            cell.sum += one.sum
            cell.number += one.number
            merge(cell.counts, one.counts)
    return found
