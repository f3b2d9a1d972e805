"""What an operator should know, and would not look for: losses, and what cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway


def notices(gateway: Gateway) -> Iterator[str]:
    """One line each; none when all is well."""
    for worker in gateway.workers:
        stats = worker.stats
        name = f"worker{worker.slot + 1}"
        if worker.why and worker.state in ("silent", "ended"):
            yield f"{name} is {worker.state}: {worker.why}"
        if stats is None:
            continue
        if stats.log_error:
            yield f"the access log of {name} lost {stats.log_lost:,} lines: {stats.log_error}"
        if stats.shedding:
            yield f"{name} turns connections away: {stats.shedding}"
    logs = gateway.shared.logs
    if logs.error:
        yield f"output of instances is lost ({logs.lost:,} bytes so far): {logs.error}"
    if unseen := gateway.logbook.exceptions.unseen:
        yield f"{unseen:,} lines of logs came too fast to be searched for exceptions"
    lost = ", ".join(f"{count:,} {table}" for table, count in gateway.store.dropped.items() if count)
    if gateway.store.error:
        yield f"the store cannot be written ({lost or 'nothing'} lost so far): {gateway.store.error}"
    elif lost:
        yield f"the store lost {lost} since control's start"
    traces = gateway.traces
    spans_lost = traces.dropped + sum(worker.stats.spans_dropped for worker in gateway.workers if worker.stats)
    if traces.error:
        yield f"traces cannot be exported ({spans_lost:,} requests lost so far): {traces.error}"
    elif spans_lost and traces.on:
        yield f"traces of {spans_lost:,} requests were not exported: there were too many at once"
    if gateway.health.page.error:
        yield f"the status page cannot be written: {gateway.health.page.error}"
    if gateway.ledger_error:
        yield f"the ledger cannot be written, so a new control would begin anew: {gateway.ledger_error}"
    yield from gateway.alerts.notices()
    if gateway.lag > 0.25:
        yield f"control's own loop is {gateway.lag * 1000:.0f} ms late"
