"""Answers of some statuses."""

from __future__ import annotations

from proxy.config.conditions import Condition
from proxy.config.write import statuses
from proxy.control.autoheal import watched
from proxy.control.autoheal.contract import Kind, Reading, Seen, Series
from proxy.control.autoheal.window import counted
from proxy.link.messages import Watch


def watches(condition: Condition) -> tuple[Watch, ...]:
    return (watched.status(condition.codes, watched.of(condition)),)


def whole_classes(condition: Condition) -> tuple[int, ...] | None:
    """Classes (2 for 2xx) that `codes` names whole, without a path; None: it is finer than that."""
    if condition.path or any(low % 100 or high % 100 != 99 for low, high in condition.codes):
        return None
    return tuple(number for low, high in condition.codes for number in range(low // 100, high // 100 + 1))


def look(condition: Condition, series: Series, now: float) -> Seen:
    key = watches(condition)[0].key
    classes = whole_classes(condition)

    def count(reading: Reading) -> int:
        if classes is not None:
            return sum(reading.classes[number - 1] for number in set(classes))
        return reading.watched.get(key, 0)

    on = f" of {condition.path}" if condition.path else ""
    return counted(condition, series, now, count, f"requests{on} were answered {statuses(condition.codes)}")


KIND = Kind(
    name="status",
    scope="instance",
    about='`count` requests within `within` were answered with a status of `codes`: `"500-599"`, `">=500"`, `404` or a'
    " list of them; the app's own answers and those that Triage gives in its place (502, 504).",
    look=look,
    watches=watches,
    recorded=lambda condition: (
        "" if whole_classes(condition) is not None else "these statuses before the rule was there"
    ),
    example='{ status = { codes = ">=500", count = 50, within = "1m" } }',
)
