"""What an app's rules want counted, counted exactly: by watch and instance, where account() and attempts end.

An app without watches has no `Watches` at all, so its requests pay one look at an attribute.

Always true:
  - a request is counted once under `requests` and `status`, where its tally has it: on the instance that it was last
    on, or in the app's own row when it reached none;
  - each wait for a response head is counted once under `slow`, when it ends, on the instance that was waited for;
    it begins when the request was sent whole, so an upload is no wait, and content, streams and tunnels come after it;
  - each failed attempt is counted once under `fault`, on its instance, even if another one then answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from proxy import faults
from proxy.link.messages import Watch

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange
    from proxy.dataplane.tally import Tally

KEYS: Final = 256
"""Counts that a tally keeps; beyond, those that no rule asks for any more are forgotten."""


class Path:
    """A pattern in which `*` stands for any letters, none and `/` too, held against a path without its query.

    Found piece by piece from the left, never by going back: a long path costs no more than its length.
    """

    __slots__ = ("_exact", "_first", "_last", "_least", "_middle")

    def __init__(self, pattern: str) -> None:
        first, *others = pattern.encode().split(b"*")
        self._exact = not others
        self._first = first
        self._last = others.pop() if others else b""
        self._middle = [piece for piece in others if piece]
        self._least = len(first) + len(self._last)

    def matches(self, path: bytes) -> bool:
        if self._exact:
            return path == self._first
        if len(path) < self._least or not path.startswith(self._first) or not path.endswith(self._last):
            return False
        at, end = len(self._first), len(path) - len(self._last)
        for piece in self._middle:
            found = path.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True


class _One:
    """A watch, made ready."""

    __slots__ = ("above", "codes", "key", "names", "path")

    def __init__(self, watch: Watch) -> None:
        self.key = watch.key
        self.above = watch.above
        self.codes = frozenset(code for first, last in watch.codes for code in range(max(first, 0), min(last, 999) + 1))
        self.names = frozenset(watch.names)
        self.path = Path(watch.path) if watch.path else None

    def wants(self, target: bytes) -> bool:
        return self.path is None or self.path.matches(target.partition(b"?")[0])


class Watches:
    """Those of one app, made ready once per table."""

    __slots__ = ("_fault", "_keys", "_requests", "_slow", "_status", "least")

    def __init__(self, watches: Iterable[Watch]) -> None:
        kinds: dict[str, list[_One]] = {"requests": [], "slow": [], "status": [], "fault": []}
        self._keys = set()
        for watch in watches:
            kinds[watch.kind].append(_One(watch))
            self._keys.add(watch.key)
        self._requests, self._slow = kinds["requests"], kinds["slow"]
        self._status, self._fault = kinds["status"], kinds["fault"]
        self.least = min((one.above for one in self._slow), default=float("inf"))
        """No wait that is shorter counts."""

    def ended(self, exchange: Exchange, tally: Tally, wait: float) -> None:
        """The request is over; `wait` is 0.0 unless a wait ended with it that was not told to `waited`."""
        target = exchange.target
        for one in self._requests:
            if one.wants(target):
                _count(tally, one.key)
        if wait > self.least:
            self.waited(target, tally, wait)
        if self._status:
            self.status(target, tally, exchange.status)
        fault = exchange.fault
        if fault is not None and self._fault and not _told(exchange, fault):
            self.fault(target, tally, fault)

    def waited(self, target: bytes, tally: Tally, wait: float) -> None:
        """A wait for a response head ended, with the head or without it."""
        for one in self._slow:
            if wait > one.above and one.wants(target):
                _count(tally, one.key)

    def status(self, target: bytes, tally: Tally, status: int) -> None:
        for one in self._status:
            if status in one.codes and one.wants(target):
                _count(tally, one.key)

    def fault(self, target: bytes, tally: Tally, fault: faults.Fault) -> None:
        for one in self._fault:
            if fault.name in one.names and one.wants(target):
                _count(tally, one.key)

    def tidy(self, tally: Tally) -> None:
        """Counts last over tables; rules that come and go for ever leave no more than KEYS of them."""
        if len(tally.watched) > KEYS:
            tally.watched = {key: count for key, count in tally.watched.items() if key in self._keys}


def failed(exchange: Exchange, fault: faults.Fault, now: float) -> None:
    """An attempt failed while `exchange.instance` had it."""
    app, instance = exchange.app, exchange.instance
    if app is None or app.watches is None or instance is None:
        return
    target, tally = exchange.target, instance.tally
    app.watches.fault(target, tally, fault)
    if fault is faults.APP_ERROR:  # it was answered; the answer is not passed on, as another instance is tried
        app.watches.status(target, tally, exchange.status)
    if exchange.asked_at and (fault is faults.APP_ERROR or not exchange.head_at):
        app.watches.waited(target, tally, now - exchange.asked_at)


def head_came(exchange: Exchange) -> None:
    """The response's head came, and its content is still to come: a long one is not waited for."""
    app, instance = exchange.app, exchange.instance
    if app is not None and app.watches is not None and instance is not None and exchange.asked_at:
        app.watches.waited(exchange.target, instance.tally, exchange.head_at - exchange.asked_at)


def _told(exchange: Exchange, fault: faults.Fault) -> bool:
    """Whether a failed attempt has told it already. An answer that is an error is none: it was passed on."""
    if exchange.attempts is None or (exchange.head_sent and fault is faults.APP_ERROR):
        return False
    return any(attempt.fault == fault.name for attempt in exchange.attempts)


def _count(tally: Tally, key: str) -> None:
    tally.watched[key] = tally.watched.get(key, 0) + 1
    tally.dirty = True
