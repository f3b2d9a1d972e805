"""Kept requests, in memory, within bounds that neither traffic nor a storm of faults moves.

What is kept of what workers send: per app and fault the first 20 of a minute, then one in n; each that lost a
non-idempotent request and each slow one, up to 1,000 a minute. Exact numbers are in counters.py; here are examples.

Always true:
  - at most `most` records, none older than `age`; when full, the oldest of the largest (app, fault) goes first, so
    that one app's storm never drives out the others;
  - a record changes only by `refine`: an exit that explains a connection closed without an answer.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, Protocol

from proxy.faults import FAULTS, INSTANCE_EXITED, INSTANCE_RECYCLED, Origin
from proxy.link.messages import Record

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2."""
REFINED: Final = frozenset({"closed-before-head", "reset-before-head"})
REFINE_WITHIN: Final = 0.5
"""Seconds between the end of a request and the exit that explains it."""
_OLDEST_ID: Final = 1_577_836_800  # 2020: no id was made before
_WORKERS: Final = 16


class IdParts(NamedTuple):
    """What an id of ours says by itself."""

    worker: int
    second: int  # Unix time


def decode_id(text: str, now: float | None = None) -> IdParts | None:
    """Worker and second of a request id (6 hex counter, 2 hex worker, 8 hex second); None: not one of ours."""
    if len(text) != 16 or not all(c in "0123456789abcdef" for c in text):
        return None
    worker, second = int(text[6:8], 16), int(text[8:], 16)
    if worker >= _WORKERS or not _OLDEST_ID <= second <= (time.time() if now is None else now) + 5:
        return None
    return IdParts(worker, second)


def lost(record: Record) -> bool:
    """Whether it is a non-idempotent request of which an instance had something, and that got no answer."""
    fault = FAULTS.get(record.fault)
    if fault is None or fault.name == "app-error" or fault.origin is Origin.CLIENT:
        return False
    return record.method not in IDEMPOTENT and record.sent > 0


