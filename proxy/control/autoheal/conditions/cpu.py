"""CPU time of the process tree."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge, unknown, window

SMOOTH: Final = 10.0
"""With `for` the mean over so many seconds is what has to stay over the threshold: a single second that does not
would begin it anew."""


def look(condition: Condition, series: Series, now: float) -> Seen:
    threshold = condition.above if condition.above is not None else condition.below or 0.0
    within = min(SMOOTH, condition.within) if condition.for_ else condition.within
    found = window(series, now, within)
    if found is None or not found.whole or found.seconds <= 0:
        words = f"its CPU time over {units.write_duration(within)} is not known yet"
        return unknown(condition, threshold, "ratio", words)
    before, after, limit = found.first.cpu_seconds, found.last.cpu_seconds, found.last.cpu_limit
    if before is None or after is None or not limit:
        return unknown(condition, threshold, "ratio", "its CPU time is not known")
    cores = max(0.0, after - before) / found.seconds
    words = f"{cores:.2f} of {limit:g} cores in the last {units.write_duration(within)}"
    return gauge(condition, cores / limit, "ratio", words)


KIND = Kind(
    name="cpu",
    scope="instance",
    about="CPU time as a share of the cores it may use (`process.cpus`, else those of the machine): the mean over"
    " `within`, or, with `for`, a mean over 10 s that stays there.",
    look=look,
    example='{ cpu = { above = "95%", for = "5m" } }',
)
