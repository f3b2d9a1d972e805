"""The app's own log files, followed: real files, renamed, truncated, removed; and a control that is killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.config import App as AppConfig
from proxy.config import Process
from proxy.control.logs import follow
from proxy.control.logs.book import LogBook
from proxy.control.logs.capture import CUT, LINE
from proxy.control.logs.search import Question, look, sources
from proxy.control.logs.writer import LogWriter
from proxy.control.state import AppState


class Lives:
    """One control after another, over the same files."""

    def __init__(self, folder: Path, *patterns: str) -> None:
        self.app = folder / "app"
        self.app.mkdir()
        self.logs = folder / "logs"
        process = Process(command=("x",), cwd=str(self.app), logs=patterns or ("*.log",))
        self.state = AppState("web", AppConfig(process=process), 0)
        self.events: list[tuple[str, str]] = []
        self.saved: dict[str, Any] = {}
        self.book = self._book()

    def _book(self) -> LogBook:
        def event(kind: str, text: str, app: str = "", instance: str = "", **more: Any) -> None:
            self.events.append((kind, text))

        def noted() -> None:
            self.saved = self.book.dump()

        return LogBook(LogWriter(self.logs), {"web": self.state}, event, noted, lambda row: None)

    async def round(self, flush: bool = True) -> None:
        await self.book.first_look()
        if flush:
            assert self.book.writer.flush()

    async def killed(self) -> None:
        """What the ledger has is all that the next one knows. The old one's thread has ended as it would be killed."""
        self.book.writer.close()
        self.book.follower.close()
        self.book.exceptions.close()
        self.book = self._book()
        self.book.load(self.saved)
        await self.round()

    def seen(self, stream: str = "file") -> list[str]:
        """All lines in our log, oldest first."""
        found = look(Question(sources(self.logs, ["web"]), [], stream=stream, limit=100_000))
        return [item.line for item in reversed(found.items)]

    def close(self) -> None:
        self.book.writer.close()
        self.book.follower.close()
        self.book.exceptions.close()


@pytest.fixture
def lives(tmp_path: Path):  # type: ignore[no-untyped-def]
    made: list[Lives] = []

    def make(*patterns: str) -> Lives:
        made.append(Lives(tmp_path, *patterns))
        return made[0]

    yield make
    for one in made:
        one.close()


Make = Callable[..., Lives]


def add(path: Path, *lines: str) -> None:
    with open(path, "a") as file:
        file.write("".join(f"{line}\n" for line in lines))


async def test_what_is_there_at_the_beginning_is_old_and_what_comes_is_new(lives: Make) -> None:
    one = lives()
    add(one.app / "a.log", "old")
    await one.round()
    add(one.app / "a.log", "one", "two")
    add(one.app / "b.log", "later")
    add(one.app / "c.txt", "not asked for")
    await one.round()
    assert sorted(one.seen()) == ["later", "one", "two"]
    assert one.seen("file:a.log") == ["one", "two"]


async def test_a_line_is_taken_when_it_is_whole(lives: Make) -> None:
    one = lives()
    await one.round()
    path = one.app / "a.log"
    path.write_text("hal")
    await one.round()
    assert one.seen() == []
    with path.open("a") as file:
        file.write("f\nnext\n")
    await one.round()
    assert one.seen() == ["half", "next"]


async def test_through_rotation_by_rename(lives: Make) -> None:
    one = lives("*.log", "*.log.1")
    path = one.app / "a.log"
    await one.round()
    writer = path.open("a", buffering=1)
    writer.write("1\n2\n")
    await one.round()
    path.rename(one.app / "a.log.1")  # and the app goes on writing to it for a while
    writer.write("3\n")
    add(path, "4")
    writer.write("5\n")
    await one.round()
    writer.close()
    add(path, "6")
    await one.round()
    assert sorted(one.seen()) == ["1", "2", "3", "4", "5", "6"]


