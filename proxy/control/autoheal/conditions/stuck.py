"""A request that waits for its response head, now."""

from __future__ import annotations

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge


def look(condition: Condition, series: Series, now: float) -> Seen:
    last = series.last
    if last is None:
        return gauge(condition, None, "s", "no reading yet")
    waits = last.oldest_wait
    words = f"the oldest request waits {units.duration(waits)} for its response head" if waits else "no request waits"
    return gauge(condition, waits, "s", words)


KIND = Kind(
    name="stuck",
    scope="instance",
    about="The oldest request that now waits for its response head has waited longer than `above`, from the moment it"
    " was sent whole. Above `timeouts.first_byte` this cannot be: the request has its 504 by then.",
    look=look,
    example='{ stuck = { above = "20s" } }',
)
