"""Kept requests on the disk, with a real SQLite: found as in memory, over any restart, and thinned with age."""

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.admin import kept
from proxy.control.operations import Asked, Operation, Step, plain, read
from proxy.control.records import Filter, RecordStore, parse_status
from proxy.control.state import Event, Events, Exit
from proxy.control.store import NotReadable, Store, file, requests, retention, tables
from proxy.control.store.requests import Numbered, Row
from proxy.control.store.retention import Limits
from proxy.control.store.sample import Deltas
from proxy.control.store.writer import Writer
from proxy.link.messages import Attempt, Record
from tests.e2e.client import ask
from tests.e2e.support import MARKER, Triage, serve, until

NOW = 1_770_000_000.0
PLENTY = Limits(1 << 30)


def record(number: int, at: float = NOW, **more: object) -> Record:
    values = {"app": "web", "instance": "web-1", "method": "GET", "target": "/", "status": 502, "total_us": 1000}
    return Record(id=f"{number:06x}01{int(at):08x}", time=at, worker=1, **{**values, **more})  # type: ignore[arg-type]


def many(count: int, seed: int = 1) -> list[Record]:
    """All kinds of them, a second apart."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        fault = rng.choice(["", "connect-refused", "head-timeout", "app-error", "instance-exited"])
        names = [f"web-{rng.randrange(4)}" for _ in range(rng.randrange(3))]
        tries = [Attempt(name, fault, "it did", wait_us=7, sent=9) for name in names]
        found.append(
            record(
                number * 4001 % (1 << 24), NOW + number, fault=fault, app=rng.choice(["web", "api"]), attempts=tries,
                instance=rng.choice(["web-1", "web-11", "", "10.0.0.5:80"]), method=rng.choice(["GET", "POST"]),
                target=rng.choice(["/", "/api/a?b=/c", "/api/[x]/1", "/élan"]), status=rng.choice([0, 200, 404, 502]),
                total_us=rng.randrange(3_000_000), sent=rng.choice([0, 9]), wait_us=rng.choice([None, 0, 5]),
                client_request_id=rng.choice(["", f"order-{number}", "Twice"]), trace="ab" * 16, reused=True,
            )
        )  # fmt: skip
    return found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(tmp_path, Events(), lambda *said, **more: None, Limits(1 << 30, requests=1e10))
    made._writer._clock = lambda: NOW  # nothing is old
    await made.open()
    yield made
    await made.close()


def gateway(records: RecordStore, store: Store) -> Any:
    records.keep = store.request
    return SimpleNamespace(records=records, store=store)


# --- what is written is found again ---------------------------------------------------------------------------

FILTERS = [
    Filter(),
    Filter(app="web"),
    Filter(instance="web-1"),
    Filter(instance="web-3"),
    Filter(instance="10.0.0.5:80"),
    Filter(method="POST", fault="any"),
    Filter(fault="head-timeout", app="api"),
    Filter(status=parse_status("404,>=500")),
    Filter(slower=1.5),
    Filter(path="/api/"),
    Filter(path="/api/?"),
    Filter(path="*[x]*"),
    Filter(path="/é"),
    Filter(since=NOW + 100, app="web", status=parse_status("2xx")),
    Filter(app="none"),
]


@pytest.mark.parametrize("wanted", FILTERS, ids=repr)
async def test_the_disk_answers_as_memory_does(store: Store, wanted: Filter) -> None:
    memory = RecordStore(first=1000)
    memory.keep = store.request
    for one in many(150):
        assert memory.add(one, one.time)
    assert await store.flush()
    whole = memory.list(wanted, 1000)
    assert [one for _, one in await store.requests(wanted, 1000)] == whole.items
    found: list[Record] = []
    before = None
    while page := await store.requests(wanted, 7, before):
        found += [one for _, one in page]
        before = page[-1].number
    assert found == whole.items


async def test_one_is_found_by_any_start_of_its_id_or_the_clients(store: Store) -> None:
    for number, one in enumerate(many(150), 1):
        store.request(number, one)
    store.request(500, record(0xABCDEF, client_request_id="100%_sure"))
    assert await store.flush()
    whole = many(150)[70]
    assert [one for _, one in await store.requests_of(whole.id)] == [whole]
    assert [one for _, one in await store.requests_of(whole.id[:5])] == [whole]
    assert [number for number, _ in await store.requests_of("abc")] == [500]
    assert [number for number, _ in await store.requests_of("100%")] == [500]
    assert await store.requests_of("100_") == []
    exact = await store.requests_of("Twice")
    assert len(exact) == 1 and exact[0].record.client_request_id == "Twice"
    assert len(await store.requests_of("order-", limit=10)) == 10
    assert await store.requests_of("") != []
    assert await store.requests_of("nothing") == []


async def test_a_record_that_got_its_reason_later_takes_the_place_of_what_it_was(store: Store) -> None:
    memory = RecordStore()
    memory.keep = store.request
    tries = [Attempt("web-1", fault="closed-before-head")]
    memory.add(record(1, fault="closed-before-head", total_us=1_000_000, attempts=tries), now=NOW)
    assert await store.flush()
    before = (await store.requests(Filter()))[0].record
    assert (before.fault, before.attempts) == ("closed-before-head", tries)
    memory.refine("web-1", Exit(at=NOW + 1.1, lasted=60, code=3, by_itself=True, words="exit code 3", name="web-1"))
    assert await store.flush()
    (now,) = await store.requests(Filter())
    assert (now.number, now.record.fault, now.record.detail) == (1, "instance-exited", "exit code 3")
    assert now.record.attempts is not None and now.record.attempts[0].fault == "instance-exited"
    assert await store.requests(Filter(fault="closed-before-head")) == []


async def test_the_newest_failure_and_the_nearest_in_time(store: Store) -> None:
    assert await store.failed_request() is None and await store.requests_near(NOW) == []
    store.request(1, record(1, NOW, fault="head-timeout", status=504))
    store.request(2, record(2, NOW + 5, status=200))
    store.request(3, record(3, NOW + 9, status=404))
    assert await store.flush()
    failed = await store.failed_request()
    assert failed is not None and failed.number == 1
    near = kept.near(gateway(RecordStore(), store), NOW + 8.5, worker=1)
    assert (await near).status == 404  # type: ignore[union-attr]
    assert await store.requests_near(NOW + 1000) == [], "as far away as that it says nothing"


async def test_memory_and_disk_are_one_list_without_a_gap(store: Store) -> None:
    """Memory has thrown some out of its middle; the newest are not on the disk yet."""
    memory = RecordStore(most=60, first=1000)
    both = gateway(memory, store)
    everything = many(300, seed=5)
    for one in everything[:290]:
        memory.add(one, one.time)
    assert await store.flush()
    memory.keep = lambda number, record: None  # the disk is behind
    for one in everything[290:]:
        memory.add(one, one.time)
    for wanted in (Filter(), Filter(app="api"), Filter(fault="any", since=NOW + 50)):
        aim = [one.id for one in reversed(everything) if wanted.matches(one)]
        found: list[str] = []
        before = None
        while True:
            page, before = await kept.page(both, wanted, 13, before)
            found += [one.id for one in page]
            if before is None:
                break
        # What memory threw out while the disk was behind is nowhere; it is of the last ten's making.
        assert [id for id in aim if id in set(found)] == found, "in order, none twice"
        assert len(set(aim) - set(found)) <= 10
        assert set(aim) - set(found) <= {one.id for one in everything[290:]}
    assert (await kept.find(both, everything[3].id)) == [everything[3]], "out of memory long ago"


async def test_a_store_that_cannot_be_read_leaves_what_memory_has(store: Store) -> None:
    memory = RecordStore()
    both = gateway(memory, store)
    memory.add(record(1, fault="head-timeout", status=504), NOW)
    await store.close()
    assert [one.id for one in (await kept.page(both, Filter(), 10))[0]] == [record(1).id]
    assert (await kept.find(both, record(1).id[:5]))[0].fault == "head-timeout"
    assert (await kept.latest(both)).fault == "head-timeout"  # type: ignore[union-attr]
    assert (await kept.near(both, NOW, 0)) is not None
    with pytest.raises(NotReadable):
        await kept.page(both, Filter(app="other"), 10)
    with pytest.raises(NotReadable):
        await kept.latest(gateway(RecordStore(), store))


async def test_numbers_go_on_over_a_restart(tmp_path: Path) -> None:
    for life in range(3):
        one = Store(tmp_path, Events(), lambda *said, **more: None, PLENTY)
        one._writer._clock = lambda: NOW
        began = await one.open()
        memory = RecordStore()
        memory.keep = one.request
        memory.at_least(began.next["requests"])
        assert began.next["requests"] == 5 * life + 1 == memory.whole_from
        for number in range(5):
            memory.add(record(100 * life + number, fault="head-timeout"), NOW)
        await one.close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert [row[0] for row in connection.execute("SELECT number FROM requests")] == list(range(1, 16))


def test_the_dictionary_is_the_one_that_files_were_written_with() -> None:
    known = "94f9abd14546daa821f7014ee37ef6856a402d72517ffc9bb4f815637c92e665"
    assert hashlib.sha256(requests._DICTIONARY).hexdigest() == known


def test_a_body_that_cannot_be_read_leaves_what_the_columns_say(tmp_path: Path) -> None:
    with closing(file.connect(tmp_path / "store.db")) as connection:
        for sql, values in requests.rows(Numbered(1, record(1, fault="head-timeout", client="10.0.0.1"))):
            connection.execute(sql, values)
        connection.execute("UPDATE requests SET body = x'0198'")
        (found,) = requests.page(connection, Filter(), 10, None)
    assert (found.record.fault, found.record.app, found.record.client) == ("head-timeout", "web", "")


# --- what goes ------------------------------------------------------------------------------------------------


def test_of_a_minute_stay_the_first_the_lost_and_the_slowest_within_the_budget() -> None:
    storm = [Row(number, "web", "connect-refused", 0, 900) for number in range(1, 500)]
    storm += [Row(number, "web", "instance-exited", number % 2, 900) for number in range(500, 900)]
    slow = [Row(number, "web", "", 0, number) for number in range(900, 1000)]
    other = [Row(1000, "api", "head-timeout", 0, 900)]
    gone = set(requests.surplus([*storm, *slow, *other]))
    stay = [row for row in (*storm, *slow, *other) if row.number not in gone]
    of = {fault: [row for row in stay if row.fault == fault] for fault in ("connect-refused", "instance-exited", "")}
    assert 1000 not in gone, "another app has a budget of its own"
    assert len(stay) - 1 == requests.OF_APP
    assert min(map(len, of.values())) >= requests.OF_APP // 3, "no fault drives out another"
    assert of["connect-refused"][0].number == 1 and of["instance-exited"][0].number == 500, "the first stays"
    assert all(row.lost for row in of["instance-exited"][1:]), "those that lost something go last"
    assert {row.number for row in of[""]} >= {999, 998, 997, 900}
    assert max(row.number for row in of["connect-refused"]) > 250, "over the minute, not its beginning alone"
    few = [Row(number, "web", "head-timeout", 0, 900) for number in range(requests.OF_FAULT)]
    assert requests.surplus(few) == []


def test_all_stays_for_a_while_then_some_of_each_minute(tmp_path: Path) -> None:
    end = NOW + 7200
    with closing(file.connect(tmp_path / "store.db")) as connection:
        connection.execute("BEGIN")
        for number in range(1, 7201):
            one = record(number, NOW + number - 1, fault="connect-refused", client_request_id=f"c{number}")
            for sql, values in requests.rows(Numbered(number, one)):
                connection.execute(sql, values)
        connection.execute("COMMIT")
        removed = 0
        while more := requests.thin(connection, end):
            removed += more
        assert requests.thin(connection, end) == 0
        found = requests.page(connection, Filter(), 10_000, None)
        border = int(end - requests.WHOLE) // 60 * 60
        newer = [one for one in found if one.record.time >= border]
        older = [one for one in found if one.record.time < border]
        assert len(newer) == end - border, "none of the last half hour is missing"
        assert len(older) == (border - NOW) // 60 * requests.OF_FAULT and len(older) + len(newer) + removed == 7200
        assert [one.number for one in found] == sorted((one.number for one in found), reverse=True)
        assert older[-1].record == record(1, NOW, fault="connect-refused", client_request_id="c1"), "whole"
        assert requests.find(connection, "c1", 1)[0].number == 1 and requests.last(connection) == 7200
        # A clock that was set back: what comes then is thinned in its time.
        for sql, values in requests.rows(Numbered(7201, record(9999, NOW))):
            connection.execute(sql, values)
        assert requests.thin(connection, NOW) == 0
        assert requests.find(connection, record(9999, NOW).id, 1)


def test_requests_and_what_else_ages_goes_by_its_own_age_and_number(tmp_path: Path) -> None:
    limits = Limits(1 << 30, requests=3600.0, incidents=86400.0)
    with closing(file.connect(tmp_path / "store.db")) as connection:
        for number in range(1, 401):
            at = NOW - 10 * (400 - number)
            for sql, values in requests.rows(Numbered(number, record(number, at))):
                connection.execute(sql, values)
            connection.execute("INSERT INTO frozen VALUES (?, ?, 'web', '', '', x'00')", (number, at))
        connection.execute("INSERT INTO incidents VALUES (1, 'app', 'web', 1.0, 2.0, 'down', 'x', '{}')")
        connection.execute("INSERT INTO incidents VALUES (2, 'app', 'web', 1.0, 0.0, 'down', 'x', '{}')")
        known = {row[1]: "x" for row in connection.execute("PRAGMA table_info(exceptions)")} | {"first": 0, "last": NOW}
        connection.execute(
            f"INSERT INTO exceptions ({', '.join(known)}) VALUES ({', '.join('?' * len(known))})", list(known.values())
        )
        retention.too_old(connection, NOW, limits)
        left = counted(connection)
        assert left["requests"] == 361
        assert left["frozen"] == 300, "so many at most, the newest"
        assert connection.execute("SELECT min(id) FROM frozen").fetchone() == (101,)
        assert connection.execute("SELECT id FROM incidents").fetchall() == [(2,)], "an open one stays"
        assert left["exceptions"] == 1
        retention.too_old(connection, NOW + 91 * 86400, limits)
        left = counted(connection)
        assert left == dict.fromkeys(left, 0) | {"incidents": 1}


def counted(connection: sqlite3.Connection) -> dict[str, int]:
    names = [one.table for one in retention.AGED]
    return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


def test_every_table_has_an_age_or_a_reason_to_have_none(tmp_path: Path) -> None:
    with closing(file.connect(tmp_path / "store.db")) as connection:
        found = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    others = {"series", "rolled", "thinned", "sqlite_sequence", *(f"points_{step}" for step in (10, 60, 3600))}
    assert found - others == {one.table for one in retention.AGED}


def test_too_large_a_file_loses_its_oldest_requests(tmp_path: Path) -> None:
    limits = Limits(1_000_000)
    with closing(file.connect(tmp_path / "store.db")) as connection:
        connection.execute("BEGIN")
        for number in range(1, 8001):
            one = record(number, NOW + number, target="/" + os.urandom(60).hex())
            for sql, values in requests.rows(Numbered(number, one)):
                connection.execute(sql, values)
        connection.execute("COMMIT")
        assert retention.used(connection) > 2 * limits.size
        for _ in range(100):
            if not retention.too_much(connection, limits):
                break
        assert retention.used(connection) <= limits.size
        low, high, count = connection.execute("SELECT min(number), max(number), count(*) FROM requests").fetchone()
        assert high == 8000 and count == high - low + 1 and count > 1000


# --- the writer -----------------------------------------------------------------------------------------------


def writer(folder: Path, said: list[str]) -> Writer:
    made = Writer(folder / "store.db", tables.tables(Deltas()), lambda kind, text, _: said.append(kind), PLENTY)
    assert made._open()
    return made


def rows_of(value: object, table: str = "events") -> tuple[str, list[Any]]:
    return table, list(tables.tables(Deltas())[table].rows(value))


def test_what_is_wrong_costs_itself_alone_and_a_lock_meanwhile_costs_nothing(tmp_path: Path) -> None:
    """In the thread's own functions, so that the lock falls between the whole batch and its single items."""
    said: list[str] = []
    made = writer(tmp_path, said)
    good = [rows_of(Event(number, NOW, "ready", "", "", "x")) for number in (1, 2)]
    made._pending.extend([good[0], rows_of(Event(10**30, NOW, "ready", "", "", "too large")), good[1]])
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert made._one_by_one() is False, "it has to wait"
        assert len(made._pending) == 3 and made.error and sum(made.dropped.values()) == 0
        other.execute("ROLLBACK")
    assert made._write() is True
    assert not made._pending and not made.error and made.dropped["events"] == 1
    assert said == ["store-failing", "store-failing", "store-well"]
    made._let_go()
    made._pending.append(good[0])
    assert made._one_by_one() is False and len(made._pending) == 1, "without a connection it waits for one"
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("SELECT id FROM events ORDER BY id").fetchall() == [(1,), (2,)]


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR]
)
def test_an_error_means_the_same_wherever_it_comes_from(tmp_path: Path, code: int) -> None:
    said: list[str] = []
    made = writer(tmp_path, said)
    error = sqlite3.OperationalError("as made")
    error.sqlite_errorcode = code
    waits = made._waits(error)
    assert waits == (code != sqlite3.SQLITE_ERROR)
    assert (made._connection is None) == (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT))
    assert bool(list(tmp_path.glob("store.db.damaged-*"))) == (code == sqlite3.SQLITE_CORRUPT)
    made._let_go()


