"""Sessions on the disk: `data_dir/diagnostics/S-118/`, one folder each. For threads: a disk may be slow, or hang.

Always true:
  - of those that ended, what nobody asked for goes before what a person asked for, the oldest first; what runs stays;
  - nothing outside of the folder of sessions is read, written or removed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import orjson

from proxy import units
from proxy.config import Keep
from proxy.control.names import write_whole
from proxy.control.sessions.session import Session, encode, load, number_of
from proxy.link.session import OUTCOME, Outcome

FOLDER: Final = "diagnostics"
RECORD: Final = "session.json"
RESERVE: Final = 100 * units.MB
"""Free space that is left on the disk: the app may need it more."""
LEAST: Final = 256 * units.KB
"""What a session needs to say anything at all."""
USUAL: Final = 32 * units.MB
"""For which room is made: what one without a memory dump takes, with much to spare."""
MOST_OUTCOME: Final = 4 * units.MIB
WORDS: Final = 2000
"""Bytes of a log's end that are looked at for its last words."""

_outcome: Final = msgspec.json.Decoder(Outcome).decode


class NoRoom(Exception):
    """The disk is nearly full, or what sessions may take is."""


class Kept(NamedTuple):
    """A folder, as retention sees it."""

    path: Path
    at: float  # Unix seconds
    size: int
    by_hand: bool


def make_room(parent: Path, keep: Keep, running: Collection[str], dump: bool) -> int:
    """Remove what has to go for one more; the bytes that it may take. Raises NoRoom, OSError. `dump`: of memory."""
    parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    limits = keep.sessions
    wanted = min(limits.size, limits.size // 2 if dump else max(USUAL, limits.size // 50))
    used = prune(parent, keep, running, wanted, more=1)
    disk = os.statvfs(parent)
    free = disk.f_bavail * disk.f_frsize
    if free - RESERVE < LEAST:
        raise NoRoom(
            f"only {units.size(free)} are free on the disk of {parent}, {units.size(RESERVE + LEAST)} are needed"
        )
    room = min(limits.size - used, free - RESERVE)
    if room < LEAST:
        raise NoRoom(f"those that run have taken all of keep.sessions.size ({units.size(limits.size)})")
    return room


def prune(parent: Path, keep: Keep, running: Collection[str], wanted: int = 0, more: int = 0) -> int:
    """Remove what `keep.sessions` does not allow, so that `more` sessions of `wanted` bytes fit; the bytes left."""
    limits, now = keep.sessions, time.time()
    found = list(_kept(parent, running))
    used = sum(one.size for one in found)
    count = len(found)
    for name in running:
        used += _size(parent / name)
        count += 1
    for one in sorted(found, key=lambda one: (one.by_hand, one.at)):
        old = now - one.at > limits.age
        if old or count + more > limits.count or used + wanted > limits.size:
            shutil.rmtree(one.path, ignore_errors=True)
            used, count = used - one.size, count - 1
    return used


def _kept(parent: Path, running: Collection[str]) -> Iterator[Kept]:
    for path in parent.iterdir():
        if path.name in running or path.is_symlink() or not path.is_dir():
            continue
        session = read(path)
        try:
            at = session.ended or session.began if session is not None else path.stat().st_mtime
        except OSError:
            continue
        yield Kept(path, at, _size(path), session is not None and session.trigger.by_hand)


def _size(path: Path) -> int:
    """Bytes that its files really take: a memory dump may have holes."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue  # it has gone meanwhile
    return total


size = _size


def create(folder: Path, session: Session) -> None:
    """A new folder with its record. Raises FileExistsError, OSError."""
    folder.mkdir(mode=0o750)
    save(folder, session)


def save(folder: Path, session: Session) -> None:
    """Raises OSError."""
    write_whole(folder / RECORD, encode(session), 0o640)


def read(folder: Path) -> Session | None:
    """Its record; None: there is none that can be read."""
    try:
        session = load(orjson.loads((folder / RECORD).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return session if folder.name == session.id else None


def read_all(parent: Path) -> list[Session]:
    """Of all folders, oldest first; those that are none are left out."""
    try:
        names = [name for name in os.listdir(parent) if number_of(name) is not None]
    except OSError:
        return []
    found = [one for name in names if (one := read(parent / name)) is not None]
    return sorted(found, key=lambda one: one.number)


def outcome(folder: Path, before: tuple[int, int]) -> tuple[tuple[int, int], Outcome | None]:
    """Its stamp, and what it says; None: it is as it was `before`, is not there yet, or can't be read."""
    try:
        found = os.stat(folder / OUTCOME)
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp == before or found.st_size > MOST_OUTCOME:
            return before, None
        return stamp, _outcome((folder / OUTCOME).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return before, None


def last_words(folder: Path) -> str:
    """The last line of its process's own log."""
    try:
        with open(folder / "session.log", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - WORDS))
            lines = file.read(WORDS).decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def write(folder: Path, name: str, data: bytes) -> None:
    """Whole or not at all. Raises OSError."""
    part = folder / f"{name}.part"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640), "wb") as file:
        file.write(data)
    os.replace(part, folder / name)


def remove(folder: Path) -> None:
    """Raises OSError."""
    shutil.rmtree(folder)


def files(folder: Path, most: int = 2000) -> list[tuple[str, int]]:
    """Names below the folder, and sizes; links are left out."""
    found: list[tuple[str, int]] = []
    for path, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            whole = os.path.join(path, name)
            if os.path.islink(whole) or not os.path.isfile(whole) or name.endswith(".part"):
                continue
            found.append((os.path.relpath(whole, folder), os.lstat(whole).st_size))
            if len(found) >= most:
                return found
    return found
