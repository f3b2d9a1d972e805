"""What workers count, summed: it never goes back, whichever worker is replaced.

Workers send cumulative rows per (app, instance); a new epoch starts again from nothing. Rows are replaced here, never
changed, so that a `Snapshot` is a few references and may be read in another thread.

Always true:
  - sums only grow: the rows of an epoch that ended are added to `base`;
  - memory is bounded: an instance long gone lives on in its app's row "(gone)", faults by the second are kept for
    15 minutes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.link.histogram import merge, quantile
from proxy.link.messages import Row, Stats

GONE: Final = "(gone)"
"""Stands for the instances of an app that are gone."""
SECONDS: Final = 900
RATE_SECONDS: Final = 60
WATCHED: Final = 1000
"""Watches whose counts are kept of what ended, per instance: rules that come and go for ever leave no more."""
CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "none")
ALL: Final = "*"
"""In place of an instance's name: the app as a whole."""

Key = tuple[str, str]
"""(app, instance); instance "" is what reached none."""


def empty(app: str, instance: str) -> Row:
    return Row(app, instance, 0, [0] * len(CLASSES), {}, 0, 0, 0, 0, {}, 0.0, {}, 0.0, 0.0)


def plus(one: Row, other: Row, sign: int = 1) -> Row:
    """A new row: the sum; with sign -1 the difference."""
    total, wait, faults = dict(one.total), dict(one.wait), dict(one.faults)
    for into, add in ((total, other.total), (wait, other.wait)):
        for index, count in add.items():
            into[index] = into.get(index, 0) + sign * count
    watched = dict(one.watched)
    for counts, more in ((faults, other.faults), (watched, other.watched)):
        for name, count in more.items():
            counts[name] = max(0, counts.get(name, 0) + sign * count)
    return Row(
        one.app,
        one.instance,
        one.requests + sign * other.requests,
        [a + sign * b for a, b in zip(one.classes, other.classes, strict=True)],
        faults,
        one.bytes_in + sign * other.bytes_in,
        one.bytes_out + sign * other.bytes_out,
        one.connects + sign * other.connects,
        one.retries + sign * other.retries,
        total,
        one.total_sum + sign * other.total_sum,
        wait,
        one.wait_sum + sign * other.wait_sum,
        one.own_sum + sign * other.own_sum,
        watched,
    )


