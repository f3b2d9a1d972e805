"""What Prometheus scrapes: one table of metrics, filled from a frame of this moment.

`frame` runs on control's loop and only copies references and numbers; `render` may take its time in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.control.counters import Counters, Key, Snapshot, Summary
from proxy.control.state import Admission, AppState, Lifecycle, Usage, WorkerState
from proxy.link.board import Board
from proxy.link.histogram import EXTRA_BOUNDS, OTEL_BOUNDS, below
from proxy.link.messages import Stats

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS: Final = (*OTEL_BOUNDS, *EXTRA_BOUNDS)


class Meaning(NamedTuple):
    """One metric, for HELP, the API's list and the docs."""

    name: str
    type: str  # counter, gauge, histogram, summary
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()


_INSTANCE: Final = ("app", "instance")
METRICS: Final[tuple[Meaning, ...]] = (
    Meaning(
        "triage_requests_total", "counter", "requests",
        "Requests answered, by class of status; none: no answer could be sent.",
        ("app", "instance", "class"),
    ),
    Meaning(
        "triage_faults_total", "counter", "requests",
        "Requests and attempts that ended in a fault, by its name in docs/faults.md.",
        ("app", "instance", "fault"),
    ),
    Meaning(
        "triage_request_duration_seconds", "histogram", "seconds",
        "Whole requests, from the first byte of the head to the last of the response.",
        _INSTANCE,
    ),
    Meaning(
        "triage_wait_seconds", "histogram", "seconds",
        "From the last byte of a request to the whole response head: the instance's own time.",
        _INSTANCE,
    ),
    Meaning(
        "triage_own_seconds", "summary", "seconds",
        "The gateway's own share of all requests: their time less all waiting.",
        _INSTANCE,
    ),
    Meaning("triage_received_bytes_total", "counter", "bytes", "Received from clients.", _INSTANCE),
    Meaning("triage_sent_bytes_total", "counter", "bytes", "Sent to clients.", _INSTANCE),
    Meaning("triage_connects_total", "counter", "connections", "New connections to instances.", _INSTANCE),
    Meaning("triage_retries_total", "counter", "attempts", "Attempts after the first.", _INSTANCE),
    Meaning("triage_inflight", "gauge", "requests", "Requests on the instance now.", _INSTANCE),
    Meaning("triage_queue_waiting", "gauge", "requests", "Requests that wait for a slot now.", ("app",)),
    Meaning("triage_queue_oldest_seconds", "gauge", "seconds", "How long the oldest of them has waited.", ("app",)),
    Meaning("triage_instances_wanted", "gauge", "instances", "Instances that should be there.", ("app",)),
    Meaning(
        "triage_instance_lifecycle", "gauge", "",
        "1 for the state of its lifecycle that the instance is in, 0 for the others.",
        ("app", "instance", "lifecycle"),
    ),
    Meaning(
        "triage_instance_admission", "gauge", "",
        "1 for its admission, 0 for the others.",
        ("app", "instance", "admission"),
    ),
    Meaning("triage_instance_failing", "gauge", "", "1 if it would be ejected but for the cap.", _INSTANCE),
    Meaning(
        "triage_instance_restarts_total", "counter", "starts",
        "Starts after the first of its place in the pool.",
        _INSTANCE,
    ),
    Meaning(
        "triage_instance_cpu_cores", "gauge", "cores",
        "Cores in use by its processes, over the last second.",
        _INSTANCE,
    ),
    Meaning("triage_instance_memory_bytes", "gauge", "bytes", "Memory of its processes (resident).", _INSTANCE),
    Meaning(
        "triage_instance_output_dropped_bytes_total", "counter", "bytes",
        "Output that came too fast or in overlong lines, and was dropped.",
        _INSTANCE,
    ),
    Meaning("triage_loop_lag_seconds", "gauge", "seconds", "How late the worker's event loop is now.", ("worker",)),
    Meaning(
        "triage_loop_lag_max_seconds", "gauge", "seconds",
        "The largest lag in the last half second.",
        ("worker",),
    ),
    Meaning(
        "triage_loop_lag_peak_seconds", "gauge", "seconds",
        "The largest lag since the worker's start.",
        ("worker",),
    ),
    Meaning("triage_connections", "gauge", "connections", "Client connections.", ("worker",)),
    Meaning(
        "triage_accepted_total", "counter", "connections",
        "Client connections accepted by this worker since it began.",
        ("worker",),
    ),
    Meaning(
        "triage_instance_connections", "gauge", "connections",
        "Connections to instances, idle ones too.",
        ("worker",),
    ),
    Meaning("triage_tunnels", "gauge", "connections", "Upgraded connections (WebSocket).", ("worker",)),
    Meaning("triage_worker_memory_bytes", "gauge", "bytes", "Memory of the worker (resident).", ("worker",)),
    Meaning(
        "triage_records_dropped_total", "counter", "records",
        "Records of requests that were counted but not sent to control.",
        ("worker",),
    ),
    Meaning(
        "triage_log_lost_total", "counter", "lines",
        "Lines of the access log that could not be written.",
        ("worker",),
    ),
    Meaning(
        "triage_shedding", "gauge", "",
        "1 while the worker turns connections away for its own sake.",
        ("worker",),
    ),
    Meaning("triage_records_kept", "gauge", "records", "Records of requests in control's memory."),
    Meaning(
        "triage_output_lost_bytes_total", "counter", "bytes",
        "Output of instances that could not be written to its file.",
    ),
    Meaning(
        "triage_store_dropped_total", "counter", "entries",
        "Entries of the past that could not be kept, by table.",
        ("table",),
    ),
    Meaning("triage_store_waiting", "gauge", "entries", "Entries on their way to the store's file."),
    Meaning("triage_store_failing", "gauge", "", "1 while the store cannot be written."),
    Meaning("triage_store_bytes", "gauge", "bytes", "The store's file on the disk."),
    Meaning(
        "triage_control_start_time_seconds", "gauge", "seconds",
        "Unix time at which control began: its sums began then too.",
    ),
    Meaning("triage_build_info", "gauge", "", "1; the labels say which Triage this is.", ("version",)),
)  # fmt: skip
MEANINGS: Final = {metric.name: metric for metric in METRICS}


