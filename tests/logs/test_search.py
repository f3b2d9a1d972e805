"""Numbers of lines, and finding them again in the files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from proxy.control.logs import search as module
from proxy.control.logs.book import LogBook, highest
from proxy.control.logs.lines import Batch, Numbers, encode, micros, number_of, parse, stamp, untoken, weigh
from proxy.control.logs.recent import Recent
from proxy.control.logs.search import BadExpression, Item, Question, expression, look, search, sources
from proxy.control.logs.writer import LogWriter

BEGAN = 1_767_582_455_999_000


def batch(id: int, lines: list[bytes], instance: str = "web-1", stream: str = "out", app: str = "web") -> Batch:
    return Batch(id, id / 1e6, app, instance, stream, lines, instance or f"{app}.files", size=weigh(lines))


def test_a_line_in_a_file_says_its_number() -> None:
    made = encode(batch(BEGAN, [b"x%d" % n for n in range(2500)]))  # over the end of a second
    assert made[0] == b"2026-01-05T03:07:35.999000Z out x0\n"
    found = [parse(line[:-1]) for line in made]
    assert [one.id for one in found if one] == list(range(BEGAN, BEGAN + 2500))
    assert found[2000] and found[2000].line == b"x2000" and untoken(found[2000].token) == ("out", "")
    assert micros(BEGAN) == "2026-01-05T03:07:35.999000Z"


def test_a_path_with_anything_in_it_is_read_back() -> None:
    for stream in ("file:log/app.log", "file:/var/log/my app@1 ü%.log"):
        (line,) = encode(batch(BEGAN, [b"a b  c"], "web-1", stream))
        found = parse(line[:-1])
        assert found and untoken(found.token) == (stream, "web-1") and found.line == b"a b  c"


def test_lines_of_before_had_milliseconds() -> None:
    found = parse(b"2026-01-05T03:07:35.412Z err hello")
    assert found and found.id == 1_767_582_455_412_000 and found.line == b"hello"
    for line in (b"", b"x" * 40, b"2026-99-05T03:07:35.412Z err x", b"2026-01-05T03:07:35.4x2Z err x", b"\xff" * 30):
        assert number_of(line) == 0 and parse(line) is None


def test_numbers_only_grow_whatever_the_clock_says(tmp_path: Path) -> None:
    numbers = Numbers()
    assert numbers.take(3, 100.0) == 100_000_000
    assert numbers.take(1, 100.0) == 100_000_003
    assert numbers.take(1, 50.0) == 100_000_004  # the clock was set back
    assert numbers.take(1, 200.0) == 200_000_000


def test_a_new_control_goes_on_behind_the_highest_in_the_files(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path)
    future = int((time.time() + 3600) * 1e6)
    assert writer.put(batch(future, [b"from the future", b"and more"]))
    assert writer.put(batch(future - 5000, [b"x" * 8192], "web-2"))
    writer.close()
    with (tmp_path / "web-1.log").open("ab") as file:
        file.write(b"2026-01-05T03:07:35.4")  # a line that was not written whole
    assert highest(tmp_path) == future + 1
    assert highest(tmp_path / "nothing") == 0


class Files:
    """Some instances' files, and what is in them."""

    def __init__(self, folder: Path, size: int = 20_000, files: int = 4) -> None:
        self.folder = folder
        self.writer = LogWriter(folder, size, files)
        self.all: list[Item] = []
        self.next = BEGAN

    def add(self, text: str, instance: str = "web-1", stream: str = "out", app: str = "web", step: int = 7) -> None:
        assert self.writer.put(batch(self.next, [text.encode()], instance, stream, app))
        self.all.insert(0, Item(self.next, app, instance, stream, text))
        self.next += step

    def look(self, app: str = "", instance: str = "", **asked: Any) -> Any:
        assert self.writer.flush()
        return look(Question(sources(self.folder, ["web", "api"], app, instance), [], instance, **asked))


