"""Traces in a worker, while they are exported: what an instance is told, and which requests control is told of.

Off, there is no `Spans` at all: the client's traceparent is passed on as it came, or one is begun. On, the parent that
an instance sees is the span of our attempt on it, and the sampled flag is our decision: by the trace id, so that all
who sample by it agree. A flag that a client sets counts only where the client is one of `trusted_proxies`: else
anybody could have everything exported.

Faults and slow requests go to control anyway (`Kept`); here are the others. Always true: at most PER_SECOND a second
and WAITING altogether are on their way; what is over that is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from proxy.link.messages import Record
from proxy.link.spans import attempt_span, sampled, threshold

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange

PER_SECOND: Final = 200
WAITING: Final = 1000
_FLAGS: Final = slice(53, 55)


class Spans:
    """`sample`: the share of traces, 0 to 1."""

    __slots__ = ("_count", "_second", "_threshold", "dropped", "tell_soon", "told", "waiting")

    def __init__(self, sample: float, dropped: int = 0, tell_soon: Callable[[], object] = lambda: None) -> None:
        self._threshold = threshold(sample)
        self._second = self._count = 0
        self.dropped = dropped
        self.waiting: list[Record] = []
        self.tell_soon = tell_soon
        self.told = False
        """`tell_soon` was called, and the records were not taken yet."""

    def samples(self, exchange: Exchange, trace: str) -> bool:
        """Whether this request is sampled, whatever becomes of it."""
        parent = exchange.fields.traceparent
        if parent and exchange.worker.forwarding.is_trusted(exchange.client.peer_key):
            return bool(int(parent[_FLAGS], 16) & 1)
        return sampled(trace, self._threshold)

    def traceparent(self, exchange: Exchange) -> bytes:
        """For the instance of the attempt that is made now."""
        trace = exchange.trace()
        span = attempt_span(exchange.id.decode(), len(exchange.attempts or ()) + 1)
        return f"00-{trace}-{span}-{'01' if self.samples(exchange, trace) else '00'}".encode()

    def ended(self, exchange: Exchange, record: Record, kept: bool, now: float) -> None:
        """A request ended; `kept`: control is told of it as of a fault or a slow one."""
        parent = exchange.fields.traceparent
        if parent:
            record.parent = parent[36:52].decode()
        record.scheme = "https" if exchange.client.tls else "http"
        if not self.samples(exchange, record.trace):
            return
        record.sampled = True
        if kept:
            return
        second = int(now)
        if second != self._second:
            self._second = second
            self._count = 0
        if self._count >= PER_SECOND or len(self.waiting) >= WAITING:
            self.dropped += 1
            return
        self._count += 1
        self.waiting.append(record)
        if not self.told:
            self.told = True
            self.tell_soon()

    def take(self) -> list[Record]:
        taken, self.waiting = self.waiting, []
        return taken
