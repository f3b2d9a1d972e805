"""Requests under way."""

from __future__ import annotations

from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge


def look(condition: Condition, series: Series, now: float) -> Seen:
    last = series.last
    if last is None:
        return gauge(condition, None, "ratio" if condition.relative else "", "no reading yet")
    if not condition.relative:
        return gauge(condition, float(last.inflight), "", f"{last.inflight} requests under way")
    if not last.slots:
        return gauge(condition, None, "ratio", "it has no fixed number of slots")
    return gauge(condition, last.inflight / last.slots, "ratio", f"{last.inflight} of {last.slots} slots in use")


KIND = Kind(
    name="inflight",
    scope="app",
    about="Requests under way on the app's ready instances, now: a number, or a share of their slots (`max_inflight`).",
    look=look,
    example='{ inflight = { above = "80%", for = "30s" } }',
)
