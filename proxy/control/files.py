"""Which files match patterns, and what they are like: a bounded walk, for a thread.

Patterns are as in `glob` ("*.py", "**/*.html"), relative to a folder unless they are absolute. A name that begins with
a dot is matched only by a pattern part that does, so that .git and editors' temporary files are no change; `**` also
keeps out of the folders of `LEFT_OUT`, and does not follow links.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from stat import S_ISREG
from typing import Final

MOST: Final = 10_000
"""Files of one app."""
ENTRIES: Final = 20 * MOST
"""Names that are looked at to find them: a pattern such as `**/*.py` over a whole disk ends there."""
LEFT_OUT: Final = frozenset({"__pycache__", "node_modules"})
BREATH: Final = 200
"""Entries between two pauses, so that a walk never holds the interpreter for long."""

Kind = tuple[int, int, int]
"""mtime in ns, size, inode."""


@dataclass(frozen=True, slots=True)
class Files:
    """What was found. `cut`: there were more."""

    found: dict[str, Kind] = field(default_factory=dict)
    cut: bool = False

    @property
    def fingerprint(self) -> str:
        """The same as long as nothing of it changed; "" without a file."""
        if not self.found:
            return ""
        text = "\n".join(f"{path}\0{kind}" for path, kind in sorted(self.found.items()))
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()

    @property
    def newest(self) -> float:
        """Unix seconds of the newest change of one; 0.0 without a file."""
        return max((kind[0] for kind in self.found.values()), default=0) / 1e9

    def changed(self, since: Files) -> list[str]:
        """Paths that came, went or changed."""
        return sorted(
            path for path in {*self.found, *since.found} if self.found.get(path) != since.found.get(path)
        )


class _Enough(Exception):
    pass


def look(folder: str, patterns: Iterable[str], leave_out: Iterable[str] = ()) -> Files:
    """`leave_out`: folders that `**` keeps out of besides."""
    walk = _Walk({os.path.normpath(path) for path in leave_out})
    cut = False
    try:
        for pattern in patterns:
            parts = os.path.normpath(os.path.join(folder, pattern)).split(os.sep)[1:]
            plain = next((index for index, part in enumerate(parts) if _magic(part)), len(parts))
            begin = os.sep + os.path.join("", *parts[:plain])
            walk.match(begin, parts[plain:])
    except _Enough:
        cut = True
    return Files(walk.found, cut)


class _Walk:
    def __init__(self, leave_out: set[str]) -> None:
        self.found: dict[str, Kind] = {}
        self._leave_out = leave_out
        self._entries = 0

    def match(self, path: str, parts: list[str]) -> None:
        """Everything below `path` that the rest of a pattern matches."""
        if not parts:
            self._take(path)
        elif parts[0] == "**":
            for below in self._below(path):
                if len(parts) == 1:
                    for name, is_folder in self._names(below):
                        if not is_folder and not name.startswith("."):
                            self._take(os.path.join(below, name))
                else:
                    self.match(below, parts[1:])
        elif _magic(parts[0]):
            fits = _fits(parts[0])
            for name, is_folder in self._names(path):
                if fits(name) and (len(parts) == 1 or is_folder):
                    self.match(os.path.join(path, name), parts[1:])
        else:
            self.match(os.path.join(path, parts[0]), parts[1:])

    def _below(self, path: str) -> Iterator[str]:
        """The folder, and all in it."""
        folders = [path]
        for folder in folders:  # grows while it is walked
            yield folder
            for name, is_folder in self._names(folder):
                inner = os.path.join(folder, name)
                if not is_folder or name.startswith(".") or name in LEFT_OUT or inner in self._leave_out:
                    continue
                if not os.path.islink(inner):
                    folders.append(inner)

    def _names(self, folder: str) -> list[tuple[str, bool]]:
        try:
            with os.scandir(folder) as entries:
                found = [(entry.name, entry.is_dir()) for entry in entries]
        except OSError:
            return []
        before = self._entries
        self._entries += len(found) + 1
        if self._entries > ENTRIES:
            raise _Enough
        if self._entries // BREATH != before // BREATH:
            time.sleep(0.0005)
        return found

    def _take(self, path: str) -> None:
        try:
            stat = os.stat(path)
        except OSError:
            return  # not there, or a link to nothing
        if not S_ISREG(stat.st_mode) or path in self.found:
            return
        if len(self.found) >= MOST:
            raise _Enough
        self.found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _magic(part: str) -> bool:
    return any(sign in part for sign in "*?[")


@lru_cache(maxsize=512)
def _fits(part: str) -> Callable[[str], bool]:
    match = re.compile(fnmatch.translate(part)).match
    hidden = part.startswith(".")
    return lambda name: match(name) is not None and (hidden or not name.startswith("."))
