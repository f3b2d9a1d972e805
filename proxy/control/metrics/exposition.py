"""What Prometheus scrapes: the families of families.py, filled from a frame of this moment.

`render` takes its time in a thread, and gives the interpreter away in between. The text is written here and not by
prometheus_client: its generate_latest takes 10 µs a line, 90 ms for 100 instances, where this takes 20; tests read it
back with its parsers, and compare it with what it would write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client.utils import floatToGoString

from proxy import __version__
from proxy.control.counters import CLASSES, Key
from proxy.control.metrics.exemplars import BOUNDS, Found
from proxy.control.metrics.families import FAMILIES, Family
from proxy.control.metrics.frame import App, Frame, Instance
from proxy.control.state import Admission, Lifecycle, Usage
from proxy.control.store.sample import add_up
from proxy.link.board import Board
from proxy.link.histogram import EDGES
from proxy.link.messages import Row, Stats

if TYPE_CHECKING:
    pass

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LINES: Final = 200
"""Written before the interpreter is given away: 0.3 ms."""
ROWS: Final = 8
"""Instances looked at, likewise: 0.5 ms with four workers."""

# --- values, in a thread ----------------------------------------------------------------------------------

Labelled = tuple[tuple[str, ...], float]


class _Samples:
    """Family name to its values with their labels."""

    def __init__(self, made: Frame, rows: Mapping[Key, Row]) -> None:
        self.found: dict[str, list[Labelled]] = {}
        for number, (key, row) in enumerate(rows.items()):
            if number % ROWS == ROWS - 1:
                time.sleep(0.0001)
            for kind, count in zip(CLASSES, row.classes, strict=True):
                if count:
                    self._add("triage_requests_total", count, *key, kind)
            for fault, count in row.faults.items():
                self._add("triage_faults_total", count, *key, fault)
            for name, attribute in _COUNTED.items():
                self._add(name, getattr(row, attribute), *key)
        for app in made.apps:
            self._app(app, made.board, made.now)
        for number, instance in enumerate(made.instances):
            self._instance(instance, made.board, made.now)
            if number % ROWS == ROWS - 1:
                time.sleep(0.0001)
        for name, stats in made.stats:
            self._worker(name, stats)
        self._gateway(made)

    def _add(self, name: str, value: float, *labels: str) -> None:
        found = self.found.get(name)
        if found is None:
            self.found[name] = [(labels, value)]
        else:
            found.append((labels, value))

    def _known(self, name: str, value: float | None, *labels: str) -> None:
        if value is not None:
            self._add(name, value, *labels)

    def _app(self, app: App, board: Board | None, now: float) -> None:
        self._add("triage_instances_wanted", app.wanted, app.name)
        self._add("triage_instances_ready", app.ready, app.name)
        self._add("triage_instances_unhealthy", app.unhealthy, app.name)
        self._add("triage_app_exits_total", app.exits, app.name)
        if board is not None:
            oldest = board.oldest(app.row)
            self._add("triage_queue_waiting", board.waiting(app.row), app.name)
            self._add("triage_queue_oldest_seconds", max(0.0, now - oldest) if oldest else 0.0, app.name)

    def _instance(self, one: Instance, board: Board | None, now: float) -> None:
        names = (one.app, one.name)
        if board is not None:
            self._add("triage_inflight", board.total(one.row), *names)
        for lifecycle in Lifecycle:
            self._add("triage_instance_lifecycle", one.lifecycle is lifecycle, *names, lifecycle.value)
        for admission in Admission:
            self._add("triage_instance_admission", one.admission is admission, *names, admission.value)
        self._add("triage_instance_failing", one.failing, *names)
        self._add("triage_instance_restarts_total", one.restarts, *names)
        if one.started:
            self._add("triage_instance_uptime_seconds", max(0.0, now - one.started), *names)
        if one.usage is not None:
            for name, value in _used(one.usage):
                self._known(name, value, *names)
            lately = tuple(one.history) or (one.usage,)
            mean = sum(each.rss for each in lately) / len(lately)
            self._add("triage_instance_memory_average_bytes", mean, *names)
        self._known("triage_instance_output_dropped_bytes_total", one.dropped, *names)

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

    def _gateway(self, made: Frame) -> None:
        for name, use in made.processes.items():
            self._add("triage_process_cpu_seconds_total", use.cpu_seconds, name)
            self._add("triage_process_memory_bytes", use.memory, name)
        self._known("triage_control_lag_seconds", made.control_lag)
        if made.host is not None:
            self._known("triage_host_cpu_cores", made.host.cpu)
            self._known("triage_host_memory_available_bytes", made.host.memory_available)
            self._known("triage_host_load", made.host.load)
            self._known("triage_disk_free_bytes", made.host.disk_free)
        for severity, count in made.incidents.items():
            self._add("triage_incidents_open", count, severity)
        self._known("triage_notifiers_failing", made.notifiers_failing)
        self._known("triage_freezes_skipped_total", made.freezes_skipped)
        for name, value, labels in made.more:
            self._add(name, value, *labels)
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


_COUNTED: Final = {
    "triage_received_bytes_total": "bytes_in",
    "triage_sent_bytes_total": "bytes_out",
    "triage_connects_total": "connects",
    "triage_retries_total": "retries",
}


def _used(usage: Usage) -> tuple[tuple[str, float | None], ...]:
    return (
        ("triage_instance_cpu_cores", usage.cpu),
        ("triage_instance_cpu_seconds_total", usage.cpu_time),
        ("triage_instance_memory_bytes", usage.rss),
        ("triage_instance_memory_private_bytes", usage.private),
        ("triage_instance_threads", usage.threads),
        ("triage_instance_processes", usage.processes),
        ("triage_instance_descriptors", usage.descriptors),
        ("triage_instance_sockets", usage.connections),
        ("triage_instance_io_read_bytes_total", usage.read_total),
        ("triage_instance_io_written_bytes_total", usage.write_total),
    )


# --- text -------------------------------------------------------------------------------------------------


def render(made: Frame, openmetrics: bool = False) -> bytes:
    """Prometheus' text format, or OpenMetrics 1.0. 2 µs a line: run it off the loop."""
    rows: dict[Key, Row] = {}
    for number, key in enumerate(sorted(made.snapshot.rows)):
        rows[key] = add_up(made.snapshot.rows[key])
        if number % ROWS == ROWS - 1:
            time.sleep(0.0001)
    samples = _Samples(made, rows).found
    parts: list[bytes] = []
    lines: list[str] = []
    for family in FAMILIES:
        name = family.name.removesuffix("_total") if openmetrics and family.type == "counter" else family.name
        lines.append(f"# HELP {name} {_escaped(family.help)}\n# TYPE {name} {family.type}\n")
        for line in _TEXTS.get(family.type, _plain)(family, samples.get(family.name, ()), rows, made, openmetrics):
            lines.append(line)
            if len(lines) >= LINES:
                parts.append("".join(lines).encode())
                lines.clear()
                time.sleep(0.0001)
    if openmetrics:
        lines.append("# EOF\n")
    parts.append("".join(lines).encode())
    return b"".join(parts)


