"""Counts and gauges of one moment, and what happened between two of them.

`take` runs on control's loop and copies references and numbers, some 2 µs an instance; `Deltas` subtracts in the
writer's thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from proxy.control.counters import ALL, GONE, Key, Snapshot
from proxy.control.state import Admission, AppState, Lifecycle, Usage
from proxy.control.store.points import Point, number
from proxy.link.board import Board
from proxy.link.messages import Row

T = TypeVar("T")


class Gauges(NamedTuple):
    """How one instance stands."""

    inflight: int
    lifecycle: str
    admission: str
    age: float
    probes_failed: int
    memory_limit: int
    cpu_limit: float
    usage: deque[Usage]  # of late, once a second; control adds to it: copied in one step, never walked
    restarts: int = 0  # of its place in the pool
    uptime: float = 0.0


class AppGauges(NamedTuple):
    queue: int
    oldest_wait: float  # how long the oldest has been in the queue
    slots: int  # of each of its instances; 0: no limit
    instances: int
    ready: int
    unhealthy: int
    config: str
    exits: tuple[float, ...]  # when instances ended unplanned, of late; Unix seconds


@dataclass(slots=True)
class Sample:
    at: float  # Unix seconds
    now: float  # monotonic
    snapshot: Snapshot
    instances: dict[Key, Gauges]
    apps: dict[str, AppGauges]
    extra: Mapping[Key, Mapping[str, object]] = field(default_factory=dict)
    own: Mapping[str, Point] = field(default_factory=dict)  # of Triage itself, since the sample before; finished
    anew: bool = False  # counts of a former control's time may have come since the sample before


def take(
    apps: Iterable[AppState],
    board: Board,
    snapshot: Snapshot,
    at: float,
    now: float,
    extra: Mapping[Key, Mapping[str, object]] | None = None,
    own: Mapping[str, Point] | None = None,
    anew: bool = False,
) -> Sample:
    """`at` is Unix time, `now` monotonic. `extra` overrides fields of points; `own` are those of Triage itself."""
    instances: dict[Key, Gauges] = {}
    of_apps: dict[str, AppGauges] = {}
    for app in apps:
        unhealthy = 0
        ready = 0
        for one in app.instances.values():
            ready += one.lifecycle is Lifecycle.READY
            unhealthy += (
                one.lifecycle is not Lifecycle.READY or one.failing or one.admission is not Admission.ADMITTING
            )
            instances[app.name, one.name] = Gauges(
                board.total(one.row),
                one.lifecycle,
                one.admission,
                now - one.ready_since if one.ready_since else 0.0,
                one.probes_failed,
                one.memory_limit,
                one.cpu_limit,
                one.usage_history,
                one.restarts,
                now - one.started if one.started and one.pid else 0.0,
            )
        oldest = board.oldest(app.row)
        slots = app.config.max_inflight
        of_apps[app.name] = AppGauges(
            board.waiting(app.row),
            max(0.0, now - oldest) if oldest else 0.0,
            slots if isinstance(slots, int) else 0,
            app.wanted,
            ready,
            unhealthy,
            app.version.rpartition("/")[2],
            tuple(one.at for one in app.ended if not one.ours),
        )
    return Sample(at, now, snapshot, instances, of_apps, extra or {}, own or {}, anew)


class Deltas:
    """Samples, one after another, to points.

    Always true:
      - what was counted before the first sample is in no point, unless `fresh` (nothing ran before);
      - what is counted once is in one point of its instance and one of its app, however many samples are dropped.
    """

    def __init__(self, fresh: bool = False) -> None:
        self._sums: dict[Key, tuple[list[Row], Row]] = {}  # the rows, and what they add up to
        self._before: Sample | None = None
        self._fresh = fresh

    def points(self, sample: Sample) -> list[tuple[str, str, int, Point]]:
        """(app, instance, Unix second, point); none of the first sample. Who had no request has a point too."""
        before, self._before = self._before, sample
        sums, self._sums = self._sums, {}
        if before is None or sample.anew:
            if not self._fresh or sample.anew:
                self._sums = {key: (rows, add_up(rows)) for key, rows in sample.snapshot.rows.items()}
            return []
        began = before.now
        spans = max(0.0, sample.now - began)
        began_at = sample.at - spans
        at = round(sample.at)
        whole = {app: Point(seconds=spans) for app in sample.apps}
        found: dict[Key, Point] = {}
        for key, rows in gently(sample.snapshot.rows.items()):
            known = sums.get(key)
            if known is not None and len(known[0]) == len(rows) and all(map(_same, known[0], rows)):
                self._sums[key] = known
                continue
            self._sums[key] = (rows, add_up(rows))
            app, instance = key
            if instance == GONE or app not in whole:
                continue  # those that are gone were counted while they were there
            point = Point(seconds=spans)
            _count(point, self._sums[key][1], known[1] if known is not None else None)
            _count(whole[app], self._sums[key][1], known[1] if known is not None else None)
            if instance:
                found[key] = point
        for key, gauges in gently(sample.instances.items()):
            point = found.get(key) or found.setdefault(key, Point(seconds=spans))
            point.slots = sample.apps[key[0]].slots
            _gauge(point, gauges, began, sample.now)
            was = before.instances.get(key)
            point.restarts = max(0, gauges.restarts - was.restarts) if was is not None else int(gauges.restarts > 0)
            _more(whole[key[0]], point)
        made = [(app, instance, at, point) for (app, instance), point in found.items()]
        for app, standing in sample.apps.items():
            point = whole[app]
            point.queue, point.slots = standing.queue, standing.slots
            point.queue_oldest = number(round(standing.oldest_wait, 3))
            point.instances, point.ready, point.unhealthy = standing.instances, standing.ready, standing.unhealthy
            point.config = standing.config
            point.exits = sum(began_at < when <= sample.at for when in standing.exits)
            made.append((app, ALL, at, point))
        made += [("", name, at, point) for name, point in sample.own.items()]
        for app, instance, _, point in made:
            for name, value in sample.extra.get((app, instance), {}).items():
                setattr(point, name, value)
        return made


def gently(items: Iterable[T]) -> Iterator[T]:
    """In a thread: so that control's loop, which needs the same interpreter, waits some microseconds at most."""
    for count, item in enumerate(items):
        if count % 32 == 31:
            time.sleep(0.0001)
        yield item


