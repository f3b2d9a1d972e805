"""Faults by name."""

from __future__ import annotations

from proxy.config.conditions import Condition
from proxy.control.autoheal import watched
from proxy.control.autoheal.contract import Kind, Reading, Seen, Series
from proxy.control.autoheal.window import counted
from proxy.link.messages import Watch


def watches(condition: Condition) -> tuple[Watch, ...]:
    return (watched.fault(condition.names, condition.path),) if condition.path else ()


def look(condition: Condition, series: Series, now: float) -> Seen:
    names = set(condition.names)
    key = watches(condition)[0].key if condition.path else ""

    def count(reading: Reading) -> int:
        return reading.watched.get(key, 0) if key else sum(reading.faults.get(name, 0) for name in names)

    on = f" of {condition.path}" if condition.path else ""
    return counted(condition, series, now, count, f"faults{on} ({', '.join(condition.names)})")


KIND = Kind(
    name="fault",
    scope="instance",
    about="`count` faults of these `names` (docs/faults.md) within `within`. A failed attempt counts on its instance,"
    " even if another instance then answered.",
    look=look,
    watches=watches,
    recorded=lambda condition: "faults of that path before the rule was there" if condition.path else "",
    example='{ fault = { names = ["closed-before-head", "head-timeout"], count = 5, within = "30s" } }',
)
