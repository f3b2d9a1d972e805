"""What must never be given twice: instance numbers, and rows of the board.

Always true:
  - a number is on the disk, if that can be written, before an instance carries it: a power cut changes nothing;
  - a row is free only when no worker can still write to it (the caller has waited for that).
"""

from __future__ import annotations

import asyncio
import heapq
import os
from collections.abc import Iterable
from pathlib import Path

import orjson


class Numbers:
    """The next instance number of each app, in `data_dir/numbers.json`."""

    def __init__(self, path: Path, known: dict[str, int] | None = None) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self.next: dict[str, int] = {}
        self.error = ""
        """Why the numbers cannot be written now; "" when all is well."""
        try:
            stored = orjson.loads(path.read_bytes())
            self.next.update({str(app): int(number) for app, number in stored.items()})
        except (OSError, ValueError, AttributeError):
            pass  # a first start, or a file somebody edited: the ledger and names in use still count
        for app, number in (known or {}).items():
            self.at_least(app, number)

    def at_least(self, app: str, number: int) -> None:
        self.next[app] = max(self.next.get(app, 1), number)

    async def take(self, app: str) -> str:
        """A new instance name. A full disk must not keep an instance from starting: the ledger remembers it too."""
        number = self.next.get(app, 1)
        self.next[app] = number + 1
        await self.write()
        return f"{app}-{number}"

    async def write(self) -> None:
        """Again, too, while there is an `error`: a restart of everything must not give a number twice."""
        data = orjson.dumps(self.next, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        async with self._lock:
            try:
                await asyncio.to_thread(write_whole, self._path, data)
                self.error = ""
            except OSError as error:
                self.error = error.strerror or str(error)


class Rows:
    """Rows of one part of the board, the lowest free one first, so that few pages are touched."""

    def __init__(self, count: int, used: Iterable[int] = ()) -> None:
        taken = set(used)
        self._free = [row for row in range(count) if row not in taken]

    def take(self) -> int:
        if not self._free:
            raise OSError("the board has no free row: too many instances or apps")
        return heapq.heappop(self._free)

    def take_this(self, row: int) -> int:
        """A row that somebody is known to have."""
        if row in self._free:
            self._free.remove(row)
            heapq.heapify(self._free)
        return row

    def give_back(self, row: int) -> None:
        heapq.heappush(self._free, row)


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """So that a reader, or we after a power cut, find the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