def _same(one: Row, other: Row) -> bool:
    return one is other


_PLAIN: Final = ("requests", "bytes_in", "bytes_out", "connects", "retries", "total_sum", "wait_sum", "own_sum")
_KEYED: Final = ("faults", "watched", "total", "wait")


def add_up(rows: list[Row]) -> Row:
    """The sum of what several workers counted of one instance; of one worker, its row itself."""
    if len(rows) == 1:
        return rows[0]
    first, *others = rows
    classes = list(first.classes)
    keyed: dict[str, Any] = {name: dict(getattr(first, name)) for name in _KEYED}
    plain: dict[str, Any] = {name: getattr(first, name) for name in _PLAIN}
    for row in others:
        classes = [one + other for one, other in zip(classes, row.classes, strict=True)]
        for name, mine in keyed.items():
            for key, count in getattr(row, name).items():
                mine[key] = mine.get(key, 0) + count
        for name in plain:
            plain[name] += getattr(row, name)
    return Row(first.app, first.instance, classes=classes, **keyed, **plain)


def _count(into: Point, now: Row, before: Row | None) -> None:
    """Add what was counted in between. A worker's count that began anew is never taken for less than nothing."""
    for name in _PLAIN:
        grown = getattr(now, name) - (getattr(before, name) if before is not None else 0)
        setattr(into, name, getattr(into, name) + max(0, grown))
    old = before.classes if before is not None else [0] * len(now.classes)
    into.classes = [sum_ + max(0, one - two) for sum_, one, two in zip(into.classes, now.classes, old, strict=True)]
    for name in _KEYED:
        mine = getattr(into, name)
        had = getattr(before, name) if before is not None else {}
        for key, count in getattr(now, name).items():
            grown = count - had.get(key, 0)
            if grown > 0:
                mine[key] = mine.get(key, 0) + grown


def _gauge(point: Point, gauges: Gauges, since: float, until: float) -> None:
    point.inflight, point.lifecycle, point.admission = gauges.inflight, str(gauges.lifecycle), str(gauges.admission)
    point.age, point.probes_failed = number(round(gauges.age, 1)), gauges.probes_failed
    point.uptime = int(gauges.uptime)
    point.memory_limit, point.cpu_limit = gauges.memory_limit or None, gauges.cpu_limit or None
    known = [one for one in tuple(gauges.usage) if one.at <= until]
    usage = [one for one in known if one.at > since] or known[-1:]
    if not usage:
        return
    last = usage[-1]
    point.memory, point.memory_max = last.rss, max(one.rss for one in usage)
    point.cpu = round(sum(one.cpu for one in usage) / len(usage), 4)
    point.threads, point.processes, point.descriptors = last.threads, last.processes, last.descriptors
    point.memory_mean = int(sum(one.rss for one in usage) / len(usage))
    point.private, point.connections = last.private, last.connections
    base = next((one for one in reversed(known) if one.at <= since), known[0])
    point.cpu_ms = max(0, round((last.cpu_time - base.cpu_time) * 1000))
    for name, total in (("io_read", "read_total"), ("io_write", "write_total")):
        now, then = getattr(last, total), getattr(base, total)
        if now is not None and then is not None:
            setattr(point, name, max(0, now - then))


_SUMS: Final = (
    "memory", "memory_max", "memory_mean", "private", "cpu", "cpu_ms", "threads", "processes", "descriptors",
    "connections", "io_read", "io_write",
)  # fmt: skip


def _more(app: Point, one: Point) -> None:
    """An app's gauges: the sums of its instances'."""
    app.inflight += one.inflight
    app.probes_failed = max(app.probes_failed, one.probes_failed)
    app.restarts += one.restarts
    for name in _SUMS:
        value = getattr(one, name)
        if value is not None:
            setattr(app, name, (getattr(app, name) or 0) + value)
