"""How many instances to start and which to let go: pure planning for one app.

Always true:
  - never more than `wanted` + 1 live instances because of a replacement (rolling: one at a time);
  - with `overlap`, an old one is let go only when the ready ones without it are `wanted`: a replacement that does
    not start keeps the old ones serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.control.state import Lifecycle as L

_GOING = (L.DRAINING, L.STOPPING)


@dataclass(frozen=True, slots=True)
class Member:
    """One instance, as far as planning cares. `order` grows with age of the number: the smallest is the oldest."""

    name: str
    lifecycle: L
    current: bool  # runs what the config says now
    order: int


@dataclass(frozen=True, slots=True)
class Plan:
    start: int
    leave: tuple[str, ...]


def plan(members: Sequence[Member], wanted: int, overlap: bool) -> Plan:
    """What to do now; called again whenever something changed, until there is nothing to do."""
    live = [m for m in members if m.lifecycle not in (*_GOING, L.STOPPED)]
    going = len([m for m in members if m.lifecycle in _GOING])
    new = [m for m in live if m.current]
    old = [m for m in live if not m.current]
    if not old:
        surplus = len(new) - wanted
        return Plan(max(0, -surplus), _leavers(new, surplus))
    return _roll(new, old, going, wanted, overlap)


def _roll(new: list[Member], old: list[Member], going: int, wanted: int, overlap: bool) -> Plan:
    idle = tuple(m.name for m in old if m.lifecycle is not L.READY)  # nothing is on them: no reason to wait
    old = sorted((m for m in old if m.lifecycle is L.READY), key=lambda m: m.order)
    on_their_way = any(m.lifecycle is not L.READY for m in new)
    count = len(new) + len(old)
    missing = max(0, wanted - count)
    if len(new) > wanted:
        return Plan(0, (*idle, *(m.name for m in old), *_leavers(new, len(new) - wanted)))
    if overlap:
        ready = len(old) + sum(m.lifecycle is L.READY for m in new)
        leave = tuple(m.name for m in old[: max(0, ready - wanted)])
        start = missing or (1 if old and not leave and not on_their_way and count <= wanted else 0)
        return Plan(start, (*idle, *leave))
    if count > wanted:
        return Plan(0, (*idle, *(m.name for m in old[: count - wanted])))
    if missing:
        return Plan(max(0, missing - going), idle)  # the old one must be gone first
    waiting = on_their_way or going
    return Plan(0, idle if waiting else (*idle, old[0].name) if old else idle)


def _leavers(members: list[Member], count: int) -> tuple[str, ...]:
    """Who serves nothing goes first, then the newest."""
    if count <= 0:
        return ()
    chosen = sorted(members, key=lambda m: (m.lifecycle is L.READY, -m.order))
    return tuple(m.name for m in chosen[:count])