def _add(into: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        into[name] = into.get(name, 0) + count


@dataclass(slots=True)
class Summary:
    """Sums of one or several rows. Durations are seconds, None without a value."""

    requests: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    connects: int = 0
    retries: int = 0
    total: dict[int, int] = field(default_factory=dict)
    total_sum: float = 0.0
    wait: dict[int, int] = field(default_factory=dict)
    wait_sum: float = 0.0
    own_sum: float = 0.0
    watched: dict[str, int] = field(default_factory=dict)
    per_second: float = 0.0
    _response: dict[str, float | None] | None = None
    _waits: dict[str, float | None] | None = None

    def response(self) -> dict[str, float | None]:
        """mean, p50, p90, p99 of whole requests."""
        if self._response is None:
            self._response = _distribution(self.total, self.total_sum)
        return self._response

    def waits(self) -> dict[str, float | None]:
        """The same of waits for the response head."""
        if self._waits is None:
            self._waits = _distribution(self.wait, self.wait_sum)
        return self._waits


def _distribution(counts: Mapping[int, int], total: float) -> dict[str, float | None]:
    number = sum(counts.values())
    return {
        "mean": total / number if number else None,
        "p50": quantile(counts, 0.50),
        "p90": quantile(counts, 0.90),
        "p99": quantile(counts, 0.99),
    }


def summarize(rows: Iterable[Row]) -> Summary:
    """Add rows up."""
    found = Summary()
    classes = [0] * len(CLASSES)
    for row in rows:
        found.requests += row.requests
        for index, count in enumerate(row.classes):
            classes[index] += count
        _add(found.faults, row.faults)
        _add(found.watched, row.watched)
        found.bytes_in += row.bytes_in
        found.bytes_out += row.bytes_out
        found.connects += row.connects
        found.retries += row.retries
        merge(found.total, row.total)
        merge(found.wait, row.wait)
        found.total_sum += row.total_sum
        found.wait_sum += row.wait_sum
        found.own_sum += row.own_sum
    found.classes = {name: count for name, count in zip(CLASSES, classes, strict=True) if count}
    return found


class Seconds:
    """Counts by second, for the last `length` seconds."""

    __slots__ = ("counts", "first", "last", "length")

    def __init__(self, length: int) -> None:
        self.length = length
        self.counts: dict[int, int] = {}
        self.first = 0  # second of the first count still known
        self.last = 0

    def add(self, second: int, count: int) -> None:
        self.counts[second] = self.counts.get(second, 0) + count
        self.last = max(self.last, second)
        if len(self.counts) > self.length:
            self.trim(self.last)

    def trim(self, now: int) -> bool:
        """Forget what is too old; whether something is left."""
        for second in [s for s in self.counts if s <= now - self.length]:
            del self.counts[second]
        return bool(self.counts)

    def between(self, since: float, until: float) -> int:
        """Sum over since <= second <= until."""
        return sum(count for second, count in self.counts.items() if since <= second <= until)

    def span(self) -> tuple[int, int] | None:
        """First and last second with a count."""
        return (min(self.counts), max(self.counts)) if self.counts else None


class FaultCounts:
    """Every fault, by app, instance, fault and second, for 15 minutes."""

    def __init__(self, most: int = 5000) -> None:
        self.most = most
        self._rings: dict[tuple[str, str, str], Seconds] = {}
        self._trimmed = 0

    def add(self, app: str, instance: str, fault: str, second: int, count: int) -> None:
        for name in (instance, ALL):
            key = (app, name, fault)
            ring = self._rings.get(key)
            if ring is None:
                if len(self._rings) >= self.most and name != ALL:
                    continue  # the app's own count still has it
                ring = self._rings[key] = Seconds(SECONDS)
            ring.add(second, count)
        if second - self._trimmed >= 60:
            self._trimmed = second
            for key in [key for key, ring in self._rings.items() if not ring.trim(second)]:
                del self._rings[key]

    def count(self, app: str, fault: str = "", instance: str = ALL, since: float = 0.0, until: float = 1e18) -> int:
        """How many, in Unix seconds inclusive."""
        return sum(ring.between(since, until) for _, ring in self._of(app, instance, fault))

    def by_fault(self, app: str, since: float, instance: str = ALL) -> dict[str, int]:
        """Fault to count, the most frequent first."""
        found = {name: ring.between(since, 1e18) for name, ring in self._of(app, instance, "")}
        return dict(sorted(((n, c) for n, c in found.items() if c), key=lambda item: -item[1]))

    def by_instance(self, app: str, fault: str, since: float) -> dict[str, int]:
        """Instance to count ("" is none), the most frequent first."""
        found = {
            key[1]: ring.between(since, 1e18)
            for key, ring in self._rings.items()
            if key[0] == app and key[2] == fault and key[1] != ALL
        }
        return dict(sorted(((n, c) for n, c in found.items() if c), key=lambda item: -item[1]))

    def last(self, app: str, fault: str = "", instance: str = ALL) -> int:
        """The newest second with such a fault; 0: none in 15 minutes."""
        return max((ring.last for _, ring in self._of(app, instance, fault) if ring.counts), default=0)

    def began(self, app: str, fault: str, since: float, quiet: int = 60) -> float:
        """The first second of the newest run of such faults without a gap of `quiet` seconds; 0.0: there is none."""
        ring = self._rings.get((app, ALL, fault))
        found = 0
        for second in sorted(ring.counts, reverse=True) if ring is not None else ():
            if second < since or (found and found - second > quiet):
                break
            found = second
        return float(found)

    def at(self, second: int, around: int = 0) -> dict[tuple[str, str, str], int]:
        """(app, instance, fault) to count in that second, give or take `around`."""
        found = {
            key: ring.between(second - around, second + around) for key, ring in self._rings.items() if key[1] != ALL
        }
        return {key: count for key, count in found.items() if count}

    def seconds(self, app: str, since: float) -> dict[str, dict[int, int]]:
        """Fault to count by second, of an app as a whole ("": what reached none)."""
        found = {
            name: {second: count for second, count in ring.counts.items() if second >= since}
            for name, ring in self._of(app, ALL, "")
        }
        return {name: counts for name, counts in found.items() if counts}

    def _of(self, app: str, instance: str, fault: str) -> list[tuple[str, Seconds]]:
        if fault:
            ring = self._rings.get((app, instance, fault))
            return [(fault, ring)] if ring is not None else []
        return [(key[2], ring) for key, ring in self._rings.items() if key[0] == app and key[1] == instance]


@dataclass(slots=True)
class _Worker:
    epoch: str
    rows: dict[Key, Row] = field(default_factory=dict)
    floors: dict[Key, Row] = field(default_factory=dict)  # already counted elsewhere


@dataclass(slots=True)
class Summaries:
    """Every instance's and every app's."""

    instances: dict[Key, Summary] = field(default_factory=dict)
    apps: dict[str, Summary] = field(default_factory=dict)

    def instance(self, app: str, instance: str) -> Summary:
        return self.instances.get((app, instance)) or Summary()

    def app(self, app: str) -> Summary:
        return self.apps.get(app) or Summary()


class Snapshot:
    """The rows of one moment. For any thread."""

    def __init__(self, rows: dict[Key, list[Row]], rates: dict[Key, float]) -> None:
        self.rows = rows
        self.rates = rates

    def keys(self) -> list[Key]:
        return sorted(self.rows)

    def instance(self, app: str, instance: str) -> Summary:
        """Of one instance, "" for what reached none."""
        found = summarize(self.rows.get((app, instance), ()))
        found.per_second = self.rates.get((app, instance), 0.0)
        return found

    def app(self, app: str) -> Summary:
        """Of an app: all its instances, present and gone, and what reached none."""
        found = summarize(row for key, rows in self.rows.items() if key[0] == app for row in rows)
        found.per_second = sum(rate for key, rate in self.rates.items() if key[0] == app)
        return found

    def summaries(self) -> Summaries:
        """All of them, with their quantiles. Some 100 µs a row: off the loop where there may be many."""
        made = Summaries()
        for key in self.rows:
            made.instances[key] = self.instance(*key)
        for app in {key[0] for key in self.rows}:
            made.apps[app] = self.app(app)
        for found in (*made.instances.values(), *made.apps.values()):
            found.response()
            found.waits()
        return made

    def all(self) -> Summary:
        found = summarize(row for rows in self.rows.values() for row in rows)
        found.per_second = sum(self.rates.values())
        return found


class Counters:
    """All counts of all workers since control's start."""

    def __init__(self) -> None:
        self.recent = FaultCounts()
        self.stats: dict[int, Stats] = {}
        """The last message of each worker that lives."""
        self._base: dict[Key, Row] = {}
        self._workers: dict[int, _Worker] = {}
        self._rates: dict[Key, Seconds] = {}
        self._app_rates: dict[str, Seconds] = {}
        self._changed: dict[Key, float] = {}  # Unix time

    def apply(self, stats: Stats, now: float | None = None, news: bool = False) -> None:
        """A worker's message. `now` is Unix time. `news`: this control saw the worker begin, so that its first counts
        are of these seconds; of another it is not known."""
        now = time.time() if now is None else now
        worker = self._workers.get(stats.worker)
        first = worker is None
        if worker is None or worker.epoch != stats.epoch:
            self._fold(stats.worker)
            worker = self._workers[stats.worker] = _Worker(stats.epoch)
        self.stats[stats.worker] = stats
        for row in stats.rows:
            self._row(worker, row, int(now), fresh=news or not first)
            self._changed[row.app, row.instance] = now

    def _row(self, worker: _Worker, row: Row, second: int, fresh: bool) -> None:
        key = (row.app, row.instance)
        floor = worker.floors.get(key)
        if floor is not None:
            if row.requests >= floor.requests:
                row = plus(row, floor, -1)
            else:  # the worker began it anew
                del worker.floors[key]
        old = worker.rows.get(key)
        if old is not None and row.requests < old.requests:
            self._add_base(key, old)
            old = None
        worker.rows[key] = row
        if old is None and not fresh:
            return  # what a worker had counted before this control began says nothing about these seconds
        requests = row.requests - (old.requests if old else 0)
        if requests:
            rate = self._rates.get(key)
            if rate is None:
                rate = self._rates[key] = Seconds(RATE_SECONDS)
            rate.add(second, requests)
            self._app_rates.setdefault(row.app, Seconds(RATE_SECONDS)).add(second, requests)
        before = old.faults if old else {}
        if row.faults != before:
            for name, count in row.faults.items():
                more = count - before.get(name, 0)
                if more > 0:
                    self.recent.add(row.app, row.instance, name, second, more)

    def forget_worker(self, number: int) -> None:
        """It ended: what it counted stays."""
        self._fold(number)
        self.stats.pop(number, None)

    def fold_gone(self, present: set[Key], now: float | None = None, after: float = SECONDS) -> None:
        """Instances that are not `present` and unchanged for `after` seconds become part of "(gone)"."""
        now = time.time() if now is None else now
        for key, changed in list(self._changed.items()):
            app, instance = key
            if key in present or instance in ("", GONE) or now - changed < after:
                continue
            del self._changed[key]
            self._rates.pop(key, None)
            for worker in self._workers.values():
                row = worker.rows.pop(key, None)
                if row is not None:
                    floor = worker.floors.get(key)
                    worker.floors[key] = row if floor is None else plus(floor, row)
                    if len(worker.floors) > 2000:
                        del worker.floors[next(iter(worker.floors))]
                    self._add_base((app, GONE), row)
            base = self._base.pop(key, None)
            if base is not None:
                self._add_base((app, GONE), base)

    def _fold(self, number: int) -> None:
        worker = self._workers.pop(number, None)
        for key, row in worker.rows.items() if worker is not None else ():
            self._add_base(key, row)

    def _add_base(self, key: Key, row: Row) -> None:
        total = self._base[key] = plus(self._base.get(key) or empty(*key), row)
        while len(total.watched) > WATCHED:
            del total.watched[next(iter(total.watched))]

    def snapshot(self, now: float | None = None, seconds: int = 5) -> Snapshot:
        """Of this moment; rates are over the last whole `seconds`."""
        now = time.time() if now is None else now
        rows: dict[Key, list[Row]] = {key: [row] for key, row in self._base.items()}
        for worker in self._workers.values():
            for key, row in worker.rows.items():
                rows.setdefault(key, []).append(row)
        last = int(now) - 1
        rates = {}
        for key, rate in self._rates.items():
            if rate.last > last - seconds:
                rates[key] = rate.between(last - seconds + 1, last) / seconds
        return Snapshot(rows, rates)

    def watched(self, app: str, instance: str = ALL) -> dict[str, int]:
        """By `Watch.key`, what all workers have counted: of an instance, "" for what reached none; ALL for the whole
        app, instances that are gone included. Only grows. A microsecond for an instance; ALL looks at every row once.
        """
        found: dict[str, int] = {}
        for rows in (self._base, *(worker.rows for worker in self._workers.values())):
            if instance != ALL:
                row = rows.get((app, instance))
                if row is not None:
                    _add(found, row.watched)
                continue
            for key, row in rows.items():
                if row.watched and key[0] == app:
                    _add(found, row.watched)
        return found

    def oldest_wait(self, app: str, instance: str = ALL) -> float:
        """Seconds that the oldest request, sent whole, had waited for its response head when its worker last spoke; of
        an instance or, ALL, of the app. 0.0: none for over a second. A worker speaks twice a second; one that is silent
        adds nothing.
        """
        longest = 0.0
        for stats in self.stats.values():
            waits = stats.oldest.get(app)
            if waits:
                since = min(waits.values()) if instance == ALL else waits.get(instance, stats.at)
                longest = max(longest, stats.at - since)
        return longest

    def heard(self, app: str, instance: str) -> float:
        """When content of a response under way last came from it; monotonic, 0.0: none is under way."""
        return max((stats.heard.get(app, {}).get(instance, 0.0) for stats in self.stats.values()), default=0.0)

    def by_instance(self) -> dict[Key, list[Row]]:
        """The rows of this moment; they are replaced when they change, never written to."""
        rows: dict[Key, list[Row]] = {key: [row] for key, row in self._base.items()}
        for worker in self._workers.values():
            for key, row in worker.rows.items():
                found = rows.get(key)
                if found is None:
                    rows[key] = [row]
                else:
                    found.append(row)
        return rows

    def requests(self, app: str, seconds: int, now: float | None = None) -> int:
        """Of an app in the last `seconds` (60 at most)."""
        now = time.time() if now is None else now
        rate = self._app_rates.get(app)
        return rate.between(now - seconds, now) if rate is not None else 0

    @property
    def connections(self) -> int:
        """Client connections now, over all workers."""
        return sum(stats.connections for stats in self.stats.values())

    @property
    def lag(self) -> float:
        """The largest loop lag of a worker now, seconds."""
        return max((stats.lag_us for stats in self.stats.values()), default=0) / 1e6
