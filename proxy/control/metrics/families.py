"""What Prometheus sees: the metrics of table.py by the names and labels that they have there, and some more.

Names are relied on from outside: one is added, never renamed. Units and meanings are the table's where it has them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.control.metrics.table import BY_ID


class Family(NamedTuple):
    """One of Prometheus' metrics."""

    name: str
    type: str  # counter, gauge, histogram, summary
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def help(self) -> str:
        return f"{self.meaning} Unit: {self.unit}." if self.unit else self.meaning


def _of(id: str, labels: tuple[str, ...], type: str = "", meaning: str = "") -> Family:
    """A row of the table."""
    metric = BY_ID[id]
    return Family(metric.prometheus, type or metric.kind, metric.unit, meaning or metric.meaning, labels)


_INSTANCE: Final = ("app", "instance")
_APP: Final = ("app",)
_WORKER: Final = ("worker",)
_PROCESS: Final = ("process",)

FAMILIES: Final[tuple[Family, ...]] = (
    _of(
        "requests", ("app", "instance", "class"),
        meaning="Requests answered, by class of status; none: no answer could be sent.",
    ),
    _of(
        "faults", ("app", "instance", "fault"),
        meaning="Requests and attempts that ended in a fault, by its name in docs/faults.md.",
    ),
    _of("response_time", _INSTANCE),
    _of("wait_time", _INSTANCE),
    _of("own_time", _INSTANCE, "summary"),
    _of("bytes_in", _INSTANCE),
    _of("bytes_out", _INSTANCE),
    _of("connects", _INSTANCE),
    _of("retries", _INSTANCE),
    _of("in_flight", _INSTANCE, meaning="Requests on the instance now."),
    _of("queue", _APP, meaning="Requests that wait for a slot now."),
    _of("queue_oldest", _APP),
    _of("wanted", _APP),
    _of("ready", _APP),
    _of("unhealthy", _APP),
    _of("exits", _APP),
    Family(
        "triage_instance_lifecycle", "gauge", "",
        "1 for the state of its lifecycle that the instance is in, 0 for the others.", ("app", "instance", "lifecycle"),
    ),
    Family(
        "triage_instance_admission", "gauge", "", "1 for its admission, 0 for the others.",
        ("app", "instance", "admission"),
    ),
    Family("triage_instance_failing", "gauge", "", "1 if it would be ejected but for the cap.", _INSTANCE),
    _of("restarts", _INSTANCE, meaning="Starts after the first of its place in the pool."),
    _of("uptime", _INSTANCE),
    _of("cpu", _INSTANCE, meaning="Cores in use by its processes, over the last second."),
    _of("cpu_time", _INSTANCE),
    _of("memory", _INSTANCE),
    _of("memory_average", _INSTANCE, meaning="The same, its mean over the last minute."),
    _of("memory_private", _INSTANCE),
    _of("threads", _INSTANCE),
    _of("processes", _INSTANCE),
    _of("descriptors", _INSTANCE),
    _of("connections", _INSTANCE),
    _of("io_read", _INSTANCE),
    _of("io_write", _INSTANCE),
    Family(
        "triage_instance_output_dropped_bytes_total", "counter", "bytes",
        "Output that came too fast or in overlong lines, and was dropped.", _INSTANCE,
    ),
    Family("triage_loop_lag_seconds", "gauge", "seconds", "How late the worker's event loop is now.", _WORKER),
    _of("loop_lag", _WORKER, meaning="The largest lag in the last half second."),
    Family(
        "triage_loop_lag_peak_seconds", "gauge", "seconds", "The largest lag since the worker's start.", _WORKER,
    ),
    _of("client_connections", _WORKER, meaning="Client connections."),
    _of("accepted", _WORKER, meaning="Client connections accepted by this worker since it began."),
    Family(
        "triage_instance_connections", "gauge", "connections", "Connections to instances, idle ones too.", _WORKER,
    ),
    _of("tunnels", _WORKER),
    Family("triage_worker_memory_bytes", "gauge", "bytes", "Memory of the worker (resident).", _WORKER),
    _of("records_dropped", _WORKER),
    _of("log_lost", _WORKER),
    Family(
        "triage_shedding", "gauge", "", "1 while the worker turns connections away for its own sake.", _WORKER,
    ),
    Family(
        "triage_process_cpu_seconds_total", "counter", "seconds",
        "CPU time of a process of Triage: control, launcher, worker1 …", _PROCESS,
    ),
    _of("gateway_memory", _PROCESS, meaning="Memory of a process of Triage (resident)."),
    _of("control_lag", (), meaning="How late control's event loop is now."),
    _of("host_cpu", ()),
    _of("host_memory_available", ()),
    _of("host_load", ()),
    _of("disk_free", ()),
    Family("triage_incidents_open", "gauge", "incidents", "Incidents that are open, by severity.", ("severity",)),
    Family("triage_notifiers_failing", "gauge", "notifiers", "Notifiers whose last message could not be delivered."),
    Family(
        "triage_messages_lost_total", "counter", "messages",
        "Messages about incidents that were given up, by notifier.", ("notifier",),
    ),
    Family(
        "triage_exceptions_total", "counter", "exceptions",
        "Tracebacks and panics found in what instances print.", _APP,
    ),
    Family(
        "triage_log_unseen_lines_total", "counter", "lines",
        "Lines that came too fast to be searched for exceptions.",
    ),
    Family(
        "triage_log_files_skipped_bytes_total", "counter", "bytes",
        "Bytes of the apps' own log files that came too fast and were skipped.",
    ),
    Family("triage_traces_exported_total", "counter", "requests", "Requests exported as spans."),
    Family(
        "triage_traces_dropped_total", "counter", "requests",
        "Requests that should have been exported as spans and were not, in workers and in control.",
    ),
    Family("triage_self_checks_total", "counter", "requests", "Self-checks that a worker answered.", _WORKER),
    Family(
        "triage_stories_dropped_total", "counter", "requests",
        "Requests whose whole story was wanted and not kept: there were too many in a second.", _WORKER,
    ),
    Family(
        "triage_agents_dropped_total", "counter", "messages",
        "Messages of agents over a limit: what they counted is not known.",
    ),
    Family(
        "triage_agents_refused_total", "counter", "messages",
        "Messages to the agents' socket that came from no instance, or made no sense.",
    ),
    Family(
        "triage_freezes_skipped_total", "counter", "freezes",
        "Ends of instances whose last 15 minutes were not frozen: too soon after another of the app.",
    ),
    Family("triage_records_kept", "gauge", "records", "Records of requests in control's memory."),
    _of("output_lost", ()),
    _of("store_dropped", ("table",), meaning="Entries of the past that could not be kept, by table."),
    Family("triage_store_waiting", "gauge", "entries", "Entries on their way to the store's file."),
    Family("triage_store_failing", "gauge", "", "1 while the store cannot be written."),
    Family("triage_store_bytes", "gauge", "bytes", "The store's file on the disk."),
    Family(
        "triage_control_start_time_seconds", "gauge", "seconds",
        "Unix time at which control began: its sums began then too.",
    ),
    Family("triage_build_info", "gauge", "", "1; the labels say which Triage this is.", ("version",)),
)  # fmt: skip
