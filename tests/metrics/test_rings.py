"""The last 15 minutes, second by second: what is in them, what is not, and what they take."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from proxy.control.counters import ALL
from proxy.control.metrics.ring import BLOCK, KEEP, Part, Ring, decode, encode, pack, unpack
from proxy.control.metrics.rings import EXIT_EVERY, FREEZING
from proxy.control.state import Events
from proxy.control.store import Store, frozen
from proxy.control.store.retention import Limits
from proxy.link import board as boards
from proxy.link.histogram import merge, quantile


def counted(world: Any, instance: str) -> list[tuple[int, Any]]:
    """(second, counts) where something was counted."""
    held = world.rings.held(("web", instance))
    return [
        (part.start + index, decode(data)) for part in held.parts() for index, data in enumerate(part.counts) if data
    ]


def column(world: Any, key: tuple[str, str], name: str) -> list[float]:
    held = world.rings.held(key)
    return [value for part in held.parts() for value in part.columns[name]]


def test_what_was_counted_is_in_its_second_of_instance_and_app(world: Any) -> None:
    world.second()
    world.count("web-1", [0.01] * 3)
    world.count("", [0.5], "no-instance")
    world.second()
    world.second()
    world.count("web-1", [0.02] * 2, "app-error")
    world.count("web-2", [0.03])
    world.second()
    began = int(world.at)
    assert [(second - began, one.requests) for second, one in counted(world, "web-1")] == [(-2, 3), (0, 2)]
    assert [(second - began, one.requests) for second, one in counted(world, ALL)] == [(-2, 4), (0, 3)]
    last = counted(world, ALL)[-1][1]
    assert last.faults == {"app-error": 2} and last.classes == [0, 3, 0, 0, 0, 0] and last.bytes_out == 60
    assert last.total_sum == pytest.approx(0.07)
    assert column(world, ("web", ALL), "counted") == pytest.approx([1.0] * 4)


def test_all_of_15_minutes_is_there_and_percentiles_are_of_it(world: Any) -> None:
    times = world.busy(KEEP)
    merged: dict[int, int] = {}
    for _, one in counted(world, ALL):
        merge(merged, one.total)
    assert sum(merged.values()) == len(times)
    assert quantile(merged, 0.99) == pytest.approx(sorted(times)[int(0.99 * len(times))], rel=0.1)
    assert len(column(world, ("web", "web-1"), "memory")) == KEEP
    world.busy(BLOCK)
    for _ in world.rings._tidy(int(world.at)):
        pass
    assert KEEP <= len(column(world, ("web", "web-1"), "memory")) < KEEP + BLOCK


def test_a_busy_instance_takes_less_than_64_kb_and_a_quiet_one_less_than_16(world: Any) -> None:
    """Measured: 48 KB with ten different response times a second and memory that moves each second, 9 KB quiet."""
    world.busy(KEEP)
    sizes = {key: ring.size() for key, ring in world.rings._rings.items()}
    assert sizes["web", "web-1"] < 64_000, sizes
    for instance in world.app.instances.values():
        instance.usage = None
    for _ in range(KEEP + BLOCK):
        world.second()
    for _ in world.rings._tidy(int(world.at)):
        pass
    assert world.rings._rings["web", "web-1"].size() < 16_000
    assert world.rings.size() == pytest.approx(sum(ring.size() for ring in world.rings._rings.values()))


def test_rows_that_did_not_change_are_not_added_up_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy.control.metrics import rings

    world.count("web-1", [0.01])
    world.count("web-2", [0.01])
    world.second()
    added: list[str] = []
    real = rings.add_up
    monkeypatch.setattr(rings, "add_up", lambda rows: added.append(rows[0].instance) or real(rows))
    world.second()
    assert added == []
    world.count("web-2", [0.01])
    world.second()
    assert added == ["web-2"]


def test_what_a_former_control_counted_is_in_no_second(world: Any) -> None:
    world = type(world)(fresh=False)
    world.settled = False
    world.count("web-1", [0.01] * 5000)
    world.second()
    assert world.rings.anew
    world.settled = True
    world.second()
    world.count("web-1", [0.01] * 3)
    world.second()
    assert [one.requests for _, one in counted(world, "web-1")] == [3]
    known = [value == value for value in column(world, ("web", "web-1"), "counted")]
    assert known == [False, False, True], "before that nothing is known, which is not 0"
    world.settled = False  # a worker is heard of late: what it tells now is old
    world.count("web-1", [0.01] * 900)
    world.second()
    world.settled = True
    world.second()
    world.second()
    assert [one.requests for _, one in counted(world, "web-1")] == [3]


def test_a_worker_that_begins_anew_loses_and_doubles_nothing(world: Any) -> None:
    world.count("web-1", [0.01] * 10)
    world.second()
    world.rows.clear()
    world.counters.forget_worker(0)
    world.heard([], epoch="b")
    world.second()
    row = world.counters.by_instance()["web", "web-1"]
    assert sum(one.requests for one in row) == 10
    assert [one.requests for _, one in counted(world, "web-1")] == [10]


async def test_gauges_queue_and_triage_itself(world: Any) -> None:
    world.board.inflight[1 * boards.COLUMNS] = 4
    world.board.inflight[2 * boards.COLUMNS] = 2
    world.board.counts[0] = 7
    world.use("web-1", rss=100, cpu=0.5, cpu_time=10.0)
    world.second()
    world.use("web-1", rss=300, cpu=0.5, cpu_time=10.5)
    world.app.instances["web-2"].failing = True
    world.rings.ended("web", "web-9", "killed")
    world.second()
    assert column(world, ("web", ALL), "inflight") == [6.0, 6.0]
    assert column(world, ("web", "web-1"), "memory") == [100.0, 300.0]
    assert column(world, ("web", ALL), "cpu_ms")[-1] == pytest.approx(500)
    assert math.isnan(column(world, ("web", "web-2"), "memory")[0]), "not known is not 0"
    assert column(world, ("web", ALL), "queue") == [7.0, 7.0]
    assert column(world, ("web", ALL), "unhealthy") == [0.0, 1.0]
    assert column(world, ("web", ALL), "exits") == [0.0, 1.0]
    assert column(world, ("", "worker1"), "own.lag") == [0.002, 0.0001]
    extra = world.rings.extra(2)
    assert extra["web", "web-1"] == {"inflight": 4, "inflight_mean": 4}
    assert extra["web", ALL]["queue_mean"] == 7
    own = world.rings.own_points()
    assert own["worker1"].seconds == 2.0 and own["worker1"].own.lag == 0.002 and own["*"].own.clients == 5
    assert own["host"].own.disk_free is None


def test_a_gap_and_a_clock_that_was_set_back(world: Any) -> None:
    world.second()
    world.second(5.0)
    values = column(world, ("web", "web-1"), "inflight")
    assert [value == value for value in values] == [True, False, False, False, False, True]
    assert column(world, ("web", "web-1"), "counted")[-1] == 5.0, "its counts are those of five seconds"
    world.at -= 100
    world.second()
    world.second()
    held = world.rings.held(("web", "web-1"))
    assert [part.start for part in held.parts()] == sorted([part.start for part in held.parts()], reverse=True)
    assert world.rings.second == int(world.at)


def test_a_block_is_read_as_it_was_written() -> None:
    ring = Ring(("cpu",), phase=7)
    for second in range(1_000_000, 1_000_130):
        ring.put(second, (second / 7,), b"" if second % 3 else encode({"x": second}))
    part = ring.held().open
    again = unpack(pack(part))
    assert again == Part(part.start, part.columns, list(part.counts))
    assert len(ring.blocks) == 2 and ring.first == 1_000_000
    assert ring.forget(1_000_500) is False


def test_instances_that_come_and_go_for_ever_leave_no_more_than_there_may_be(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.control.metrics import rings

    monkeypatch.setattr(rings, "MOST", 20)
    first = world.app.instances["web-1"]
    for number in range(100):
        world.app.instances = {f"web-{number}": first}
        first.name = f"web-{number}"
        world.second()
    assert len(world.rings) <= 20
    assert {("web", "web-99"), ("web", ALL)} <= set(world.rings.keys())


# --- frozen -----------------------------------------------------------------------------------------------


async def test_frozen_seconds_are_in_the_store_whole(world: Any, tmp_path: Path) -> None:
    store = Store(tmp_path, Events(), lambda *_, **__: None, Limits(1 << 30))
    began = await store.open()
    try:
        world.rings._keep = store.freeze
        world.rings.at_least(began.next["frozen"])
        world.busy(90)
        number = world.rings.freeze("web", "web-1", "INC-4: faults")
        assert number == 1
        again = world.rings.ended("web", "web-2", "web-2 ended: signal 9")
        assert again == 0 and world.rings.skipped == 1, "one has just been frozen"
        await asyncio.gather(*world.rings._tasks)
        assert await store.flush()
        found = await store.ask(frozen.whole(number))
        assert found is not None
        listed, packed, records = found
        assert (listed.app, listed.instance, listed.why, records) == ("web", "web-1", "INC-4: faults", [])
        names = {(app, instance) for app, instance, _ in packed.rings}
        assert {("web", ALL), ("web", "web-1"), ("web", "web-2"), ("", ALL), ("", "host")} == names
        for app, instance, blocks in packed.rings:
            if app == "web":
                assert sum(length for _, length, _ in blocks) == 90, instance
        assert [one.number for one in await store.ask(frozen.listed("web", 0.0, 0, 10))] == [1]
        assert await store.ask(frozen.whole(77)) is None
    finally:
        await store.close()


async def test_an_app_that_ends_all_the_time_freezes_seldom_and_few_are_kept(world: Any, tmp_path: Path) -> None:
    store = Store(tmp_path, Events(), lambda *_, **__: None, Limits(1 << 30))
    await store.open()
    try:
        world.rings._keep = store.freeze
        world.second()
        first = world.rings.freeze("web", "", "INC-1: down")
        for _ in range(frozen.EXITS + 30):
            world.rings._frozen_at["web"] -= EXIT_EVERY
            assert world.rings.ended("web", "web-1", "web-1 ended: exit code 3")
            assert world.rings.ended("web", "web-1", "web-1 ended: exit code 3") == 0
            await asyncio.gather(*world.rings._tasks)
            if world.rings.skipped % 10 == 0:
                assert await store.flush()
        assert await store.flush()
        found = await store.ask(frozen.listed("", 0.0, 0, 500))
        assert len(found) == frozen.EXITS + 1 and found[-1].number == first, "exits do not drive out incidents"
        assert world.rings.exits == {"web": 2 * (frozen.EXITS + 30)}
        before = world.rings.skipped
        numbers = [world.rings.freeze("web", "", "INC-2: down") for _ in range(FREEZING + 3)]
        assert numbers[-3:] == [0, 0, 0] and world.rings.skipped == before + 3
        await asyncio.gather(*world.rings._tasks)
    finally:
        await store.close()