class Kept(NamedTuple):
    """How the store does."""

    dropped: dict[str, int]  # by table
    waiting: int
    failing: bool
    size: int


class _App(NamedTuple):
    name: str
    row: int
    wanted: int


class _Instance(NamedTuple):
    app: str
    name: str
    row: int
    lifecycle: Lifecycle
    admission: Admission
    failing: bool
    restarts: int
    usage: Usage | None
    dropped: int | None


@dataclass(slots=True)
class Frame:
    """What was so at one moment, as references and numbers. The board is read when it is rendered: any process may."""

    snapshot: Snapshot
    apps: list[_App]
    instances: list[_Instance]
    stats: list[tuple[str, Stats]]
    board: Board | None
    records: int
    output_lost: int
    started_at: float
    now: float  # monotonic
    store: Kept | None = None


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
) -> Frame:
    """On the loop: some 2 µs an instance. `now` is monotonic."""
    return Frame(
        counters.snapshot(),
        [_App(app.name, app.row, app.wanted) for app in apps.values()],
        [
            _Instance(
                one.app,
                one.name,
                one.row,
                one.lifecycle,
                one.admission,
                one.failing,
                one.restarts,
                one.usage,
                one.output.dropped if one.output is not None else None,
            )
            for app in apps.values()
            for one in app.instances.values()
        ],
        [(str(worker.slot + 1), worker.stats) for worker in workers if worker.stats is not None],
        board,
        records,
        output_lost,
        started_at,
        time.monotonic() if now is None else now,
        store,
    )


