"""One process, held by its folder in /proc: all that is read through it is of this process, never of a later one that
got its number. And words for what stands there.
"""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Self, TypeVar

from proxy import masking
from proxy.diagnostics.proc import TICK

SMALL: Final = 1 << 14
COMMAND: Final = 1 << 16
"""Bytes of an argument list that are looked at."""
LINE: Final = 2000
"""Characters shown of anything."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")
STATES: Final = {
    "R": "running", "S": "sleeping", "D": "waiting in the kernel", "T": "stopped", "t": "traced", "Z": "zombie",
    "X": "dead", "x": "dead", "K": "wakekill", "W": "waking", "P": "parked", "I": "idle",
}  # fmt: skip
"""proc_pid_stat(5)."""

T = TypeVar("T")


class Opened:
    """As a context it lets go of the folder. Raises ProcessLookupError when the process has ended, or another one has
    its number; PermissionError where /proc hides it."""

    def __init__(self, pid: int, start: int = 0) -> None:
        self.pid = pid
        self.notes: list[str] = []
        try:
            self._fd = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ProcessLookupError(f"process {pid} has ended") from None
        try:
            self.stat = self.fields()
            if start and self.started != start:
                raise ProcessLookupError(f"process {pid} has ended, and another one has its number")
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def started(self) -> int:
        """Clock ticks since boot."""
        return int(self.stat[19])

    @property
    def zombie(self) -> bool:
        return self.stat[0] in "ZXx"

    def read(self, name: str, most: int = SMALL) -> bytes:
        """The first bytes of a file of it. Raises OSError."""
        return self.whole(name, most)[0]

    def whole(self, name: str, most: int) -> tuple[bytes, bool]:
        """And whether there is more of it. Raises OSError."""
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            found = b""
            while len(found) <= most and (more := os.read(fd, min(1 << 16, most + 1 - len(found)))):
                found += more
        finally:
            os.close(fd)
        return found[:most], len(found) > most

    def link(self, name: str) -> str:
        """Where a link of it leads, as it may be shown. Raises OSError."""
        return shown(os.readlink(os.fsencode(name), dir_fd=self._fd))

    def raw_link(self, name: str) -> bytes:
        return os.readlink(os.fsencode(name), dir_fd=self._fd)

    def names(self, name: str) -> list[str]:
        """Entries of a folder of it. Raises OSError."""
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def status(self, name: str) -> os.stat_result:
        """Of what a link of it leads to. Raises OSError."""
        return os.stat(name, dir_fd=self._fd)

    def count(self, name: str) -> int:
        """Entries of a folder. Raises OSError."""
        size = os.stat(name, dir_fd=self._fd).st_size  # since Linux 6.2 that is their number, for `fd`
        return size if size and name == "fd" else len(self.names(name))

    def fields(self, name: str = "stat") -> list[str]:
        """Of a stat file, from the state on: after the name, which may hold anything. Raises OSError."""
        fields = self.read(name).rpartition(b")")[2].decode("ascii", "replace").split()
        if len(fields) < 22:
            raise ProcessLookupError(f"process {self.pid} has ended")
        return fields

    def maybe(self, what: str, read: Callable[[], T]) -> T | None:
        """None when it may not be read, which is noted, or it has none; ProcessLookupError when the process ended."""
        try:
            return read()
        except ProcessLookupError:
            self.fields()  # a zombie and a thread of the kernel are there still, without memory
            return None
        except FileNotFoundError:
            return None  # this kernel has it not, or it went meanwhile
        except OSError as error:
            self.note(f"{what}: {(error.strerror or str(error)).lower()}")
            return None

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def command(self) -> str:
        """Its arguments, masked; its name in brackets where it has none, as a zombie."""
        data, more = self.whole("cmdline", COMMAND)
        words = [word.decode("utf-8", "backslashreplace") for word in data.rstrip(b"\0").split(b"\0")] if data else []
        if len(words) == 1 and " " in words[0]:  # it wrote a title over its arguments
            words = words[0].split(" ")
        if not any(words):
            return f"[{self.name()}]"
        return shown(" ".join(masking.arguments(words))) + ("…" if more else "")

    def name(self) -> str:
        return shown(self.read("comm", 64).rstrip(b"\n"))

    def pairs(self, name: str) -> dict[str, str]:
        """`Name:  value` lines. Raises OSError."""
        found = {}
        for line in self.read(name).decode("utf-8", "backslashreplace").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                found[key] = " ".join(value.split())
        return found


def shown(raw: bytes | str, most: int = LINE) -> str:
    """As it may be shown: one line, without what could write to a terminal, what is no text escaped, masked."""
    if isinstance(raw, str):
        raw = os.fsencode(raw)
    text = masking.text(_CONTROL.sub("?", raw[: 4 * most].decode("utf-8", "backslashreplace")))
    return text if len(text) <= most else text[: most - 1] + "…"


def breathe(number: int, each: int = 400) -> None:
    """Called in a loop with the number of its turn: now and then others of this process get their turn. A thread that
    makes many small system calls gets the interpreter back before who waits for it has woken up."""
    if number % each == each - 1:
        time.sleep(0.0001)


def kib(pairs: dict[str, str], name: str) -> int | None:
    """Bytes of a line such as `VmRSS: 1234 kB`."""
    words = pairs.get(name, "").split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else None


def began(started: int) -> float:
    """Unix seconds of clock ticks since boot."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + started / TICK


@lru_cache(512)
def user(uid: int) -> str:
    """Its name; the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def state(letter: str) -> str:
    return STATES.get(letter, letter)
