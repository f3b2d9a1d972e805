"""Whether one more session may begin, and what is thrown away for it."""

from __future__ import annotations

import os
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from proxy import units
from proxy.config import Keep
from proxy.config.schema import KeepSessions
from proxy.control.sessions import budget, folders
from proxy.control.sessions.budget import APART, AT_ONCE, COOLDOWN, LONGEST, Book
from proxy.control.sessions.session import Session, Trigger, dump, load, number_of

NOW = 1_800_000_000.0
CRASH = Trigger("crash", "crash", "web-1 ended")
RULE = Trigger("cpu", "rule diagnose cpu", rule="diagnose cpu")


def session(number: int, app: str = "web", **more: object) -> Session:
    given = {"instance": "", "mode": "analyze", "seconds": 10.0, "trigger": Trigger(), "began": NOW, **more}
    return Session(number=number, app=app, **given)  # type: ignore[arg-type]


def test_one_of_an_app_and_two_over_all() -> None:
    first = session(1, state="collecting", until=NOW + 20)
    no = budget.first("web", [first], NOW)
    assert no is not None and no.kind == "session-active" and no.until == NOW + 20
    assert no.text == "S-1 of web is under way: collecting, 20 s to go, by hand"
    assert budget.first("other", [first], NOW) is None
    others = [first, *(session(n, f"app{n}", until=NOW + n) for n in range(2, AT_ONCE + 1))]
    no = budget.first("other", others, NOW)
    assert no is not None and no.kind == "too-many-sessions" and no.until == min(one.until for one in others)
    assert "S-1 of web" in no.text and "S-2 of app2" in no.text


def test_a_storm_of_crashes_gives_one_in_some_minutes() -> None:
    book, began = Book(), []
    for second in range(0, 24 * 3600, 5):
        now = NOW + second
        if book.refuse("web", CRASH, 24, now) is None:
            book.started("web", CRASH, now)
            began.append(second)
    pauses = [after - before for before, after in pairwise(began)]
    assert pauses[0] == COOLDOWN and pauses == sorted(pauses) and max(pauses) <= LONGEST
    assert 5 < len(began) < 24, "and the day's number is not used up in an hour"


def test_another_kind_may_start_one_but_not_at_once() -> None:
    book = Book()
    book.started("web", CRASH, NOW)
    no = book.refuse("web", RULE, 24, NOW + 1)
    assert no is not None and no.kind == "cooldown" and no.until == NOW + APART
    assert book.refuse("web", RULE, 24, NOW + APART) is None
    assert book.refuse("web", CRASH, 24, NOW + APART) is not None
    assert book.refuse("other", CRASH, 24, NOW + 1) is None


def test_a_quiet_time_begins_anew() -> None:
    book = Book()
    book.started("web", CRASH, NOW)
    book.started("web", CRASH, NOW + COOLDOWN)
    assert book.refuse("web", CRASH, 24, NOW + 2 * COOLDOWN) is not None, "twice as long"
    later = NOW + 10 * COOLDOWN
    book.started("web", CRASH, later)
    assert book.refuse("web", CRASH, 24, later + COOLDOWN - 1) is not None
    assert book.refuse("web", CRASH, 24, later + COOLDOWN) is None


def test_so_many_a_day_and_over_a_restart() -> None:
    book = Book()
    for number in range(3):
        book.started("web", Trigger("rule", f"rule {number}", rule=str(number)), NOW + 100 * number)
    after = Book()
    after.load(book.dump())
    for one in (book, after):
        no = one.refuse("web", RULE, 3, NOW + 1000)
        assert no is not None and no.kind == "per-day" and no.until == NOW + units.DAYS
        assert one.refuse("web", RULE, 4, NOW + 1000) is None
        assert one.refuse("web", RULE, 3, NOW + units.DAYS + 1) is None
    no = book.refuse("web", RULE, 0, NOW)
    assert no is not None and "per_day is 0" in no.text
    book.forget([], NOW)
    assert book.dump() == {"starts": {}, "quiet": {}}


def test_a_clock_that_was_set_back_locks_nothing_for_long() -> None:
    book = Book()
    book.started("web", CRASH, NOW + 10 * units.DAYS)
    assert book.refuse("web", CRASH, 24, NOW) is None


