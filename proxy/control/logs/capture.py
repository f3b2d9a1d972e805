"""What one instance prints, read from its pipes on control's loop.

Always true:
  - a pipe is read as long as it is open: what an instance prints never blocks it for longer than some milliseconds;
  - memory is bounded: 200 lines of 8 KiB an instance, and what the book keeps;
  - after a read the next one waits until its lines are written (as long as the disk is not slow): a control that is
    killed has lost one read of each pipe, and the line before it that was not whole: 64 KiB;
  - what is dropped is counted, in bytes, and the log says so where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from proxy.control.logs.lines import TRIAGE, Batch, Line, Numbers, text, weigh

if TYPE_CHECKING:
    from proxy.control.logs.book import LogBook

LINES: Final = 200
LINE: Final = 8192
READ: Final = 65536 - LINE
"""With a line that is not whole yet, the 64 KiB that a killed control may lose."""
CUT: Final = b" [cut by triage]"
RATE: Final = 8_000_000
"""Bytes a second and instance that are kept; beyond, output is dropped unread."""
LINES_RATE: Final = 50_000
"""Lines a second and instance that are kept in a long storm: what they cost is by the line (measured: 2 µs)."""
LINES_BURST: Final = 200_000
"""Lines that may come at once."""
PAUSE: Final = 0.005
"""Between reads of a pipe that has more: 56 KiB each 5 ms is more than RATE."""
PRESSED: Final = 0.001
"""Between reads of one that has so much more that its writer may soon have to wait: what it may print in a second is
then read in a fraction of it, and what is beyond is dropped, which is faster."""
MUCH: Final = 128 << 10
IDLE: Final = 0.01
"""Between reads of one that has not: lines that come one by one are taken together, the first at once."""
SLOW: Final = 0.1
"""Seconds that a read waits for the disk; then the pipe goes first, and the queue takes it."""
LITTLE: Final = 4096
DROP: Final = 1 << 20
"""Bytes dropped at once: the largest pipe."""

OnLine = Callable[[str, str, str], None]
"""(instance, "out" or "err", line)"""


class _Stream:
    """One pipe and the line that is not whole yet."""

    __slots__ = ("cutting", "fd", "name", "pause", "rest", "timer", "unwritten", "waits")

    def __init__(self, name: str, fd: int, rest: bytes = b"") -> None:
        self.name = name
        self.fd = fd
        self.rest = rest
        self.cutting = False  # the rest of a line that was too long is thrown away
        self.timer: asyncio.TimerHandle | None = None
        self.pause = IDLE
        self.unwritten: Batch | None = None  # the last one that was handed over
        self.waits = 0.0  # monotonic, since when it waits for the disk


class OutputCapture:
    """The output of one instance. Made on control's loop, and used only there.

    `lines` are the last 200; `dropped` counts bytes beyond RATE or behind an overlong line. `version` says what runs.
    """

    def __init__(
        self,
        name: str,
        book: LogBook | None,
        on_line: OnLine | None = None,
        app: str = "",
        version: Callable[[], str] = lambda: "",
    ) -> None:
        self.name = name
        self.app = app or name.rpartition("-")[0]
        self.lines: deque[Line] = deque(maxlen=LINES)
        self.dropped = 0
        self.total = 0
        """Bytes printed since the start."""
        self.last_at = 0.0
        """Unix time of the last output."""
        self.on_line = on_line
        self.version = version
        self._book = book
        self._numbers = book.numbers if book is not None else Numbers()
        self._streams: dict[int, _Stream] = {}
        self._bytes = float(RATE)  # that may be kept now; a second's worth at most
        self._tokens = float(LINES_BURST)  # lines likewise
        self._dropping = False
        self._filled = time.monotonic()
        self._noted = 0  # of `dropped`, what the log was told
        self._ended = asyncio.Event()
        self._devnull = -1
        self._closed = False
        self._handed = False
        if book is not None:
            book.captures[name] = self

    def attach(self, stdout: int, stderr: int, rests: tuple[bytes, bytes] = (b"", b"")) -> None:
        """Take the read ends of its pipes (owned from now on; -1 is none; both may be the same pipe).

        `rests`: what a control before had of a line that was not whole."""
        self._ended.clear()
        for name, fd, rest in (("out", stdout, rests[0]), ("err", stderr, rests[1])):
            if fd >= 0 and fd not in self._streams:
                os.set_blocking(fd, False)
                self._streams[fd] = _Stream(name, fd, rest)
                asyncio.get_running_loop().add_reader(fd, self._readable, fd)

    def note(self, said: str) -> None:
        """Triage says something in between."""
        self._emit(TRIAGE, [said.encode()], time.time())

    def read_now(self) -> None:
        """Take what the pipes hold at this moment: after an exit, so that the last words are there."""
        for fd in list(self._streams):
            for _ in range(DROP // READ + 1):
                if fd not in self._streams or not self._read(fd, keep=True):
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

    def last(self, count: int = LINES, notes: bool = False) -> list[Line]:
        """The last lines, oldest first, with what is not a whole line yet; `notes`: also what Triage said."""
        found = [line for line in self.lines if notes or line.stream != TRIAGE]
        for stream in self._streams.values():
            if stream.rest:
                found.append(Line(self.last_at, stream.name, text(stream.rest)))
        return found[-count:]

    def around(self, at: float, before: float = 10.0, after: float = 1.0) -> list[Line]:
        """Lines read near a moment (Unix seconds)."""
        return [line for line in self.last() if at - before <= line.at <= at + after]

    def hand_over(self) -> list[str]:
        """Read no more: the pipes' next reader is another control. What is not a whole line of out and err."""
        self._handed = True
        rests = {"out": b"", "err": b""}
        for stream in self._streams.values():
            self._silence(stream)
            rests[stream.name] = stream.rest
        return [rests["out"].decode("latin-1"), rests["err"].decode("latin-1")]

    def close(self) -> None:
        """Stop reading and close the pipes and the file."""
        self.read_now()
        for fd in list(self._streams):
            self._end(fd)
        if self._devnull >= 0:
            os.close(self._devnull)
            self._devnull = -1
        if self._book is not None and not self._closed:
            self._closed = True
            self._book.gone(self)

    def _silence(self, stream: _Stream) -> None:
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None
        with contextlib.suppress(RuntimeError):  # no loop any more
            asyncio.get_running_loop().remove_reader(stream.fd)

    def _readable(self, fd: int) -> None:
        size = self._read(fd)
        stream = self._streams.get(fd)
        if stream is not None and size:
            loop = asyncio.get_running_loop()
            loop.remove_reader(fd)
            stream.pause = IDLE if size < READ else PRESSED if self._dropping or _waiting(fd) > MUCH else PAUSE
            stream.timer = loop.call_later(stream.pause, self._resume, fd)

    def _resume(self, fd: int) -> None:
        stream = self._streams.get(fd)
        if stream is None:
            return
        loop, stream.timer = asyncio.get_running_loop(), None
        if stream.unwritten is not None and stream.unwritten.kept == 0:
            now = time.monotonic()
            stream.waits = stream.waits or now
            if now - stream.waits < SLOW:
                stream.timer = loop.call_later(min(PAUSE, stream.pause), self._resume, fd)
                return
        else:
            stream.waits = 0.0
        loop.add_reader(fd, self._readable, fd)

    def _read(self, fd: int, keep: bool = False) -> int:
        """One read; the number of bytes, 0 when there is nothing now or never again. `keep`: whatever the rate."""
        if self._handed:
            return 0
        now = time.time()
        if not keep and self._too_much(fd):
            return self._drop(fd, now)
        try:
            data = os.read(fd, READ)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:  # EIO: a terminal whose other side is gone
            data = b""
        if not data:
            self._end(fd)
            return 0
        self._seen(len(data), now)
        self._bytes -= len(data)
        self._take(self._streams[fd], data, now)
        return len(data)

    def _seen(self, size: int, now: float) -> None:
        self.total += size
        self.last_at = now

    def _too_much(self, fd: int) -> bool:
        """Once it was, it is for a quarter of a second, or until little is there: the storm is over."""
        now = time.monotonic()
        passed, self._filled = now - self._filled, now
        self._bytes = min(RATE, self._bytes + passed * RATE)
        self._tokens = min(LINES_BURST, self._tokens + passed * LINES_RATE)
        if self._bytes < READ or self._tokens <= 0:
            self._dropping = True
            return True
        if self._dropping:
            enough = self._bytes >= RATE / 4 and self._tokens >= LINES_RATE / 4
            if not enough and _waiting(fd) > LITTLE:
                return True
            self._dropping = False
        return self._book is not None and self._book.crowded(LINES_BURST - self._tokens)

    def _drop(self, fd: int, now: float) -> int:
        """Throw away what the pipe holds: most of it without a copy, for splice(2) moves its pages to /dev/null. Only
        the end is read: whether what comes next begins a line."""
        size, waiting = 0, min(DROP, _waiting(fd))
        try:
            if waiting > READ:
                if self._devnull < 0:
                    self._devnull = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
                size = os.splice(fd, self._devnull, waiting - READ // 2, flags=os.SPLICE_F_NONBLOCK)
            data = os.read(fd, READ)
        except (BlockingIOError, InterruptedError):
            if not size:
                return 0
            data = b"?"
        except OSError:  # a terminal whose other side is gone
            data = b""
        if not data:
            self._end(fd)
            return 0
        size += len(data) if data != b"?" else 0
        self._seen(size, now)
        self.dropped += size
        stream = self._streams[fd]
        if stream.rest:
            self._emit(stream.name, [stream.rest + CUT], now)
        stream.rest, stream.cutting = b"", not data.endswith(b"\n")
        return max(size, READ)

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
            if len(data) > LINE:
                lines = [self._cut(line) if len(line) > LINE else line for line in lines]
            elif len(lines[0]) > LINE:
                lines[0] = self._cut(lines[0])
            self._tokens -= len(lines)
            self._emit(stream.name, lines, now, stream)

    def _cut(self, line: bytes) -> bytes:
        self.dropped += len(line) - LINE
        return line[:LINE] + CUT

    def _emit(self, name: str, lines: list[bytes], now: float, stream: _Stream | None = None) -> None:
        if self.dropped > self._noted:
            said, self._noted = f"{self.dropped - self._noted} bytes of output were dropped before this", self.dropped
            self._emit(TRIAGE, [said.encode()], now)
        first = self._numbers.take(len(lines), now)
        begin = max(0, len(lines) - LINES)
        for number, line in enumerate(lines[begin:], first + begin):
            self.lines.append(Line(now, name, text(line), number))
        if self._book is not None:
            batch = Batch(first, now, self.app, self.name, name, lines, self.name, self.version(), weigh(lines))
            self._book.take(batch)
            if stream is not None:
                stream.unwritten = batch
        if self.on_line is not None and name != TRIAGE:
            for line in lines:
                self.on_line(self.name, name, text(line))

    def _end(self, fd: int) -> None:
        stream = self._streams.pop(fd)
        self._silence(stream)
        os.close(fd)
        if stream.rest:
            self._emit(stream.name, [stream.rest], time.time())
        elif self.dropped > self._noted and not self._streams:
            said, self._noted = f"{self.dropped - self._noted} bytes of output were dropped here", self.dropped
            self._emit(TRIAGE, [said.encode()], time.time())
        if not self._streams:
            self._ended.set()


def _waiting(fd: int) -> int:
    """Bytes that a pipe holds."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
    except OSError:
        return 0
