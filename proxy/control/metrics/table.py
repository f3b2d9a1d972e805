"""The table of metrics: everything that can be asked for over time, with unit and meaning, and where it is read.

The API's list, the query, the names that Prometheus and OpenTelemetry know, and docs/metrics.md are made from it. What
only Prometheus sees (states, the store's own health) is added in families.py.

`field` names what is read: a field of store.Point, and of a ring's second where it has it. "own.lag" is a field of
Point.own. Ids are a contract: one is added, never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]
STATS: Final[dict[str, tuple[str, ...]]] = {
    "counter": ("rate", "sum"),
    "gauge": ("mean", "max", "last"),
    "histogram": ("p50", "p90", "p99", "p999", "mean", "max", "count", "heatmap"),
}
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "none")


@dataclass(frozen=True, slots=True)
class Metric:
    id: str
    kind: Kind
    unit: str
    meaning: str
    of: tuple[str, ...]
    field: str
    prometheus: str = ""  # its name there; "": it has none
    otel: str = ""  # OpenTelemetry's name, or one that follows its rules
    mean: str = ""  # field of a point with the mean over its interval; "": the value at its end stands for it
    peak: str = ""  # field of a point with the largest
    sum: str = ""  # of a histogram: field with the sum of the values
    index: int = -1  # into a field that is a list
    scale: float = 1.0  # value in `unit` of one in `field`
    name: str = ""  # whose points: "control", "host" …; "": the instance that was asked for
    only: tuple[str, ...] = ()  # stats, where not all of its kind have a meaning
    default: str = ""

    @property
    def stats(self) -> tuple[str, ...]:
        return self.only or STATS[self.kind]

    @property
    def default_stat(self) -> str:
        return self.default or {"counter": "rate", "gauge": "mean", "histogram": "p99"}[self.kind]

    @property
    def of_apps(self) -> bool:
        return "app" in self.of or "instance" in self.of


_BOTH: Final = ("app", "instance")
_WORKER: Final = ("gateway", "worker")

METRICS: Final[tuple[Metric, ...]] = (
    # --- requests
    Metric(
        "requests", "counter", "requests", "Requests that ended.", _BOTH, "requests",
        "triage_requests_total", "triage.requests",
    ),
    Metric(
        "faults", "counter", "requests",
        "Requests and attempts that ended in a fault; with `fault` those of one name of docs/faults.md.", _BOTH,
        "faults", "triage_faults_total", "triage.faults",
    ),
    *(
        Metric(
            f"status_{name}", "counter", "requests",
            f"Answers with a status {name}." if name != "none" else "Requests to which no answer could be sent.",
            _BOTH, "classes", "triage_requests_total", "triage.responses", index=index,
        )
        for index, name in enumerate(CLASSES)
    ),
    Metric(
        "response_time", "histogram", "seconds",
        "Whole requests, from the first byte of the head to the last of the response.", _BOTH, "total",
        "triage_request_duration_seconds", "http.server.request.duration", sum="total_sum",
    ),
    Metric(
        "wait_time", "histogram", "seconds",
        "From the last byte of a request to the whole response head: the instance's own time.", _BOTH, "wait",
        "triage_wait_seconds", "http.client.request.duration", sum="wait_sum",
    ),
    Metric(
        "own_time", "histogram", "seconds",
        "The gateway's own share of a request: its time less all waiting.", _BOTH, "requests",
        "triage_own_seconds", "triage.own.duration", sum="own_sum", only=("mean", "count"), default="mean",
    ),
    Metric(
        "in_flight", "gauge", "requests", "Requests that are with instances.", _BOTH, "inflight",
        "triage_inflight", "http.server.active_requests", mean="inflight_mean", peak="inflight",
    ),
    Metric(
        "queue", "gauge", "requests", "Requests that wait for a slot.", ("app",), "queue",
        "triage_queue_waiting", "triage.queue.length", mean="queue_mean", peak="queue",
    ),
    Metric(
        "queue_oldest", "gauge", "seconds", "How long the oldest of them has waited.", ("app",), "queue_oldest",
        "triage_queue_oldest_seconds", "triage.queue.oldest", default="max",
    ),
    Metric(
        "bytes_in", "counter", "bytes", "Received from clients.", _BOTH, "bytes_in",
        "triage_received_bytes_total", "triage.received",
    ),
    Metric(
        "bytes_out", "counter", "bytes", "Sent to clients.", _BOTH, "bytes_out",
        "triage_sent_bytes_total", "triage.sent",
    ),
    Metric(
        "connects", "counter", "connections", "New connections to instances.", _BOTH, "connects",
        "triage_connects_total", "triage.connects",
    ),
    Metric(
        "retries", "counter", "attempts", "Attempts after the first.", _BOTH, "retries",
        "triage_retries_total", "triage.retries",
    ),
    # --- processes of instances, whole trees
    Metric(
        "connections", "gauge", "connections",
        "Sockets that its processes have, listening ones too; looked at each 10 s.", _BOTH, "connections",
        "triage_instance_sockets", "triage.instance.sockets",
    ),
    Metric(
        "cpu", "gauge", "cores", "Cores in use by its processes.", _BOTH, "cpu",
        "triage_instance_cpu_cores", "process.cpu.utilization",
    ),
    Metric(
        "cpu_time", "counter", "seconds",
        "CPU time of its processes, also of those that ended and were waited for.", _BOTH, "cpu_ms",
        "triage_instance_cpu_seconds_total", "process.cpu.time", scale=0.001, default="sum",
    ),
    Metric(
        "memory", "gauge", "bytes", "Memory of its processes (resident; where a cgroup counts, what it counts).",
        _BOTH, "memory", "triage_instance_memory_bytes", "process.memory.usage", mean="memory_mean",
        peak="memory_max", default="last",
    ),
    Metric(
        "memory_average", "gauge", "bytes", "The same, its mean.", _BOTH, "memory_mean",
        "triage_instance_memory_average_bytes", "process.memory.usage", only=("mean",),
    ),
    Metric(
        "memory_private", "gauge", "bytes",
        "Memory that its processes share with nobody (anonymous, in RAM and swapped out); looked at each 5 s.",
        _BOTH, "private", "triage_instance_memory_private_bytes", "triage.instance.memory.private", default="last",
    ),
    Metric(
        "threads", "gauge", "threads", "Threads of its processes.", _BOTH, "threads",
        "triage_instance_threads", "process.thread.count", default="last",
    ),
    Metric(
        "processes", "gauge", "processes", "Processes of its tree.", _BOTH, "processes",
        "triage_instance_processes", "triage.instance.processes", default="last",
    ),
    Metric(
        "descriptors", "gauge", "descriptors", "Open file descriptors of its processes.", _BOTH, "descriptors",
        "triage_instance_descriptors", "process.unix.file_descriptor.count", default="last",
    ),
    Metric(
        "io_read", "counter", "bytes",
        "Read from disks by its processes; not known where the kernel does not let it be seen. Looked at each 5 s.",
        _BOTH, "io_read", "triage_instance_io_read_bytes_total", "process.disk.io",
    ),
    Metric(
        "io_write", "counter", "bytes", "Written to disks by its processes; likewise.", _BOTH, "io_write",
        "triage_instance_io_written_bytes_total", "process.disk.io",
    ),
    # --- lives of instances
    Metric(
        "exits", "counter", "exits", "Ends of instances that nobody had asked for.", ("app",), "exits",
        "triage_app_exits_total", "triage.instance.exits", default="sum",
    ),
    Metric(
        "restarts", "counter", "starts", "Starts of an instance in the place of one before.", _BOTH, "restarts",
        "triage_instance_restarts_total", "triage.instance.restarts", default="sum",
    ),
    Metric(
        "uptime", "gauge", "seconds", "Since its process was started.", ("instance",), "uptime",
        "triage_instance_uptime_seconds", "process.uptime", default="last",
    ),
    Metric(
        "ready", "gauge", "instances", "Instances that are ready.", ("app",), "ready",
        "triage_instances_ready", "triage.instances.ready", default="last",
    ),
    Metric(
        "wanted", "gauge", "instances", "Instances that should be there.", ("app",), "instances",
        "triage_instances_wanted", "triage.instances.wanted", default="last",
    ),
    Metric(
        "unhealthy", "gauge", "instances", "Instances that are not ready, not admitted, or fail their checks.",
        ("app",), "unhealthy", "triage_instances_unhealthy", "triage.instances.unhealthy", default="max",
    ),
    # --- Triage itself
    Metric(
        "loop_lag", "gauge", "seconds", "How late a worker's event loop was, the largest of each interval.", _WORKER,
        "own.lag", "triage_loop_lag_max_seconds", "triage.worker.lag", peak="own.lag", default="max",
    ),
    Metric(
        "control_lag", "gauge", "seconds", "How late control's event loop was, the largest of each interval.",
        ("gateway",), "own.lag", "triage_control_lag_seconds", "triage.control.lag", peak="own.lag", name="control",
        default="max",
    ),
    Metric(
        "gateway_cpu", "gauge", "cores",
        "Cores in use by Triage: all its processes together, or one of launcher, control, worker1 and so on.",
        ("gateway", "worker", "control", "launcher"), "cpu", "triage_process_cpu_seconds_total",
        "process.cpu.utilization", name="*",
    ),
    Metric(
        "gateway_memory", "gauge", "bytes", "Memory of Triage's processes (resident); likewise.",
        ("gateway", "worker", "control", "launcher"), "memory", "triage_process_memory_bytes",
        "process.memory.usage", peak="memory_max", name="*", default="last",
    ),
    Metric(
        "client_connections", "gauge", "connections", "Connections of clients.", _WORKER, "own.clients",
        "triage_connections", "http.server.open_connections", default="last",
    ),
    Metric(
        "accepted", "counter", "connections", "Connections of clients that were accepted.", _WORKER, "own.accepted",
        "triage_accepted_total", "triage.accepted",
    ),
    Metric(
        "tunnels", "gauge", "connections", "Upgraded connections (WebSocket).", _WORKER, "own.tunnels",
        "triage_tunnels", "triage.tunnels", default="last",
    ),
    Metric(
        "records_dropped", "counter", "records", "Records of requests that were counted but not sent to control.",
        _WORKER, "own.records_dropped", "triage_records_dropped_total", "triage.records.dropped", default="sum",
    ),
    Metric(
        "log_lost", "counter", "lines", "Lines of the access log that could not be written.", _WORKER,
        "own.log_lost", "triage_log_lost_total", "triage.log.lost", default="sum",
    ),
    Metric(
        "output_lost", "counter", "bytes", "Output of instances that could not be written to its file.",
        ("gateway",), "own.output_lost", "triage_output_lost_bytes_total", "triage.output.lost", name="*",
        default="sum",
    ),
    Metric(
        "store_dropped", "counter", "entries", "Entries of the past that could not be kept.", ("gateway",),
        "own.store_dropped", "triage_store_dropped_total", "triage.store.dropped", name="*", default="sum",
    ),
    # --- the host
    Metric(
        "host_cpu", "gauge", "cores", "Cores in use on the host, by whoever it is.", ("host",), "cpu",
        "triage_host_cpu_cores", "system.cpu.utilization", name="host",
    ),
    Metric(
        "host_memory_available", "gauge", "bytes", "Memory that the host could still give.", ("host",),
        "own.memory_available", "triage_host_memory_available_bytes", "system.linux.memory.available", name="host",
        default="last",
    ),
    Metric(
        "host_load", "gauge", "processes", "Load of the host, its mean over a minute.", ("host",), "own.load",
        "triage_host_load", "system.cpu.load_average.1m", name="host",
    ),
    Metric(
        "disk_free", "gauge", "bytes", "What Triage may still write to the disk of data_dir.", ("host",),
        "own.disk_free", "triage_disk_free_bytes", "system.filesystem.usage", name="host", default="last",
    ),
)  # fmt: skip
BY_ID: Final = {metric.id: metric for metric in METRICS}
