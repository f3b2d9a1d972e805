"""Instances that are not well."""

from __future__ import annotations

from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge, share


def look(condition: Condition, series: Series, now: float) -> Seen:
    last = series.last
    if last is None:
        return gauge(condition, None, "ratio" if condition.relative else "", "no reading yet")
    words = f"{last.unhealthy} of {last.instances} instances are unhealthy"
    if condition.relative:
        return gauge(condition, share(float(last.unhealthy), float(last.instances)), "ratio", words)
    return gauge(condition, float(last.unhealthy), "", words)


KIND = Kind(
    name="unhealthy",
    scope="app",
    about="More than `above` of the app's instances (a number, or a share of those wanted) are ejected, failing or not"
    " ready. Acts on instances are on the unhealthy ones only.",
    look=look,
    example='{ unhealthy = { above = 0, for = "1h" } }',
)
