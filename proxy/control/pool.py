"""How many instances to start and which to let go: pure planning for one app.

Always true:
  - never more than `wanted` + `batch` live instances because of a replacement;
  - with `overlap`, an old one is let go only when the ready ones without it are as many as are wanted: a replacement
    that does not start keeps the old ones serving;
  - without `overlap`, nothing is started in the place of one that has not ended yet;
  - with `keep_last`, the last ready one is never let go to make room for its own replacement.
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
    current: bool  # runs what the config says now, and nobody wants a fresh one in its place
    order: int
    aside: bool = False
    """It is not ready for reasons of its own and replaces nobody: the replacement of others does not wait for it."""


@dataclass(frozen=True, slots=True)
class Plan:
    start: int
    leave: tuple[str, ...]


def plan(
    members: Sequence[Member], wanted: int, overlap: bool = True, batch: int = 1, keep_last: bool = False
) -> Plan:
    """What to do now; called again whenever something changed, until there is nothing to do. `batch`: how many are
    replaced at once."""
    live = [m for m in members if m.lifecycle not in (*_GOING, L.STOPPED)]
    going = len([m for m in members if m.lifecycle in _GOING])
    new = [m for m in live if m.current]
    old = [m for m in live if not m.current]
    if not old:
        surplus = len(new) - wanted
        first = 0 if overlap else sum(m.lifecycle in _GOING and not m.current for m in members)
        return Plan(max(0, -surplus - first), _leavers(new, surplus))
    if len(new) > wanted:
        return Plan(0, (*(m.name for m in old), *_leavers(new, len(new) - wanted)))
    aside = [m for m in new if m.aside and m.lifecycle is not L.READY]
    new = [m for m in new if m not in aside]
    return _roll(new, old, going, max(0, wanted - len(aside)), overlap, max(1, batch), keep_last)


def _roll(
    new: list[Member], old: list[Member], going: int, wanted: int, overlap: bool, batch: int, keep_last: bool
) -> Plan:
    idle = tuple(m.name for m in old if m.lifecycle is not L.READY)  # nothing is on them: no reason to wait
    old = sorted((m for m in old if m.lifecycle is L.READY), key=lambda m: m.order)
    coming = sum(m.lifecycle is not L.READY for m in new)
    ready = len(old) + len(new) - coming
    count = len(new) + len(old)
    missing = max(0, wanted - count)
    if overlap:
        leave = old[: max(0, ready - wanted)]
        remaining = len(old) - len(leave)
        room = wanted + batch - (count - len(leave))
        start = missing or max(0, min(batch - coming, remaining - coming, room))
        return Plan(start, (*idle, *(m.name for m in leave)))
    if count > wanted:
        return Plan(0, (*idle, *(m.name for m in old[: count - wanted])))
    if missing:
        return Plan(max(0, missing - going), idle)  # the old one must be gone first
    if coming or going:
        return Plan(0, idle)
    return Plan(0, (*idle, *(m.name for m in old[: min(batch, ready - 1) if keep_last else batch])))


def _leavers(members: list[Member], count: int) -> tuple[str, ...]:
    """Who serves nothing goes first, then the newest."""
    if count <= 0:
        return ()
    chosen = sorted(members, key=lambda m: (m.lifecycle is L.READY, -m.order))
    return tuple(m.name for m in chosen[:count])