class Exited(Protocol):
    """What is needed of an exit."""

    @property
    def at(self) -> float: ...  # Unix seconds
    @property
    def ours(self) -> bool: ...
    @property
    def words(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records. An empty value filters nothing; `fault` may be "any"."""

    app: str = ""
    instance: str = ""
    method: str = ""
    fault: str = ""
    status: tuple[tuple[int, int], ...] = ()  # inclusive ranges, any of them
    slower: float = 0.0  # seconds
    path: str = ""  # a beginning, or a pattern
    since: float = 0.0  # Unix seconds

    def matches(self, record: Record) -> bool:
        return (
            (not self.app or record.app == self.app)
            and (not self.method or record.method == self.method)
            and (not self.fault or record.fault == self.fault or (self.fault == "any" and bool(record.fault)))
            and (not self.status or any(low <= record.status <= high for low, high in self.status))
            and record.total_us >= self.slower * 1e6
            and record.time >= self.since
            and (not self.path or self.of_path(record.target))
            and (not self.instance or self._instance(record))
        )

    def _instance(self, record: Record) -> bool:
        if record.instance == self.instance:
            return True
        return any(attempt.instance == self.instance for attempt in record.attempts or ())

    def of_path(self, target: str) -> bool:
        """Whether the path of a target is one that `path` asks for."""
        path = target.partition("?")[0]
        if "*" in self.path or "?" in self.path:
            return fnmatchcase(path, self.path)
        return path.startswith(self.path)


def parse_status(text: str) -> tuple[tuple[int, int], ...]:
    """`502`, `5xx`, `500-599`, `>=500`, `<400`, or several with commas, as inclusive ranges. ValueError if not."""
    ranges = []
    for part in text.replace(" ", "").split(","):
        low, dash, high = part.partition("-")
        if len(part) == 3 and part[0].isdigit() and part[1:].lower() == "xx":
            ranges.append((int(part[0]) * 100, int(part[0]) * 100 + 99))
        elif part.startswith(">") and part.lstrip(">=").isdigit():
            ranges.append((int(part.lstrip(">=")) + (not part.startswith(">=")), 999))
        elif part.startswith("<") and part.lstrip("<=").isdigit():
            ranges.append((0, int(part.lstrip("<=")) - (not part.startswith("<="))))
        elif dash and low.isdigit() and high.isdigit() and int(low) <= int(high):
            ranges.append((int(low), int(high)))
        elif part.isdigit():
            ranges.append((int(part), int(part)))
        else:
            raise ValueError(f'{part!r} is no status: expected "502", "5xx", "500-599" or ">=500"')
    return tuple(ranges)


class Page(NamedTuple):
    """Part of a list, newest first. `next` is the cursor for what is older; None at the end."""

    items: list[Record]
    next: int | None


class RecordStore:
    """Kept records; `age` in seconds (keep.requests), `first` and `one_in` per app, fault and minute."""

    def __init__(
        self,
        most: int = 20_000,
        age: float = 86400.0,
        first: int = 20,
        one_in: int = 100,
        a_minute: int = 1000,
    ) -> None:
        self.most = most
        self.age = age
        self.first = first
        self.one_in = one_in
        self.a_minute = a_minute
        self.seen = 0
        """Records that came from workers; `seen - kept` were counted only."""
        self.kept = 0
        self.keep: Callable[[int, Record], None] = lambda number, record: None
        """Called with each one that is kept, and again when it was refined."""
        self.whole_from = 1
        """From this number on nothing is missing here of what was kept."""
        self._number = 0
        self._records: OrderedDict[int, Record] = OrderedDict()  # by number, in the order of arrival
        self._ids: dict[str, int] = {}
        self._client_ids: dict[str, int] = {}
        self._classes: dict[tuple[str, str], deque[int]] = {}
        self._by_instance: OrderedDict[str, deque[int]] = OrderedDict()
        self._exits: deque[tuple[str, Exited]] = deque(maxlen=64)
        self._minute = 0
        self._in_minute: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._records)

    def at_least(self, number: int) -> None:
        """The next number is not below this one; what had lower ones is on the disk."""
        self._number = max(self._number, number - 1)
        if not self._records:
            self.whole_from = self._number + 1

    def add(self, record: Record, now: float | None = None) -> bool:
        """Keep it, if the bounds of this minute allow."""
        self.seen += 1
        now = time.time() if now is None else now
        self._expire(now - self.age)
        if record.id in self._ids or not self._wanted(record, now):
            return False
        if len(self._records) >= self.most:
            largest = max(self._classes.values(), key=len)
            self._remove(largest[0])
        self._number += 1
        number = self._number
        self.kept += 1
        self._records[number] = record
        self._ids[record.id] = number
        if record.client_request_id:
            self._client_ids[record.client_request_id] = number
        for instance, exit in self._exits:
            if instance == record.instance:
                _refine(record, exit)
        self._classes.setdefault((record.app, record.fault), deque()).append(number)
        if record.instance:
            recent = self._by_instance.get(record.instance)
            if recent is None:
                recent = self._by_instance[record.instance] = deque(maxlen=2000)
                if len(self._by_instance) > 2000:
                    self._by_instance.popitem(last=False)
            recent.append(number)
        self.keep(number, record)
        return True

    def _wanted(self, record: Record, now: float) -> bool:
        minute = int(now // 60)
        if minute != self._minute:
            self._minute = minute
            self._in_minute.clear()
        if lost(record) and self._count("lost", "") <= self.a_minute:
            return True
        if not record.fault:  # a slow one, or one that was tried again
            return self._count("slow", "") <= self.a_minute
        count = self._count(record.app, f"fault {record.fault}")
        return count <= self.first or count % self.one_in == 0

    def _count(self, kind: str, name: str) -> int:
        count = self._in_minute[kind, name] = self._in_minute.get((kind, name), 0) + 1
        return count

    def _expire(self, before: float) -> None:
        while self._records:
            number, record = next(iter(self._records.items()))
            if record.time >= before:
                return
            self._remove(number)

    def _remove(self, number: int) -> None:
        record = self._records.pop(number)
        self.whole_from = max(self.whole_from, number + 1)
        self._ids.pop(record.id, None)
        if self._client_ids.get(record.client_request_id) == number:
            del self._client_ids[record.client_request_id]
        key = (record.app, record.fault)
        members = self._classes[key]
        if members[0] == number:
            members.popleft()
        else:
            members.remove(number)
        if not members:
            del self._classes[key]

    def refine(self, instance: str, exit: Exited) -> list[Record]:
        """An instance ended: its requests that closed without an answer at that moment have their reason now."""
        self._exits.append((instance, exit))
        refined = []
        for number in self._by_instance.get(instance, ()):
            record = self._records.get(number)
            if record is None:
                continue
            before = (record.app, record.fault)
            if _refine(record, exit):
                refined.append(record)
                if before != (record.app, record.fault):
                    self._classes[before].remove(number)
                    if not self._classes[before]:
                        del self._classes[before]
                    self._classes.setdefault((record.app, record.fault), deque()).append(number)
                self.keep(number, record)
        return refined

    def get(self, id: str) -> Record | None:
        """By its whole id, or the client's."""
        number = self._ids.get(id) or self._client_ids.get(id)
        return self._records[number] if number is not None else None

    def find(self, start: str, limit: int = 10) -> list[Record]:
        """All whose id, or the client's id, begins so, newest first; a whole id is alone."""
        exact = self.get(start)
        if exact is not None:
            return [exact]
        found = []
        for record in reversed(self._records.values()):
            if record.id.startswith(start) or (record.client_request_id and record.client_request_id.startswith(start)):
                found.append(record)
                if len(found) == limit:
                    break
        return found

    def newest_first(self, before: int | None = None) -> Iterator[tuple[int, Record]]:
        """Over a copy, so that it can be walked in steps while new ones come."""
        for number, record in reversed(list(self._records.items())):
            if before is None or number < before:
                yield number, record

    def list(self, wanted: Filter, limit: int = 100, before: int | None = None) -> Page:
        """One page, newest first."""
        items: list[Record] = []
        last: int | None = None
        for number, record in self.newest_first(before):
            if not wanted.matches(record):
                continue
            if len(items) == limit:
                return Page(items, last)
            items.append(record)
            last = number
        return Page(items, None)

    def nearest(self, at: float, app: str = "", fault: str = "", worker: int | None = None) -> Record | None:
        """The kept record next in time to a request that was not kept; one of the same worker, if any."""
        asked = (
            record
            for record in self._records.values()
            if (not app or record.app == app) and (not fault or record.fault == fault)
        )
        return nearest(asked, at, worker)


def nearest(records: Iterable[Record], at: float, worker: int | None = None) -> Record | None:
    """The one next in time; half a second more is not too far for one of the same worker."""

    def away(record: Record) -> float:
        return abs(record.time - at) + (0.5 if worker is not None and record.worker != worker else 0.0)

    return min(records, key=away, default=None)


def _refine(record: Record, exit: Exited) -> bool:
    """Only where the request ended at the moment of the exit, on this attempt's instance."""
    if record.fault not in REFINED:
        return False
    if abs(record.time + record.total_us / 1e6 - exit.at) > REFINE_WITHIN:
        return False
    fault = INSTANCE_RECYCLED if exit.ours else INSTANCE_EXITED
    for attempt in record.attempts or ():
        if attempt.instance == record.instance and attempt.fault == record.fault:
            attempt.fault = fault.name
            attempt.detail = exit.words
    record.fault = fault.name
    record.detail = exit.words
    return True
