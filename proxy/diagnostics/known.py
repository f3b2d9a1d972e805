"""What control knew when a session began, and when it was over, as one: the analyzers' view of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Final, TypeVar

import msgspec

from proxy.link.session import Exit, Instance, Known, Line, Ring

T = TypeVar("T")
LONGEST: Final = 6 * 3600
"""Seconds of two rings as one. Where they are further apart, the clock was set: the later one holds."""


def join(before: Known, after: Known | None) -> Known:
    """`before` may have what `after` has forgotten since; where both tell of the same, the later word holds."""
    if after is None:
        note = "what control knew at the end is missing: only what it knew at the start"
        return msgspec.structs.replace(before, notes=[*before.notes, note])
    return msgspec.structs.replace(
        after,
        instances=_instances(before.instances, after.instances),
        exits=sorted(_union(before.exits, after.exits, _exit), key=lambda one: one.at),
        records=sorted(_union(before.records, after.records, lambda one: one.id), key=lambda one: -one.time),
        rings={
            name: _ring(before.rings.get(name), after.rings.get(name))
            for name in dict.fromkeys([*after.rings, *before.rings])
        },
        events=sorted(_union(before.events, after.events, lambda one: one.id), key=lambda one: one.id),
        incidents=_union(before.incidents, after.incidents, lambda one: one.id),
        exceptions=_union(before.exceptions, after.exceptions, lambda one: (one.fingerprint, one.raised)),
        lines={
            name: _lines(before.lines.get(name, []), after.lines.get(name, []))
            for name in dict.fromkeys([*after.lines, *before.lines])
        },
        deploys=_union(before.deploys, after.deploys, lambda one: (one.at, one.what, one.text)),
        malformed=after.malformed or before.malformed,
        notes=list(dict.fromkeys([*before.notes, *after.notes])),
    )


def _union(before: Iterable[T], after: Iterable[T], key: Callable[[T], Hashable]) -> list[T]:
    found = {key(one): one for one in before}
    found.update((key(one), one) for one in after)
    return list(found.values())


def _exit(one: Exit) -> tuple[str, int]:
    return one.instance, round(one.at * 1000)


def _instances(before: Iterable[Instance], after: Iterable[Instance]) -> list[Instance]:
    """Those of now first; one that is not told of any more is gone."""
    found = {one.name: one for one in after}
    for one in before:
        if one.name not in found:
            found[one.name] = msgspec.structs.replace(one, gone=True)
    return list(found.values())


def _lines(before: list[Line], after: list[Line]) -> list[Line]:
    """`after` may begin later than `before`, and overlap it. Two alike at one moment are two, if one side says so."""
    if not before or not after:
        return after or before
    first = after[0].at
    return [line for line in before if line.at < first] + after


def _ring(before: Ring | None, after: Ring | None) -> Ring:
    """Second by second; a second that only one of them has is taken from that one."""
    if before is None or after is None:
        return after or before or Ring(start=0, length=0)
    if not before.length or not after.length:
        return after if after.length else before
    start = min(before.start, after.start)
    length = max(before.start + before.length, after.start + after.length) - start
    if length > LONGEST:
        return after
    joined = Ring(start=start, length=length)
    for name in dict.fromkeys([*after.values, *before.values]):
        row: list[float | None] = [None] * length
        for ring in (before, after):
            for at, value in enumerate(ring.values.get(name, ())):
                if value is not None and 0 <= ring.start - start + at < length:
                    row[ring.start - start + at] = value
        joined.values[name] = row
    for name in dict.fromkeys([*after.faults, *before.faults]):
        counts = [0] * length
        for ring in (before, after):
            for at, count in enumerate(ring.faults.get(name, ())):
                if 0 <= ring.start - start + at < length:
                    counts[ring.start - start + at] = max(counts[ring.start - start + at], count)
        joined.faults[name] = counts
    return joined
