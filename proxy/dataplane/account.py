"""What a finished request leaves behind: counts, a record, and a note of each attempt that mattered."""

from __future__ import annotations

import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from proxy.faults import Fault
from proxy.link.histogram import EDGES
from proxy.link.messages import Attempt, Record
from proxy.wire.request import METHODS, for_the_log

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange

monotonic = time.monotonic

LONGEST_TARGET: Final = 2048
"""Characters of a target that a record keeps: records are bounded in number, so they must be in size."""


def account(exchange: Exchange, now: float) -> None:
    """Count and record. Runs once for every request: what a plain one does not need is skipped."""
    worker, app, instance, fault = exchange.worker, exchange.app, exchange.last_instance, exchange.fault
    began, head_at, sent_at = exchange.began, exchange.head_at, exchange.sent_at
    total = now - began
    head = exchange.head_done - began
    wait = 0.0
    if exchange.at_once and exchange.reused and not exchange.queue_time and exchange.tries == 1:
        # By far the most requests: sent at once on a kept connection, answered with one read.
        wait = head_at - exchange.asked_at
        own = total - head - wait
        queue_us = connect_us = tls_us = None
        wait_us: int | None = int(wait * 1e6)
        body_us: int | None = 0
    else:
        wait_us = body_us = None
        waited = head + exchange.queue_time + exchange.connect_time + exchange.tls_time + exchange.upload_time
        waited += exchange.failed_time
        if sent_at:
            wait = (head_at or now) - (exchange.asked_at or sent_at)
            if wait < 0.0:
                wait = 0.0  # an early answer
            waited += wait
            wait_us = int(wait * 1e6)
            if head_at:
                body_us = 0
                if not exchange.at_once:
                    waited += now - head_at
                    body_us = int((now - head_at) * 1e6)
        own = total - waited if total > waited else 0.0
        queue_us = int(exchange.queue_time * 1e6) if exchange.queue_time else None
        connect_us = int(exchange.connect_time * 1e6) if exchange.connect_time else None
        tls_us = int(exchange.tls_time * 1e6) if exchange.tls_time else None
    tally = instance.tally if instance is not None else worker.tally(app)
    tally.dirty = True
    tally.requests += 1
    status = exchange.status
    tally.classes[status // 100 - 1 if 100 <= status < 600 else 5] += 1
    tally.bytes_in += exchange.bytes_in
    tally.bytes_out += exchange.bytes_out
    tally.total[bisect_right(EDGES, total)] += 1
    tally.total_sum += total
    tally.own_sum += own
    if head_at:
        tally.wait[bisect_right(EDGES, wait)] += 1
        tally.wait_sum += wait
    name = ""
    if fault is not None:
        name = fault.name
        tally.fault(name)
        if fault.status == 499:
            exchange.status = status = 499
    if app is not None and app.watches is not None:
        app.watches.ended(exchange, tally, wait if exchange.at_once and exchange.asked_at else 0.0)
    fields, method = exchange.fields, exchange.method
    known = METHODS.get(method)
    record = Record(
        exchange.id.decode(),
        worker.wall + began,
        worker.column,
        app.name if app is not None else "",
        instance.name if instance is not None else "",
        exchange.client_ip or exchange.client.peer,
        known[0] if known is not None else method.decode("latin-1"),
        fields.host_text,
        exchange.target[:LONGEST_TARGET].decode("latin-1"),
        status,
        name,
        exchange.bytes_in,
        exchange.bytes_out,
        int(head * 1e6) if head else 0,
        queue_us,
        connect_us,
        tls_us,
        wait_us,
        body_us,
        int(total * 1e6),
        int(own * 1e6),
        worker.lag_us,
        exchange.tries,
        exchange.reused,
        int(exchange.idle_time * 1e6) if exchange.reused else None,
    )
    if fields.request_id:
        record.client_request_id = fields.request_id[:128].decode("ascii", "replace")
    if fields.traceparent:
        record.trace = fields.traceparent[3:35].decode()
    if name or exchange.attempts or exchange.tunnel:
        _tell_more(record, exchange)
    worker.flight.add(record)
    log = worker.log
    if log is not None:
        if log.format == "combined":
            record.user_agent, record.referer = for_the_log(b"\n" + fields.kept)
        log.add(record)
    if name or (total > worker.slow and not exchange.tunnel):
        worker.kept.add(record, now)


def note(exchange: Exchange, fault: Fault | None, detail: str, now: float) -> None:
    """Write this attempt down."""
    if exchange.attempts is None:
        exchange.attempts = []
    since = exchange.asked_at or exchange.sent_at
    exchange.attempts.append(
        Attempt(
            exchange.instance.name if exchange.instance else "",
            fault.name if fault else "",
            detail,
            exchange.reused,
            _us(exchange.idle_time) if exchange.reused else None,
            None if exchange.reused else _us(exchange.connect_last),
            _us(exchange.tls_time) if exchange.tls_time else None,
            _us((exchange.head_at or now) - since) if since else None,
            exchange.sent,
            exchange.status,
        )
    )


def _tell_more(record: Record, exchange: Exchange) -> None:
    """What is worth a line only where something happened."""
    if exchange.attempts and exchange.fault is None and exchange.last_instance is not None:
        exchange.instance = exchange.last_instance
        note(exchange, None, "", exchange.head_at or monotonic())
        exchange.instance = None
    record.attempts = exchange.attempts
    record.detail = "; ".join(filter(None, (exchange.detail, exchange.not_again)))
    record.sent = exchange.sent
    record.replayable = exchange.replay is not None or not exchange.bytes_in
    record.tunnel = exchange.tunnel


def _us(seconds: float) -> int:
    return int(seconds * 1e6)
