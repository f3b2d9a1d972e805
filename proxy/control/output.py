"""What instances print: read from their pipes, kept in memory for a moment and in files for longer.

`OutputCapture` reads on control's loop and cuts into lines; `LogWriter` is one thread for all files, so that a slow
or full disk never holds the loop. One line of `NAME.log`: time (UTC), stream, text.

Always true:
  - a pipe is read as long as it is open: what an instance prints never blocks it for longer than some milliseconds;
  - memory is bounded: 200 lines of 8 KiB an instance, and `QUEUE` bytes on their way to the disk;
  - what is not written is counted, in bytes, and the file says so as soon as it can be written again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

READ: Final = 65536
LINES: Final = 200
LINE: Final = 8192
CUT: Final = b" [cut by triage]"
RATE: Final = 8_000_000
"""Bytes a second and instance that are kept; beyond, output is read and dropped."""
PAUSE: Final = 0.005
"""Between reads of an instance above RATE: 64 KiB (the smallest pipe) each 5 ms is still more than RATE."""
QUEUE: Final = 8 << 20
GONE_LOGS: Final = 200
"""Files of instances that are gone; the oldest beyond are removed. Names are never used again, so they only grow."""

OnLine = Callable[[str, str, str], None]
"""(instance, "out" or "err", line)"""


class Line(NamedTuple):
    """One line, as printed."""

    at: float  # Unix seconds, when it was read
    stream: str  # "out" | "err"
    text: str


def stamp(at: float) -> str:
    """UTC with milliseconds: `2026-01-05T03:07:35.412Z`."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


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
        self._queue: queue.SimpleQueue[tuple[str, bytes] | _Close | _Flush | None] = queue.SimpleQueue()
        self._queued = 0
        self._owed: dict[str, int] = {}  # bytes lost since the file last took some
        self._open: dict[str, tuple[int, int]] = {}  # descriptor, size
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, name: str, data: bytes) -> bool:
        """Hand over whole lines. False: the queue is full, and they are lost."""
        with self._lock:
            if self._queued + len(data) > QUEUE:
                self._lose(name, len(data), "the disk is slower than the instances' output")
                return False
            self._queued += len(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="instance-logs", daemon=True)
            self._thread.start()
        self._queue.put((name, data))
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
            item = self._queue.get()
            match item:
                case None:
                    for fd, _ in self._open.values():
                        os.close(fd)
                    self._open.clear()
                    return
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
                    self._append(name, data)

    def _append(self, name: str, data: bytes) -> None:
        try:
            fd, size = self._open.get(name) or self._opened(name)
            if size and size + len(data) > self.size:
                fd, size = self._rotate(name, fd)
            with self._lock:
                owed = self._owed.get(name, 0)
            if owed:
                note = f"{stamp(time.time())} triage {owed} bytes of output were lost: {self.error}\n".encode()
                size += _write_all(fd, note)
            written = _write_all(fd, data)
            self._open[name] = (fd, size + written)
            with self._lock:
                self._queued -= len(data)
                if owed:
                    left = self._owed[name] - owed
                    if left:
                        self._owed[name] = left
                    else:
                        del self._owed[name]
                if not self._owed:
                    self.error = ""
        except OSError as error:
            with self._lock:
                self._queued -= len(data)
                self._lose(name, len(data), error.strerror or str(error))

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


def _write_all(fd: int, data: bytes) -> int:
    done = 0
    while done < len(data):
        done += os.write(fd, data[done:])
    return done


class _Stream:
    """One pipe and the line that is not whole yet."""

    __slots__ = ("cutting", "fd", "name", "rest")

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        self.rest = b""
        self.cutting = False  # the rest of a line that was too long is thrown away


