"""The table against what is recorded and what Prometheus sees; points of it rolled up."""

from __future__ import annotations

import random

import msgspec
import pytest

from proxy.control.metrics.families import FAMILIES
from proxy.control.metrics.ring import FIELDS
from proxy.control.metrics.rings import OF_APP, OF_INSTANCE, OF_OWN
from proxy.control.metrics.table import BY_ID, METRICS, STATS
from proxy.control.store import points
from proxy.control.store.points import Own, Point

IDS = """requests faults status_1xx status_2xx status_3xx status_4xx status_5xx status_none response_time wait_time
own_time in_flight queue queue_oldest bytes_in bytes_out connects retries connections cpu cpu_time memory memory_average
memory_private threads processes descriptors io_read io_write exits restarts uptime ready wanted unhealthy loop_lag
control_lag gateway_cpu gateway_memory client_connections accepted tunnels records_dropped log_lost output_lost
store_dropped host_cpu host_memory_available host_load disk_free"""


def test_ids_are_relied_on() -> None:
    assert sorted(IDS.split()) == sorted(BY_ID)
    assert len(BY_ID) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.id)
def test_each_is_recorded_shown_and_explained(metric) -> None:
    fields = {*Point.__struct_fields__, *(f"own.{name}" for name in Own.__struct_fields__)}
    for name in (metric.field, metric.mean, metric.peak, metric.sum):
        assert not name or name in fields
    assert metric.meaning.endswith(".") and metric.unit and metric.otel
    assert metric.default_stat in metric.stats and set(metric.stats) <= set(STATS[metric.kind])
    assert metric.prometheus in {family.name for family in FAMILIES}


def test_columns_of_rings_are_fields_of_points() -> None:
    fields = {*Point.__struct_fields__, *(f"own.{name}" for name in Own.__struct_fields__)}
    assert {*OF_INSTANCE, *OF_APP, *OF_OWN} <= fields and fields >= FIELDS
    counters = {metric.field for metric in METRICS if metric.kind == "counter"}
    assert counters - {*FIELDS, *OF_APP, *OF_OWN} == {"restarts"}, "all others are known each second"


def made(rng: random.Random) -> Point:
    point = Point(seconds=float(rng.randrange(1, 20)))
    point.memory = rng.randrange(1000)
    point.memory_mean, point.memory_max = rng.randrange(1000), point.memory + rng.randrange(100)
    point.private, point.connections = rng.choice([None, 7]), rng.choice([None, 3])
    point.io_read, point.io_write = rng.choice([None, rng.randrange(50)]), rng.choice([None, 9])
    point.cpu_ms, point.restarts, point.exits = rng.randrange(100), rng.randrange(2), rng.randrange(2)
    point.inflight_mean, point.queue_mean = rng.random() * 9, None
    point.uptime, point.queue_oldest = rng.randrange(100), rng.random()
    point.own = rng.choice(
        [None, Own(rng.random(), 5, 1, rng.randrange(9), 0, None, 2, 3, rng.randrange(99), rng.random(), 77)]
    )
    return point


def test_rolled_up_counts_add_means_weigh_and_peaks_stay() -> None:
    rng = random.Random(5)
    for _ in range(200):
        some = [made(rng) for _ in range(rng.randrange(2, 9))]
        roll = points.Roll()
        for one in some:
            roll.step(points.encode(one))
        whole = points.decode(roll.finalize())
        assert whole is not None
        seconds = sum(one.seconds for one in some)
        assert whole.seconds == seconds
        assert whole.cpu_ms == sum(one.cpu_ms or 0 for one in some) and whole.restarts == sum(o.restarts for o in some)
        reads = [one.io_read for one in some if one.io_read is not None]
        assert whole.io_read == (sum(reads) if reads else None), "not known is not 0"
        mean = sum((one.inflight_mean or 0) * one.seconds for one in some) / seconds
        assert whole.inflight_mean == pytest.approx(mean, abs=0.002)
        mean = sum((one.memory_mean or 0) * one.seconds for one in some) / seconds
        assert whole.memory_mean == pytest.approx(mean, abs=0.01)
        assert whole.memory_max == max(one.memory_max or 0 for one in some) and whole.memory == some[-1].memory
        assert whole.queue_oldest == max(one.queue_oldest for one in some) and whole.queue_mean is None
        owns = [one.own for one in some if one.own is not None]
        if owns:
            assert whole.own.lag == max(own.lag for own in owns)
            assert whole.own.accepted == sum(own.accepted for own in owns)
            assert whole.own.memory_available == min(own.memory_available for own in owns)
            assert whole.own.log_lost is None and whole.own.disk_free == 77
        else:
            assert whole.own is None


def test_points_of_before_are_read_for_ever() -> None:
    """A stored array that ends where the first release's did."""
    old = msgspec.msgpack.decode(msgspec.msgpack.encode(Point(seconds=10.0, requests=7, files="f", config="c")))
    end = Point.__struct_fields__.index("config") + 1
    found = points.decode(msgspec.msgpack.encode(old[:end]))
    assert found is not None and (found.requests, found.config) == (7, "c")
    assert found.private is None and found.cpu_ms is None and found.own is None and found.restarts == 0
