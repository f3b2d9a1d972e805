"""What becomes of a finished request's record: flight recorder, access log, kept records for control.

Always true:
  - the flight recorder holds the last SIZE records, whatever their outcome, in fixed memory;
  - a full disk, a slow one or a slow control costs records, which are counted, never a request or memory;
  - a record is encoded when a batch is flushed, on the writer's thread, never in the request's course.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from proxy.link.messages import Record

SIZE: Final = 4096
KEPT_PER_SECOND: Final = 200
_BATCHES: Final = 256
"""Batches that may wait for the disk; at two flushes a second two minutes of a stalled disk."""
_BATCH: Final = 512
"""Encoding a batch holds the interpreter, and with it the event loop: 0.25 ms, where 2,048 took 1 ms."""
_KEPT_WAITING: Final = 1000


class FlightRecorder:
    """A ring of the last records."""

    __slots__ = ("_at", "_ring")

    def __init__(self) -> None:
        self._ring: list[Record | None] = [None] * SIZE
        self._at = 0

    def add(self, record: Record) -> None:
        at = self._at
        self._ring[at] = record
        self._at = (at + 1) & (SIZE - 1)

    def newest(self) -> list[Record]:
        """All that is held, newest first."""
        ring = self._ring[self._at :] + self._ring[: self._at]
        return [record for record in reversed(ring) if record is not None]

    def find(self, prefix: str, limit: int, app: str = "", path: str = "", instance: str = "") -> list[Record]:
        """Records whose id, or whose client's id, begins so; newest first. `instance`: that had an attempt there."""
        found = []
        for record in self.newest():
            if prefix and not (record.id.startswith(prefix) or record.client_request_id.startswith(prefix)):
                continue
            if (app and record.app != app) or (path and not record.target.startswith(path)):
                continue
            if instance and record.instance != instance:
                if all(attempt.instance != instance for attempt in record.attempts or ()):
                    continue
            found.append(record)
            if len(found) >= limit:
                break
        return found


class Kept:
    """Records that go to control: at most KEPT_PER_SECOND, shared fairly over (app, instance, fault)."""

    __slots__ = ("_counts", "_second", "_sum", "dropped", "tell_soon", "told", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Record] = []
        self.dropped = 0
        self.tell_soon: Callable[[], object] = lambda: None
        self.told = False
        """`tell_soon` was called, and the records were not taken yet."""
        self._second = 0
        self._sum = 0
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, record: Record, now: float) -> None:
        second = int(now)
        if second != self._second:
            self._second = second
            self._sum = 0
            self._counts.clear()
        key = (record.app, record.instance, record.fault)
        count = self._counts.get(key, 0)
        # Each key may always have its fair share of what all keys together may have; what is left goes to who comes.
        fair = KEPT_PER_SECOND // (len(self._counts) + (count == 0) + 1)
        if (count >= fair and self._sum >= KEPT_PER_SECOND // 2) or self._sum >= KEPT_PER_SECOND:
            self.dropped += 1
            return
        if len(self.waiting) >= _KEPT_WAITING:
            self.dropped += 1
            return
        self._counts[key] = count + 1
        self._sum += 1
        self.waiting.append(record)
        if not self.told:
            self.told = True
            self.tell_soon()

    def take(self) -> list[Record]:
        taken, self.waiting = self.waiting, []
        return taken


class AccessLog:
    """Lines to a file, written by a thread of its own; reopened when the file at its path is another one."""

    def __init__(self, path: str, format: str) -> None:
        self.path = path
        self.format = format
        self.lost = 0
        self.error = ""
        self._pending: list[Record] = []
        self._batches: queue.Queue[list[Record] | None] = queue.Queue(_BATCHES)
        self._file = -1
        self._opened: tuple[int, int] = (0, 0)
        self._reopen = False
        self._encode = msgspec.json.Encoder().encode_lines
        self._thread = threading.Thread(target=self._write_all, name="access-log", daemon=True)
        self._thread.start()

    def add(self, record: Record) -> None:
        pending = self._pending
        pending.append(record)
        if len(pending) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand what is pending to the thread."""
        if self._pending:
            batch, self._pending = self._pending, []
            try:
                self._batches.put_nowait(batch)
            except queue.Full:
                self.lost += len(batch)
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

    def _write_all(self) -> None:
        checked = 0.0
        while (batch := self._batches.get()) is not None:
            try:
                now = time.monotonic()
                if self._file < 0 or self._reopen or now - checked > 1:
                    checked = now
                    self._open()
                data = self._encode(batch) if self.format == "json" else b"".join(map(combined, batch))
                view = memoryview(data)
                while view:
                    view = view[os.write(self._file, view) :]
                self.error = ""
            except OSError as error:
                self.lost += len(batch)
                self.error = f"{self.path}: {error.strerror}"
        if self._file >= 0:
            os.close(self._file)

    def _open(self) -> None:
        """Open the file, or again if it was rotated away."""
        if self._file >= 0:
            try:
                found = os.stat(self.path)
                if (found.st_dev, found.st_ino) == self._opened and not self._reopen:
                    return
            except FileNotFoundError:
                pass
            os.close(self._file)
            self._file = -1
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        found = os.fstat(self._file)
        self._opened = (found.st_dev, found.st_ino)
        self._reopen = False


_ESCAPES: Final = {code: f"\\x{code:02x}" for code in [*range(32), 34, 92, *range(127, 256)]}


def combined(record: Record) -> bytes:
    """The combined log format, with the whole time in seconds and the id behind it."""
    at = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(record.time))
    method = record.method.translate(_ESCAPES)
    target = record.target.translate(_ESCAPES)
    agent = record.user_agent.translate(_ESCAPES) or "-"
    referer = record.referer.translate(_ESCAPES) or "-"
    return (
        f'{record.client or "-"} - - [{at}] "{method} {target} HTTP/1.1" {record.status} {record.bytes_out} '
        f'"{referer}" "{agent}" {record.total_us / 1e6:.6f} {record.id} {record.app or "-"} '
        f"{record.instance or '-'} {record.fault or '-'}\n"
    ).encode("latin-1", "replace")
