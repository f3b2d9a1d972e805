"""The folders that the Console's files are below, and what is never shown of any of them.

Always true:
  - nothing in data_dir is reached from a root but its own `logs` and `diagnostics`, which are read only;
  - neither is a file that is data_dir's, or a private key of the config, under another name (a hard link).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

OWN: Final = ("logs", "diagnostics")
"""Folders of data_dir that may be looked at."""
MOST_UP: Final = 100

Id = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Root:
    """One of them. `own`: of data_dir."""

    name: str
    folder: str
    own: bool = False

    @property
    def writable(self) -> bool:
        return not self.own


@dataclass(frozen=True, slots=True)
class Closed:
    """What is never shown: data_dir, and files by whatever name."""

    folder: str
    data: Id | None
    files: frozenset[Id]

    def has(self, found: os.stat_result) -> bool:
        """Whether this is one of them."""
        return (found.st_dev, found.st_ino) == self.data or (
            stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) in self.files
        )


def roots(gateway: Gateway) -> dict[str, Root]:
    """By name, sorted: those of the config, else the folder of each app that Triage runs; and data_dir's own."""
    config = gateway.config
    given = dict(config.admin.roots) or {
        name: app.process.cwd for name, app in config.apps.items() if app.process is not None
    }
    own = {name: Root(name, str(gateway.data_dir / name), own=True) for name in OWN} if not config.admin.roots else {}
    found = {name: Root(name, folder) for name, folder in given.items()} | own
    return dict(sorted(found.items()))


def keys(gateway: Gateway) -> list[str]:
    """Files of private keys that the config names."""
    config = gateway.config
    found = [pair.key for pair in config.gateway.certificates]
    own = getattr(config.admin, "certificate", None)
    return [*found, *([own.key] if own is not None else [])]


def closed(data_dir: Path, keys: list[str]) -> Closed:
    """As it is now. For a thread."""
    files = set(_ids(keys))
    data: Id | None = None
    try:
        found = os.stat(data_dir)
        data = (found.st_dev, found.st_ino)
        with os.scandir(data_dir) as entries:
            files.update(_ids([entry.path for entry in entries if entry.is_file(follow_symlinks=False)]))
    except OSError:
        pass  # it was removed: there is nothing to be hidden
    return Closed(str(data_dir), data, frozenset(files))


def _ids(paths: list[str]) -> Iterator[Id]:
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            continue
        yield found.st_dev, found.st_ino


def above(fd: int) -> set[Id]:
    """An open folder and all that it is in, up to the machine's own root. For a thread. Raises OSError."""
    found: set[Id] = set()
    at = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        for _ in range(MOST_UP):
            one = os.fstat(at)
            if (one.st_dev, one.st_ino) in found:
                break
            found.add((one.st_dev, one.st_ino))
            up = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = up
    finally:
        os.close(at)
    return found