def test_an_operation_is_read_whatever_version_wrote_it() -> None:
    one = Operation("op-3", "recycle", "web", "web-1", Asked("by hand", "why not"), NOW, state="done", ended=NOW + 1)
    one.steps, one.targets, one.told = [Step(NOW, "began")], ("web-1",), 250
    raw = plain(one)
    again = read(raw)
    assert plain(again) == raw and again.told == 250 and again.over.is_set()
    later = read({**raw, "weather": "fine", "asked": {**raw["asked"], "mood": "good"}})
    assert plain(later) == raw
    del raw["told"]
    raw["steps"] = [{"at": NOW, "text": "began"}]
    assert read(raw).told == 1 and read(raw).steps == one.steps


# --- as a whole -----------------------------------------------------------------------------------------------

SICK = Path(__file__).parents[1] / "admin" / "app.py"
CONFIG = f"""
[gateway]
listen = ["127.0.0.1:0"]
data_dir = "var"
workers = 1
[admin]
listen = "127.0.0.1:0"
[apps.away]
hosts = ["away.example.com"]
addresses = ["http://127.0.0.1:9"]
health = {{ interval = "300s", fails = 100 }}
ejection = {{ consecutive = 1000, min_requests = 1000 }}
[apps.web]
hosts = ["web.example.com"]
[apps.web.diagnose]
on = []
[apps.web.process]
command = "{sys.executable} {SICK} {{port}}"
inherit_env = ["PATH", "HOME", "{MARKER}"]
{'user = "root"' if os.geteuid() == 0 else ""}
"""
AWAY, WEB = {"Host": "away.example.com"}, {"Host": "web.example.com"}


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="triage-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.slow
def test_every_kept_request_is_there_after_control_was_killed_and_after_all_was_started_anew(folder: Path) -> None:
    running = serve(folder, CONFIG)
    try:
        until(lambda: running.try_api("status"), "it answers")
        port = running.port
        ids = [ask(port, f"/item/{number}", fields=AWAY).fields["x-request-id"] for number in range(6)]
        until(lambda: set(ids) <= listed(running), "all are listed")
        until(lambda: stored(folder) >= 6, "all are on the disk")
        control = running.control()
        os.kill(control, signal.SIGKILL)
        until(lambda: running.control() not in (0, control) and running.try_api("status"), "a new control")
        check(running, ids)
        until(lambda: len(running.ready("web")) == 1, "an instance")
        crash = ask(port, "/crash", fields=WEB).fields["x-request-id"]
        until(lambda: crash in listed(running), "new ones come before them")
        assert [one["id"] for one in running.api("requests")["items"]] == [crash, *reversed(ids)]
        until(lambda: running.api(f"requests/{crash}")["fault"] == "instance-exited", "its reason is known")
        until(lambda: stored(folder) >= 7, "it is on the disk")
        why = running.api(f"requests/{crash}/why")
    finally:
        running.end()
    again = serve(folder, CONFIG)
    try:
        until(lambda: again.try_api("status"), "it answers")
        assert again.api("requests", app="web")["items"][0]["id"] == crash
        check(again, ids, app="away")
        recalled = again.api(f"requests/{crash}/why")
        assert recalled["certainty"] == why["certainty"]
        assert "ended with exit code 3 while it had this request" in recalled["text"]
        assert "the price list is gone" in recalled["text"], "what it printed last is in the event of its end"
        done = again.cli("why", ids[3][:7])
        assert done.returncode == 0 and ids[3] in done.stdout and "connect-refused" in done.stdout, done.stderr
        unkept = f"ffffff00{int(time.time()) - 30:08x}"
        said = again.api(f"requests/{unkept}/why")["text"]
        assert "counted:" in said or "Control was started after its second" in " ".join(said.split())
    finally:
        again.end()


def listed(running: Triage) -> set[str]:
    return {one["id"] for one in (running.try_api("requests", limit=1000) or {"items": []})["items"]}


def stored(folder: Path) -> int:
    with closing(sqlite3.connect(f"file:{folder}/var/store.db?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM requests").fetchone()[0])


def check(running: Triage, ids: list[str], app: str | None = None) -> None:
    newest_first = list(reversed(ids))
    assert [one["id"] for one in running.api("requests", fault="any", app="away")["items"]] == newest_first
    page = running.api("requests", limit=4, app=app)
    assert [one["id"] for one in page["items"]] == newest_first[:4] and page["next"]
    page = running.api("requests", limit=1000, app=app, cursor=page["next"])
    assert [one["id"] for one in page["items"]] == newest_first[4:] and page["next"] is None
    assert running.api(f"requests/{ids[2][:7]}")["target"] == "/item/2"
    assert "connect" in running.api(f"requests/{ids[1]}/why")["text"]
    if app is None:
        assert running.api("requests/latest/why")["request"]["id"] == ids[-1]
