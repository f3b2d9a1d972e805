"""The app's own log files, followed: through rotation, truncation and removal, each byte once.

They are looked at once a second, in a thread: what matches the patterns, what was added. A file is known by its inode,
so one that was renamed is read to its end under its old name, and a copy of one (by its first bytes) is not read again.

Always true:
  - the position of a file is told to a new control only when its lines are in our log; what was written after that it
    finds there, and skips as many lines: so a control that is killed at any point loses and repeats nothing;
  - a round reads a bounded part, and what does not fit is read in the next; a file that grows faster than it is read is
    skipped forward, and the log says by how much;
  - only plain files are opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from proxy.control.files import look
from proxy.control.logs.capture import CUT, LINE
from proxy.control.logs.lines import FILE, Batch, parse, token

MOST: Final = 100
"""Files of one app."""
READ: Final = 64 << 10
ROUND: Final = 8 << 20
"""Bytes of one file in one round, and with LINES what an app's log may be fed in a second."""
LINES: Final = 50_000
BEHIND: Final = 64 << 20
"""Bytes that a file may be ahead; then all but KEEP is skipped."""
KEEP: Final = 1 << 20
HEAD: Final = 256
"""First bytes by which a file is known again."""
GONE: Final = 10.0
"""Seconds of silence after which a file that is no longer at its path is let go: some go on writing after a rename."""


@dataclass(slots=True, eq=False)
class File:
    """One file that is open."""

    app: str
    path: str
    name: str  # as the stream has it
    instance: str  # "" unless its pattern has {name}
    fd: int
    device: int
    inode: int
    offset: int = 0  # up to which its lines were taken
    ahead: bytes = b""  # behind it, read, and not a whole line yet
    cutting: bool = False
    skip: int = 0  # lines that our log has already
    skipped: int = 0  # number of the last of them
    head: bytes = b""
    moved: bool = False  # another file, or none, is at its path
    touched: float = 0.0  # monotonic
    tail: bytes = b""  # the last bytes before `offset`
    copied: File | None = None  # what this is a copy of: read from where that one was truncated
    taken: tuple[int, bool] = (0, False)  # offset up to which lines were handed over, and whether within a long line
    handed: list[tuple[Batch, int, bool]] = field(default_factory=list)  # with the same, behind each
    sure: tuple[int, bool] = (0, False)  # likewise, in our log
    sure_id: int = 0  # number of the last line before it

    @property
    def stream(self) -> str:
        return FILE + self.name


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of one file, and the offset behind them. `note`: what Triage says instead."""

    file: File
    lines: list[bytes]
    end: int
    cutting: bool = False
    note: str = ""
    skipping: bool = False  # what is behind it may be in our log, too


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is followed of one app. `patterns`: with the instance that each belongs to."""

    app: str
    folder: str
    patterns: tuple[tuple[str, str], ...]
    fresh: bool  # what is there now was written before anyone followed it


@dataclass(slots=True)
class Seen:
    """What a round found."""

    parts: list[Part] = field(default_factory=list)
    said: list[tuple[str, str, str]] = field(default_factory=list)  # kind, app, text
    more: bool = False  # there is more to be read now