Text = Callable[[Family, Iterable[Labelled], Mapping[Key, Row], Frame, bool], Iterator[str]]


def _plain(
    family: Family, samples: Iterable[Labelled], rows: Mapping[Key, Row], made: Frame, openmetrics: bool
) -> Iterator[str]:
    name, names = family.name, family.labels
    for labels, value in samples:
        yield f"{name}{_labels(names, labels)} {_number(value)}\n"


def _summary(
    family: Family, samples: Iterable[Labelled], rows: Mapping[Key, Row], made: Frame, openmetrics: bool
) -> Iterator[str]:
    for key, row in rows.items():
        labels = _labels(family.labels, key)
        yield f"{family.name}_count{labels} {float(row.requests)}\n"
        yield f"{family.name}_sum{labels} {_number(row.own_sum)}\n"


def _histogram(
    family: Family, samples: Iterable[Labelled], rows: Mapping[Key, Row], made: Frame, openmetrics: bool
) -> Iterator[str]:
    waits = family.name == "triage_wait_seconds"
    for key, row in rows.items():
        counts, total = (row.wait, row.wait_sum) if waits else (row.total, row.total_sum)
        if not counts:
            continue
        labels = _labels(family.labels, key)
        start = f"{family.name}_bucket{labels[:-1]},le="
        examples = made.exemplars.get(key, {}) if openmetrics and not waits else {}
        cumulative = _cumulative(counts)
        for place, (bound, count) in enumerate(zip(_BOUND_TEXTS, cumulative, strict=True)):
            exemplar = _exemplar(examples[place]) if place in examples else ""
            yield f'{start}"{bound}"}} {_number(count)}{exemplar}\n'
        yield f"{family.name}_count{labels} {_number(cumulative[-1])}\n"
        yield f"{family.name}_sum{labels} {_number(total)}\n"


_TEXTS: Final[dict[str, Text]] = {"histogram": _histogram, "summary": _summary}
_BOUND_TEXTS: Final = (*map(str, BOUNDS), "+Inf")
_PLACES: Final = tuple(EDGES.index(bound) for bound in BOUNDS)


def _cumulative(counts: Mapping[int, int]) -> list[int]:
    """At each bound, and at last of all."""
    found = [0] * (len(_PLACES) + 1)
    seen, items = 0, sorted(counts.items())
    at, last = 0, len(items)
    for number, place in enumerate(_PLACES):
        while at < last and items[at][0] <= place:
            seen += items[at][1]
            at += 1
        found[number] = seen
    found[-1] = seen + sum(count for _, count in items[at:])
    return found


def _exemplar(found: Found) -> str:
    return f' # {{request_id="{found.id}"}} {_number(found.seconds)} {found.at:.3f}'


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Sorted by name, as prometheus_client has them."""
    if not names:
        return ""
    form = _FORMS.get(names)
    if form is None:
        parts = [f'{names[at]}="{{{at}}}"' for at in sorted(range(len(names)), key=names.__getitem__)]
        form = _FORMS[names] = f"{{{{{','.join(parts)}}}}}".format
    for value in values:
        if "\\" in value or '"' in value or "\n" in value:
            return form(*map(_escaped, values))
    return form(*values)


_FORMS: dict[tuple[str, ...], Callable[..., str]] = {}
_number: Final[Callable[[float], str]] = floatToGoString


def _escaped(text: str) -> str:
    if "\\" in text or '"' in text or "\n" in text:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return text
