"""What becomes a reading: memory that is shared, exits, health, and what is handed to the record."""

import asyncio
import os
import time

import psutil
import pytest

from proxy.control.autoheal import pss
from proxy.control.state import Admission, Exit, Usage
from tests.control.test_autoheal_engine import MB, World, rule

SHARED = 64 * MB


def forked() -> tuple[list[int], list[int]]:
    """Three processes that share one piece of memory, and the descriptors whose closing ends them."""
    block = bytearray(os.urandom(SHARED // 64) * 64)
    pids, ends = [], []
    listen, told = os.pipe()
    for _ in range(3):
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(write)
            sum(block[::4096])
            os.write(told, b".")
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        pids.append(pid)
        ends.append(write)
    for _ in pids:
        os.read(listen, 1)  # each has seen all of it
    os.close(listen)
    os.close(told)
    return pids, ends


@pytest.mark.slow
def test_shared_memory_counts_once() -> None:
    pids, ends = forked()
    try:
        resident = sum(psutil.Process(pid).memory_info().rss for pid in pids)
        found = pss.measured(pids)
        assert resident > 3 * SHARED and found is not None and 0 < found < resident / 2, (found, resident)
    finally:
        for end in ends:
            os.close(end)
        for pid in pids:
            os.waitpid(pid, 0)
    assert pss.measured(pids) is None, "they are gone"


async def test_a_tree_near_its_limit_is_looked_at_closely() -> None:
    closely = pss.Closely()
    own = (os.getpid(), os.getpid())
    rss = 100_000 * MB
    assert closely.memory(rss, rss, own, 100.0) == rss, "not known yet"
    deadline = time.monotonic() + 30
    while closely.busy:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert closely.memory(rss, rss, own, 101.0) < rss / 10
    assert closely.memory(rss, 2 * rss, own, 200.0) == rss, "a look of long ago says nothing"
    assert not closely.busy, "far from the limit nothing is looked at"
    assert pss.Closely().memory(rss, rss, (os.getpid(),), 1.0) == rss, "one process shares with nobody"


async def test_an_app_s_reading_adds_up_its_instances() -> None:
    world = World("", 3)
    for name in world.app.instances:
        world.count(name, 10, answers=10)
    world.count("", 5)
    world.app.instances["web-1"].failing = True
    world.app.instances["web-2"].admission = Admission.EJECTED
    ours = Exit(0.0, 1.0, ours=True)
    world.app.ended.append(ours)
    await world.tick(2)
    world.app.ended += [Exit(0.0, 1.0, by_itself=True), Exit(0.0, 1.0, ours=True), Exit(0.0, 1.0)]
    await world.tick(2)
    series = world.readings.app("web")
    assert series is not None and series.last is not None
    assert series.last.requests == 35 and series.last.answers == 30
    assert series.last.unhealthy == 2 and series.last.instances == 3
    assert series.last.exits == 2


async def test_requests_of_the_first_second_count() -> None:
    world = World(rule('{ requests = { above = 10, within = "1m" } }'), 1)
    world.count("web-1", 20)
    await world.tick(1)
    assert world.done == [("recycle", "web-1")]


async def test_cpu_adds_up_over_samples() -> None:
    world = World("", 1)
    state = world.app.instances["web-1"]

    def each() -> None:
        state.usage = Usage(world.now, cpu=0.5, pids=(1,))

    await world.tick(21, each)
    series = world.readings.instance("web", "web-1")
    assert series is not None and series.last is not None and series.last.cpu_seconds is not None
    assert 9.5 <= series.last.cpu_seconds <= 10.5


async def test_what_the_record_gets() -> None:
    world = World("", 1)
    world.oldest["web-1"] = world.now - 5
    await world.tick(1)
    world.oldest.clear()
    await world.tick(2)
    extra = world.readings.extra()
    assert 5.0 <= extra["web", "web-1"]["oldest_wait"] <= 7.0, "the longest since it was asked last"  # type: ignore[operator]
    assert extra["web", "*"]["oldest_wait"] == extra["web", "web-1"]["oldest_wait"]
    assert world.readings.extra()["web", "web-1"]["oldest_wait"] == 0.0