class Follower:
    """The thread's side; rounds never overlap, and between them control's loop may read and rewind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory  # of our logs
        self.files: dict[tuple[int, int], File] = {}
        self.restored: list[dict[str, Any]] = []
        """Positions of a control before, until the first round took them."""
        self._said: set[tuple[str, str]] = set()
        self._late: dict[str, int] = {}  # files of an app that are followed from their end on

    def round(self, wanted: Sequence[Wanted]) -> Seen:
        """In a thread: look, open, read."""
        seen = Seen()
        apps = {one.app for one in wanted}
        self._restore(apps, seen)
        for one in wanted:
            self._find(one, seen)
        for file in list(self.files.values()):
            if file.app not in apps:
                self._let_go(file)
        for app, count in self._late.items():
            note = f"{count} log file{'s' if count > 1 else ''} of {app} had something already: followed from here on"
            seen.parts.append(Part(File(app, "", "", "", -1, 0, 0), [], 0, note=note))
        self._late.clear()
        lines = dict.fromkeys(apps, LINES)
        now = time.monotonic()
        for file in list(self.files.values()):
            self._read(file, seen, lines, now)
        return seen

    def close(self) -> None:
        for file in list(self.files.values()):
            self._let_go(file)

    # --- which files ---------------------------------------------------------------------------------

    def _find(self, wanted: Wanted, seen: Seen) -> None:
        here: set[tuple[int, int]] = set()
        count = sum(file.app == wanted.app for file in self.files.values())
        for pattern, instance in wanted.patterns:
            found = look(wanted.folder, [pattern], [str(self.directory)])
            if not found.found:
                self._odd(wanted, pattern, seen)
            for path in sorted(found.found):
                at = _identity(path)
                if at is None:
                    continue
                here.add(at)
                known = self.files.get(at)
                if known is not None:
                    if known.moved and known.path == path:
                        known.moved = False
                    continue
                if count >= MOST:
                    self._say(seen, wanted.app, "logs-cut", f"only {MOST} log files of it are followed")
                    break
                count += self._begin(wanted, path, instance, seen)
        for file in self.files.values():
            if file.app == wanted.app:
                file.moved = _identity(file.path) != (file.device, file.inode)

    def _odd(self, wanted: Wanted, pattern: str, seen: Seen) -> None:
        """A path that is there and is no file is said, once."""
        path = os.path.join(wanted.folder, pattern)
        with contextlib.suppress(OSError):
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "no plain file"
                self._say(seen, wanted.app, "log-refused", f"{path} is {kind}: it is not followed")

    def _say(self, seen: Seen, app: str, kind: str, text: str) -> None:
        if (app, text) not in self._said and len(self._said) < 1000:
            self._said.add((app, text))
            seen.said.append((kind, app, f"{app}: {text}"))

    def _begin(self, wanted: Wanted, path: str, instance: str, seen: Seen) -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            self._say(seen, wanted.app, "log-refused", f"{path} can't be read: {error.strerror}")
            return 0
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            return 0
        copied = self._original(wanted.app, fd)
        begin = found.st_size if wanted.fresh or copied is not None else 0
        if wanted.fresh and begin:
            self._late[wanted.app] = self._late.get(wanted.app, 0) + 1
        name = os.path.relpath(path, wanted.folder) if path.startswith(wanted.folder + os.sep) else path
        file = File(wanted.app, path, name, instance, fd, found.st_dev, found.st_ino, begin, head=_head(fd))
        file.taken = file.sure = (begin, False)
        file.copied = copied
        file.touched = time.monotonic()
        self.files[file.device, file.inode] = file
        return 1

    def _original(self, app: str, fd: int) -> File | None:
        """Of what this file is a copy, as copytruncate makes it: the same up to where that one was read."""
        for file in self.files.values():
            begin = file.offset - len(file.tail)
            if file.app == app and file.tail and os.pread(fd, len(file.tail), begin) == file.tail:
                if _head(fd)[: len(file.head)] == file.head:
                    return file
        return None

    def _let_go(self, file: File) -> None:
        os.close(file.fd)
        self.files.pop((file.device, file.inode), None)
        for other in self.files.values():
            if other.copied is file:
                other.copied = None

    # --- reading -------------------------------------------------------------------------------------

    def _read(self, file: File, seen: Seen, lines: dict[str, int], now: float) -> None:
        if file.copied is not None:
            return
        size = os.fstat(file.fd).st_size
        at = file.offset + len(file.ahead)
        head = _head(file.fd)
        if size < at or not head.startswith(file.head):
            self._truncated(file)
            at = 0
        file.head = head
        if size - at > BEHIND:
            skipped = size - KEEP - at
            note = f"{skipped} bytes of {file.path} were skipped: it grows faster than it is read"
            seen.parts.append(Part(file, [], size - KEEP, True, note))
            file.offset, file.ahead, file.cutting, file.tail = size - KEEP, b"", True, b""
        end = min(size, file.offset + len(file.ahead) + ROUND)
        while file.offset + len(file.ahead) < end and lines[file.app] > 0:
            data = os.pread(file.fd, min(READ, end - file.offset - len(file.ahead)), file.offset + len(file.ahead))
            if not data:
                break
            file.touched = now
            part = self._cut(file, data)
            if part is not None:
                lines[file.app] -= len(part.lines)
                seen.parts.append(part)
        if file.offset + len(file.ahead) < size:
            seen.more = True
        elif file.moved and now - file.touched > GONE:
            if file.ahead:  # its last line has no end and never will
                file.offset += len(file.ahead)
                seen.parts.append(Part(file, [file.ahead], file.offset, False))
                file.ahead = b""
            self._let_go(file)

    def _truncated(self, file: File) -> None:
        """It begins anew. What a copy of it has behind what was read is read there."""
        for other in self.files.values():
            if other.copied is file:
                other.copied = None
                other.offset, other.cutting, other.tail = file.offset, file.cutting, file.tail
                other.taken = (other.offset, other.cutting)
        file.offset, file.ahead, file.cutting, file.skip, file.tail, file.head = 0, b"", False, 0, b"", b""
        if file.handed:
            last = file.handed[-1][0]
            file.sure_id = last.id + len(last.lines) - 1
        file.handed.clear()
        file.taken = file.sure = (0, False)

    def back(self, file: File) -> None:
        """On the loop, between rounds: what was read and not taken is read again."""
        file.offset, file.cutting = file.taken
        file.ahead, file.tail = b"", b""

    def _cut(self, file: File, data: bytes) -> Part | None:
        """The whole lines of what was read."""
        data, file.ahead = file.ahead + data, b""
        whole, newline, rest = data.rpartition(b"\n")
        lines: list[bytes] = []
        if file.cutting:
            if not newline:
                file.offset += len(data)
                file.tail = (file.tail + data)[-HEAD:]
                return None
            _, more, whole = whole.partition(b"\n")
            file.cutting = False
            lines = whole.split(b"\n") if more else []
        elif newline:
            lines = whole.split(b"\n")
        file.offset += len(data) - len(rest)
        if len(rest) > LINE:
            lines.append(rest[:LINE] + CUT)
            file.offset += len(rest)
            file.cutting, rest = True, b""
        file.ahead = rest
        file.tail = (file.tail + data[: len(data) - len(rest)])[-HEAD:]
        lines = [line[:LINE] + CUT if len(line) > LINE and not line.endswith(CUT) else line for line in lines]
        if file.skip:
            skip = min(file.skip, len(lines))
            file.skip -= skip
            lines = lines[skip:]
        return Part(file, lines, file.offset, file.cutting, skipping=file.skip > 0)

    # --- over a death of control ---------------------------------------------------------------------

    def dump(self) -> list[dict[str, Any]]:
        """Positions that are sure."""
        found = []
        for file in list(self.files.values()):
            while file.handed and file.handed[0][0].kept:
                batch, end, cutting = file.handed.pop(0)
                file.sure, file.sure_id = (end, cutting), batch.id + len(batch.lines) - 1
            found.append(
                {"app": file.app, "path": file.path, "name": file.name, "instance": file.instance, "inode": file.inode,
                 "device": file.device, "offset": file.sure[0], "cutting": file.sure[1], "id": file.sure_id,
                 "head": file.head.hex()}
            )  # fmt: skip
        return [*found, *self.restored]

    def _restore(self, apps: Iterable[str], seen: Seen) -> None:
        restored, self.restored = self.restored, []
        for raw in restored:
            with contextlib.suppress(KeyError, ValueError, TypeError, OSError):
                if raw["app"] in apps:
                    self._again(raw, seen)

    def _again(self, raw: dict[str, Any], seen: Seen) -> None:
        """Raises KeyError, ValueError, TypeError, OSError."""
        at = (int(raw["device"]), int(raw["inode"]))
        path = _where(str(raw["path"]), at)
        if not path:
            note = f"{raw['path']} went while control was away: its end is not known"
            seen.parts.append(Part(_none(raw), [], 0, note=note))
            return
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        if (os.fstat(fd).st_dev, os.fstat(fd).st_ino) != at:
            os.close(fd)
            return
        file = File(
            str(raw["app"]), str(raw["path"]), str(raw["name"]), str(raw["instance"]), fd, *at, int(raw["offset"]),
            cutting=bool(raw["cutting"]), head=bytes.fromhex(raw["head"]), sure_id=int(raw["id"]),
        )  # fmt: skip
        file.taken = file.sure = (file.offset, file.cutting)
        begin = max(0, file.offset - HEAD)
        file.tail = os.pread(fd, file.offset - begin, begin)
        file.touched = time.monotonic()
        file.skip, file.skipped = written(self.directory, file)
        self.files[at] = file


def written(directory: Path, file: File) -> tuple[int, int]:
    """How many lines of this file our log has after the number that is sure, and the number of the last."""
    count = last = 0
    stem = directory / f"{file.app}.files.log"
    plain = token(file.stream, "")
    for path in sorted(directory.glob(f"{stem.name}*")):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime_ns // 1000 < file.sure_id - 2_000_000:
                continue
            with open(path, "rb") as lines:
                for line in lines:
                    found = parse(line.rstrip(b"\n"))
                    if found is not None and found.id > file.sure_id and found.token.partition(b"@")[0] == plain:
                        count, last = count + 1, max(last, found.id)
    return count, last


def _none(raw: dict[str, Any]) -> File:
    return File(str(raw["app"]), str(raw["path"]), str(raw["name"]), str(raw["instance"]), -1, 0, 0)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _where(path: str, at: tuple[int, int]) -> str:
    """The file may have been renamed within its folder."""
    if _identity(path) == at:
        return path
    with contextlib.suppress(OSError), os.scandir(os.path.dirname(path)) as entries:
        for _, entry in zip(range(2000), entries, strict=False):
            if entry.inode() == at[1] and _identity(entry.path) == at:
                return entry.path
    return ""


def _head(fd: int) -> bytes:
    """The first bytes: a file that grows keeps them."""
    return os.pread(fd, HEAD, 0)
