"""A line, its number, and its form in a file: `2026-01-05T03:07:35.412345Z err text`.

The number is microseconds since the epoch. Files of before had milliseconds there; their lines are read too, several of
them under one number.
"""

from __future__ import annotations

import urllib.parse
from calendar import timegm
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

TRIAGE: Final = "triage"
"""The stream of what Triage says in between: what was dropped, where a gap is."""
FILE: Final = "file:"
WEIGHT: Final = 60
"""Bytes that a line takes in memory beside its own."""


class Line(NamedTuple):
    """One line, as printed."""

    at: float  # Unix seconds, when it was read
    stream: str  # "out" | "err" | "triage"
    text: str
    id: int = 0  # 0: not whole yet


def stamp(at: float) -> str:
    """UTC with milliseconds: `2026-01-05T03:07:35.412Z`."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


@lru_cache(maxsize=64)
def second(at: int) -> bytes:
    """`2026-01-05T03:07:35.` of Unix seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()


def micros(number: int) -> str:
    """UTC with microseconds, of a line's number."""
    seconds, rest = divmod(number, 1_000_000)
    return f"{second(seconds).decode()}{rest:06d}Z"


def text(line: bytes) -> str:
    """As people read it."""
    return line.rstrip(b"\r").decode("utf-8", "replace")


@dataclass(slots=True, eq=False)
class Batch:
    """Lines of one read of one stream; line i has the number `id + i`.

    `before` counts the lines that came before this batch: of the instance, of the app, of all."""

    id: int
    at: float  # Unix seconds
    app: str
    instance: str  # "" of an app's file that is no single instance's
    stream: str
    lines: list[bytes]
    log: str  # name of the file that it goes to
    version: str = ""
    size: int = 0  # of the lines, in bytes
    before: tuple[int, int, int] = (0, 0, 0)
    number: int = 0  # of the batch, over all
    kept: int = 0  # 0: on its way to the disk, 1: written, -1: could not be

    @property
    def weight(self) -> int:
        return self.size + WEIGHT * len(self.lines)


def encode(batch: Batch) -> list[bytes]:
    """As they stand in a file, each with its end. In pieces where there are many: see the writer."""
    found: list[bytes] = []
    stream, number, lines = token(batch.stream, batch.instance), batch.id, batch.lines
    at = 0
    while at < len(lines):  # a batch may reach over the end of a second
        seconds, rest = divmod(number + at, 1_000_000)
        most = 1_000_000 - rest
        begin, end = second(seconds), b"Z " + stream + b" "
        found += [
            b"%s%06d%s%s\n" % (begin, micro, end, line) for micro, line in enumerate(lines[at : at + most], rest)
        ]
        at += most
    return found


@lru_cache(maxsize=4096)
def token(stream: str, instance: str) -> bytes:
    """What stands in a file for a stream; of an app's own file the instance, where it is known, is within."""
    if not stream.startswith(FILE):
        return stream.encode()
    path = urllib.parse.quote(stream.removeprefix(FILE), safe="/:,+=~!$&'()*")
    return f"{FILE}{path}{'@' + urllib.parse.quote(instance) if instance else ''}".encode()


@lru_cache(maxsize=4096)
def untoken(token: bytes) -> tuple[str, str]:
    """(stream, instance) of what stands in a file; the instance is "" where the file's name says it."""
    found = token.decode("utf-8", "replace")
    if not found.startswith(FILE):
        return found, ""
    path, _, instance = found.removeprefix(FILE).partition("@")
    return FILE + urllib.parse.unquote(path), urllib.parse.unquote(instance)


class Parsed(NamedTuple):
    """One line of a file."""

    id: int
    token: bytes
    line: bytes


def number_of(line: bytes) -> int:
    """The number of a line of a file; 0: it has none (it was not written whole)."""
    if len(line) < 25 or line[19:20] != b".":
        return 0
    end = 26 if line[26:28] == b"Z " else 23
    if line[end : end + 2] != b"Z ":
        return 0
    seconds = _seconds(line[:19])
    fraction = line[20:end]
    if not seconds or not fraction.isdigit():
        return 0
    return seconds * 1_000_000 + int(fraction) * (1 if end == 26 else 1000)


@lru_cache(maxsize=1024)
def _seconds(text: bytes) -> int:
    try:
        return timegm(datetime.strptime(text.decode("ascii"), "%Y-%m-%dT%H:%M:%S").timetuple())
    except ValueError:
        return 0


def parse(line: bytes) -> Parsed | None:
    """A line of a file, without its end."""
    number = number_of(line)
    if not number:
        return None
    _, _, rest = line.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    return Parsed(number, stream, rest)


class Numbers:
    """Gives lines their numbers."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def take(self, count: int, at: float) -> int:
        """The first of `count` numbers; `at` is Unix time."""
        first = max(int(at * 1_000_000), self.last + 1)
        self.last = first + count - 1
        return first

    def at_least(self, last: int) -> None:
        self.last = max(self.last, last)


def weigh(lines: Sequence[bytes]) -> int:
    """Bytes of the lines and their ends."""
    return sum(map(len, lines)) + len(lines)
