"""What a finished request leaves behind: counts, a record, and a note of each attempt that mattered.

Requests that ended are counted and recorded in batches, at least at each tick of 50 ms: the same code, run for one
request between two others' system calls, costs twice as much as run for many in a row.

Always true: who reads counts, records or the log's lines calls `settle` before, and so does who changes what they
depend on (the table); what is read is complete.
"""

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
    from proxy.dataplane.worker import Worker

monotonic = time.monotonic

BATCH: Final = 32
"""Finished requests that wait: 0.1 ms of work at once, and few enough to stay in the processor's cache."""
_CLASSES: Final = bytes(status // 100 - 1 if status >= 100 else 5 for status in range(600))
LONGEST_TARGET: Final = 2048
"""Characters of a target that a record keeps: records are bounded in number, so they must be in size."""


def account(exchange: Exchange, now: float) -> None:
    """A request ended: it is counted and recorded with the others of its batch."""
    exchange.ended_at = now
    worker = exchange.worker
    ended = worker.ended
    ended.append(exchange)
    if len(ended) >= BATCH:
        settle(worker)


def settle(worker: Worker) -> None:
    """Count and record what ended. Asked for by whoever reads counts or records, and at each tick."""
    if not worker.ended:
        return
    batch, worker.ended = worker.ended, []
    records: list[Record] = []
    log, spans, slow = worker.log, worker.spans, worker.slow
    with_agent = log is not None and log.format == "combined"
    wall, column, lag_us, trace_text = worker.wall, worker.column, worker.lag_us, worker.ids.trace_text
    for exchange in batch:
        try:
            app, instance, fault = exchange.app, exchange.last_instance, exchange.fault
            began, head_at = exchange.began, exchange.head_at
            total = exchange.ended_at - began
            head = exchange.head_done - began
            reused = exchange.reused
            if exchange.at_once and reused and exchange.tries == 1 and not exchange.queue_time:
                # By far the most requests: sent at once on a kept connection, answered with one read.
                wait = head_at - exchange.asked_at
                own = total - head - wait
                queue_us = connect_us = tls_us = None
                wait_us: int | None = int(wait * 1e6)
                body_us: int | None = 0
            else:
                wait, own, queue_us, connect_us, tls_us, wait_us, body_us = _parts(exchange, total, head)
            status, bytes_out = exchange.status, exchange.bytes_out
            tally = instance.tally if instance is not None else worker.tally(app)
            tally.dirty = True
            tally.requests += 1
            tally.classes[_CLASSES[status] if status < 600 else 5] += 1
            if bytes_in := exchange.bytes_in:
                tally.bytes_in += bytes_in
            tally.bytes_out += bytes_out
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
            fields, method, target = exchange.fields, exchange.method, exchange.target
            known = METHODS.get(method)
            id = exchange.id.decode()
            record = Record(
                id,
                wall + began,
                column,
                app.name if app is not None else "",
                instance.name if instance is not None else "",
                exchange.client_ip or exchange.client.peer,
                known[0] if known is not None else method.decode("latin-1"),
                fields.host_text,
                (target if len(target) <= LONGEST_TARGET else target[:LONGEST_TARGET]).decode("latin-1"),
                status,
                name,
                bytes_in,
                bytes_out,
                int(head * 1e6) if head else 0,
                queue_us,
                connect_us,
                tls_us,
                wait_us,
                body_us,
                int(total * 1e6),
                int(own * 1e6),
                lag_us,
                exchange.tries,
                reused,
                int(exchange.idle_time * 1e6) if reused else None,
                fields.request_id[:128].decode("ascii", "replace") if fields.request_id else "",
                fields.trace or trace_text + id,
            )
            records.append(record)
            if name or exchange.attempts or exchange.tunnel:
                _tell_more(record, exchange)
            if with_agent:
                record.user_agent, record.referer = for_the_log(b"\n" + fields.kept)
            kept = bool(name) or (total > slow and not exchange.tunnel)
            if app is not None and app.whole is not None and app.whole.ended(exchange, record, total):
                kept = True
            if spans is not None:
                spans.ended(exchange, record, kept, exchange.ended_at)
            if kept:
                worker.kept.add(record, exchange.ended_at)
        except Exception as error:  # a defect of ours: the others are counted
            worker.broke(error, None)
    if records:
        lines = worker.flight.extend(records)
        if log is not None:
            log.extend(records, lines)


def _parts(
    exchange: Exchange, total: float, head: float
) -> tuple[float, float, int | None, int | None, int | None, int | None, int | None]:
    """Of any request: seconds of wait and of our own, then the times of a record from `queue_us` to `body_us`."""
    now, head_at, sent_at = exchange.ended_at, exchange.head_at, exchange.sent_at
    wait_us = body_us = None
    wait = 0.0
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
    return (
        wait,
        total - waited if total > waited else 0.0,
        int(exchange.queue_time * 1e6) if exchange.queue_time else None,
        int(exchange.connect_time * 1e6) if exchange.connect_time else None,
        int(exchange.tls_time * 1e6) if exchange.tls_time else None,
        wait_us,
        body_us,
    )


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
            _us(exchange.tried_at - exchange.began),
            _us(now - exchange.tried_at),
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
