"""Open descriptors."""

from __future__ import annotations

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge, share


def look(condition: Condition, series: Series, now: float) -> Seen:
    last = series.last
    used, limit = (last.descriptors, last.descriptor_limit) if last is not None else (None, None)
    if not condition.relative:
        words = f"{units.count(used)} descriptors" if used is not None else "its descriptors are not known"
        return gauge(condition, used, "", words)
    ratio = share(used, limit)
    if used is None or limit is None or ratio is None:
        return gauge(condition, None, "ratio", "its descriptors, or how many it may have, are not known")
    return gauge(condition, ratio, "ratio", f"{units.count(used)} of {units.count(limit)} descriptors")


KIND = Kind(
    name="descriptors",
    scope="instance",
    about="Open descriptors of the process that has most in the instance's tree: a number, or a share of its limit.",
    look=look,
    example='{ descriptors = { above = "80%", for = "1m" } }',
)
