"""The last 15 minutes of everything, second by second, in control's memory; and what of it is frozen.

Longer than most: filling, asking and freezing share one table of rings, and are read together.

Always true:
  - a second is filled once, in pieces that leave the loop to others; rows of counters that did not change cost a look;
  - counts of before this control are in no second: where they can't be told from new ones, the second is not known;
  - there are MOST rings at most, those gone longest make room; a freeze holds references, one an app in EXIT_EVERY
    seconds at most follows from exits, and what is skipped is counted.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from proxy.control.autoheal.spread import Spread
from proxy.control.counters import ALL, GONE, Counters, Key
from proxy.control.metrics.own import Own as OwnUse
from proxy.control.metrics.ring import KEEP, NAN, Held, Ring, Second, decode, encode
from proxy.control.state import Admission, AppState, InstanceState, Lifecycle, Usage, WorkerState
from proxy.control.store.frozen import Frozen
from proxy.control.store.points import Own, Point, add, number
from proxy.control.store.sample import add_up
from proxy.link.board import Board
from proxy.link.histogram import merge
from proxy.link.messages import Record, Row, Stats

MOST: Final = 4000
TIDY: Final = 10
"""Seconds between looks for rings that are gone."""
EXIT_EVERY: Final = 10.0
FROZEN_INSTANCES: Final = 40
"""Of an app with more those are frozen that had faults, then those with most requests."""
FROZEN_RECORDS: Final = 500
FREEZING: Final = 8
"""At once; each waits for the flight recorders a second at most."""

OF_INSTANCE: Final = (
    "inflight", "cpu", "memory", "private", "descriptors", "threads", "processes", "connections", "cpu_ms", "io_read",
    "io_write",
)  # fmt: skip
OF_APP: Final = (*OF_INSTANCE, "queue", "queue_oldest", "ready", "instances", "unhealthy", "exits")
_COUNTED: Final = ("accepted", "records_dropped", "log_lost", "output_lost", "store_dropped")
OF_OWN: Final = (
    "cpu", "memory", "own.lag", "own.clients", "own.tunnels", *(f"own.{name}" for name in _COUNTED),
    "own.memory_available", "own.load", "own.disk_free",
)  # fmt: skip

K = TypeVar("K")
Find = Callable[..., Awaitable[list[Record]]]


@dataclass(slots=True)
class Recent:
    """The counts of the last 5 seconds."""

    seconds: float = 5.0
    requests: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    total: dict[int, int] = field(default_factory=dict)
    own_sum: float = 0.0


@dataclass(slots=True)
class _Known:
    """Of one instance, what was counted up to the last second."""

    rows: Sequence[Row]
    sum: Row


@dataclass(slots=True)
class _Peaks:
    """Of the seconds since the last point."""

    inflight: int = 0
    inflight_sum: int = 0
    queue: int = 0
    queue_sum: int = 0
    oldest: float = 0.0


class Rings:
    """`settled` says whether workers have told what they had counted before this control (Readings.settled)."""

    def __init__(
        self,
        apps: Mapping[str, AppState],
        counters: Counters,
        board: Board,
        workers: Callable[[], Iterable[WorkerState]],
        settled: Callable[[], bool],
        own: OwnUse,
        *,
        fresh: bool = False,
        find: Find | None = None,
        keep: Callable[[Frozen], None] | None = None,
        losses: Callable[[], tuple[int, int]] = lambda: (0, 0),
        lag: Callable[[], float] = lambda: 0.0,
        broke: Callable[[Exception], None] | None = None,
    ) -> None:
        """`losses`: bytes of output and entries of the store that were lost so far; `lag`: of control, since asked."""
        self.apps = apps
        self.exits: dict[str, int] = {}
        """Ends of instances that nobody had asked for, by app, since this control began."""
        self.skipped = 0
        """Freezes that were not made: too soon after one before, or too many at once."""
        self.second = 0
        """The newest that is filled, Unix time."""
        self.listeners: list[Callable[[], None]] = []
        """Called when a second is filled; quick, must not raise."""
        self._counters = counters
        self._board = board
        self._workers = workers
        self._settled = settled
        self._own = own
        self._fresh = fresh
        self._find = find
        self._keep = keep
        self._losses = losses
        self._lag = lag
        self._spread = Spread(broke or (lambda error: None))
        self._rings: dict[Key, Ring] = {}
        self._known: dict[Key, _Known] | None = None
        self._filled = 0.0  # monotonic, of the counts before
        self._usage: dict[str, Usage] = {}
        self._told: dict[str, tuple[str, tuple[int, ...]]] = {}  # by worker: epoch and cumulative counts
        self._lags: dict[int, float] = {}  # by slot, largest since the last second
        self._exits_before: dict[str, int] = {}
        self._points: dict[str, Point] = {}
        self._peaks: dict[Key, _Peaks] = {}
        self._ticks = 0
        self.anew = False
        """Counts of before may have come since this was last set to False."""
        self._next = 1
        self._frozen_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Rings {len(self._rings)}, up to {self.second}>"

    def __len__(self) -> int:
        return len(self._rings)

    # --- once a second ------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """`now` is monotonic. The first piece at once, the others as the loop comes to them."""
        self._spread.start(self.work(now, time.time()))

    def heard(self, stats: Stats) -> None:
        """Of a worker: its largest lag since its last word."""
        self._lags[stats.worker] = max(self._lags.get(stats.worker, 0.0), stats.lag_max_us / 1e6)

    def work(self, now: float, unix: float) -> Iterator[None]:
        """All of one second, in parts. `now` is monotonic, `unix` the same moment on the clock of the wall."""
        second = int(unix)
        if -1 <= second - (self.second + 1) <= 1:  # ticks come a little early or late: still one for each second
            second = self.second + 1
        span, grown = yield from self._count(now)
        totals: dict[str, Second] = {}
        for key, counted in grown.items():
            total = totals.get(key[0])
            if total is None:
                totals[key[0]] = _plus(Second(), counted)
            else:
                _plus(total, counted)
            yield
        for name, app in list(self.apps.items()):
            sums = dict.fromkeys(OF_INSTANCE, NAN)
            for state in list(app.instances.values()):
                self._instance(second, app, state, grown.get((name, state.name)), span, sums)
                yield
            self._app(second, app, totals.get(name), span, sums, now)
            yield
        self._own_second(second, now)
        yield
        self.second = second
        self._ticks += 1
        if self._ticks % TIDY == 0:
            yield from self._tidy(second)
        for listener in self.listeners:
            listener()

    def _count(self, now: float) -> Generator[None, None, tuple[float, dict[Key, Second]]]:
        """What was counted since the second before, by instance; how many seconds that covers, NaN: not known."""
        if not self._settled():
            self._known = None
            self.anew = self.anew or not self._fresh  # where nothing ran before, nothing was counted
            return NAN, {}
        rows = self._counters.by_instance()
        yield
        before = self._known
        if before is None:
            before = {} if self._fresh else None
        self._fresh = False
        known: dict[Key, _Known] = {}
        grown: dict[Key, Second] = {}
        for key, found in rows.items():
            was = before.get(key) if before is not None else None
            if was is not None and len(was.rows) == len(found) and all(map(_is, was.rows, found)):
                known[key] = was
                continue
            total = add_up(found)
            known[key] = _Known(found, total)
            if before is not None and key[1] != GONE:  # those were counted while they were there
                counted = _grown(total, was.sum if was is not None else None)
                if counted is not None:
                    grown[key] = counted
            yield
        span = now - self._filled if before is not None and self._filled else 1.0
        self._known, self._filled = known, now
        return (span if before is not None else NAN), grown

    def _ring(self, key: Key, names: tuple[str, ...]) -> Ring:
        ring = self._rings.get(key)
        if ring is None:
            if len(self._rings) >= MOST:
                oldest = min(self._rings, key=lambda one: self._rings[one].last)
                del self._rings[oldest]
            ring = self._rings[key] = Ring(names, zlib.crc32("/".join(key).encode()))
        return ring

    def _instance(
        self, second: int, app: AppState, state: InstanceState, counted: Second | None, span: float,
        sums: dict[str, float],
    ) -> None:  # fmt: skip
        inflight = max(0, self._board.total(state.row))
        usage = state.usage
        values = [float(inflight), NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN]
        if usage is not None and state.pid and state.pid in usage.pids:
            before = self._usage.get(state.name)
            self._usage[state.name] = usage
            values[1:8] = (
                usage.cpu, usage.rss, _known(usage.private), usage.descriptors, usage.threads, usage.processes,
                _known(usage.connections),
            )  # fmt: skip
            if before is not None:
                values[8] = max(0.0, (usage.cpu_time - before.cpu_time) * 1000)
                values[9] = _more(usage.read_total, before.read_total)
                values[10] = _more(usage.write_total, before.write_total)
        for name, value in zip(OF_INSTANCE, values, strict=True):
            if value == value:
                known = sums[name]
                sums[name] = known + value if known == known else value
        if inflight:
            peaks = self._peaks.get((app.name, state.name))
            if peaks is None:
                peaks = self._peaks[app.name, state.name] = _Peaks()
            peaks.inflight = max(peaks.inflight, inflight)
            peaks.inflight_sum += inflight
        data = encode(counted) if counted is not None else b""
        self._ring((app.name, state.name), OF_INSTANCE).put(second, values, data, span)

    def _app(
        self, second: int, app: AppState, counted: Second | None, span: float, sums: dict[str, float], now: float
    ) -> None:
        queue, oldest = max(0, self._board.waiting(app.row)), self._board.oldest(app.row)
        waited = max(0.0, now - oldest) if oldest else 0.0
        instances = app.instances.values()
        ready = sum(one.lifecycle is Lifecycle.READY for one in instances)
        well = sum(
            one.lifecycle is Lifecycle.READY and not one.failing and one.admission is Admission.ADMITTING
            for one in instances
        )
        exits = self.exits.get(app.name, 0)
        ended = exits - self._exits_before.get(app.name, 0)
        self._exits_before[app.name] = exits
        if sums["inflight"] != sums["inflight"]:
            sums["inflight"] = 0.0
        if sums["inflight"] or queue:
            peaks = self._peaks.setdefault((app.name, ALL), _Peaks())
            inflight = int(sums["inflight"])
            peaks.inflight, peaks.inflight_sum = max(peaks.inflight, inflight), peaks.inflight_sum + inflight
            peaks.queue, peaks.queue_sum = max(peaks.queue, queue), peaks.queue_sum + queue
            peaks.oldest = max(peaks.oldest, waited)
        values = [*sums.values(), queue, waited, ready, app.wanted, len(instances) - well, ended]
        data = encode(counted) if counted is not None else b""
        self._ring((app.name, ALL), OF_APP).put(second, values, data, span)

    def _own_second(self, second: int, now: float) -> None:
        """Triage's own processes and the host, into rings and into the points that `own_points` gives."""
        uses = self._own.processes
        made: dict[str, Point] = {}
        for name, use in uses.items():
            made[name] = Point(seconds=1.0, cpu=number(use.cpu), memory=use.memory, memory_max=use.memory)
        whole = Own()
        for worker in self._workers():
            stats = worker.stats
            if stats is None:
                continue
            name = f"worker{worker.slot + 1}"
            counts = (stats.accepted, stats.records_dropped, stats.log_lost)
            grown = _since(self._told.get(name), stats.epoch, counts)
            self._told[name] = (stats.epoch, counts)
            lag = self._lags.pop(stats.worker, stats.lag_us / 1e6)
            one = Own(lag, stats.connections, stats.tunnels, *grown)
            made.setdefault(name, Point(seconds=1.0)).own = one
            whole.lag = max(whole.lag or 0.0, lag)
            whole.clients = (whole.clients or 0) + stats.connections
            whole.tunnels = (whole.tunnels or 0) + stats.tunnels
            for field_name, value in zip(_COUNTED, grown, strict=False):
                if value is not None:
                    setattr(whole, field_name, (getattr(whole, field_name) or 0) + value)
        made.setdefault("control", Point(seconds=1.0)).own = Own(lag=self._lag())
        losses = self._losses()
        lost = _since(self._told.get(""), "", losses)
        self._told[""] = ("", losses)
        whole.output_lost, whole.store_dropped = lost
        memory = sum(use.memory for use in uses.values()) or None
        made[ALL] = Point(
            seconds=1.0, cpu=number(sum(use.cpu for use in uses.values())), memory=memory, memory_max=memory, own=whole
        )
        host = self._own.host
        made["host"] = Point(
            seconds=1.0, cpu=None if host.cpu is None else number(host.cpu),
            own=Own(memory_available=host.memory_available, load=host.load, disk_free=host.disk_free),
        )  # fmt: skip
        for name, point in made.items():
            own = point.own or Own()
            values = [
                _known(getattr(own, one[4:]) if one.startswith("own.") else getattr(point, one)) for one in OF_OWN
            ]
            self._ring(("", name), OF_OWN).put(second, values, b"")
            before = self._points.get(name)
            if before is None:
                self._points[name] = point
            else:
                add(before, point)

    def _tidy(self, second: int) -> Iterator[None]:
        for key, ring in list(self._rings.items()):
            if not ring.forget(second - KEEP):
                del self._rings[key]
            yield
        present = {name for app in self.apps.values() for name in app.instances}
        self._usage = {name: usage for name, usage in self._usage.items() if name in present}
        self.exits = {name: count for name, count in self.exits.items() if name in self.apps}

    # --- for points ---------------------------------------------------------------------------------------

    def own_points(self) -> dict[str, Point]:
        """Of Triage itself, since it was asked last."""
        found, self._points = self._points, {}
        return found

    def extra(self, ticks: int = 10) -> dict[Key, dict[str, object]]:
        """What points have of the seconds since it was asked last: largest and mean numbers of requests."""
        peaks, self._peaks = self._peaks, {}
        found: dict[Key, dict[str, object]] = {}
        for key, one in peaks.items():
            found[key] = {"inflight": one.inflight, "inflight_mean": number(one.inflight_sum / ticks)}
            if key[1] == ALL:
                found[key] |= {
                    "queue": one.queue,
                    "queue_mean": number(one.queue_sum / ticks),
                    "queue_oldest": number(round(one.oldest, 3)),
                }
        return found

    # --- for who asks -------------------------------------------------------------------------------------

    def keys(self) -> list[Key]:
        return list(self._rings)

    def first(self, key: Key) -> int:
        """Its oldest second, Unix time; 0: there is no such ring, or it is empty."""
        ring = self._rings.get(key)
        return ring.first if ring is not None else 0

    def held(self, key: Key) -> Held | None:
        """Its seconds of now, for any thread."""
        ring = self._rings.get(key)
        return ring.held() if ring is not None else None

    def size(self) -> int:
        """Bytes of all of them, about."""
        return sum(ring.size() for ring in self._rings.values())

    def recent(self, app: str, instance: str = ALL) -> Recent:
        """Counts of the last 5 seconds."""
        found = Recent()
        ring = self._rings.get((app, instance))
        for second, data in tuple(ring.recent) if ring is not None else ():
            if second > self.second - 5:
                one = decode(data)
                found.requests += one.requests
                found.own_sum += one.own_sum
                merge(found.total, one.total)
                for name, count in one.faults.items():
                    found.faults[name] = found.faults.get(name, 0) + count
        return found

    # --- freezing -----------------------------------------------------------------------------------------

    def at_least(self, number: int) -> None:
        """Numbers go on from there."""
        self._next = max(self._next, number)

    def ended(self, app: str, instance: str, words: str) -> int:
        """An instance ended, and nobody had asked for it; number of what is frozen, 0: nothing."""
        self.exits[app] = self.exits.get(app, 0) + 1
        now = time.monotonic()
        if now - self._frozen_at.get(app, float("-inf")) < EXIT_EVERY:
            self.skipped += 1
            return 0
        return self.freeze(app, instance, f"exit: {words}" if words else "exit")

    def freeze(self, app: str, instance: str, why: str) -> int:
        """Keep the last 15 minutes of an app, "" for the gateway, with the newest records of its requests; the number
        under which it will be found, 0: too many at once."""
        if len(self._tasks) >= FREEZING or self._keep is None:
            self.skipped += 1
            return 0
        self._frozen_at[app] = time.monotonic()
        number, self._next = self._next, self._next + 1
        task = asyncio.get_running_loop().create_task(self._freeze(Frozen(number, time.time(), app, instance, why)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return number

    async def _freeze(self, frozen: Frozen) -> None:
        if self._find is not None:
            frozen.records = await self._find("", limit=FROZEN_RECORDS, app=frozen.app)
        for key in await self._chosen(frozen.app, frozen.instance):
            held = self.held(key)
            if held is not None:
                frozen.rings.append((*key, held))
            await asyncio.sleep(0)
        if self._keep is not None:
            self._keep(frozen)

    async def _chosen(self, app: str, instance: str) -> list[Key]:
        """Those to freeze: of the gateway its own and each app as a whole; of an app as said at FROZEN_INSTANCES."""
        own = [("", name) for of, name in self._rings if not of]
        if not app:
            return own + [(of, name) for of, name in self._rings if of and name == ALL][:FROZEN_INSTANCES]
        mine = [name for of, name in self._rings if of == app and name != ALL]
        if len(mine) > FROZEN_INSTANCES:
            rows = self._counters.by_instance()
            sums: dict[str, tuple[int, int]] = {}
            for name in mine:
                found = rows.get((app, name), ())
                sums[name] = (sum(sum(row.faults.values()) for row in found), sum(row.requests for row in found))
                if len(sums) % 100 == 0:
                    await asyncio.sleep(0)
            mine.sort(key=lambda name: sums[name], reverse=True)
        names = dict.fromkeys([ALL, *([instance] if instance in mine else []), *mine[:FROZEN_INSTANCES]])
        return [*((app, name) for name in names), *(key for key in own if key[1] in (ALL, "host"))]

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is(one: Row, other: Row) -> bool:
    return one is other


def _known(value: float | None) -> float:
    return NAN if value is None else float(value)


def _more(now: int | None, before: int | None) -> float:
    return NAN if now is None or before is None else float(max(0, now - before))


def _since(
    before: tuple[str, tuple[int, ...]] | None, epoch: str, counts: tuple[int, ...]
) -> list[int | None]:
    """What cumulative counts grew by; None of the first look, all of a new epoch."""
    if before is None:
        return [None] * len(counts)
    if before[0] != epoch:
        return list(counts)
    return [max(0, now - then) for now, then in zip(counts, before[1], strict=True)]


def _grown(now: Row, before: Row | None) -> Second | None:
    """What was counted between two sums; None: nothing. A count that began anew is never less than nothing."""
    if before is None:
        if not now.requests and not now.faults and not now.connects:
            return None
        return Second(
            now.requests, list(now.classes), dict(now.faults), dict(now.total), now.total_sum, dict(now.wait),
            now.wait_sum, now.own_sum, now.bytes_in, now.bytes_out, now.connects, now.retries,
        )  # fmt: skip
    if all(getattr(now, name) == getattr(before, name) for name in _CHANGING):
        return None
    return Second(
        max(0, now.requests - before.requests),
        [max(0, one - two) for one, two in zip(now.classes, before.classes, strict=True)],
        _added(now.faults, before.faults),
        _added(now.total, before.total),
        max(0.0, now.total_sum - before.total_sum),
        _added(now.wait, before.wait),
        max(0.0, now.wait_sum - before.wait_sum),
        max(0.0, now.own_sum - before.own_sum),
        max(0, now.bytes_in - before.bytes_in),
        max(0, now.bytes_out - before.bytes_out),
        max(0, now.connects - before.connects),
        max(0, now.retries - before.retries),
    )


_CHANGING: Final = ("requests", "faults", "wait", "connects", "retries", "bytes_in", "bytes_out")


def _added(now: Mapping[K, int], before: Mapping[K, int]) -> dict[K, int]:
    return {key: count - before.get(key, 0) for key, count in now.items() if count > before.get(key, 0)}


def _plus(into: Second, other: Second) -> Second:
    into.requests += other.requests
    into.classes = [one + two for one, two in zip(into.classes, other.classes, strict=True)]
    pairs: tuple[tuple[dict[Any, int], dict[Any, int]], ...] = (
        (into.faults, other.faults), (into.total, other.total), (into.wait, other.wait),
    )  # fmt: skip
    for mine, more in pairs:
        for key, count in more.items():
            mine[key] = mine.get(key, 0) + count
    for name in ("total_sum", "wait_sum", "own_sum", "bytes_in", "bytes_out", "connects", "retries"):
        setattr(into, name, getattr(into, name) + getattr(other, name))
    return into
