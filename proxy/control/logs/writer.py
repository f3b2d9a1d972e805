"""One thread for all log files, so that a slow or full disk never holds control's loop.

Always true:
  - what is on its way to the disk is bounded by QUEUE bytes; what is not written is counted, and the file says so as
    soon as it can be written again;
  - what is handed over is written in that order, and each batch knows what became of it (`Batch.kept`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from proxy.control.logs.lines import Batch, encode, stamp

QUEUE: Final = 8 << 20
GONE_LOGS: Final = 200
"""Files of instances that are gone; the oldest beyond are removed. Names are never used again, so they only grow."""
TOGETHER: Final = 0.002
"""Seconds that a first batch waits for others: one write for all lines of a file, and fewer wake-ups."""
SLICE: Final = 400
"""Lines made at once, about 0.2 ms: then the loop may have its turn."""


class _Close(NamedTuple):
    name: str


class _Flush(NamedTuple):
    done: threading.Event


class LogWriter:
    """Appends to `directory/NAME.log` in a thread of its own, and rotates: NAME.log.1 is the newest old one."""

    def __init__(self, directory: str | Path, size: int = 50_000_000, files: int = 5) -> None:
        self.directory = Path(directory)
        self.size = size
        self.files = files
        self.error = ""
        """Why output is being lost now; "" when all is well."""
        self.lost = 0
        """Bytes that could not be written."""
        self._queue: queue.SimpleQueue[Batch | tuple[str, bytes] | _Close | _Flush | None] = queue.SimpleQueue()
        self._queued = 0
        self._owed: dict[str, int] = {}  # bytes lost since the file last took some
        self._open: dict[str, tuple[int, int]] = {}  # descriptor, size
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def room(self) -> int:
        """Bytes that may be on their way; half of it is for what cannot wait."""
        return QUEUE // 2

    @property
    def queued(self) -> int:
        """Bytes on their way to the disk."""
        return self._queued

    def write(self, name: str, data: bytes) -> bool:
        """Hand over whole lines, as they shall stand there. False: the queue is full, and they are lost."""
        return self._put(name, len(data), len(data), (name, data))

    def put(self, batch: Batch) -> bool:
        """Hand over a batch. False: the queue is full, and it is lost."""
        if self._put(batch.log, batch.size, batch.weight, batch):
            return True
        batch.kept = -1
        return False

    def _put(self, name: str, size: int, weight: int, item: Batch | tuple[str, bytes]) -> bool:
        with self._lock:
            if self._queued + weight > QUEUE:
                self._lose(name, size, "the disk is slower than the instances' output")
                return False
            self._queued += weight
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="instance-logs", daemon=True)
            self._thread.start()
        self._queue.put(item)
        return True

    def path(self, name: str) -> Path:
        """Where an instance's output is; address names have characters that no file should."""
        return self.directory / f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in name)}.log"

    def release(self, name: str) -> None:
        """The instance is gone: close its file."""
        if self._thread is not None:
            self._queue.put(_Close(name))

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was handed over is written. Not for the loop."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._queue.put(_Flush(done))
        return done.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued, close all files, end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout)

    def _lose(self, name: str, count: int, why: str) -> None:
        self.lost += count
        self.error = why
        self._owed[name] = self._owed.get(name, 0) + count

    def _run(self) -> None:
        while True:
            items = [self._queue.get()]
            if isinstance(items[0], Batch):
                time.sleep(TOGETHER)
            with contextlib.suppress(queue.Empty):
                for _ in range(1000):
                    items.append(self._queue.get_nowait())
            waiting: list[Batch] = []  # of one file
            for item in items:
                if isinstance(item, Batch) and (not waiting or waiting[0].log == item.log):
                    waiting.append(item)
                    continue
                self._write_batches(waiting)
                waiting = [item] if isinstance(item, Batch) else []
                if not isinstance(item, Batch) and not self._do(item):
                    return
            self._write_batches(waiting)

    def _do(self, item: tuple[str, bytes] | _Close | _Flush | None) -> bool:
        match item:
            case None:
                for fd, _ in self._open.values():
                    os.close(fd)
                self._open.clear()
                return False
            case _Close(name=name):
                with self._lock:
                    self._owed.pop(name, None)
                    if not self._owed:
                        self.error = ""
                fd, _ = self._open.pop(name, (-1, 0))
                if fd >= 0:
                    os.close(fd)
                self._prune()
            case _Flush(done=done):
                done.set()
            case (name, data):
                self._append(name, data, len(data), len(data))
        return True

    def _write_batches(self, batches: list[Batch]) -> None:
        if not batches:
            return
        for some in _split(batches):
            data = b"".join(gently(some))
            size = sum(batch.size for batch in some)
            written = self._append(some[0].log, data, size, sum(batch.weight for batch in some))
            for batch in some:
                batch.kept = 1 if written else -1

    def _append(self, name: str, data: bytes, size: int, weight: int) -> bool:
        """`size` is what counts as lost when it fails, `weight` what it took of the queue."""
        try:
            fd, length = self._open.get(name) or self._opened(name)
            if length and length + len(data) > self.size:
                fd, length = self._rotate(name, fd)
            with self._lock:
                owed = self._owed.get(name, 0)
            if owed:
                note = f"{stamp(time.time())} triage {owed} bytes of output were lost: {self.error}\n".encode()
                length += _write_all(fd, note)
            written = _write_all(fd, data)
            self._open[name] = (fd, length + written)
            with self._lock:
                self._queued -= weight
                if owed:
                    left = self._owed[name] - owed
                    if left:
                        self._owed[name] = left
                    else:
                        del self._owed[name]
                if not self._owed:
                    self.error = ""
            return True
        except OSError as error:
            with self._lock:
                self._queued -= weight
                self._lose(name, size, error.strerror or str(error))
            return False

    def _opened(self, name: str) -> tuple[int, int]:
        self.directory.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self.path(name), flags, 0o640)
        self._open[name] = (fd, os.fstat(fd).st_size)
        return self._open[name]

    def _rotate(self, name: str, fd: int) -> tuple[int, int]:
        os.close(fd)
        del self._open[name]
        path = self.path(name)
        if self.files <= 1:
            path.unlink(missing_ok=True)
        for number in range(self.files - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            newer = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
            with contextlib.suppress(FileNotFoundError):
                os.replace(newer, older)
        return self._opened(name)

    def _prune(self) -> None:
        """Remove the oldest files of instances that are gone."""
        kept = {self.path(name).name for name in self._open}
        with contextlib.suppress(OSError):
            gone = [p for p in self.directory.glob("*.log*") if p.name.partition(".log")[0] + ".log" not in kept]
            if len(gone) > GONE_LOGS:
                gone.sort(key=lambda path: path.stat().st_mtime)
                for path in gone[: len(gone) - GONE_LOGS]:
                    path.unlink(missing_ok=True)


def _split(batches: list[Batch]) -> Iterator[list[Batch]]:
    """So that one write is a megabyte at most, and a file hardly larger than it may be."""
    some: list[Batch] = []
    size = 0
    for batch in batches:
        if some and size + batch.size > 1 << 20:
            yield some
            some, size = [], 0
        some.append(batch)
        size += batch.size
    yield some


def gently(batches: Iterable[Batch]) -> Iterator[bytes]:
    """The lines as bytes, with a pause between slices, in which others get the interpreter."""
    since = 0
    for batch in batches:
        for at in range(0, len(batch.lines), SLICE):
            part = batch.lines[at : at + SLICE]
            yield from encode(Batch(batch.id + at, batch.at, batch.app, batch.instance, batch.stream, part, batch.log))
            since += len(part)
            if since >= SLICE:
                since = 0
                time.sleep(0)


def _write_all(fd: int, data: bytes) -> int:
    done = 0
    while done < len(data):
        done += os.write(fd, data[done:])
    return done