class OutputCapture:
    """The output of one instance. Made on control's loop, and used only there.

    `lines` are the last 200; `dropped` counts bytes beyond RATE or behind an overlong line.
    """

    def __init__(self, name: str, writer: LogWriter | None, on_line: OnLine | None = None) -> None:
        self.name = name
        self.lines: deque[Line] = deque(maxlen=LINES)
        self.dropped = 0
        self.total = 0
        """Bytes printed since the start."""
        self.last_at = 0.0
        """Unix time of the last output."""
        self.on_line = on_line
        self._writer = writer
        self._streams: dict[int, _Stream] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._second = 0
        self._in_second = 0
        self._noted = 0  # of `dropped`, what the file was told
        self._ended = asyncio.Event()

    def attach(self, stdout: int, stderr: int) -> None:
        """Take the read ends of its pipes (owned from now on; -1 is none; both may be the same pipe)."""
        self._ended.clear()
        for name, fd in (("out", stdout), ("err", stderr)):
            if fd >= 0 and fd not in self._streams:
                os.set_blocking(fd, False)
                self._streams[fd] = _Stream(name, fd)
                asyncio.get_running_loop().add_reader(fd, self._readable, fd)

    def read_now(self) -> None:
        """Take what the pipes hold at this moment: after an exit, so that the last words are there."""
        for fd in list(self._streams):
            for _ in range(16):  # 1 MiB, the largest pipe
                if fd not in self._streams or not self._read(fd):
                    break

    async def ended(self, timeout: float) -> bool:
        """Wait until all pipes are closed by their writers. False: some descendant still holds one."""
        self.read_now()
        if not self._streams:
            return True
        try:
            await asyncio.wait_for(self._ended.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def last(self, count: int = LINES) -> list[Line]:
        """The last lines, oldest first, with what is not a whole line yet."""
        found = list(self.lines)
        for stream in self._streams.values():
            if stream.rest:
                found.append(Line(self.last_at, stream.name, _text(stream.rest)))
        return found[-count:]

    def around(self, at: float, before: float = 10.0, after: float = 1.0) -> list[Line]:
        """Lines read near a moment (Unix seconds)."""
        return [line for line in self.last() if at - before <= line.at <= at + after]

    def close(self) -> None:
        """Stop reading and close the pipes and the file."""
        self.read_now()
        for fd in list(self._streams):
            self._end(fd)
        if self._writer is not None:
            self._writer.release(self.name)

    def _readable(self, fd: int) -> None:
        self._read(fd)
        if fd in self._streams and self._in_second > RATE:  # let it wait a little, so that control does not
            loop = asyncio.get_running_loop()
            loop.remove_reader(fd)
            self._timers[fd] = loop.call_later(PAUSE, self._resume, fd)

    def _resume(self, fd: int) -> None:
        self._timers.pop(fd, None)
        if fd in self._streams:
            asyncio.get_running_loop().add_reader(fd, self._readable, fd)

    def _read(self, fd: int) -> int:
        """One read; the number of bytes, 0 when there is nothing now or never again."""
        try:
            data = os.read(fd, READ)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:  # EIO: a terminal whose other side is gone
            data = b""
        if not data:
            self._end(fd)
            return 0
        now = time.time()
        self.total += len(data)
        self.last_at = now
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
        self._in_second += len(data)
        stream = self._streams[fd]
        if self._in_second <= RATE:
            self._take(stream, data, now)
            return len(data)
        self.dropped += len(data)
        if stream.rest:
            self._emit(stream.name, [stream.rest + CUT], now)
        stream.rest, stream.cutting = b"", True  # what comes next begins in the middle of a line
        return len(data)

    def _take(self, stream: _Stream, data: bytes, now: float) -> None:
        if stream.cutting:
            skipped, newline, data = data.partition(b"\n")
            self.dropped += len(skipped)
            if not newline:
                return
            stream.cutting = False
        lines = (stream.rest + data).split(b"\n")
        stream.rest = lines.pop()
        if len(stream.rest) > LINE:
            lines.append(stream.rest)
            stream.rest, stream.cutting = b"", True
        if lines:
            self._emit(stream.name, [self._cut(line) if len(line) > LINE else line for line in lines], now)

    def _cut(self, line: bytes) -> bytes:
        self.dropped += len(line) - LINE
        return line[:LINE] + CUT

    def _emit(self, stream: str, lines: list[bytes], now: float) -> None:
        for line in lines[-LINES:]:
            self.lines.append(Line(now, stream, _text(line)))
        if self._writer is not None:
            when = stamp(now)
            prefix = f"{when} {stream} ".encode()
            data = prefix + (b"\n" + prefix).join(lines) + b"\n"
            if self.dropped > self._noted:
                note = f"{when} triage {self.dropped - self._noted} bytes of output were dropped before this\n"
                data = note.encode() + data
                self._noted = self.dropped
            self._writer.write(self.name, data)
        if self.on_line is not None:
            for line in lines:
                self.on_line(self.name, stream, _text(line))

    def _end(self, fd: int) -> None:
        stream = self._streams.pop(fd)
        timer = self._timers.pop(fd, None)
        if timer is not None:
            timer.cancel()
        with contextlib.suppress(RuntimeError):  # no loop any more
            asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        if stream.rest:
            self._emit(stream.name, [stream.rest], time.time())
        if not self._streams:
            self._ended.set()


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")
