"""The access log: a line for each request, written in batches by a thread, rotated by size and by age.

All workers append to one file. Who writes holds the file's lock (flock) and looks first whether the file at the path is
still that one; who finds it full or old renames it while it holds the lock, and all others open the new one before
their next line. So exactly one rotates, whoever it is.

Always true:
  - a line is whole and in exactly one file: what a full disk takes half of is cut off again, and counted as lost;
  - a full or slow disk costs lines, which are counted, never a request or memory;
  - a file that others rotate is written on rightly, renamed (the next batch opens a new one) or cut to nothing.
"""

from __future__ import annotations

import fcntl
import os
import queue
import stat
import threading
import time
from typing import Final

from proxy.dataplane import rotation
from proxy.link.messages import Record

_BATCHES: Final = 256
"""Batches that may wait for the disk; at two flushes a second two minutes of a stalled disk."""
_BATCH: Final = 512
"""Lines written at once."""
_TRY_AGAIN: Final = 10.0
"""Seconds after a rotation that failed; until then the file grows."""


class AccessLog:
    """`size` in bytes and `age` in seconds: 0 is never. `files` old ones stay, PATH.1 is the newest."""

    def __init__(self, path: str, format: str, size: int = 0, files: int = 5, age: float = 0.0) -> None:
        self.path = path
        self.format = format
        self.size = size
        self.files = files
        self.age = age
        self.lost = 0
        self.error = ""
        self._pending: list[bytes] = []
        self._count = 0
        self._batches: queue.Queue[tuple[int, bytes] | None] = queue.Queue(_BATCHES)
        self._file = -1
        self._opened: tuple[int, int] = (0, 0)
        self._regular = False
        self._first = 0.0
        """When the open file's first line was written; 0.0: not looked yet."""
        self._not_before = 0.0
        self._not_rotated = ""
        self._reopen = False
        self._thread = threading.Thread(target=self._write_all, name="access-log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<AccessLog {self.path}{f', {self.lost} lost' if self.lost else ''}>"

    def extend(self, records: list[Record], lines: bytes) -> None:
        """Write these records; `lines` are theirs in JSON, made for the flight recorder too."""
        self._pending.append(lines if self.format == "json" else b"".join(map(combined, records)))
        self._count += len(records)
        if self._count >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand what is pending to the thread."""
        if self._pending:
            batch = (self._count, b"".join(self._pending))
            self._pending, self._count = [], 0
            try:
                self._batches.put_nowait(batch)
            except queue.Full:
                self.lost += batch[0]
                self.error = self.error or "the disk is too slow"

    def reopen(self) -> None:
        self._reopen = True

    def close(self) -> None:
        """Write what is pending, within two seconds."""
        self.flush()
        try:
            self._batches.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(2)

    # --- in the thread ----------------------------------------------------------------------------

    def _write_all(self) -> None:
        while (batch := self._batches.get()) is not None:
            count, data = batch
            said = ""
            try:
                said = self._take(len(data))
                lost, why = self._write(data)
            except OSError as error:
                lost, why = count, error.strerror or str(error)
            finally:
                self._release()
            self.lost += lost
            self.error = f"{self.path}: {why}" if why else said
        self._close()

    def _take(self, coming: int) -> str:
        """The file at the path is open and locked, rotated before if it is due; why it could not be, if so."""
        while True:
            if self._reopen:
                self._reopen = False
                self._close()
            if self._file < 0:
                self._open()
            if not self._regular:
                return ""
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            except OSError:
                self._regular = False  # a file system without locks: others have to rotate it
                return ""
            try:
                found = os.stat(self.path)
            except FileNotFoundError:
                self._close()
                continue
            if (found.st_dev, found.st_ino) != self._opened:
                self._close()
                continue
            if not self._due(found.st_size, coming):
                return ""
            if time.monotonic() < self._not_before:
                return self._not_rotated
            try:
                rotation.rotate(self.path, self.files)
            except OSError as error:
                self._not_before = time.monotonic() + _TRY_AGAIN
                self._not_rotated = f"{self.path} cannot be rotated: {error.strerror}"
                return self._not_rotated
            self._close()

    def _due(self, size: int, coming: int) -> bool:
        """Whether the open file has to make way for a new one. An empty one never has."""
        if not size:
            self._first = 0.0
            return False
        if self.size and size + coming > self.size:
            return True
        if not self.age:
            return False
        if not self._first:
            self._first = rotation.first_line_at(self.path) or time.time()
        return time.time() - self._first >= self.age

    def _write(self, data: bytes) -> tuple[int, str]:
        """How many lines were not written, and why not."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            written = len(data) - len(view)
            whole = data.rfind(b"\n", 0, written) + 1
            if self._regular and written > whole:
                self._cut_off(written - whole)
            return data.count(b"\n", whole), error.strerror or str(error)
        return 0, ""

    def _cut_off(self, size: int) -> None:
        """Half a line at the end, which nobody can have written behind: the lock is ours."""
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        if os.fstat(self._file).st_size == end:
            os.ftruncate(self._file, end - size)

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        found = os.fstat(self._file)
        self._opened = (found.st_dev, found.st_ino)
        self._regular = stat.S_ISREG(found.st_mode)
        self._first = 0.0

    def _release(self) -> None:
        if self._file >= 0 and self._regular:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _close(self) -> None:
        """The lock goes with it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


_ESCAPES: Final = {code: f"\\x{code:02x}" for code in [*range(32), 34, 92, *range(127, 256)]}


def combined(record: Record) -> bytes:
    """The combined log format; behind it the whole time in seconds, id, app, instance, fault and trace id."""
    at = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(record.time))
    method = record.method.translate(_ESCAPES)
    target = record.target.translate(_ESCAPES)
    agent = record.user_agent.translate(_ESCAPES) or "-"
    referer = record.referer.translate(_ESCAPES) or "-"
    return (
        f'{record.client or "-"} - - [{at}] "{method} {target} HTTP/1.1" {record.status} {record.bytes_out} '
        f'"{referer}" "{agent}" {record.total_us / 1e6:.6f} {record.id} {record.app or "-"} '
        f"{record.instance or '-'} {record.fault or '-'} {record.trace or '-'}\n"
    ).encode("latin-1", "replace")