async def test_through_copytruncate_even_where_the_copy_is_followed(lives: Make) -> None:
    """What the app wrote between our last look and the copy is only in the copy: it is read there, once."""
    one = lives("a.log*")
    path = one.app / "a.log"
    await one.round()
    add(path, *(f"line {number}" for number in range(50)))
    await one.round()
    add(path, "before the copy")
    (one.app / "a.log.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    add(path, "anew")
    await one.round()
    await one.round()
    assert sorted(one.seen()) == sorted([*(f"line {number}" for number in range(50)), "before the copy", "anew"])


async def test_truncated_and_grown_beyond_where_we_were(lives: Make) -> None:
    one = lives()
    path = one.app / "a.log"
    await one.round()
    add(path, "short")
    await one.round()
    path.write_text("")
    add(path, *(f"longer {number}" for number in range(100)))
    await one.round()
    assert one.seen() == ["short", *(f"longer {number}" for number in range(100))]


async def test_a_file_that_is_removed_is_read_to_its_end_and_let_go(lives: Make, monkeypatch: Any) -> None:
    monkeypatch.setattr(follow, "GONE", 0.0)
    one = lives()
    path = one.app / "a.log"
    await one.round()
    add(path, "one")
    await one.round()
    add(path, "two")
    with path.open("a") as file:
        file.write("no end")
    path.unlink()
    await one.round()
    await one.round()
    assert one.seen() == ["one", "two", "no end"]
    assert not one.book.follower.files


async def test_a_killed_control_loses_and_repeats_nothing(lives: Make) -> None:
    one = lives()
    path = one.app / "a.log"
    await one.round()
    expected = []
    for number in range(60):
        expected += [f"{number} a", "", f"{number} {'x' * number * 300}"]
        add(path, *expected[-3:])
        if number % 7 == 3:
            with path.open("a") as file:
                file.write(f"part of {number}")
            expected.append(f"part of {number}{number} b")
        await one.round(flush=number % 5 != 0)
        if number % 7 == 3:
            add(path, f"{number} b")
        if number % 3 == 0:
            one.saved = one.book.dump()
        if number % 4 == 0:
            await one.killed()
    await one.round()
    assert one.seen() == [line if len(line) <= LINE else line[:LINE] + CUT.decode() for line in expected]


async def test_killed_while_the_file_was_rotated(lives: Make) -> None:
    one = lives()
    path = one.app / "a.log"
    await one.round()
    add(path, "1", "2")
    await one.round()
    one.saved = one.book.dump()
    add(path, "3")
    path.rename(one.app / "a.log.1")
    add(path, "4")
    await one.killed()
    await one.round()
    assert sorted(one.seen()) == ["1", "2", "3", "4"]


async def test_pipes_folders_and_devices_are_refused(lives: Make) -> None:
    one = lives("pipe", "folder", "null", "closed")
    os.mkfifo(one.app / "pipe")
    (one.app / "folder").mkdir()
    (one.app / "null").symlink_to("/dev/zero")
    await one.round()
    await one.round()
    said = [text for kind, text in one.events if kind == "log-refused"]
    assert len(said) == 3 and any("a pipe" in text for text in said) and any("a folder" in text for text in said)
    assert not one.book.follower.files


async def test_the_number_of_files_is_bounded_and_said(lives: Make) -> None:
    one = lives()
    await one.round()
    for number in range(follow.MOST + 20):
        add(one.app / f"{number}.log", "x")
    await one.round()
    assert len(one.book.follower.files) == follow.MOST
    assert [kind for kind, _ in one.events] == ["logs-cut"]


async def test_a_file_that_grows_too_fast_is_skipped_and_that_is_said(lives: Make, monkeypatch: Any) -> None:
    monkeypatch.setattr(follow, "BEHIND", 100_000)
    monkeypatch.setattr(follow, "KEEP", 10_000)
    one = lives()
    await one.round()
    add(one.app / "a.log", *(f"{number:09d}" for number in range(50_000)))
    await one.round()
    await one.round()
    found = one.seen()
    assert found[-1] == "000049999" and len(found) == 999  # the first one is not whole
    assert one.book.skipped == 490_000
    assert "490000 bytes of" in one.seen("triage")[0]
