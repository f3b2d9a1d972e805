"""Lines that belong together: a scanner for each stream, which finds tracebacks and panics among its lines.

An entry begins where a form begins (see forms), or with the header before its first frame. It ends at a line that does
not belong to it, after 200 ms without another line, or at 500 lines. Each stream has its own scanner, so output and
error stream of an instance, and instances, do not mix. What a log format puts before a line is taken off: before the
first line whatever it is, and before the others what looks the same but for its digits.

Always true: a line that begins nothing costs a few searches for bytes, and a batch without any mark only those.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.control.logs import forms
from proxy.control.logs.fingerprint import Found, read
from proxy.control.logs.forms import Form, Goes
from proxy.control.logs.lines import Batch, text

SILENCE: Final = 0.2
"""Seconds without another line, after which an entry is whole."""
MOST: Final = 500
"""Lines of an entry; the rest of it goes unseen."""
BEFORE: Final = 8
"""Lines that are looked at for the header of frames."""
_FIELDS: Final = (
    "traceback", "exc_info", "stack_trace", "stacktrace", "stack", "exception", "error", "err", "exc_text",
)  # fmt: skip
"""Of JSON lines: where loggers put a traceback, or an object that has one."""


@dataclass(slots=True)
class Entry:
    """One exception, whole. `ids` are the first and the last line's."""

    at: float
    first: int
    last: int
    found: Found
    lines: list[str]
    batch: Batch  # that it began in: app, instance, stream, version


class Scanner:
    """Of one stream."""

    def __init__(self) -> None:
        self._before: deque[bytes] = deque(maxlen=BEFORE)
        self._numbers: deque[int] = deque(maxlen=BEFORE)
        self._form: Form | None = None
        self._lines: list[str] = []
        self._maybe: list[str] = []
        self._prefix = ""
        self._first = self._last = 0
        self._at = self._touched = 0.0
        self._batch: Batch | None = None
        self._cut = False

    @property
    def open(self) -> bool:
        return self._form is not None

    def feed(self, batch: Batch) -> Iterator[Entry]:
        """The entries that these lines end."""
        if self._form is not None and batch.at - self._touched > SILENCE:
            yield from self.end()
        if self._form is None and not marked(b"\n".join(batch.lines)):
            self._before.extend(batch.lines[-BEFORE:])
            last = batch.id + len(batch.lines)
            self._numbers.extend(range(last - min(BEFORE, len(batch.lines)), last))
            return
        for number, line in enumerate(batch.lines, batch.id):
            if self._form is not None:
                yield from self._go_on(number, line, batch)
            if self._form is None:
                if marked(line):
                    yield from self._begin(number, line, batch)
                if self._form is None:
                    self._before.append(line)
                    self._numbers.append(number)

    def expire(self, now: float) -> Iterator[Entry]:
        """`now` as `Batch.at`: what has been silent for long enough is whole."""
        if self._form is not None and not 0 <= now - self._touched <= SILENCE:
            yield from self.end()

    def end(self) -> Iterator[Entry]:
        """Nothing comes any more."""
        form, lines, batch = self._form, self._lines, self._batch
        self._form, self._lines, self._maybe, self._cut = None, [], [], False
        self._before.clear()
        self._numbers.clear()
        if form is not None and batch is not None and form.ok:
            yield Entry(self._at, self._first, self._last, read(form.name, tuple(lines)), lines, batch)

    def _go_on(self, number: int, line: bytes, batch: Batch) -> Iterator[Entry]:
        assert self._form is not None
        said = self._bare(text(line))
        goes = self._form.more(said)
        if goes is Goes.ON:
            self._touched, self._last = batch.at, number
            if len(self._lines) < MOST:
                self._lines += [*self._maybe, said]
            self._maybe = []
        elif goes is Goes.MAYBE and len(self._maybe) < 3:
            self._maybe.append(said)
        else:
            yield from self.end()

    def _begin(self, number: int, line: bytes, batch: Batch) -> Iterator[Entry]:
        said = text(line)
        stripped = said.lstrip()
        if stripped.startswith("{") or '{"' in said[:400]:
            entry = _of_json(number, said, batch)
            if entry is not None:
                yield entry
                return
        form = forms.begun(said)
        prefix = ""
        if form is None and (match := forms.BEGINS.search(said)) is not None:
            prefix = said[: match.start()]
            form = forms.begun(said[match.start() :])
        if form is not None:
            self._open(form, [said[len(prefix) :]], prefix, number, number, batch)
            return
        self._at_frame(number, said, batch)

    def _at_frame(self, number: int, said: str, batch: Batch) -> None:
        """Frames without a beginning: their header stands before them."""
        ruby = None
        place = re.search(r"\s+at ", said)
        if place is not None and forms.AT.match(said[place.start() :]):
            prefix = said[: place.start()]
        elif (ruby := forms.RUBY_AT.search(said)) is not None:
            prefix = said[: ruby.start()].removesuffix("from ").rstrip("\t")
        else:
            return
        self._prefix = prefix
        before = [self._bare(text(line)) for line in self._before]
        numbers = list(self._numbers)
        looks = forms.RUBY_HEADER if ruby else forms.EXCEPTION
        begin = next(
            (
                index
                for index in reversed(range(len(before)))
                if looks.search(before[index]) and not forms.THEN.match(before[index])
            ),
            -1,
        )
        if begin < 0:
            if ruby or not before or not before[-1].strip():
                return  # frames alone say nothing
            begin = len(before) - 1
        header = before[begin:]
        if match := looks.search(header[0]):
            header[0] = header[0][match.start() :]
        form: Form = forms.Ruby() if ruby else forms.At()
        self._open(form, [*header, said[len(prefix) :]], prefix, numbers[begin], number, batch)

    def _open(self, form: Form, lines: list[str], prefix: str, first: int, last: int, batch: Batch) -> None:
        self._form, self._lines, self._prefix, self._maybe = form, lines, prefix, []
        self._first, self._last, self._batch = first, last, batch
        self._at = self._touched = batch.at

    def _bare(self, said: str) -> str:
        """Without a prefix that looks like the first line's, or like the beginning of it: what a container puts before
        each line stands before what a logger puts before the first."""
        prefix = self._prefix
        if not prefix:
            return said
        if said.startswith(prefix):
            return said[len(prefix) :]
        if said.rstrip() == prefix.rstrip():
            return ""
        mine, other = _shape(prefix), _shape(said[: len(prefix)])
        same = next((at for at, (one, two) in enumerate(zip(mine, other, strict=False)) if one != two), len(other))
        if same < len(prefix):
            same = prefix.rfind(" ", 0, same) + 1
            if not prefix[:same].strip():
                return said
        return said[same:]


