"""Ends that nobody planned."""

from __future__ import annotations

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge, unknown, window


def look(condition: Condition, series: Series, now: float) -> Seen:
    found = window(series, now, condition.within)
    if found is None:
        return unknown(condition, condition.above or condition.below or 0.0, "", "no reading yet")
    number = found.grown(lambda reading: reading.exits)
    words = f"{number} instance{'' if number == 1 else 's'} ended unplanned in the last"
    words += f" {units.write_duration(condition.within)}"
    if condition.below is not None and not found.whole:
        return unknown(condition, condition.below, "", f"{words}, which are not known whole yet")
    return gauge(condition, float(number), "", words)


KIND = Kind(
    name="crashes",
    scope="app",
    about="More than `above` of the app's instances ended within `within` though nobody asked them to. They are"
    " replaced anyway; a rule is for what else should happen.",
    look=look,
    example='{ crashes = { above = 3, within = "10m" } }',
)
