"""Work in a forked process with limits: its time, the size of its files, and a label of what came of it.

Always true:
  - what it started ends with it, and it ends with us;
  - one that hangs, in the kernel too, is killed at its limit and not waited for.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from proxy import units
from proxy.diagnostics.subject import NoRoom, NotForThis, NotThere

PR_SET_PDEATHSIG: Final = 1
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
MEMORY: Final = 1536 * units.MIB
"""Of address space, for the stages that are ours alone. Collectors start programs that reserve more (a JVM)."""


@dataclass(frozen=True, slots=True)
class Came:
    """What came of it; the states are those of a Step."""

    state: str
    why: str = ""


@dataclass(slots=True)
class Fork:
    """One process, as it goes. `until`: monotonic."""

    pid: int
    pidfd: int
    pipe: int
    began: float
    until: float

    def ask_to_end(self, until: float) -> None:
        """TERM, which work that goes on for long takes as a word to end; it is killed at `until` at the latest."""
        self.until = min(self.until, until)
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
        except ProcessLookupError:
            pass

    def ended(self) -> Came:
        """Its pidfd is readable."""
        self._end_group()  # before its number can be another's
        _, status = os.waitpid(self.pid, 0)
        os.set_blocking(self.pipe, False)
        try:
            told = os.read(self.pipe, 65536)
        except BlockingIOError:  # something it started still has the other end
            told = b""
        self._close()
        if told:
            return Came(*json.loads(told))
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return Came("failed", f"it ended by signal {_signal(-code)}")
        return Came("failed", f"it ended with code {code}")

    def kill(self) -> Came:
        took = time.monotonic() - self.began
        self._end_group()
        self._close()
        return Came("hung", f"killed after {took:.1f} s")

    def _end_group(self) -> None:
        """It leads a group: what it started is in there."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # PermissionError: all of them have ended (Linux, zombies)
            pass

    def _close(self) -> None:
        os.close(self.pipe)
        os.close(self.pidfd)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time ones have no name
        return str(number)


def begin(work: Callable[[], str], until: float, most: int, *, memory: int = 0) -> Fork:
    """`work` returns a note. `most`: bytes of each file that it writes; `memory`: of its address space, 0: no limit.

    It begins with TERM blocked, so that none is lost before `work` is ready for it. Raises OSError where there are no
    processes or descriptors left for it: nothing of it stays then.
    """
    read_end, write_end = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _run(work, most, memory, write_end)
    except OSError:
        os.close(read_end)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(write_end)
    try:
        os.setpgid(pid, pid)  # both sides do it: whoever comes first
    except OSError:
        pass
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        os.close(read_end)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return Fork(pid, pidfd, read_end, time.monotonic(), until)


def _run(work: Callable[[], str], most: int, memory: int, pipe: int) -> NoReturn:
    """In the process of its own."""
    came = Came("failed", "it did not get as far as to say why")
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        came = Came("done", work())
    except BaseException as error:  # SystemExit too: it must not run what the parent has left to do
        came = label(error, most)
        if came.state == "failed":
            sys.excepthook(type(error), error, error.__traceback__)
            sys.stderr.flush()
    finally:
        os.write(pipe, json.dumps((came.state, came.why[:2000])).encode())
        os._exit(0)


def label(error: BaseException, most: int = 0) -> Came:
    """By what was raised."""
    if isinstance(error, NoRoom):
        return Came("no room", str(error))
    if isinstance(error, NotThere):
        return Came("not there", str(error))
    if isinstance(error, NotForThis):
        return Came("skipped", str(error))
    if isinstance(error, PermissionError):
        return Came("not permitted", error.strerror or str(error))
    if isinstance(error, ProcessLookupError):
        return Came("not there", error.strerror or str(error))
    if isinstance(error, OSError) and error.errno in FULL:
        return Came("no room", "the disk is full")
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return Came("no room", f"a file of it would be larger than {units.size(most)}")
    if isinstance(error, MemoryError):
        return Came("failed", "it needed more memory than it may have")
    return Came("failed", str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}")


def write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