def marked(data: bytes) -> bool:
    """Something may begin in here."""
    for mark in forms.MARKS:  # noqa: SIM110 - any() with a generator costs twice as much
        if mark in data:
            return True
    return False


def _shape(prefix: str) -> str:
    return re.sub(r"\d", "0", prefix)


def _of_json(number: int, said: str, batch: Batch) -> Entry | None:
    """A line of a JSON logger that has a traceback in one of its fields."""
    try:
        value = orjson.loads(said[said.index("{") :])
    except ValueError:
        return None
    for words in _texts(value, 0):
        found = of_text(words, batch)
        if found is not None:
            return Entry(batch.at, number, number, found.found, found.lines, batch)
    return None


def _texts(value: Any, depth: int) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    for name in _FIELDS:
        inner = value.get(name)
        if isinstance(inner, str) and "\n" in inner:
            yield inner
        elif isinstance(inner, list) and inner and all(isinstance(one, str) for one in inner):
            yield "\n".join(one.rstrip("\n") for one in inner)
        elif isinstance(inner, dict) and depth < 3:
            yield from _texts(inner, depth + 1)
    for name in ("exception.stacktrace", "error.stack", "error.stack_trace"):
        if isinstance(inner := value.get(name), str):
            yield inner


def of_text(words: str, batch: Batch) -> Entry | None:
    """The first entry in a text of several lines."""
    lines = [line.encode() for line in words.split("\n")][:MOST]
    scanner = Scanner()
    inner = Batch(1, batch.at, batch.app, batch.instance, batch.stream, lines, batch.log, batch.version)
    for entry in scanner.feed(inner):
        return entry
    for entry in scanner.end():
        return entry
    return None
