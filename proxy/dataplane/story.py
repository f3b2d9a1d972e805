"""Whole stories: what is kept of requests that a rule of `keep.whole` wants, beyond their record.

Decided when a request is recorded, from what it has in hand anyway, so an app without rules pays one look at an
attribute. Heads are as they went on; what is secret in them is masked before it is saved (control/store/stories.py).

Always true: a worker tells PER_SECOND stories in a second at most, each bounded; others are counted in `dropped`, and
their requests leave what they would without a rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from proxy.dataplane.watches import Path
from proxy.link.messages import Attempt, Record, Story, Whole

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange

PER_SECOND: Final = 20
WAITING: Final = 100
HEAD: Final = 6144
"""Bytes of a head; the rest of a longer one is left out."""
ATTEMPTS: Final = 20


class Stories:
    """Of one worker: those that wait to be told."""

    __slots__ = ("_count", "_second", "dropped", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Story] = []
        self.dropped = 0
        self._second = 0
        self._count = 0

    def has_room(self, now: float) -> bool:
        """Whether one more may be told; else it is counted. `now` is monotonic."""
        second = int(now)
        if second != self._second:
            self._second, self._count = second, 0
        if self._count >= PER_SECOND or len(self.waiting) >= WAITING:
            self.dropped += 1
            return False
        self._count += 1
        return True

    def take(self) -> list[Story]:
        taken, self.waiting = self.waiting, []
        return taken


class _Rule:
    __slots__ = ("codes", "fault", "headers", "path", "rule", "slower")

    def __init__(self, rule: Whole) -> None:
        self.rule = rule.rule
        self.path = Path(rule.path) if rule.path else None
        self.codes = rule.codes
        self.fault = rule.fault
        self.slower = rule.slower
        self.headers = rule.headers

    def wants(self, path: bytes, status: int, fault: str, total: float) -> bool:
        """`path` with its query."""
        if self.fault and fault != self.fault:
            return False
        if self.slower and total < self.slower:
            return False
        if self.codes:
            for first, last in self.codes:
                if first <= status <= last:
                    break
            else:
                return False
        return self.path is None or self.path.matches(path.partition(b"?")[0])


class Wanted:
    """What the rules want of one app's requests."""

    __slots__ = ("_rules", "_stories")

    def __init__(self, rules: Iterable[Whole], stories: Stories) -> None:
        self._rules = [_Rule(rule) for rule in rules]
        self._stories = stories

    def ended(self, exchange: Exchange, record: Record, total: float) -> bool:
        """Whether its story is told: then its record is kept too."""
        path = exchange.target
        for rule in self._rules:
            if rule.wants(path, record.status, record.fault, total):
                if not self._stories.has_room(exchange.ended_at):
                    return False
                self._stories.waiting.append(tell(exchange, record, rule.rule, rule.headers))
                return True
        return False


def tell(exchange: Exchange, record: Record, rule: int, headers: bool) -> Story:
    """The story of a request that has ended."""
    attempts = list(exchange.attempts or ())[-ATTEMPTS:]
    if exchange.tries and (not attempts or not exchange.fault) and exchange.last_instance is not None:
        if not attempts or attempts[-1].fault:
            attempts.append(_last(exchange))
    return Story(
        id=record.id,
        time=record.time,
        app=record.app,
        rule=rule,
        phases=phases(exchange, attempts),
        attempts=attempts,
        request=_request(exchange) if headers else b"",
        response=exchange.head.kept[:HEAD] if headers and exchange.head is not None and exchange.head_sent else b"",
        cut=headers and (_size(exchange) > HEAD),
        own=not exchange.head_sent and bool(exchange.status),
    )


def _request(exchange: Exchange) -> bytes:
    line = b"%s %s HTTP/1.%d\r\n" % (exchange.method, exchange.target, exchange.minor)
    return (line + exchange.fields.kept)[:HEAD]


def _size(exchange: Exchange) -> int:
    head = len(exchange.head.kept) if exchange.head is not None else 0
    return max(head, len(exchange.fields.kept) + len(exchange.target) + 40)


def _last(exchange: Exchange) -> Attempt:
    """The attempt that was answered, which leaves no note of its own where nothing went wrong."""
    since = exchange.asked_at or exchange.sent_at
    end = exchange.head_at or exchange.ended_at
    assert exchange.last_instance is not None
    return Attempt(
        exchange.last_instance.name,
        reused=exchange.reused,
        idle_us=_us(exchange.idle_time) if exchange.reused else None,
        connect_us=None if exchange.reused else _us(exchange.connect_last),
        tls_us=_us(exchange.tls_time) if exchange.tls_time else None,
        wait_us=max(0, _us(end - since)) if since else None,
        sent=exchange.sent,
        status=exchange.status,
        began_us=_us(exchange.tried_at - exchange.began),
        took_us=_us(end - exchange.tried_at),
    )


def phases(exchange: Exchange, attempts: list[Attempt]) -> list[tuple[str, int, str]]:
    """What happened, when (µs after the request began), and a word more; in that order."""
    began = exchange.began
    found = [("head read", _us(exchange.head_done - began), "")]
    if exchange.app is not None:
        found.append(("routed", _us(exchange.head_done - began), exchange.app.name))
    queued = _us(exchange.queue_time)
    for number, one in enumerate(attempts, 1):
        start = one.began_us
        if number == 1 and queued:
            found.append(("queued", max(0, start - queued), ""))
        found.append(("picked", start, one.instance))
        connect = (one.connect_us or 0) + (one.tls_us or 0)
        if one.reused:
            found.append(("connection reused", start, ""))
        elif one.sent or one.wait_us is not None:
            found.append(("connected", start + connect, ""))
        if one.fault:
            if one.wait_us is not None:
                found.append(("sent", max(start + connect, start + one.took_us - one.wait_us), f"{one.sent} bytes"))
            found.append((one.fault, start + one.took_us, one.detail))
        elif number == len(attempts):
            for name, at in (("sent", exchange.sent_at), ("sent whole", exchange.asked_at), ("head", exchange.head_at)):
                if at and _us(at - began) >= start:
                    found.append((name, _us(at - began), str(exchange.status) if name == "head" else ""))
    if not attempts and queued:
        found.append(("queued", _us(exchange.head_done - began), ""))
    end = exchange.fault.name if exchange.fault is not None else ""
    found.append(("end", _us(exchange.ended_at - began), exchange.not_again or end))
    return sorted(found, key=lambda one: (one[1], one[0] == "end"))


def _us(seconds: float) -> int:
    return int(seconds * 1e6)