@pytest.fixture
def files(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Files(tmp_path)
    yield made
    made.writer.close()


def test_newest_first_over_instances_and_rotated_files(files: Files) -> None:
    for number in range(1500):
        files.add(f"line {number} {'x' * (number % 50)}", f"web-{number % 3 + 1}", "out" if number % 2 else "err")
        if number % 100 == 0:
            assert files.writer.flush()
    assert (files.folder / "web-1.log.1").exists()
    assert files.look(limit=5000).items == files.all
    assert files.look(limit=20).items == files.all[:20]
    assert files.look(instance="web-2", limit=20).items == [one for one in files.all if one.instance == "web-2"][:20]
    assert files.look(stream="err", limit=20).items == [one for one in files.all if one.stream == "err"][:20]
    assert files.look(grep="LINE 14", limit=5000).items == [one for one in files.all if "line 14" in one.line]
    assert files.look(after=files.all[9].id, limit=5000).items == files.all[:9]
    found: list[Item] = []
    before = 0
    while True:
        page = files.look(limit=170, before=before)
        found += page.items
        if not page.until:
            break
        before = page.until
    assert found == files.all


def test_apps_are_told_apart_and_the_apps_own_files_are_there(files: Files) -> None:
    files.add("of web")
    files.add("of api", "api-1", app="api")
    files.add("of its file", "", "file:log/a.log")
    assert [one.line for one in files.look("web").items] == ["of its file", "of web"]
    assert [one.line for one in files.look("api").items] == ["of api"]
    assert [one.line for one in files.look("web", stream="file").items] == ["of its file"]
    assert [one.line for one in files.look("web", stream="file:log/b.log").items] == []


def test_a_stamp_is_no_match_and_binary_lines_are_none_either(files: Files) -> None:
    files.add("nothing")
    assert files.writer.write("web-1", b"\x00\xff\xfe binary 2026\n" + bytes(range(11, 256)) * 30 + b"\n")
    files.add("found: 2026")
    assert [one.line for one in files.look(grep="2026").items] == ["found: 2026"]


def test_lines_on_their_way_are_found_too_and_once(files: Files) -> None:
    files.add("written")
    assert files.writer.flush()
    memory = [Item(BEGAN + 100, "web", "web-1", "out", "waiting"), files.all[0]]
    found = look(Question(sources(files.folder, ["web"]), memory, limit=10))
    assert [one.line for one in found.items] == ["waiting", "written"]


def test_a_search_that_takes_too_long_says_down_to_where_it_is_whole(files: Files) -> None:
    for number in range(3000):
        files.add(f"line {number}", f"web-{number % 2 + 1}")
    assert files.writer.flush()
    found = files.look(grep="not there at all", seconds=0.0)
    assert found.stopped.startswith("after") and found.items == []
    assert found.until >= files.all[0].id
    again = files.look(grep="line", before=found.until, limit=5000)
    assert again.until == 0 and again.items[-1].line.startswith("line ")


def test_files_that_are_rotated_while_they_are_read(files: Files) -> None:
    for number in range(300):
        files.add(f"line {number}")
    assert files.writer.flush()
    reader = module._Reader(sources(files.folder, ["web"])[0], 0, 64 << 10)
    for number in range(300, 700):
        files.add(f"line {number}")
        assert files.writer.flush()
    data = reader.piece()
    assert (files.folder / "web-1.log.1").exists()
    assert data and b" line 0\n" in data and b"line 699" not in data
    reader.close()


async def test_expressions_run_apart(files: Files) -> None:
    files.add("GET /products 200")
    files.add("grüße aus Köln")
    files.add("a" * 40)
    assert files.writer.flush()

    async def ask(grep: str, **more: Any) -> Any:
        return await search(Question(sources(files.folder, ["web"]), [], grep=grep, **more))

    assert [one.line for one in (await ask(r"/products \d+$/")).items] == ["GET /products 200"]
    assert [one.line for one in (await ask("KÖLN")).items] == ["grüße aus Köln"]
    began = time.monotonic()
    never = await ask("/(a+)+$x/", seconds=0.5)
    assert never.items == [] and "one line" in never.stopped and never.until
    assert time.monotonic() - began < 30
    with pytest.raises(BadExpression):
        expression("/(/")
    assert expression("/var/log/") == "var/log"
    assert expression("plain") == expression("/") == ""


def test_memory_keeps_the_newest_and_counts_what_it_let_go() -> None:
    recent = Recent(most=100_000)
    for number in range(1000):
        made = batch(BEGAN + 100 * number, [b"x" * 100] * 3, f"web-{number % 2}")
        recent.add(made)
    assert recent.weight <= 100_000 and recent.ring[-1].number == 1000
    oldest = recent.ring[0]
    earlier = oldest.number - 1
    assert oldest.before == (3 * (earlier // 2), 3 * earlier, 3 * earlier)
    assert recent.lines("web", "web-1") == recent.lines("", "web-1") == 1500
    assert recent.lines("web", "") == recent.lines("", "") == 3000
    assert [one.number for one in recent.after(995, 3)] == [996, 997, 998]
    assert recent.after(1000, 3) == []


async def test_what_the_disk_does_not_take_is_in_memory_and_found(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    book = LogBook(LogWriter(tmp_path / "logs"), {}, lambda *said, **more: None, lambda: None, lambda row: None)
    book.take(batch(BEGAN, [b"lost on the way"]))
    assert book.writer.flush()
    found = await book.search("", "", grep="ON THE way")
    assert [item.line for item in found.items] == ["lost on the way"]
    assert book.writer.lost == len(b"lost on the way\n")
    book.writer.close()
    book.exceptions.close()
    assert stamp(BEGAN / 1e6) == "2026-01-05T03:07:35.999Z"
