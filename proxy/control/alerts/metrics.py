"""Any metric of the table, as a condition looks at it: over the seconds of `within`, from the rings.

A counter is how often a second (those whose total is what one asks for: how much in all), a gauge what its statistic in
the table says, a histogram its p99; all of an app as a whole, or of the gateway, or of the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.config import Condition
from proxy.control.autoheal import words
from proxy.control.autoheal.contract import Seen, Unit
from proxy.control.counters import ALL
from proxy.control.incidents.incident import Subject
from proxy.control.metrics.ring import FIELDS, Part, decode, unpack
from proxy.control.metrics.rings import Rings
from proxy.control.metrics.table import BY_ID, QUANTILES, Metric
from proxy.link.histogram import merge, quantile

LATE: Final = 5
"""Seconds that the newest value may be old."""
UNITS: Final[dict[str, Unit]] = {"seconds": "s", "bytes": "bytes", "cores": "cores"}


class Metrics:
    """What `rules` ask."""

    def __init__(self, rings: Rings) -> None:
        self._rings = rings

    def scope(self, name: str) -> str:
        metric = BY_ID.get(name)
        if metric is None:
            return ""
        return "app" if metric.of_apps else "host" if "host" in metric.of else "gateway"

    def look(self, condition: Condition, subject: Subject, now: float) -> Seen:
        """`now` is not looked at: rings have a clock of their own."""
        metric = BY_ID[condition.name]
        value = self._value(metric, subject, condition.within)
        below = condition.below is not None
        threshold = condition.below if condition.below is not None else condition.above or 0.0
        unit = UNITS.get(metric.unit, "")
        if value is None:
            return Seen(False, None, threshold, unit, f"{metric.id} is not known", below)
        met = value < threshold if below else value > threshold
        return Seen(met, value, threshold, unit, self._words(metric, value, condition.within), below)

    def _value(self, metric: Metric, subject: Subject, within: float) -> float | None:
        """Over the last seconds; None: it is not known, or nothing happened that it could be made of."""
        newest = self._rings.second
        key = (subject.app, ALL) if subject.app else ("", metric.name or ALL)
        parts = list(self._parts(key, newest - int(within)))
        if not parts or parts[-1][0].start + len(parts[-1][0].counts) <= newest - LATE:
            return None
        if metric.field in FIELDS:
            return _counted(metric, parts)
        column = COLUMNS.get(metric.field, metric.field)
        found = [
            value for part, first in parts for value in part.columns.get(column, ())[first:] if value == value
        ]  # NaN is what is not known
        if not found:
            return None
        match metric.default_stat:
            case "last":
                value = found[-1]
            case "max":
                value = max(found)
            case "sum":
                value = sum(found)
            case _:
                value = sum(found) / len(found)  # of a counter its rate: each is of one second
        return value * metric.scale

    def _parts(self, key: tuple[str, str], since: int) -> Iterator[tuple[Part, int]]:
        """Those with seconds after `since`, and the place of the first such second."""
        held = self._rings.held(key)
        if held is None:
            return
        for block in held.blocks:
            if block.start + block.length > since + 1:
                yield unpack(block), max(0, since + 1 - block.start)
        if held.open.counts:
            yield held.open, max(0, since + 1 - held.open.start)

    @staticmethod
    def _words(metric: Metric, value: float, within: float) -> str:
        """With its number: "response_time: 2.4 s (p99 of the last 1m)"."""
        span = units.write_duration(within)
        stat = metric.default_stat
        if stat == "last":
            return f"{metric.id}: {_said(metric, value)} now"
        if stat == "rate":
            return f"{metric.id}: {_said(metric, value)} a second over the last {span}"
        return f"{metric.id}: {_said(metric, value)} ({stat} of the last {span})"


COLUMNS: Final = {"memory_mean": "memory"}
"""Fields of points that are made of a column."""


def _said(metric: Metric, value: float) -> str:
    shown = words.shown(value, UNITS.get(metric.unit, ""))
    return shown if metric.unit in UNITS else f"{shown} {metric.unit}"


def _counted(metric: Metric, parts: list[tuple[Part, int]]) -> float | None:
    """Of what is counted second by second."""
    covered, total, above = 0.0, 0.0, 0.0
    merged: dict[int, int] = {}
    for part, first in parts:
        covered += sum(value for value in part.columns["counted"][first:] if value == value)
        for data in part.counts[first:]:
            if not data:
                continue
            second = decode(data)
            value = getattr(second, metric.field)
            if metric.sum:
                above += getattr(second, metric.sum)
            if metric.kind == "histogram" and isinstance(value, dict):
                merge(merged, value)
            elif isinstance(value, dict):
                total += sum(value.values())
            else:
                total += value[metric.index] if isinstance(value, list) else value
    if not covered:
        return None
    if metric.kind == "histogram":
        if metric.default_stat == "mean":
            return above / total if total else None
        return quantile(merged, QUANTILES[metric.default_stat])
    return total if metric.default_stat == "sum" else total / covered
