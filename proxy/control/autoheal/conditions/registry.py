"""The registry of conditions, in the order of the docs, and how they are asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from proxy.config.conditions import Condition
from proxy.control.autoheal.conditions import (
    age,
    changed,
    cpu,
    crashes,
    descriptors,
    fault,
    fault_ratio,
    inflight,
    memory,
    queue,
    requests,
    schedule,
    slow,
    status,
    stuck,
    unhealthy,
)
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.link.messages import Watch

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        requests.KIND,
        slow.KIND,
        status.KIND,
        fault.KIND,
        fault_ratio.KIND,
        memory.KIND,
        cpu.KIND,
        stuck.KIND,
        crashes.KIND,
        unhealthy.KIND,
        age.KIND,
        descriptors.KIND,
        queue.KIND,
        inflight.KIND,
        changed.KIND,
        schedule.KIND,
    )
}


def look(condition: Condition, series: Series, now: float) -> Seen:
    """What it sees now, without its `for`."""
    return KINDS[condition.kind].look(condition, series, now)


def watches(condition: Condition) -> tuple[Watch, ...]:
    """What workers have to count for it; () for most."""
    return KINDS[condition.kind].watches(condition)


def all_watches(conditions: Iterable[Condition]) -> tuple[Watch, ...]:
    """Of several, each once, in a fixed order."""
    found = {watch.key: watch for condition in conditions for watch in watches(condition)}
    return tuple(found[key] for key in sorted(found))


def reach(condition: Condition) -> float:
    """Seconds that it looks back."""
    return condition.within
