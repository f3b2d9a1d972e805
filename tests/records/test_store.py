"""The store, with a real SQLite: what is written is there again, whatever happens to process, file or disk."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.control.operations import Asked, Operation, Operations
from proxy.control.state import Event, Events
from proxy.control.store import Act, NotReadable, Store, file, retention, schema
from proxy.control.store.retention import Limits

ROOT = Path(__file__).parents[2]
PLENTY = Limits(1 << 30)
DEADLINE = 30.0


class Opened:
    """A store with its events and what it said."""

    def __init__(self, folder: Path, limits: Limits = PLENTY) -> None:
        self.events = Events()
        self.said: list[tuple[str, str]] = []
        self.store = Store(folder, self.events, self.say, limits)
        self.events.listeners.append(self.store.event)

    def say(self, kind: str, text: str, **details: Any) -> None:
        self.said.append((kind, text))

    def saying(self, kind: str) -> list[str]:
        return [text for one, text in self.said if one == kind]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Opened]]]:
    made: list[Opened] = []

    async def make(limits: Limits = PLENTY) -> Opened:
        one = Opened(tmp_path, limits)
        made.append(one)
        began = await one.store.open()
        one.events.next_id = began.next_event
        return one

    yield make
    for one in made:
        await one.store.close()


async def until(what: Callable[[], Any], why: str) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, why
        await asyncio.sleep(0.02)


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        return connection.execute(sql).fetchall()


# --- what is written is there again ---------------------------------------------------------------------------


async def test_events_are_found_in_memory_and_beyond_it_without_a_gap(opened) -> None:
    one = await opened()
    for number in range(5300):
        one.events.add("ready" if number % 2 else "exited", f"n{number}", "web", f"web-{number % 3}", number=number)
        if number % 1000 == 999:
            assert await one.store.flush()
    assert await one.store.flush()
    assert len(one.events) == 5000
    whole = await one.store.events(limit=5300)
    assert [event.id for event in whole] == list(range(5300, 0, -1))
    assert whole[-1].details == {"number": 0} and whole[-1].text == "n0"
    page, before = [], 0
    while part := await one.store.events(app="web", kind="ready", instance="web-1", before_id=before, limit=97):
        page += part
        before = part[-1].id
    assert [event.details["number"] for event in page] == [n for n in range(5299, -1, -1) if n % 2 and n % 3 == 1]
    assert await one.store.events(app="other") == []
    assert set(one.store.dropped.values()) == {0}


async def test_numbers_go_on_after_everything_was_started_anew(opened) -> None:
    one = await opened()
    for _ in range(3):
        one.events.add("ready", "x")
    operations = Operations(lambda *a, **k: Event(0, 0, "", "", "", ""), lambda: None)
    operations.keep = one.store.operation
    operation = operations.begin("recycle", "web", "web-1", Asked("rule slow", "slow", "slow", "24 over 5 s"))
    operations.step(operation, "web-2 starts")
    operation.targets, operation.evidence = ("web-1",), "4 of 4 artifacts in diagnostics/ev-1"
    operations.done(operation, "web-2 in its place")
    await one.store.close()
    again = await opened()
    assert again.events.next_id == 4
    found = await again.store.operations(app="web")
    assert [repr(each) for each in found] == ["<Operation op-1 recycle web/web-1 done>"]
    kept = await again.store.operation_of("op-1")
    assert kept is not None and not kept.running and kept.over.is_set()
    assert kept.asked == operation.asked and kept.steps == operation.steps and kept.targets == ("web-1",)
    assert (kept.why, kept.evidence, kept.ended) == (operation.why, operation.evidence, operation.ended)
    assert await again.store.operation_of("op-9") is None
    assert await again.store.operation_of("nonsense") is None


async def test_acts_are_kept_whole(opened) -> None:
    one = await opened()
    done = Act(
        "slow", "web", "web-1", "24 requests", "slow for 1m", (("collect", "4 of 4"), ("recycle", "done")), "op-7"
    )
    one.store.act(done)
    one.store.act(Act("memory", "api", dry=True, details={"limit": 5}))
    assert await one.store.flush()
    newest, oldest = await one.store.acts()
    assert (newest.rule, newest.dry, newest.details, newest.id) == ("memory", True, {"limit": 5}, 2)
    assert (oldest.outcomes, oldest.at, oldest.operation) == (done.outcomes, done.at, "op-7")
    assert [act.id for act in await one.store.acts(app="web")] == [1]
    assert [act.id for act in await one.store.acts(before_id=2)] == [1]
    assert [act.id for act in await one.store.acts(rule="memory", since=newest.at)] == [2]


async def test_what_has_no_form_costs_itself_alone(opened) -> None:
    one = await opened()
    one.events.add("ready", "before")
    one.store.event(Event(10**30, 0.0, "too-large", "", "", "no column holds this number"))
    one.store.operation(Operation("no-number", "recycle", "web", "", Asked("by hand"), 0.0))
    one.events.add("ready", "after")
    assert await one.store.flush()
    assert [row[0] for row in rows(one.store.path.parent, "SELECT text FROM events")] == ["before", "after"]
    assert one.store.dropped["events"] == 1 and one.store.dropped["operations"] == 1
    await until(lambda: len(one.saying("store-failing")) == 2, "both are said")
    assert one.store.error == ""


# --- the file is not well -------------------------------------------------------------------------------------


def fill(path: Path, count: int = 3000) -> None:
    with closing(file.connect(path)) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO events VALUES (?, ?, 'ready', 'web', 'web-1', ?, '{}')",
            [(number, time.time(), f"text {number} " + "x" * 100) for number in range(1, count + 1)],
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("damage", ["header", "pages", "empty header"])
async def test_a_damaged_file_is_set_aside_and_a_new_one_begun(opened, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "store.db"
    fill(path)
    with path.open("r+b") as raw:
        if damage == "header":
            raw.write(b"this is a text\n" * 10)
        elif damage == "pages":
            raw.seek(4096 * 3)
            raw.write(os.urandom(4096 * 40))
        else:
            raw.write(bytes(100))
    damaged = path.read_bytes()
    one = await opened()
    event = one.events.add("ready", "life goes on")
    await until(lambda: one.saying("store-set-aside"), "it is said")
    assert await one.store.flush(DEADLINE)
    assert rows(tmp_path, "SELECT text FROM events ORDER BY id")[-1] == ("life goes on",)
    (aside,) = tmp_path.glob("store.db.damaged-*Z")
    assert aside.read_bytes() == damaged
    assert aside.name in one.saying("store-set-aside")[0]
    assert event.id > 3000, "no number is given twice"
    assert one.store.error == "" and sum(one.store.dropped.values()) == 0


async def test_a_file_of_a_later_triage_is_set_aside_untouched(opened, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    fill(path, 5)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    one = await opened()
    one.events.add("ready", "new")
    await until(lambda: one.saying("store-set-aside"), "it is said")
    assert await one.store.flush(DEADLINE)
    (aside,) = tmp_path.glob("store.db.newer-*Z")
    with closing(sqlite3.connect(aside)) as connection:
        assert schema.version(connection) == schema.VERSION + 1
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (5,)
    assert f"version {schema.VERSION + 1}" in one.saying("store-set-aside")[0]
    assert len(rows(tmp_path, "SELECT id FROM events")) >= 1


@pytest.mark.parametrize("version", range(schema.VERSION))
async def test_every_older_version_becomes_this_one_with_what_it_holds(opened, tmp_path: Path, version: int) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as connection:
        for step in schema.STEPS[:version]:
            for statement in step:
                connection.execute(statement)
        if version:
            connection.execute("INSERT INTO events VALUES (7, 1e9, 'ready', 'web', 'web-1', 'old', '{}')")
        connection.execute(f"PRAGMA user_version = {version}")
    one = await opened(Limits(1 << 30, age=1e10))
    one.events.add("ready", "new")
    assert await one.store.flush()
    texts = [event.text for event in await one.store.events()]
    assert texts == (["new", "old"] if version else ["new"])
    assert one.events.ring[0].id == (8 if version else 1)
    with closing(sqlite3.connect(tmp_path / "fresh.db", isolation_level=None)) as fresh:
        schema.migrate(fresh)
        made = fresh.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    assert rows(tmp_path, "SELECT type, name, sql FROM sqlite_master ORDER BY name") == made


def test_a_step_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as connection:
        schema.migrate(connection)
        before = connection.execute("SELECT name FROM sqlite_master").fetchall()
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("CREATE TABLE one (a)", "CREATE TABLE one (a)")))
        monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            schema.migrate(connection)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == before
        assert schema.version(connection) == schema.VERSION - 1


async def test_a_file_that_was_removed_is_begun_anew(opened, tmp_path: Path) -> None:
    one = await opened()
    one.events.add("ready", "first")
    assert await one.store.flush()
    for path in tmp_path.glob("store.db*"):
        path.unlink()
    with pytest.raises(NotReadable, match="no store"):
        await one.store.acts()
    one.events.add("ready", "second")
    one.store._writer._looked = 0.0  # it looks every ten seconds; here now
    assert await one.store.flush()
    one.events.add("ready", "third")
    assert await one.store.flush(DEADLINE)
    await until(lambda: (tmp_path / "store.db").exists(), "a new one is there")
    assert ("third",) in rows(tmp_path, "SELECT text FROM events")


# --- the disk is not well -------------------------------------------------------------------------------------

FULL = """
import asyncio, json, resource, sys, time
from pathlib import Path
from proxy.control.state import Events
from proxy.control.store import Store
from proxy.control.store.retention import Limits

