"""Memory of the process tree."""

from __future__ import annotations

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import gauge, share


def look(condition: Condition, series: Series, now: float) -> Seen:
    last = series.last
    used, limit = (last.memory, last.memory_limit) if last is not None else (None, None)
    if not condition.relative:
        words = f"{units.size(used)} of memory" if used is not None else "its memory is not known"
        return gauge(condition, used, "bytes", words)
    ratio = share(used, limit)
    if used is None or limit is None or ratio is None:
        return gauge(condition, None, "ratio", "its memory, or what it may use, is not known")
    words = f"{units.size(used)} of memory, {units.percent(ratio)} of {units.size(limit)}"
    return gauge(condition, ratio, "ratio", words)


KIND = Kind(
    name="memory",
    scope="instance",
    about="Resident memory of the instance's process tree: a size, or a share of its limit (`process.memory`). Without"
    " a limit it is a share of what it uses and the host or the cgroup still has.",
    look=look,
    example='{ memory = { above = "800MB", for = "30s" } }',
)
