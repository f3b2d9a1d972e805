"""Points: what happened between two samples, added up over time and never lost or counted twice."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from proxy.config import App, Process
from proxy.control.counters import Counters
from proxy.control.state import AppState, Events, Exit, InstanceState, Lifecycle, Usage
from proxy.control.store import Point, Store, file, points, retention
from proxy.control.store.retention import Limits
from proxy.control.store.sample import Deltas, Sample, take
from proxy.link import board as boards
from proxy.link.histogram import bucket, merge, quantile
from proxy.link.messages import Row, Stats


def row(app: str, instance: str, waits: list[float], faults: dict[str, int] | None = None) -> Row:
    found: dict[int, int] = {}
    for wait in waits:
        merge(found, {bucket(wait): 1})
    number = len(waits)
    return Row(
        app, instance, number, [0, number, 0, 0, 0, 0], faults or {}, 10 * number, 20 * number, 1, 0, dict(found),
        sum(waits), found, sum(waits), 0.0, {"slow": sum(wait > 1 for wait in waits)},
    )  # fmt: skip


def stats(worker: int, *rows: Row, epoch: str = "a") -> Stats:
    return Stats(worker, epoch, 0.0, 0, 0, 0, 0, 0, 0, 1, 0, 0, "", "", False, 0, list(rows))


class World:
    """One app of two instances and what is counted of it; its own clock."""

    def __init__(self) -> None:
        self.board = boards.Board(boards.create(), 2)
        self.counters = Counters()
        self.at = 1_800_000_000.0
        config = App(process=Process(command=("x",), instances=2))
        self.app = AppState("web", config, 0, wanted=2, version="v1/abc")
        for number in (1, 2):
            name = f"web-{number}"
            self.app.instances[name] = InstanceState(name, "web", "process", number, lifecycle=Lifecycle.READY)

    def sample(self, after: float = 10.0) -> Sample:
        self.at += after
        return take([self.app], self.board, self.counters.snapshot(self.at), self.at, self.at - 1e9)


def by_name(found: list[tuple[str, str, int, Point]]) -> dict[str, Point]:
    return {instance: point for _, instance, _, point in found}


def test_what_was_counted_before_the_first_sample_is_in_none() -> None:
    world, deltas = World(), Deltas()
    world.counters.apply(stats(0, row("web", "web-1", [0.1] * 50)), world.at)
    assert deltas.points(world.sample()) == []
    world.counters.apply(stats(0, row("web", "web-1", [0.1] * 53)), world.at)
    found = by_name(deltas.points(world.sample()))
    assert found["web-1"].requests == 3 and found["*"].requests == 3 and found["web-2"].requests == 0
    assert found["web-1"].seconds == 10.0


def test_after_a_start_from_nothing_everything_is_counted() -> None:
    world, deltas = World(), Deltas(fresh=True)
    world.counters.apply(stats(0, row("web", "web-1", [0.1] * 50)), world.at)
    assert deltas.points(world.sample(0.0)) == []
    assert by_name(deltas.points(world.sample()))["web-1"].requests == 50


def test_every_request_is_in_one_point_whatever_becomes_of_workers_instances_and_samples() -> None:
    """The counts of all points are those that workers counted, over lost samples, new epochs and instances gone."""
    rng = random.Random(7)
    world, deltas = World(), Deltas(fresh=True)
    waits: dict[tuple[int, str], list[float]] = {}
    epochs = {0: 0, 1: 0}
    true = {"web-1": 0, "web-2": 0, "": 0}
    seen = dict.fromkeys((*true, "*"), 0)
    all_waits: list[float] = []
    merged: dict[int, int] = {}
    slow = 0
    deltas.points(world.sample())
    kept = True
    for _ in range(300):
        if kept and rng.random() < 0.1:  # a quarter of an hour after the last count, so long after a sample
            world.counters.fold_gone(set(), world.at, after=0.0)
            assert not any(point.requests for _, _, _, point in deltas.points(world.sample()))
        worker, instance = rng.randrange(2), rng.choice(list(true))
        if rng.random() < 0.05:  # this worker is replaced
            world.counters.forget_worker(worker)
            epochs[worker] += 1
            waits = {key: value for key, value in waits.items() if key[0] != worker}
        new = [rng.lognormvariate(-2, 2) for _ in range(rng.randrange(30))]
        waits[worker, instance] = waits.get((worker, instance), []) + new
        true[instance] += len(new)
        all_waits += new
        counted = row("web", instance, waits[worker, instance])
        world.counters.apply(stats(worker, counted, epoch=str(epochs[worker])), world.at)
        sample = world.sample()
        kept = rng.random() > 0.3
        if not kept:
            continue  # dropped
        for _, name, _, point in deltas.points(sample):
            seen[name] += point.requests
            if name == "*":
                merge(merged, point.wait)
                slow += point.watched.get("slow", 0)
    for _, name, _, point in deltas.points(world.sample()):
        seen[name] += point.requests
        if name == "*":
            merge(merged, point.wait)
            slow += point.watched.get("slow", 0)
    assert seen["*"] == sum(true.values()) == len(all_waits)
    assert slow == sum(wait > 1 for wait in all_waits)
    exact = sorted(all_waits)[int(0.99 * len(all_waits))]
    assert quantile(merged, 0.99) == pytest.approx(exact, rel=0.15), "percentiles of merged histograms"


def test_gauges_are_of_the_interval() -> None:
    world, deltas = World(), Deltas(fresh=True)
    deltas.points(world.sample(0.0))
    one = world.app.instances["web-1"]
    for second in range(1, 21):
        one.usage_history.append(
            Usage(world.at - 1e9 + second, second / 10, rss=second * 100, threads=second, descriptors=5, processes=1)
        )
    one.ready_since = world.at - 1e9 - 50
    one.probes_failed = 2
    world.board.inflight[one.row * boards.COLUMNS] = 3
    world.board.counts[0] = 7
    world.app.ended.append(Exit(world.at + 15, 1.0, name="web-9"))
    world.app.ended.append(Exit(world.at + 15, 1.0, ours=True, name="web-8"))
    deltas.points(world.sample())
    found = by_name(deltas.points(world.sample()))
    point = found["web-1"]
    assert (point.memory, point.memory_max, point.threads) == (2000, 2000, 20)
    assert point.cpu == pytest.approx(1.55)
    assert (point.age, point.probes_failed, point.inflight) == (70.0, 2, 3)
    assert (point.lifecycle, point.admission) == ("ready", "admitting")
    assert found["web-2"].memory is None and found["web-2"].cpu is None, "not known is not 0"
    whole = found["*"]
    assert (whole.queue, whole.instances, whole.ready, whole.unhealthy, whole.exits) == (7, 2, 2, 0, 1)
    assert (whole.memory, whole.inflight, whole.config) == (2000, 3, "abc")


def test_a_point_survives_its_form() -> None:
    point = Point(seconds=10.0, requests=5, wait={3: 2, 400: 3}, faults={"head-timeout": 1}, memory=None, files="x")
    assert points.decode(points.encode(point)) == point
    assert points.decode(b"\xff nonsense") is None
    assert points.decode(points.encode(Point(layout=99))) is None
    assert len(points.encode(Point(seconds=10.0))) < 150


def test_intervals_are_rolled_up_when_they_have_ended_and_again_later(tmp_path: Path) -> None:
    start = 1_800_000_000 // 3600 * 3600
    with closing(file.connect(tmp_path / "store.db")) as connection:
        for series, instance in enumerate(("*", "web-1"), 1):
            connection.execute("INSERT INTO series VALUES (?, 'web', ?)", (series, instance))
        for at in range(start + 10, start + 7200 + 1, 10):
            for series in (1, 2):
                body = points.encode(Point(seconds=10.0, requests=series, wait={at % 5: 1}, memory=at - start))
                connection.execute("INSERT INTO points_10 VALUES (?, ?, ?)", (series, at, body))
        connection.execute("INSERT INTO points_10 VALUES (1, ?, ?)", (start + 7205, b"damaged"))
        retention.roll_up(connection, start + 7200 + 5)  # the last minute's points may still be on their way
        assert connection.execute("SELECT max(at) FROM points_60").fetchone() == (start + 7140,)
        retention.roll_up(connection, start + 7200 + retention.LATE)
        for step, count in ((60, 120), (3600, 2)):
            found = connection.execute(f"SELECT at, body FROM points_{step} WHERE series = 2 ORDER BY at").fetchall()
            assert [at for at, _ in found] == [start + step * n for n in range(1, count + 1)]
            for at, body in found:
                point = points.decode(body)
                assert point is not None
                assert (point.requests, point.seconds, sum(point.wait.values())) == (step // 5, step, step // 10)
                assert point.memory == at - start, "a gauge is that of the end"
        before = connection.execute("SELECT count(*) FROM points_60").fetchone()
        retention.roll_up(connection, start + 7200 + 3 * 86400)  # days later: nothing but the damaged one's minute
        assert connection.execute("SELECT count(*) FROM points_60").fetchone()[0] == before[0] + 1
        retention.too_old(connection, start + 2 * 86400, Limits(1 << 30))
        assert connection.execute("SELECT count(*) FROM points_10").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM series").fetchone() == (2,), "minutes are still there"
        retention.too_old(connection, start + 91 * 86400, Limits(1 << 30))
        assert connection.execute("SELECT count(*) FROM series").fetchone() == (0,)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Store]]]:
    made: list[Store] = []

    async def make() -> Store:
        made.append(Store(tmp_path, Events(), lambda *a, **k: None, Limits(1 << 30), fresh=True))
        await made[-1].open()
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_points_are_asked_for_by_app_instance_and_time(store, tmp_path: Path) -> None:
    one = await store()
    world = World()
    world.at = time.time() // 60 * 60 - 600
    waits: list[float] = []
    for number in range(61):
        one.sample(world.sample())
        if number % 5 == 0:
            assert await one.flush()
        waits += [0.2, 3.0]
        world.counters.apply(stats(0, row("web", "web-1", waits)), world.at)
    assert await one.flush()
    found = await one.points("web", "web-1", since=world.at - 300)
    assert [at for at, _ in found] == [world.at - 10 * n for n in range(29, -1, -1)]
    assert all(point.requests == 2 and point.watched == {"slow": 1} for _, point in found)
    assert sorted(await one.instances("web")) == ["*", "web-1", "web-2"]
    assert await one.points("web", "web-9") == [] and await one.points("other") == []
    with closing(file.connect(tmp_path / "store.db")) as connection:
        retention.roll_up(connection, world.at)
    minutes = await one.points("web", step=60)
    assert sum(point.requests for _, point in minutes) == 120, "minutes, and what is not in one yet"
    assert len(minutes) < 20


async def test_a_clock_that_is_set_back_adds_to_what_is_there(store) -> None:
    one = await store()
    world = World()
    waits: list[float] = []
    for step in (10, 10, 10, -20, 10, 10):
        one.sample(world.sample(step))
        assert await one.flush()
        waits += [0.1]
        world.counters.apply(stats(0, row("web", "web-1", waits)), world.at)
    found = await one.points("web", "web-1", since=1.0, step=10)
    assert sum(point.requests for _, point in found) == 5
    assert one.dropped["points"] == 0


async def test_samples_wait_in_bounded_number_and_lose_no_count(store, tmp_path: Path) -> None:
    import sqlite3

    one = await store()
    world = World()
    one.sample(world.sample())
    assert await one.flush()
    waits: list[float] = []
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(30):
            waits += [0.1]
            world.counters.apply(stats(0, row("web", "web-1", waits)), world.at)
            one.sample(world.sample())
            await asyncio.sleep(0)
        assert one.waiting < 15
        other.execute("ROLLBACK")
    assert one.dropped["points"] >= 15
    assert await one.flush(30)
    one.sample(world.sample())
    assert await one.flush()
    found = await one.points("web", "web-1", since=1.0, step=10)
    assert sum(point.requests for _, point in found) == 30
