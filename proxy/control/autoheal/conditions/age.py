"""How long an instance has been ready."""

from __future__ import annotations

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge


def look(condition: Condition, series: Series, now: float) -> Seen:
    last = series.last
    if last is None:
        return gauge(condition, None, "s", "no reading yet")
    return gauge(condition, last.age, "s", f"ready for {units.duration(last.age)}")


KIND = Kind(
    name="age",
    scope="instance",
    about="The instance has been ready for longer than `above`.",
    look=look,
    example='{ age = { above = "24h" } }',
)
