"""Many requests, or few."""

from __future__ import annotations

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal import watched
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge, unknown, window
from proxy.link.messages import Watch


def watches(condition: Condition) -> tuple[Watch, ...]:
    return (watched.requests(condition.path),) if condition.path else ()


def look(condition: Condition, series: Series, now: float) -> Seen:
    found = window(series, now, condition.within)
    if found is None:
        return unknown(condition, condition.above or condition.below or 0.0, "", "no reading yet")
    if condition.path:
        key = watched.requests(condition.path).key
        number = found.grown(lambda reading: reading.watched.get(key, 0))
    else:
        number = found.grown(lambda reading: reading.requests)
    on = f" of {condition.path}" if condition.path else ""
    words = f"{units.count(number)} requests{on} in the last {units.write_duration(condition.within)}"
    if condition.below is not None and not found.whole:
        return unknown(condition, condition.below, "", f"{words}, which are not known whole yet")
    return gauge(condition, float(number), "", words)


KIND = Kind(
    name="requests",
    scope="instance",
    about="So many requests ended within `within`, whatever came of them.",
    look=look,
    watches=watches,
    recorded=lambda condition: "requests of that path before the rule was there" if condition.path else "",
    example='{ requests = { above = 100000, within = "10m" } }',
)
