"""/metrics read back by prometheus_client's own parsers, in both formats."""

from __future__ import annotations

import os
import random
import re
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from proxy.config import parse
from proxy.control.counters import Counters
from proxy.control.metrics.exemplars import APPS, BOUNDS, Exemplars
from proxy.control.metrics.exposition import render
from proxy.control.metrics.frame import Frame, frame
from proxy.control.state import AppState, InstanceState, Lifecycle, Usage, WorkerState
from proxy.link import board as boards
from proxy.link.histogram import bucket
from proxy.link.messages import Record, Row, Stats

ODD = 'we"b\\1\n'


def built(instances: int, workers: int = 1) -> Frame:
    config = parse('[apps.web]\naddresses = ["http://10.0.0.1:80"]\n', "config.toml")
    fd = boards.create()
    board = boards.Board(fd, workers)
    os.close(fd)
    rng = random.Random(2)
    app = AppState("web", config.apps["web"], 1, wanted=instances)
    for number in range(instances):
        name = f"web-{number}" if number else ODD
        state = InstanceState(name, "web", "process", number, lifecycle=Lifecycle.READY, pid=9, started=1.0)
        state.usage = Usage(1.0, 0.25, rss=40_000_000, private=3, read_total=4, write_total=5, connections=3)
        app.instances[name] = state
    counters, states = Counters(), []
    for worker in range(workers):
        rows = []
        for name in app.instances:
            times = {bucket(rng.lognormvariate(-4, 1)): rng.randrange(1, 1000) for _ in range(40)}
            count = sum(times.values())
            rows.append(
                Row("web", name, count, [0, count, 0, 0, 1, 0], {"app-error": 1, "head-timeout": 3}, 10**9, 20, 3, 1,
                    times, 45.3, dict(times), 1e-07, 1234567.5)
            )  # fmt: skip
        stats = Stats(worker, "a", 1.0, 2, 9, 5, 9, 3, 1, 1, 11, 12, "", "", False, 40_000_000, rows)
        counters.apply(stats, time.time())
        states.append(WorkerState(worker, pid=1, stats=stats))
    return frame({"web": app}, states, counters, board, now=1000.0)


class Again:
    def __init__(self, families: Any) -> None:
        self.families = list(families)

    def collect(self) -> Any:
        return self.families


def written_by_prometheus(families: Any, generate: Any) -> list[str]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Again(families))
    return sorted(generate(registry).decode().splitlines())


def test_what_is_written_is_what_prometheus_client_writes() -> None:
    """Parsed by it and written by it again, every line is the same, odd names and large numbers included."""
    text = render(built(3)).decode()
    assert sorted(text.splitlines()) == written_by_prometheus(plain(text), generate_latest)
    assert r'instance="we\"b\\1\n"' in text


def test_openmetrics_with_exemplars() -> None:
    made = built(3)
    exemplars = Exemplars()
    for number, (seconds, at) in enumerate([(0.3, 50.0), (0.3, 60.0), (0.3, 55.0), (0.01, 50.0), (500.0, 51.0)]):
        exemplars.add(Record(f"id{number}", at, 0, app="web", instance="web-1", total_us=int(seconds * 1e6)))
    exemplars.add(Record("other", 99.0, 0, app="web", instance="web-2", total_us=300_000_000))
    made.exemplars = exemplars.snapshot()
    text = render(made, openmetrics=True).decode()
    families = {family.name: family for family in openmetrics(text)}
    again = [re.sub(r"0{6}$", "", line) for line in written_by_prometheus(families.values(), generate_openmetrics)]
    assert sorted(text.splitlines()) == again, "but for zeros at the end of an exemplar's time"
    samples = families["triage_request_duration_seconds"].samples
    found = {
        (sample.labels["instance"], sample.labels["le"]): sample.exemplar for sample in samples if sample.exemplar
    }
    assert {key: one.labels["request_id"] for key, one in found.items()} == {
        ("web-1", "0.5"): "id1", ("web-1", "0.01"): "id3", ("web-2", "+Inf"): "other",
    }  # fmt: skip
    assert found["web-1", "0.5"].value == 0.3 and float(found["web-1", "0.5"].timestamp) == 60.0
    assert not any(sample.exemplar for sample in families["triage_wait_seconds"].samples)
    assert " # {" not in render(made).decode(), "the older format has none"
    assert families["triage_requests"].type == "counter" and text.endswith("# EOF\n")


def test_exemplars_are_bounded() -> None:
    exemplars = Exemplars()
    for number in range(APPS + 50):
        for seconds in (0.001, 0.2, 3.0, 99.0, 400.0):
            exemplars.add(Record("x", 1.0, 0, app=f"a{number}", total_us=int(seconds * 1e6)))
    found = exemplars.snapshot()
    assert len(found) == APPS and ("a0", "") not in found and all(len(one) <= len(BOUNDS) + 1 for one in found.values())


@pytest.mark.slow
def test_a_scrape_of_100_instances_costs_less_than_50_ms() -> None:
    """Measured: 20 ms of CPU for 8,000 lines over four workers, where generate_latest took 90."""
    made = built(100, workers=4)
    took = []
    for _ in range(7):
        began = time.thread_time()
        text = render(made)
        took.append(time.thread_time() - began)
    assert text.count(b"\n") > 7000
    assert min(took) < 0.05, took
