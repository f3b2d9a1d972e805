"""Instances near their limit of memory."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.autoheal.contract import Series
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene

SHARE: Final = 0.95
FOR: Final = 60.0
"""Seconds: the built-in rule recycles at 90 % after 30 s, and what it mends is no incident."""


def look(scene: AppScene) -> Found | None:
    found = [(name, series) for name, series in scene.instances.items() if _near(series, scene.now)]
    if not found:
        return None
    name, series = found[0]
    last = series.last
    assert last is not None and last.memory is not None and last.memory_limit is not None
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Found(
        "memory",
        f"{name} has used over {units.percent(SHARE)} of its memory for {units.duration(FOR)}: "
        f"{units.size(last.memory)} of {units.size(last.memory_limit)}{more}",
        "degraded", "certain", scene.unix - FOR, tuple(one for one, _ in found[:5]),
    )  # fmt: skip


def _near(series: Series, now: float) -> bool:
    """At each look of ten seconds over the whole time."""
    first = series.first
    if first is None or now - first.at < FOR:
        return False
    for back in range(0, int(FOR) + 1, 10):
        one = series.before(now - back)
        if one is None or not one.memory or not one.memory_limit or one.memory < SHARE * one.memory_limit:
            return False
    return True


SIGNAL = Signal(
    "memory", "app", "an instance used over 95 % of its own limit of memory for a minute", look, touches=False
)
