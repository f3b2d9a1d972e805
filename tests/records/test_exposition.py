"""What Prometheus reads, read back by its own parser."""

from __future__ import annotations

import os

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.config import parse
from proxy.control.counters import Counters
from proxy.control.logs.capture import OutputCapture
from proxy.control.metrics.exposition import render
from proxy.control.metrics.families import FAMILIES
from proxy.control.metrics.frame import Kept, frame
from proxy.control.metrics.own import Host, Use
from proxy.control.state import AppState, InstanceState, Lifecycle, Usage, WorkerState
from proxy.link import board as boards
from proxy.link.histogram import bucket
from proxy.link.messages import Row, Stats

NOW = 1_770_000_000.0


@pytest.fixture
def board() -> boards.Board:
    fd = boards.create()
    made = boards.Board(fd, 2)
    os.close(fd)
    return made


def test_every_metric_and_its_values(board: boards.Board) -> None:
    config = parse('[apps.web]\naddresses = ["http://10.0.0.1:80"]\n', "config.toml")
    usage = Usage(
        1.0, cpu=0.5, rss=40_000_000, private=30_000_000, connections=8, cpu_time=12.5, read_total=100, write_total=200
    )
    one = InstanceState("web-1", "web", "process", 3, lifecycle=Lifecycle.READY, restarts=2, usage=usage)
    one.output = OutputCapture("web-1", None)
    one.pid, one.started = 4711, 40.0
    one.usage_history.extend([Usage(0.0, rss=20_000_000), usage])
    app = AppState("web", config.apps["web"], 1, wanted=2, instances={"web-1": one})
    board.inflight[3 * boards.COLUMNS] = 4
    board.inflight[3 * boards.COLUMNS + 1] = 1
    board.counts[boards.COLUMNS] = 7
    board.since[boards.COLUMNS] = 90.0
    counters = Counters()
    counts = {bucket(0.003): 8, bucket(0.3): 1, bucket(45.0): 1}
    row = Row(
        "web", "web-1", 10, [0, 9, 0, 0, 1, 0], {"app-error": 1}, 100, 2000, 3, 1, counts, 45.3, counts, 45.2, 0.01
    )
    stats = Stats(0, "a", 1.0, 200, 900, 5, 9, 3, 1, 1, 11, 12, "full", "lag", False, 40_000_000, [row], 5000)
    counters.apply(stats, NOW)
    worker = WorkerState(0, pid=1, stats=stats)
    store = Kept({"events": 3, "points": 0}, 17, True, 4096)
    made = frame(
        {"web": app}, [worker], counters, board, records=6, output_lost=5, started_at=NOW, now=100.0, store=store,
        exits={"web": 3},
    )
    made.processes = {"control": Use(1.0, 3.25, 90_000_000)}
    made.host = Host(1.5, 2_000_000_000, 0.75, 9_000_000_000)
    made.control_lag, made.incidents = 0.002, {"degraded": 1, "down": 0}
    made.notifiers_failing, made.freezes_skipped = 0, 4
    made.more = [
        ("triage_messages_lost_total", 2, ("ops",)), ("triage_exceptions_total", 41, ("web",)),
        ("triage_log_unseen_lines_total", 7, ()), ("triage_log_files_skipped_bytes_total", 8, ()),
        ("triage_traces_exported_total", 9, ()), ("triage_traces_dropped_total", 1, ()),
        ("triage_self_checks_total", 3, ("1",)), ("triage_stories_dropped_total", 2, ("1",)),
        ("triage_agents_dropped_total", 1, ()), ("triage_agents_refused_total", 6, ()),
    ]  # fmt: skip
    text = render(made)
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    for metric in FAMILIES:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.type and family.documentation, metric
        assert family.samples, metric.name
        labels = set(family.samples[0].labels) - {"le"}
        assert labels == set(metric.labels), metric.name

    def value(name: str, **labels: str) -> float:
        found = [
            s.value
            for f in families.values()
            for s in f.samples
            if s.name == name and s.labels.items() >= labels.items()
        ]
        assert len(found) == 1, (name, labels, found)
        return float(found[0])

    web = {"app": "web", "instance": "web-1"}
    assert value("triage_requests_total", **web, **{"class": "2xx"}) == 9
    assert value("triage_faults_total", **web, fault="app-error") == 1
    assert value("triage_request_duration_seconds_bucket", **web, le="0.005") == 8
    assert value("triage_request_duration_seconds_bucket", **web, le="0.5") == 9
    assert value("triage_request_duration_seconds_bucket", **web, le="30.0") == 9
    assert value("triage_request_duration_seconds_bucket", **web, le="60.0") == 10
    assert value("triage_request_duration_seconds_sum", **web) == 45.3
    assert value("triage_wait_seconds_count", **web) == 10
    assert value("triage_own_seconds_sum", **web) == 0.01
    assert value("triage_inflight", **web) == 5
    assert value("triage_queue_waiting", app="web") == 7
    assert value("triage_queue_oldest_seconds", app="web") == 10
    assert value("triage_instance_lifecycle", **web, lifecycle="ready") == 1
    assert value("triage_instance_lifecycle", **web, lifecycle="failed") == 0
    assert value("triage_instance_admission", **web, admission="admitting") == 1
    assert value("triage_instance_restarts_total", **web) == 2
    assert value("triage_instance_cpu_cores", **web) == 0.5
    assert value("triage_instance_uptime_seconds", **web) == 60
    assert value("triage_instance_memory_average_bytes", **web) == 30_000_000
    assert value("triage_instance_memory_private_bytes", **web) == 30_000_000
    assert value("triage_instance_cpu_seconds_total", **web) == 12.5
    assert value("triage_instance_sockets", **web) == 8
    assert value("triage_instance_io_written_bytes_total", **web) == 200
    assert value("triage_app_exits_total", app="web") == 3
    assert value("triage_exceptions_total", app="web") == 41
    assert value("triage_messages_lost_total", notifier="ops") == 2
    assert value("triage_instances_ready", app="web") == 1 and value("triage_instances_unhealthy", app="web") == 0
    assert value("triage_process_cpu_seconds_total", process="control") == 3.25
    assert value("triage_incidents_open", severity="degraded") == 1
    assert value("triage_disk_free_bytes") == 9e9 and value("triage_freezes_skipped_total") == 4
    assert value("triage_loop_lag_max_seconds", worker="1") == 0.0009
    assert value("triage_loop_lag_peak_seconds", worker="1") == 0.005
    assert value("triage_shedding", worker="1") == 1
    assert value("triage_records_dropped_total", worker="1") == 11
    assert value("triage_log_lost_total", worker="1") == 12
    assert value("triage_store_dropped_total", table="events") == 3
    assert value("triage_store_failing") == 1 and value("triage_store_bytes") == 4096
