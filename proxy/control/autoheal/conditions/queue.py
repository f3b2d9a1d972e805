"""Requests that wait for a slot."""

from __future__ import annotations

from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge


def look(condition: Condition, series: Series, now: float) -> Seen:
    last = series.last
    if last is None:
        return gauge(condition, None, "", "no reading yet")
    return gauge(condition, float(last.queue), "", f"{last.queue} requests in the queue")


KIND = Kind(
    name="queue",
    scope="app",
    about="Requests that wait in the app's queue for a slot, now.",
    look=look,
    example='{ queue = { above = 10, for = "10s" } }',
)
