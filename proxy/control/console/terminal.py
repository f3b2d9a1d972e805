"""A terminal: a person's shell on a pty, under its keeper.

Always true:
  - nothing is read from the pty unless somebody takes it, so a program that prints without end waits;
  - the shell inherits no descriptor but the pty, and no variable but those of its place and TERM;
  - `end` ends all that was started in it; so does the end of control, twice: the keeper's doing, and the pty's hangup.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import grp
import os
import pwd
import struct
import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from proxy.control.console.kept import Ended, Kept
from proxy.control.console.readiness import ready
from proxy.control.console.where import Where
from proxy.control.refusal import NotPossible

TERM: Final = "xterm-256color"
PIECE: Final = 1 << 16
GRACE: Final = 1.0
"""Seconds between SIGHUP and SIGKILL."""
MOST_CELLS: Final = 1000
"""Columns and rows: more than any screen has; some programs keep a buffer of them all."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of the screen, in cells."""

    cols: int = 80
    rows: int = 24

    @classmethod
    def of(cls, cols: object, rows: object) -> Size:
        """Raises ValueError with what is right."""
        for value in (cols, rows):
            if type(value) is not int or not 1 <= value <= MOST_CELLS:
                raise ValueError(f"expected two whole numbers, columns and rows, from 1 to {MOST_CELLS}")
        assert isinstance(cols, int) and isinstance(rows, int)
        return cls(cols, rows)


class Terminal:
    """See the module."""

    def __init__(self, id: str, where: Where, size: Size, by: str, way: str) -> None:
        self.id, self.where, self.size, self.by, self.way = id, where, size, by, way
        self.began = time.time()
        self.touched = time.monotonic()  # when somebody typed last
        self.sent = self.received = 0  # bytes to and from the person
        self.kept: Kept | None = None
        self.ended_for = ""
        """Why it was ended, where that was not the shell's own doing."""
        self.ending = asyncio.Event()
        """`ended_for` was said."""
        self._fd = -1

    def __repr__(self) -> str:
        return f"<Terminal {self.id} {self.where.words} pid {self.pid}>"

    @property
    def pid(self) -> int:
        return self.kept.pid if self.kept is not None else 0

    @property
    def idle(self) -> float:
        """Seconds since somebody typed."""
        return time.monotonic() - self.touched

    async def start(self) -> None:
        """Raises NotPossible."""
        try:
            self._fd, slave = os.openpty()
        except OSError as error:
            raise NotPossible(
                "no-terminal", f"this machine has no terminal to give: {error.strerror}",
                "Is /dev/pts mounted, and kernel.pty.max not reached? POST command needs none.",
            ) from None  # fmt: skip
        try:
            os.set_blocking(self._fd, False)
            self.resize(self.size)
            _own(slave, self.where.user)
            self.kept = await Kept.start(
                [self.where.shell], self.where, {0: slave, 1: slave, 2: slave}, terminal=True,
                env={"TERM": TERM},
            )  # fmt: skip
        except BaseException:
            self._close()
            raise
        finally:
            os.close(slave)

    def resize(self, size: Size) -> None:
        """The program in front gets SIGWINCH."""
        self.size = size
        if self._fd < 0:
            return
        with suppress(OSError):
            fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", size.rows, size.cols, 0, 0))

    async def read(self) -> bytes:
        """What was printed; b"" when no program has the terminal any more."""
        while self._fd >= 0:
            try:
                data = os.read(self._fd, PIECE)
            except BlockingIOError:
                await ready(self._fd, reading=True)
                continue
            except OSError as error:
                if error.errno != errno.EIO:  # EIO: nobody has the other end open
                    raise
                return b""
            self.sent += len(data)
            return data
        return b""

    async def write(self, data: bytes) -> None:
        """What was typed. Waits where nobody reads it, until the terminal's end."""
        self.touched = time.monotonic()
        self.received += len(data)
        while data and self._fd >= 0:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                await ready(self._fd, reading=False)
            except OSError:
                return  # it has ended; read tells

    def end(self, why: str) -> None:
        """Ask for its end, for this reason."""
        if not self.ended_for:
            self.ended_for = why
            self.ending.set()
        if self.kept is not None:
            self.kept.end(GRACE)

    async def finish(self, within: float) -> Ended:
        """Close it; how its shell ended. All that ran in it has ended after that, unless the kernel hangs."""
        self._close()
        if self.kept is None or self.kept.done is None:
            return Ended()
        self.kept.end(GRACE)
        try:
            async with asyncio.timeout(within):
                return await asyncio.shield(self.kept.done)
        except TimeoutError:
            return Ended(stuck=(self.kept.pid,))
        finally:
            self.kept.kill()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(fd)
            loop.remove_writer(fd)
            os.close(fd)


def _own(slave: int, user: str) -> None:
    """The terminal is its user's, so that programs may open it by name."""
    if not user or os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        try:
            group = grp.getgrnam("tty").gr_gid
        except KeyError:
            group = -1
        os.fchown(slave, entry.pw_uid, group)
    except (KeyError, OSError):
        pass  # a number without a name: it writes to what it has open
