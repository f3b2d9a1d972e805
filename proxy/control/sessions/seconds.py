"""Rings of metrics as a session reads them: names of the contract, lists of seconds, percentiles. For a thread."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

from proxy.control.metrics.ring import KEEP, Block, Held, Part, decode, unpack
from proxy.faults import APP_ERROR, FAULTS, Origin
from proxy.link.histogram import quantile
from proxy.link.session import Ring

Column = list[float | None]

OF_APPS: Final = {
    "in_flight": "inflight", "queue": "queue", "queue_oldest": "queue_oldest", "cpu": "cpu", "memory": "memory",
    "private": "private", "descriptors": "descriptors", "threads": "threads", "processes": "processes",
    "connections": "connections", "io_read": "io_read", "io_write": "io_write", "ready": "ready", "exits": "exits",
}  # fmt: skip
OF_GATEWAY: Final = {"cpu": "cpu", "memory": "memory", "lag": "own.lag", "clients": "own.clients"}
OF_HOST: Final = {
    "busy": "cpu", "memory_available": "own.memory_available", "load": "own.load", "disk_free": "own.disk_free",
}  # fmt: skip
COUNTED: Final = (
    "requests", "faults", "errors", "s2xx", "s3xx", "s4xx", "s5xx", "none", "connects", "retries", "bytes_in",
    "bytes_out",
)  # fmt: skip
TIMES: Final = ("p50", "p99", "wait_p50", "wait_p99")
BRIEF: Final = frozenset({"requests", "faults", "errors", "s5xx", "p50", "p99", "in_flight", "queue", "cpu", "memory"})
"""What is told of other apps."""
LONGEST: Final = 3600
"""Seconds of a ring that begins with what was frozen."""
REST: Final = 0.0002
"""Seconds that control's loop gets after each minute of seconds that was read: it needs the same interpreter."""


def ring(held: Held, names: Mapping[str, str], counts: bool, only: frozenset[str] | None = None) -> Ring | None:
    """The last 15 minutes of one ring; None: it has no second. `counts`: requests are counted in it."""
    parts = [part for part in held.parts() if part.counts]
    return _joined(parts, names, counts, only) if parts else None


def frozen(blocks: Iterable[tuple[int, int, bytes]], names: Mapping[str, str], counts: bool) -> Ring | None:
    """The same of what was frozen: (first second, length, packed)."""
    parts = [part for block in blocks if (part := unpack(Block(*block))).counts]
    return _joined(parts, names, counts, None) if parts else None


def joined(before: Ring, now: Ring) -> Ring:
    """One ring of two, the second of which begins later; LONGEST seconds of it, the newest."""
    end = max(before.start + before.length, now.start + now.length)
    start = max(before.start, end - LONGEST)
    made = Ring(start=start, length=end - start)
    for part in (before, now):
        first = max(0, start - part.start)
        if first >= part.length:
            continue
        at = part.start + first - start
        for name, column in part.values.items():
            into = made.values.setdefault(name, [None] * made.length)
            into[at : at + part.length - first] = column[first:]
        for name, counts in part.faults.items():
            made.faults.setdefault(name, [0] * made.length)[at : at + part.length - first] = counts[first:]
    return made


def _joined(parts: list[Part], names: Mapping[str, str], counts: bool, only: frozenset[str] | None) -> Ring:
    """A clock that was set back leaves out what lies before."""
    last = max(part.start + len(part.counts) for part in parts)
    start = max(min(part.start for part in parts), last - KEEP)
    made = Ring(start=start, length=last - start)
    wanted = [*names, *((*COUNTED, *TIMES) if counts else ())]
    made.values = {name: [None] * made.length for name in wanted if only is None or name in only}
    for part in parts:
        _add(made, part, names, counts)
        time.sleep(REST)
    made.values = {name: column for name, column in made.values.items() if any(each is not None for each in column)}
    return made


def _add(made: Ring, part: Part, names: Mapping[str, str], counts: bool) -> None:
    at = part.start - made.start
    looked, counted = part.columns["seconds"], part.columns["counted"]
    for name, source in names.items():
        column = made.values.get(name)
        values = part.columns.get(source)
        if column is None or values is None:
            continue
        for index, value in enumerate(values):
            if value == value and looked[index] == 1.0 and 0 <= at + index < made.length:
                column[at + index] = _short(value)
    if not counts:
        return
    for index, data in enumerate(part.counts):
        place = at + index
        if not 0 <= place < made.length or looked[index] != 1.0 or counted[index] != counted[index]:
            continue  # not known, which is not the same as 0
        _count(made, place, data)


def _count(made: Ring, place: int, data: bytes) -> None:
    if not data:
        for name in COUNTED:
            if name in made.values:
                made.values[name][place] = 0
        return
    one = decode(data)
    own = one.faults.get(APP_ERROR.name, 0)
    bad = sum(count for name, count in one.faults.items() if _is_bad(name))
    figures = (
        one.requests, bad, own, one.classes[1], one.classes[2], one.classes[3], one.classes[4], one.classes[5],
        one.connects, one.retries, one.bytes_in, one.bytes_out,
    )  # fmt: skip
    for name, figure in zip(COUNTED, figures, strict=True):
        if name in made.values:
            made.values[name][place] = figure
    for name, histogram, share in zip(
        TIMES, (one.total, one.total, one.wait, one.wait), (0.5, 0.99, 0.5, 0.99), strict=True
    ):
        if name in made.values and histogram:
            value = quantile(histogram, share)
            made.values[name][place] = round(value, 6) if value is not None else None
    for name, count in one.faults.items():
        made.faults.setdefault(name, [0] * made.length)[place] = count


def _is_bad(name: str) -> bool:
    """Not the clients' own doing, and no answer of the app's."""
    return name != APP_ERROR.name and (name not in FAULTS or FAULTS[name].origin is not Origin.CLIENT)


def _short(value: float) -> float:
    return int(value) if value.is_integer() else round(value, 4)
