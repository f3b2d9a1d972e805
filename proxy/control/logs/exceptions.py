"""The exceptions of each app, grouped by fingerprint and counted.

One thread scans what all instances print (see entries), and counts what agents tell as raised. Control's loop reads
what it made, hands changed groups to the store once a second, and tells of a group that is new, is back after a day, or
is seen in another version first. It is longer than most: what loop and thread share is best read in one place.

Always true:
  - of an app there are at most GROUPS groups; the rest is counted in one, `other`;
  - what is on its way to the thread is bounded; lines that it does not see are counted in `unseen`.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proxy import masking, units
from proxy.control.logs import fingerprint
from proxy.control.logs.entries import SILENCE, Entry, Scanner
from proxy.control.logs.lines import Batch
from proxy.control.store.exceptions import Row

GROUPS: Final = 500
OTHER: Final = "other"
SAMPLE: Final = 50
"""Lines of one occurrence that are kept."""
WIDTH: Final = 500
"""Characters of each."""
FRESH: Final = 60.0
"""Seconds after which a newer occurrence becomes the sample."""
AGAIN: Final = units.DAYS
"""Seconds of silence after which one that is back is told of."""
STALE: Final = 7 * units.DAYS
"""Seconds unseen, after which a group makes room for another one; the store keeps it."""
NAMES: Final = 20
"""Instances and versions that are remembered of each, the newest."""
QUEUE: Final = 16 << 20
TOGETHER: Final = 0.02
"""Seconds that the thread lets lines come together."""
WORK: Final = 0.001
"""Seconds of work after which the thread rests for REST: in a storm of tracebacks it takes a quarter of a core."""
REST: Final = 0.003
WRITTEN: Final = 100
"""Groups handed to the store in one second; the others a second later."""
TAGS: Final = 5000
"""Occurrences whose lines are known by their numbers."""


@dataclass(slots=True)
class Group:
    """All occurrences of one exception in one app."""

    app: str
    fingerprint: str
    runtime: str = ""
    type: str = ""
    message: str = ""
    where: str = ""
    count: int = 0
    first: float = 0.0  # Unix seconds
    last: float = 0.0
    instances: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    minutes: dict[int, int] = field(default_factory=dict)  # Unix minute -> count, of the last hour
    sample: list[str] = field(default_factory=list)
    sampled: float = 0.0
    raised: bool = False  # told by the agent; else it was printed
    caught: int = 0  # of `count`, by the app's own code
    uncaught: int = 0  # of `count`, by nobody

    def last_hour(self, now: float) -> list[int]:
        """Counts by minute, oldest first, this minute last."""
        minute = int(now // 60)
        return [self.minutes.get(minute - back, 0) for back in range(59, -1, -1)]

    def row(self) -> Row:
        body = {
            "runtime": self.runtime, "type": self.type, "message": self.message, "where": self.where,
            "instances": self.instances, "versions": self.versions, "sample": self.sample, "sampled": self.sampled,
            "minutes": sorted(self.minutes.items()), "raised": self.raised, "caught": self.caught,
            "uncaught": self.uncaught,
        }  # fmt: skip
        return Row(self.app, self.fingerprint, self.first, self.last, self.count, orjson.dumps(body).decode())


def group_of(row: Row) -> Group:
    """What the store has. Raises ValueError, TypeError, KeyError, AttributeError on another form."""
    body = orjson.loads(row.body)
    return Group(
        row.app, row.fingerprint, body["runtime"], body["type"], body["message"], body["where"], row.count, row.first,
        row.last, list(body["instances"]), list(body["versions"]), {int(at): int(n) for at, n in body["minutes"]},
        [str(line) for line in body["sample"]], float(body["sampled"]), bool(body.get("raised", False)),
        int(body.get("caught", 0)), int(body.get("uncaught", 0)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tag:
    """The lines `first` to `last` of a stream are an occurrence of a group."""

    first: int
    last: int
    app: str
    instance: str
    stream: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Raised:
    """What the agent tells of one place: counts are those since it told last."""

    app: str
    instance: str
    version: str
    at: float  # Unix seconds
    type: str
    message: str
    frames: tuple[tuple[str, int, str], ...]  # file, line, function; innermost last
    count: int
    caught: int
    uncaught: int

    @property
    def weight(self) -> int:
        return 500 + 100 * len(self.frames)


@dataclass(frozen=True, slots=True)
class News:
    """What is worth an event."""

    kind: str  # "new" | "again" | "version"
    app: str
    instance: str
    version: str
    fingerprint: str
    type: str
    message: str
    where: str
    count: int
    gone: float  # seconds that it was not seen; 0.0 unless "again"


class _Flush:
    def __init__(self) -> None:
        self.done = threading.Event()


class Exceptions:
    """`take` and what reads are for control's loop; the thread is begun by the first batch."""

    def __init__(self, most: int = GROUPS) -> None:
        self.most = most
        self.unseen = 0
        """Lines that were not looked at, because the thread did not keep up."""
        self.error = ""
        self._groups: dict[str, dict[str, Group]] = {}
        self._dirty: dict[tuple[str, str], None] = {}
        self._news: deque[News] = deque(maxlen=1000)
        self._tags: deque[Tag] = deque(maxlen=TAGS)
        self._totals: dict[str, int] = {}
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Batch | Raised | _Flush | tuple[str, str] | None] = queue.SimpleQueue()
        self._queued = 0
        self._scanners: dict[tuple[str, str, str], Scanner] = {}
        self._open: dict[tuple[str, str, str], Scanner] = {}
        self._thread: threading.Thread | None = None
        self._worked = 0.0

    # --- on the loop ---------------------------------------------------------------------------------

    def take(self, batch: Batch | Raised) -> None:
        """Look through these lines, or count what was raised, soon."""
        with self._lock:
            if self._queued + batch.weight > QUEUE:
                self.unseen += len(batch.lines) if isinstance(batch, Batch) else batch.count
                return
            self._queued += batch.weight
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-entries", daemon=True)
            self._thread.start()
        self._queue.put(batch)

    def forget(self, app: str, instance: str) -> None:
        """The instance is gone, and what was begun is whole."""
        if self._thread is not None:
            self._queue.put((app, instance))

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was handed over is counted, as if all streams were silent now. Not for the loop."""
        if self._thread is None:
            return True
        mark = _Flush()
        self._queue.put(mark)
        return mark.done.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout)

    def counts(self, app: str) -> int:
        """How many there were, of all groups: since the store knows of them, for it only grows."""
        return self._totals.get(app, 0)

    def groups(self, app: str = "") -> list[Group]:
        """A copy of each, those seen last first."""
        with self._lock:
            found = [
                _copy(group) for name, groups in self._groups.items() if not app or name == app
                for group in groups.values()
            ]  # fmt: skip
        return sorted(found, key=lambda group: group.last, reverse=True)

    def group(self, fingerprint: str, app: str = "") -> Group | None:
        """The one seen last, where several apps have it."""
        return next((one for one in self.groups(app) if one.fingerprint == fingerprint), None)

    def changed(self) -> list[Row]:
        """For the store: groups that are not what they were when this was asked last, WRITTEN at most."""
        with self._lock:
            keys = list(self._dirty)[:WRITTEN]
            for key in keys:
                del self._dirty[key]
            return [self._groups[app][name].row() for app, name in keys if name in self._groups.get(app, ())]

    def news(self) -> list[News]:
        """What happened since this was asked last."""
        with self._lock:
            found = list(self._news)
            self._news.clear()
        return found

    def tags(self) -> list[Tag]:
        """Of late."""
        with self._lock:
            return list(self._tags)

    def load(self, rows: list[Row]) -> None:
        """What the store has; what was counted meanwhile is added."""
        with self._lock:
            for row in rows:
                with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                    before = group_of(row)
                    groups = self._groups.setdefault(row.app, {})
                    if (mine := groups.get(row.fingerprint)) is not None:
                        mine.count += before.count
                        mine.caught += before.caught
                        mine.uncaught += before.uncaught
                        mine.first = min(mine.first, before.first)
                        mine.versions = list(dict.fromkeys([*before.versions, *mine.versions]))[-NAMES:]
                        mine.instances = list(dict.fromkeys([*before.instances, *mine.instances]))[-NAMES:]
                    elif len(groups) < self.most or row.fingerprint == OTHER:
                        groups[row.fingerprint] = before
                    if not before.raised:
                        self._totals[row.app] = self._totals.get(row.app, 0) + before.count

    # --- in the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=SILENCE / 2 if self._open else None)
            except queue.Empty:
                self._silent()
                continue
            if isinstance(item, Batch):
                time.sleep(TOGETHER)
            while True:
                if item is None:
                    return
                self._do(item)
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break

    def _do(self, item: Batch | Raised | _Flush | tuple[str, str]) -> None:
        match item:
            case _Flush():
                for key, scanner in list(self._open.items()):
                    self._count_all(key, scanner, scanner.end())
                item.done.set()
            case Batch():
                key = (item.app, item.instance, item.stream)
                scanner = self._scanners.setdefault(key, Scanner())
                try:
                    self._count_all(key, scanner, scanner.feed(item))
                except Exception as error:  # what an app prints must not end what looks at it
                    self.error = repr(error)
                    self._scanners[key] = Scanner()
                    self._open.pop(key, None)
                with self._lock:
                    self._queued -= item.weight
                self._rest()
            case Raised():
                try:
                    self._count_raised(item)
                except Exception as error:  # what an app's exceptions are like must not end what counts them
                    self.error = repr(error)
                with self._lock:
                    self._queued -= item.weight
                self._rest()
            case (app, instance):
                for key in [key for key in self._scanners if key[:2] == (app, instance)]:
                    scanner = self._scanners.pop(key)
                    self._count_all(key, scanner, scanner.end())
                    self._open.pop(key, None)

    def _rest(self) -> None:
        now = time.thread_time()
        if now - self._worked > WORK:
            self._worked = now
            time.sleep(REST)

    def _silent(self) -> None:
        now = time.time()
        for key, scanner in list(self._open.items()):
            self._count_all(key, scanner, scanner.expire(now))

    def _count_all(self, key: tuple[str, str, str], scanner: Scanner, found: Iterator[Entry]) -> None:
        for entry in found:
            self._count(entry)
            self._rest()
        if scanner.open:
            self._open[key] = scanner
        else:
            self._open.pop(key, None)

    def _count(self, entry: Entry) -> None:
        batch, found = entry.batch, entry.found
        name = found.fingerprint
        sample: list[str] = []
        with self._lock:
            groups = self._groups.setdefault(batch.app, {})
            group = groups.get(name)
            wants = group is None or not group.sample or abs(entry.at - group.sampled) >= FRESH
        if wants:  # masking costs some microseconds a line
            sample = _sample(entry.lines)
        with self._lock:
            kind, gone = "", 0.0
            if group is None and len(groups) >= self.most:
                oldest = min(groups.values(), key=lambda one: one.last)
                if entry.at - oldest.last > STALE:
                    del groups[oldest.fingerprint]
            if group is None and len(groups) >= self.most:
                name = OTHER
                group = groups.get(name)
                if group is None:
                    group = groups[name] = Group(batch.app, name, first=entry.at)
                    group.message = f"more than {self.most} different ones: these are counted together"
                    kind = "new"
            elif group is None:
                group = groups[name] = Group(batch.app, name, first=entry.at)
                kind = "new"
            elif entry.at - group.last > AGAIN:
                kind, gone = "again", entry.at - group.last
            elif batch.version and group.versions and batch.version not in group.versions:
                kind = "version"
            if name != OTHER:
                group.runtime, group.type = found.runtime, found.type
                group.message, group.where = found.shown, found.where
            group.count += 1
            group.last = max(group.last, entry.at)
            _remember(group.instances, batch.instance)
            _remember(group.versions, batch.version)
            group.minutes = _minutes(group.minutes, int(entry.at // 60), 1)
            if sample:
                group.sample, group.sampled = sample, entry.at
            self._totals[batch.app] = self._totals.get(batch.app, 0) + 1
            self._dirty[batch.app, name] = None
            self._tags.append(Tag(entry.first, entry.last, batch.app, batch.instance, batch.stream, name))
            if kind:
                self._news.append(
                    News(kind, batch.app, batch.instance, batch.version, name, group.type, group.message, group.where,
                         group.count, gone)
                )  # fmt: skip


    def _count_raised(self, item: Raised) -> None:
        """Those the agent tells of are groups of their own, by type and innermost function of the app, and no news:
        most are caught, and what is not is printed too."""
        found = fingerprint.raised(item.type, item.message, item.frames)
        place = found.own[-1:]
        name = "r" + fingerprint.Found(found.runtime, found.type, found.message, place).fingerprint.removeprefix("v")
        with self._lock:
            groups = self._groups.setdefault(item.app, {})
            group = groups.get(name)
            wants = group is None or abs(item.at - group.sampled) >= FRESH
        sample = _sample(_traceback(found)) if wants else []
        with self._lock:
            if group is None:
                if sum(one.raised for one in groups.values()) >= self.most // 2:  # those printed have theirs
                    oldest = min((one for one in groups.values() if one.raised), key=lambda one: one.last)
                    del groups[oldest.fingerprint]
                group = groups[name] = Group(item.app, name, first=item.at, raised=True)
            group.runtime, group.type, group.message, group.where = found.runtime, found.type, found.shown, found.where
            group.count += item.count
            group.caught += item.caught
            group.uncaught += item.uncaught
            group.last = max(group.last, item.at)
            _remember(group.instances, item.instance)
            _remember(group.versions, item.version)
            group.minutes = _minutes(group.minutes, int(item.at // 60), item.count)
            if sample:
                group.sample, group.sampled = sample, item.at
            self._dirty[item.app, name] = None


def _minutes(known: dict[int, int], minute: int, count: int) -> dict[int, int]:
    """With so many more in this one, and an hour at most."""
    known[minute] = known.get(minute, 0) + count
    if len(known) > 61:
        return {at: number for at, number in known.items() if minute - 60 < at <= minute}
    return known


def _traceback(found: fingerprint.Found) -> list[str]:
    """As Python would print it."""
    lines = ["Traceback (most recent call last):"]
    lines += [f'  File "{one.file}", line {one.line}, in {one.function}' for one in found.frames]
    return [*lines, f"{found.type}: {found.message}" if found.message else found.type]


def _remember(names: list[str], name: str) -> None:
    """The newest last."""
    if name and (not names or names[-1] != name):
        if name in names:
            names.remove(name)
        names.append(name)
        del names[:-NAMES]


def _sample(lines: list[str]) -> list[str]:
    if len(lines) > SAMPLE:
        half = SAMPLE // 2
        lines = [*lines[:half], f"… {len(lines) - SAMPLE + 1} lines …", *lines[1 - half :]]
    return [masking.text(line[:WIDTH]) for line in lines]


def _copy(group: Group) -> Group:
    return Group(
        group.app, group.fingerprint, group.runtime, group.type, group.message, group.where, group.count, group.first,
        group.last, list(group.instances), list(group.versions), dict(group.minutes), group.sample, group.sampled,
        group.raised, group.caught, group.uncaught,
    )  # fmt: skip


def words(news: News) -> str:
    """For an event."""
    what = ": ".join(part for part in (news.type or "an exception", news.message[:160]) if part)
    where = f" ({news.where})" if news.where else ""
    match news.kind:
        case "again":
            said = f"is back after {units.duration(news.gone)}"
        case "version":
            said = f"is seen in version {news.version}"
        case _:
            said = "is new"
    return f"{what}{where} in {news.instance or news.app} {said}"


def shown(group: Group, now: float) -> dict[str, Any]:
    """Plain values; times are Unix seconds."""
    minutes = group.last_hour(now)
    return {
        "id": group.fingerprint, "app": group.app, "runtime": group.runtime, "type": group.type,
        "message": group.message, "where": group.where, "count": group.count, "first": group.first, "last": group.last,
        "instances": group.instances[::-1], "versions": group.versions[::-1], "sample": group.sample,
        "in_last_hour": sum(minutes), "minutes": minutes, "raised": group.raised, "caught": group.caught,
        "uncaught": group.uncaught,
    }  # fmt: skip