def test_a_session_is_what_it_was_after_a_restart() -> None:
    one = session(7, trigger=CRASH, targets=("web-1", "web-2"), collectors=("stacks",), state="done", ended=NOW + 3)
    assert load({**dump(one), "of a later version": 1}) == one
    assert [number_of(text) for text in ("S-7", "s-7", "7", "S-", "x", "S-7x", "S--7")] == [7, 7, 7, *[None] * 4]


def make(parent: Path, number: int, *, by_hand: bool = False, size: int = 10, at: float = 0.0) -> Path:
    trigger = Trigger() if by_hand else CRASH
    one = session(number, trigger=trigger, state="done", ended=at or time.time() - 1000 + number)
    folder = parent / one.id
    folders.create(folder, one)
    (folder / "stacks.json").write_bytes(os.urandom(size))
    return folder


def left(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def keep(count: int = 100, size: int = units.GB, age: float = 20 * units.DAYS) -> Keep:
    return Keep(sessions=KeepSessions(count=count, size=size, age=age))


def test_those_that_nobody_asked_for_go_first_and_what_runs_stays(tmp_path: Path) -> None:
    make(tmp_path, 1)
    make(tmp_path, 2, by_hand=True)
    for number in (3, 4, 5):
        make(tmp_path, number)
    folders.prune(tmp_path, keep(count=3), {"S-1"})
    assert left(tmp_path) == ["S-1", "S-2", "S-5"]
    folders.prune(tmp_path, keep(count=2), {"S-1"})
    assert left(tmp_path) == ["S-1", "S-2"]
    folders.prune(tmp_path, keep(count=2), {"S-1"}, more=1)
    assert left(tmp_path) == ["S-1"], "one more is on its way"


def test_the_too_old_and_those_too_large_go(tmp_path: Path) -> None:
    make(tmp_path, 1, by_hand=True, at=time.time() - 3600)
    make(tmp_path, 2, size=3_000_000)
    make(tmp_path, 3, size=1_000_000)
    folders.prune(tmp_path, keep(age=1800), set())
    assert left(tmp_path) == ["S-2", "S-3"]
    folders.prune(tmp_path, keep(size=2 * units.MB), set())
    assert left(tmp_path) == ["S-3"]


def test_room_for_one_more_is_what_is_left(tmp_path: Path) -> None:
    make(tmp_path, 1, size=10 * units.MB)
    room = folders.make_room(tmp_path, keep(size=200 * units.MB), set(), dump=False)
    assert left(tmp_path) == ["S-1"] and 189 * units.MB < room < 190 * units.MB
    room = folders.make_room(tmp_path, keep(size=40 * units.MB), set(), dump=False)
    assert left(tmp_path) == [] and room == 40 * units.MB
    make(tmp_path, 2, size=2 * units.MB)
    with pytest.raises(folders.NoRoom, match=r"keep\.sessions\.size"):
        folders.make_room(tmp_path, keep(size=2 * units.MB), {"S-2"}, dump=False)


def test_what_is_no_session_is_not_read(tmp_path: Path) -> None:
    make(tmp_path, 3)
    (tmp_path / "S-4").mkdir()
    (tmp_path / "S-5").mkdir()
    (tmp_path / "S-5" / "session.json").write_text("{")
    os.symlink(tmp_path / "S-3", tmp_path / "S-6")
    (tmp_path / "ev-1").mkdir()
    assert [one.id for one in folders.read_all(tmp_path)] == ["S-3"]
    (tmp_path / "S-3" / "more").mkdir()
    (tmp_path / "S-3" / "more" / "x.json").write_text("1")
    (tmp_path / "S-3" / "x.part").write_text("1")
    assert [name for name, _ in folders.files(tmp_path / "S-3")] == ["session.json", "stacks.json", "more/x.json"]


@pytest.mark.slow
def test_nothing_is_begun_where_the_disk_is_nearly_full(tmp_path: Path) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)], capture_output=True)
    if mount.returncode:
        pytest.skip("a file system can't be mounted here")
    try:
        with pytest.raises(folders.NoRoom, match="free on the disk"):
            folders.make_room(tmp_path / "diagnostics", keep(), set(), dump=False)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
