"""Lines out of files and memory, newest first, in bounded time and bytes.

All sources (an instance's files, newest first) are read backwards side by side: always the one that is newest so far
goes on by a piece. So an answer that ends early is whole down to one moment, which it says.

A text is looked for in a thread: searching bytes takes little of the interpreter. A regular expression, and a text
that is not ASCII, are looked for in a process of their own (`python -m proxy.control.logs.search`, the question on
standard input), which is killed when its time is up: an expression that never comes to an end holds nothing up.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from proxy.control.logs.lines import Parsed, number_of, parse, untoken

SECONDS: Final = 3.0
BYTES: Final = 512 << 20
PIECE: Final = 256 << 10
ALONE: Final = 64 << 10
"""A piece where nothing is looked for: the last lines are wanted."""
LATE: Final = 1.0
"""Seconds that a process gets for its start and its answer."""


class Source(NamedTuple):
    """The files of one instance, newest first."""

    app: str
    instance: str  # "" of an app's own files: each line says whose it is
    files: list[str]


class Item(NamedTuple):
    id: int
    app: str
    instance: str
    stream: str
    line: str


class Question(NamedTuple):
    """`after` and `before` are numbers of lines, both not among what is answered; 0: no such bound."""

    sources: list[Source]
    memory: list[Item]
    instance: str = ""
    stream: str = ""  # "out", "err", "triage", "file", "file:log/app.log"
    grep: str = ""  # a text, or /an expression/; case does not matter
    after: int = 0
    before: int = 0
    limit: int = 100
    seconds: float = SECONDS


class Answer(NamedTuple):
    """`until`: it is whole down to this number; 0: there is no more. `stopped`: why it ended before `limit`."""

    items: list[Item]
    until: int = 0
    stopped: str = ""


class BadExpression(ValueError):
    """It is no regular expression; the text says why."""


def expression(grep: str) -> str:
    """What is within `/…/`; "": it is a plain text. Raises BadExpression."""
    if len(grep) < 3 or not (grep.startswith("/") and grep.endswith("/")):
        return ""
    try:
        re.compile(grep[1:-1], re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadExpression(str(error)) from None
    return grep[1:-1]


async def search(question: Question) -> Answer:
    """Raises BadExpression."""
    if not expression(question.grep) and question.grep.isascii():
        return await asyncio.to_thread(look, question)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, cwd="/", env={**os.environ, "PYTHONPATH": _package()},
    )  # fmt: skip
    try:
        async with asyncio.timeout(question.seconds + LATE):
            text, _ = await child.communicate(await asyncio.to_thread(_dumps, question))
        if child.returncode != 0:
            return Answer([], _newest(question), "the search failed")
        raw = await asyncio.to_thread(orjson.loads, text)
        return Answer([Item(*item) for item in raw[0]], raw[1], raw[2])
    except TimeoutError:
        said = f"the expression took more than {question.seconds:g} s on one line: make it simpler"
        return Answer([], _newest(question), said)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, default=tuple)  # named tuples


def _package() -> str:
    """Where `proxy` is, for a process that may be started anywhere."""
    return str(Path(__file__).resolve().parents[3])


def _newest(question: Question) -> int:
    return question.before or int(time.time() * 1e6)


class _Reader:
    """One source, read backwards."""

    def __init__(self, source: Source, before: int, piece: int) -> None:
        self.source = source
        self.position = before or 1 << 62
        """Everything with a higher number was seen."""
        self._files = [(path, found.st_ino) for path in source.files if (found := _stat(path)) is not None]
        self._file: int = -1
        self._end = 0
        self._rest = b""
        self._piece = piece
        self._before = before or 1 << 62
        self.bytes = 0

    def piece(self) -> bytes | None:
        """The lines before those that were read; None: there are no more. They may be of more than was asked for."""
        while self._file < 0 or (not self._end and not self._rest):
            if not self._open():
                return None
        size = min(self._piece, self._end)
        self._end -= size
        data = os.pread(self._file, size, self._end) if size else b""
        self.bytes += size
        data += self._rest
        if self._end:
            first, newline, rest = data.partition(b"\n")
            if not newline and len(data) < 4 * self._piece:  # one endless line: not ours
                self._rest = data
                return b""
            self._rest, data = first + newline, rest
        else:
            self._rest = b""
        return data

    def _open(self) -> bool:
        self.close()
        while self._files:
            path, inode = self._files.pop(0)
            fd = _same(path, inode)
            if fd < 0:
                continue
            self._end = os.fstat(fd).st_size
            if not self._end:
                os.close(fd)
                continue
            self._file, self._rest = fd, b""
            return True
        return False

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _same(path: str, inode: int) -> int:
    """The file that was at this path, also if it was rotated meanwhile; -1: it is gone."""
    stem, _, number = path.rpartition(".log")
    first = int(number[1:] or 0) if number[1:].isdigit() else 0
    for index in range(first, first + 3):
        with contextlib.suppress(OSError):
            fd = os.open(f"{stem}.log{f'.{index}' if index else ''}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if os.fstat(fd).st_ino == inode:
                return fd
            os.close(fd)
    return -1


def _matcher(grep: str) -> Callable[[str], bool]:
    said = expression(grep)
    if said:
        looks = re.compile(said, re.IGNORECASE)
        return lambda line: looks.search(line) is not None
    if grep:
        wanted = grep.lower()
        return lambda line: wanted in line.lower()
    return lambda line: True


def look(question: Question) -> Answer:
    """In a thread, or in a process of its own."""
    deadline = time.monotonic() + question.seconds
    matches = _matcher(question.grep)
    needle = question.grep.lower().encode() if question.grep and not expression(question.grep) else b""
    if not question.grep.isascii():
        needle = b""
    found: list[tuple[int, int, Item]] = []  # a heap, newest first
    count = 0
    for item in question.memory:
        if _wanted(item, question) and matches(item.line):
            heapq.heappush(found, (-item.id, count := count + 1, item))
    known = {item.id for item in question.memory}
    readers = [
        _Reader(source, question.before, PIECE if question.grep else ALONE) for source in question.sources
    ]
    heap = [(-reader.position, index) for index, reader in enumerate(readers)]
    heapq.heapify(heap)
    done: list[Item] = []
    spent, stopped = 0, ""
    try:
        while heap:
            while found and -found[0][0] >= -heap[0][0] and len(done) < question.limit:
                done.append(heapq.heappop(found)[2])
            if len(done) >= question.limit:
                return Answer(done, done[-1].id)
            if time.monotonic() > deadline or spent > BYTES:
                stopped = f"after {question.seconds:g} s" if spent <= BYTES else f"after {BYTES >> 20} MiB"
                return Answer(done, -heap[0][0], stopped)
            _, index = heapq.heappop(heap)
            reader = readers[index]
            before = reader.bytes
            data = reader.piece()
            spent += reader.bytes - before
            if data is None:
                continue
            if data:
                first = _first(data)
                if (first and first < question.before) or not question.before or not first:
                    for parsed in _lines(data, needle):
                        item = _item(parsed, reader.source)
                        if item.id not in known and _wanted(item, question) and matches(item.line):
                            heapq.heappush(found, (-item.id, count := count + 1, item))
                if first:
                    reader.position = min(reader.position, first)
                if first and first <= question.after:
                    continue
            heapq.heappush(heap, (-reader.position, index))
        while found and len(done) < question.limit:
            done.append(heapq.heappop(found)[2])
        return Answer(done, done[-1].id if found else 0)
    finally:
        for reader in readers:
            reader.close()


def _first(data: bytes) -> int:
    """The number of the first line that has one."""
    for line in data[:65536].split(b"\n", 8)[:8]:
        if number := number_of(line):
            return number
    return 0


def _lines(data: bytes, needle: bytes) -> Iterator[Parsed]:
    """Those that may match."""
    if not needle:
        for line in data.split(b"\n"):
            if line and (parsed := parse(line)) is not None:
                yield parsed
        return
    low = data.lower()
    at = low.find(needle)
    while at >= 0:
        begin = data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        if (parsed := parse(data[begin:end])) is not None:
            yield parsed
        at = low.find(needle, end)


def _item(parsed: Parsed, source: Source) -> Item:
    stream, instance = untoken(parsed.token)
    line = parsed.line.rstrip(b"\r").decode("utf-8", "replace")
    return Item(parsed.id, source.app, source.instance or instance, stream, line)


def _wanted(item: Item, question: Question) -> bool:
    return (
        (not question.instance or item.instance == question.instance)
        and (
            not question.stream
            or item.stream == question.stream
            or (question.stream == "file" and item.stream.startswith("file:"))
        )
        and item.id > question.after
        and (not question.before or item.id < question.before)
    )


def sources(folder: Path, apps: Sequence[str], app: str = "", instance: str = "") -> list[Source]:
    """What there is of these apps, of `app` and `instance` alone where they are given. In a thread."""
    found: dict[str, list[tuple[int, str]]] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            stem, dot, number = entry.name.rpartition(".log")
            if dot and (not number or number[1:].isdigit()):
                found.setdefault(stem, []).append((int(number[1:] or 0), entry.path))
    made = []
    for stem, files in found.items():
        if stem.endswith(".files"):
            owner, one = stem.removesuffix(".files"), ""
        else:
            owner, one = stem.rpartition("-")[0], stem
        if (app and owner != app) or (not app and apps and owner not in apps and not one):
            continue
        if instance and one not in ("", instance):
            continue
        made.append(Source(owner, one, [path for _, path in sorted(files)]))
    return made


if __name__ == "__main__":
    import signal

    given = orjson.loads(sys.stdin.buffer.read())
    signal.alarm(int(given[8] + LATE) + 1)  # whoever asked may be gone
    os.nice(5)
    answer = look(
        Question([Source(*one) for one in given[0]], [Item(*one) for one in given[1]], *given[2:])
    )
    sys.stdout.buffer.write(_dumps(answer))
