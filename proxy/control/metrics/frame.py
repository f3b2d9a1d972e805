"""What /metrics shows of one moment: references and numbers, taken on the loop. exposition.py makes text of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from proxy.control.counters import Counters, Key, Snapshot
from proxy.control.metrics.exemplars import Found
from proxy.control.metrics.own import Host, Use
from proxy.control.state import Admission, AppState, Lifecycle, Usage, WorkerState
from proxy.link.board import Board
from proxy.link.messages import Stats

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

Exemplars = Mapping[Key, Mapping[int, Found]]


class Kept(NamedTuple):
    """How the store does."""

    dropped: dict[str, int]  # by table
    waiting: int
    failing: bool
    size: int


class App(NamedTuple):
    """One app."""

    name: str
    row: int
    wanted: int
    ready: int
    unhealthy: int
    exits: int


class Instance(NamedTuple):
    """One instance."""

    app: str
    name: str
    row: int
    lifecycle: Lifecycle
    admission: Admission
    failing: bool
    restarts: int
    usage: Usage | None
    history: Sequence[Usage]
    dropped: int | None
    started: float  # monotonic; 0.0: it has no process


@dataclass(slots=True)
class Frame:
    """What was so at one moment, as references and numbers. The board is read when it is rendered: any process may."""

    snapshot: Snapshot
    apps: list[App]
    instances: list[Instance]
    stats: list[tuple[str, Stats]]
    board: Board | None
    records: int
    output_lost: int
    started_at: float
    now: float  # monotonic
    store: Kept | None = None
    processes: Mapping[str, Use] = field(default_factory=dict)
    host: Host | None = None
    control_lag: float | None = None
    incidents: Mapping[str, int] = field(default_factory=dict)  # open ones by severity
    notifiers_failing: int | None = None
    freezes_skipped: int | None = None
    more: list[tuple[str, float, tuple[str, ...]]] = field(default_factory=list)  # metric, value, labels
    exemplars: Exemplars = field(default_factory=dict)


def frame(
    apps: Mapping[str, AppState],
    workers: Iterable[WorkerState],
    counters: Counters,
    board: Board | None,
    *,
    records: int = 0,
    output_lost: int = 0,
    started_at: float = 0.0,
    now: float | None = None,
    store: Kept | None = None,
    exits: Mapping[str, int] | None = None,
) -> Frame:
    """On the loop: some 3 µs an instance. `now` is monotonic."""
    found: list[App] = []
    instances: list[Instance] = []
    for app in apps.values():
        ready = well = 0
        for one in app.instances.values():
            is_ready = one.lifecycle is Lifecycle.READY
            ready += is_ready
            well += is_ready and not one.failing and one.admission is Admission.ADMITTING
            instances.append(
                Instance(
                    one.app, one.name, one.row, one.lifecycle, one.admission, one.failing, one.restarts, one.usage,
                    one.usage_history, one.output.dropped if one.output is not None else None,
                    one.started if one.pid else 0.0,
                )
            )  # fmt: skip
        count = exits.get(app.name, 0) if exits is not None else 0
        found.append(App(app.name, app.row, app.wanted, ready, len(app.instances) - well, count))
    return Frame(
        counters.snapshot(),
        found,
        instances,
        [(str(worker.slot + 1), worker.stats) for worker in workers if worker.stats is not None],
        board,
        records,
        output_lost,
        started_at,
        time.monotonic() if now is None else now,
        store,
    )


def frame_of(gateway: Gateway, exemplars: bool) -> Frame:
    """Of the whole gateway. On the loop."""
    store = gateway.store
    made = frame(
        gateway.apps,
        gateway.workers,
        gateway.counters,
        gateway.board,
        records=len(gateway.records),
        output_lost=gateway.output_lost,
        started_at=gateway.started_at,
        store=Kept(store.dropped, store.waiting, bool(store.error), store.size),
        exits=gateway.rings.exits,
    )
    made.processes, made.host, made.control_lag = gateway.own.processes, gateway.own.host, gateway.own_lag.now
    made.freezes_skipped = gateway.rings.skipped
    open_ones = [incident.severity for incident in gateway.incidents.open.values()]
    made.incidents = {severity: open_ones.count(severity) for severity in ("degraded", "down")}
    made.notifiers_failing = sum(one.state == "failing" for one in gateway.alerts.outboxes.values())
    made.more = list(_more(gateway))
    if exemplars:
        made.exemplars = gateway.exemplars.snapshot()
    return made


def _more(gateway: Gateway) -> Iterator[tuple[str, float, tuple[str, ...]]]:
    """What other parts count; those that are off or have nothing say nothing."""
    for name, outbox in gateway.alerts.outboxes.items():
        yield "triage_messages_lost_total", outbox.condition.lost, (name,)
    exceptions = gateway.logbook.exceptions
    for app in gateway.apps:
        yield "triage_exceptions_total", exceptions.counts(app), (app,)
    yield "triage_log_unseen_lines_total", exceptions.unseen, ()
    yield "triage_log_files_skipped_bytes_total", gateway.logbook.skipped, ()
    told = {str(worker.slot + 1): worker.stats for worker in gateway.workers if worker.stats is not None}
    for name, stats in told.items():
        yield "triage_self_checks_total", stats.self_checks, (name,)
        yield "triage_stories_dropped_total", stats.stories_dropped, (name,)
    yield "triage_agents_dropped_total", gateway.agents.dropped, ()
    yield "triage_agents_refused_total", gateway.agents.refused, ()
    if gateway.traces.on:
        lost = sum(stats.spans_dropped for stats in told.values())
        yield "triage_traces_exported_total", gateway.traces.exported, ()
        yield "triage_traces_dropped_total", gateway.traces.dropped + lost, ()