class _Samples:
    """Metric name to its values with their labels."""

    def __init__(self, made: Frame) -> None:
        self.found: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for app in made.apps:
            self._app(app, made.board, made.now)
        for instance in made.instances:
            self._instance(instance, made.board)
        for name, stats in made.stats:
            self._worker(name, stats)
        self._add("triage_records_kept", made.records)
        if made.store is not None:
            for table, dropped in made.store.dropped.items():
                self._add("triage_store_dropped_total", dropped, table)
            self._add("triage_store_waiting", made.store.waiting)
            self._add("triage_store_failing", made.store.failing)
            self._add("triage_store_bytes", made.store.size)
        self._add("triage_output_lost_bytes_total", made.output_lost)
        self._add("triage_control_start_time_seconds", made.started_at)
        self._add("triage_build_info", 1, __version__)

    def _add(self, name: str, value: float, *labels: str) -> None:
        self.found.setdefault(name, []).append((labels, value))

    def _app(self, app: _App, board: Board | None, now: float) -> None:
        self._add("triage_instances_wanted", app.wanted, app.name)
        if board is not None:
            oldest = board.oldest(app.row)
            self._add("triage_queue_waiting", board.waiting(app.row), app.name)
            self._add("triage_queue_oldest_seconds", max(0.0, now - oldest) if oldest else 0.0, app.name)

    def _instance(self, one: _Instance, board: Board | None) -> None:
        names = (one.app, one.name)
        if board is not None:
            self._add("triage_inflight", board.total(one.row), *names)
        for lifecycle in Lifecycle:
            self._add("triage_instance_lifecycle", one.lifecycle is lifecycle, *names, lifecycle.value)
        for admission in Admission:
            self._add("triage_instance_admission", one.admission is admission, *names, admission.value)
        self._add("triage_instance_failing", one.failing, *names)
        self._add("triage_instance_restarts_total", one.restarts, *names)
        if one.usage is not None:
            self._add("triage_instance_cpu_cores", one.usage.cpu, *names)
            self._add("triage_instance_memory_bytes", one.usage.rss, *names)
        if one.dropped is not None:
            self._add("triage_instance_output_dropped_bytes_total", one.dropped, *names)

    def _worker(self, name: str, stats: Stats) -> None:
        self._add("triage_loop_lag_seconds", stats.lag_us / 1e6, name)
        self._add("triage_loop_lag_max_seconds", stats.lag_max_us / 1e6, name)
        self._add("triage_loop_lag_peak_seconds", stats.lag_peak_us / 1e6, name)
        self._add("triage_connections", stats.connections, name)
        self._add("triage_accepted_total", stats.accepted, name)
        self._add("triage_instance_connections", stats.instance_connections, name)
        self._add("triage_tunnels", stats.tunnels, name)
        self._add("triage_worker_memory_bytes", stats.rss, name)
        self._add("triage_records_dropped_total", stats.records_dropped, name)
        self._add("triage_log_lost_total", stats.log_lost, name)
        self._add("triage_shedding", bool(stats.shedding), name)


class _Collector(Collector):
    def __init__(self, made: Frame) -> None:
        self._frame = made

    def collect(self) -> Iterator[Metric]:
        snapshot = self._frame.snapshot
        samples = _Samples(self._frame).found
        rows = [(key, snapshot.instance(*key)) for key in sorted(snapshot.rows)]
        for meaning in METRICS:
            if meaning.type == "histogram":
                yield _histogram(meaning, rows)
            elif meaning.type == "summary":
                yield _own(meaning, rows)
            else:
                family = _FAMILIES[meaning.type](meaning.name, _help(meaning), labels=meaning.labels)
                for labels, value in [*_values(meaning.name, rows), *samples.get(meaning.name, [])]:
                    family.add_metric(labels, value)
                yield family


_FAMILIES: Final = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def _own(meaning: Meaning, rows: list[tuple[Key, Summary]]) -> SummaryMetricFamily:
    family = SummaryMetricFamily(meaning.name, _help(meaning), labels=meaning.labels)
    for key, row in rows:
        family.add_metric(key, row.requests, row.own_sum)
    return family


def _help(meaning: Meaning) -> str:
    return f"{meaning.meaning} Unit: {meaning.unit}." if meaning.unit else meaning.meaning


def _values(name: str, rows: list[tuple[Key, Summary]]) -> list[tuple[tuple[str, ...], float]]:
    """Of the metrics that workers count."""
    if name == "triage_requests_total":
        return [((*key, kind), count) for key, row in rows for kind, count in row.classes.items()]
    if name == "triage_faults_total":
        return [((*key, fault), count) for key, row in rows for fault, count in row.faults.items()]
    attribute = _COUNTED.get(name)
    return [(key, getattr(row, attribute)) for key, row in rows] if attribute else []


_COUNTED: Final = {
    "triage_received_bytes_total": "bytes_in",
    "triage_sent_bytes_total": "bytes_out",
    "triage_connects_total": "connects",
    "triage_retries_total": "retries",
}


def _histogram(meaning: Meaning, rows: list[tuple[Key, Summary]]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(meaning.name, _help(meaning), labels=meaning.labels)
    waits = meaning.name == "triage_wait_seconds"
    for key, row in rows:
        counts, total = (row.wait, row.wait_sum) if waits else (row.total, row.total_sum)
        number = sum(counts.values())
        if not number:
            continue
        buckets = [(str(bound), float(count)) for bound, count in zip(BOUNDS, below(counts, BOUNDS), strict=True)]
        family.add_metric(key, [*buckets, ("+Inf", float(number))], total)
    return family


def render(made: Frame) -> bytes:
    """Prometheus' text format. Some 10 µs a line: run it off the loop."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(made))
    return generate_latest(registry)