async def main():
    events, said = Events(), []
    store = Store(Path(sys.argv[1]), events, lambda kind, text, **more: said.append([kind, text]), Limits(1 << 30))
    events.listeners.append(store.event)
    await store.open()
    async def until(what):
        end = time.monotonic() + 30
        while not what():
            assert time.monotonic() < end, (said, store.error, store.dropped)
            await asyncio.sleep(0.02)
    filler = fill(Path(sys.argv[1]))
    for number in range(25_000):
        events.add("ready", f"n{number}", "web", "web-1", more="x" * 200)
        if number % 100 == 99:
            await asyncio.sleep(0)
        if number == 2000:
            await until(lambda: store.error)
    full = {"error": store.error, "dropped": dict(store.dropped), "waiting": store.waiting}
    room(filler)
    await until(lambda: not store.error)
    assert await store.flush(30)
    events.add("ready", "last")
    assert await store.flush(30)
    found = await store.events(limit=1)
    await store.close()
    print(json.dumps({"full": full, "dropped": store.dropped, "said": said, "last": found[0].text}))
"""
LIMIT = """
def fill(folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
def room(filler):
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
DISK = """
import os
def fill(folder):
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return path
def room(filler):
    filler.unlink()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["limit", "disk"])
def test_a_full_disk_costs_what_does_not_fit_and_is_over_by_itself(tmp_path: Path, how: str) -> None:
    mounted = False
    if how == "disk":
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(tmp_path)], capture_output=True, check=False
        )
        if mount.returncode:
            pytest.skip("a file system can't be mounted here")
        mounted = True
    try:
        run = subprocess.run(
            [sys.executable, "-c", FULL + (DISK if how == "disk" else LIMIT) + "asyncio.run(main())", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        found = json.loads(run.stdout)
        assert found["full"]["error"]
        assert found["full"]["dropped"]["events"] > 0, "more waits than may"
        assert found["full"]["waiting"] <= 10_000 + 2_000
        assert found["last"] == "last"
        kinds = [kind for kind, _ in found["said"]]
        assert kinds[0] == "store-failing" and kinds[-1] == "store-well"
        kept = rows(tmp_path, "SELECT count(*) FROM events")[0][0]
        assert kept + found["dropped"]["events"] == 25_001, "each is written or counted"
        assert str(found["dropped"]["events"]) in found["said"][-1][1]
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(tmp_path)], check=True)


async def test_a_lock_held_by_another_makes_them_wait_and_those_beyond_the_bound_are_counted(
    opened, tmp_path: Path
) -> None:
    one = await opened()
    one.events.add("ready", "first")
    assert await one.store.flush()
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        one.events.add("ready", "waits")
        await until(lambda: one.store.error, "the lock is noticed")
        for number in range(15_000):
            one.events.add("ready", f"n{number}")
        lost = one.store.dropped["events"]
        assert 3_000 <= lost <= 5_001, "10,000 may wait, and a batch of 2,000 be on its way"
        one.store.act(Act("slow", "web"))
        assert one.store.dropped["acts"] == 0, "each table has its own bound"
        assert [event.text for event in await one.store.events(limit=1)] == ["n14999"]
        other.execute("ROLLBACK")
    await until(lambda: not one.store.error, "it is over")
    assert await one.store.flush(DEADLINE)
    assert rows(tmp_path, "SELECT count(*) FROM events") == [(15_002 - lost,)]
    assert [kind for kind, _ in one.said] == ["store-failing", "store-well"]
    assert f"{lost} entries were lost" in one.saying("store-well")[0]
    assert len(await one.store.acts()) == 1


async def test_what_waits_for_a_disk_that_is_well_again_is_written_at_the_end(opened, tmp_path: Path) -> None:
    one = await opened()
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        one.events.add("ready", "waits")
        await until(lambda: one.store.error, "the lock is noticed")
        one.events.add("ready", "waits too")
        other.execute("ROLLBACK")
    await one.store.close(DEADLINE)
    assert rows(tmp_path, "SELECT text FROM events") == [("waits",), ("waits too",)]


async def test_the_end_does_not_wait_for_a_disk_that_stays_as_it_is(opened, tmp_path: Path) -> None:
    one = await opened()
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        one.events.add("ready", "never written")
        await until(lambda: one.store.error, "the lock is noticed")
        await one.store.close(DEADLINE)
        other.execute("ROLLBACK")
    await until(lambda: not one.store._writer._thread.is_alive(), "its thread ends")
    assert one.store.dropped["events"] == 1


KILLED = """
import asyncio, sys
from pathlib import Path
from proxy.control.state import Events
from proxy.control.store import Store
from proxy.control.store.retention import Limits

async def main():
    events = Events()
    store = Store(Path(sys.argv[1]), events, print, Limits(1 << 30))
    events.listeners.append(store.event)
    events.next_id = (await store.open()).next_event
    while True:
        for _ in range(500):
            last = events.add("ready", "x" * 300)
        assert await store.flush(30)
        print(last.id, flush=True)
        for _ in range(500):
            events.add("ready", "x" * 300)
        await asyncio.sleep(0.05)
asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_kill_in_the_middle_of_writing_costs_nothing_that_was_written(opened, tmp_path: Path) -> None:
    written = 0
    for rounds in range(1, 5):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(rounds):
                written = int(process.stdout.readline())
            await asyncio.sleep(0.03 * rounds)  # anywhere in the next batch
            process.send_signal(signal.SIGKILL)
            process.wait()
        with closing(file.connect(tmp_path / "store.db")) as connection:
            assert file.check(connection, DEADLINE) == ""
            count, last = connection.execute("SELECT count(*), max(id) FROM events").fetchone()
        assert count == last >= written
    one = await opened()
    assert one.events.next_id == last + 1
    assert one.said == [] and not list(tmp_path.glob("store.db.*Z"))


async def test_twenty_stores_leave_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    async def cycle(number: int) -> None:
        one = Opened(tmp_path / str(number % 3))
        await one.store.open()
        one.events.add("ready", "x")
        await one.store.flush()
        assert len(await one.store.operations()) == 0
        await one.store.close()
        await one.store.close()

    await cycle(0)
    before = held()
    for number in range(20):
        await cycle(number)
    await until(lambda: held() <= before, f"as before: {before}, not {held()}")


# --- what goes ------------------------------------------------------------------------------------------------


async def test_what_is_too_old_goes_at_the_next_start(opened, tmp_path: Path) -> None:
    now = time.time()
    with closing(file.connect(tmp_path / "store.db")) as connection:
        for number, days in enumerate((100, 91, 89, 0), 1):
            at = now - days * 86400
            connection.execute(f"INSERT INTO events VALUES ({number}, {at}, 'ready', '', '', 'old {days}', '{{}}')")
            connection.execute(
                f"INSERT INTO acts VALUES ({number}, {at}, 'slow', 'web', '', '', '', '[]', '', 0, '{{}}')"
            )
            connection.execute(
                f"INSERT INTO operations VALUES ({number}, {at}, {at}, 'recycle', 'web', '', 'done', '{{}}')"
            )
    one = await opened()
    for table in ("events", "acts", "operations"):
        await until(
            lambda table=table: rows(tmp_path, f"SELECT id FROM {table} ORDER BY id") == [(3,), (4,)],
            f"{table}: what is older than 90 days goes",
        )
    assert one.events.next_id == 5


def test_a_file_that_is_too_large_loses_the_oldest_of_what_takes_most_room(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    now = time.time()
    limits = Limits(2_000_000)
    with closing(file.connect(path)) as connection:
        connection.execute("BEGIN")
        for number in range(20_000):
            connection.execute(
                "INSERT INTO events VALUES (?, ?, 'ready', 'web', '', ?, '{}')",
                (number, now - 20_000 + number, "x" * 300),
            )
        connection.execute("INSERT INTO acts VALUES (1, ?, 'slow', 'web', '', '', '', '[]', '', 0, '{}')", (now - 9e5,))
        connection.execute("COMMIT")
        assert retention.used(connection) > 3 * limits.size
        for _ in range(200):
            if not retention.too_much(connection, limits):
                break
        assert retention.used(connection) <= limits.size
        retention.shrink(connection, limits)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        first, last, count = connection.execute("SELECT min(id), max(id), count(*) FROM events").fetchone()
        assert last == 19_999 and count == last - first + 1, "the newest stay, without a hole"
        assert count * 300 > limits.size * 0.5, "no more goes than must"
        assert connection.execute("SELECT count(*) FROM acts").fetchone() == (1,)
    assert file.size(path) <= 1.1 * limits.size


def test_of_files_set_aside_the_newest_three_stay(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "store.db").write_text(str(number))
        (tmp_path / "store.db-wal").write_text(str(number))
        file.set_aside(tmp_path / "store.db", "damaged")
    left = sorted(path for path in tmp_path.iterdir() if not path.name.endswith("-wal"))
    assert [path.read_text() for path in left] == ["2", "3", "4"]
    assert len(list(tmp_path.iterdir())) == 6


EACH = """
import asyncio, resource, sqlite3, sys
from pathlib import Path
from proxy.control.state import Events
from proxy.control.store import Store, file, writer
from proxy.control.store.retention import Limits

writer.RETRY = writer.TOGETHER = 0.005  # a hundred stores in a few seconds

async def main():
    failed = 0
    for limit in range(0, 400_000, 10_000):
        folder = Path(sys.argv[1], str(limit))
        events = Events()
        said = []
        store = Store(folder, events, lambda kind, text, **more: said.append((kind, text)), Limits(1 << 30))
        events.listeners.append(store.event)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        began = await store.open(0.02)
        for _ in range(8):
            for _ in range(25):
                events.add("ready", "x" * 500)
            if not await store.flush(0.02) and store.error:
                break
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert await store.flush(30), (limit, store.error)
        await store.close(30)
        assert not store.error and not sum(store.dropped.values()), (limit, store.error, said)
        assert "store-set-aside" not in dict(said), said
        with sqlite3.connect(folder / "store.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            found = connection.execute("SELECT count(*), max(id) FROM events").fetchone()
        connection.close()
        assert found == (len(events), len(events)), (limit, found)
        failed += bool(said)
    print(failed)

asyncio.run(main())
"""


@pytest.mark.slow
def test_whichever_write_is_the_first_to_fail_nothing_is_lost(tmp_path: Path) -> None:
    """From the first byte of a new file on: opening, making tables, the log, the checkpoint."""
    run = subprocess.run(
        [sys.executable, "-c", EACH, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 10, "many limits were hit"
