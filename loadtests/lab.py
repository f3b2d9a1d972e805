"""A place for one run: folders, free ports, cores, and every process started, each ended at the end.

Always true:
  - a process started here is ended by its pid when the `with` block is left, however it is left, and
    what it started too; if this process dies first, it gets SIGTERM from the kernel;
  - logs lie in a memory-backed folder (/dev/shm), all else in a temporary one; both are removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Final, Self

from loadtests import procs

PR_SET_PDEATHSIG: Final = 1
REPOSITORY: Final = Path(__file__).resolve().parent.parent
_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A run that can't give figures: something did not start or answered wrongly."""


def usable_cores() -> tuple[int, int]:
    """The core for generator and origin, and the core for the proxy; the same one if there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[1] if len(cores) > 1 else cores[0]


class Lab:
    """`with Lab() as lab:` folders to write to and processes that can't outlive it."""

    def __init__(self) -> None:
        self.patience = 10.0  # seconds between SIGTERM and SIGKILL
        self.generator_core, self.proxy_core = usable_cores()
        self._before = os.sched_getaffinity(0)
        self.folder = Path(tempfile.mkdtemp(prefix="triage-load-"))
        memory = Path("/dev/shm")
        self.logs = Path(tempfile.mkdtemp(prefix="triage-load-", dir=memory if memory.is_dir() else None))
        self._started: list[subprocess.Popen[bytes]] = []
        self._open: list[IO[bytes]] = []
        self._ports: set[int] = set()
        self._outputs: dict[int, Path] = {}
        self.at_end: list[Callable[[], object]] = []
        """Called when all that was started has ended, before the folders go."""

    def __repr__(self) -> str:
        return f"Lab({self.folder}, {len(self._started)} processes)"

    def __enter__(self) -> Self:
        os.sched_setaffinity(0, {self.generator_core})
        self._term = signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second ^C or SIGTERM must not leave processes behind: the end is bounded by `patience`.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._end(self._started)
            for call in self.at_end:
                call()
        finally:
            for file in self._open:
                file.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.logs, ignore_errors=True)
            signal.signal(signal.SIGTERM, self._term)
            signal.signal(signal.SIGINT, interrupt)
            os.sched_setaffinity(0, self._before)

    def free_port(self) -> int:
        """A TCP port nobody listens on now, below the range that outgoing connections take theirs from."""
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        # Processes started side by side begin far apart: a port is only taken when it is listened on.
        for port in range(low - 1 - os.getpid() * 97 % 20000, 1024, -1):
            if port in self._ports:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            self._ports.add(port)
            return port
        raise Failed("no free port")

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        core: int,
        output: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process pinned to `core`; its outputs are appended to `output` (else to a file here)."""
        output = output or self.folder / f"output-{len(self._started)}"
        file = open(output, "ab")  # noqa: SIM115 - closed when the lab is left
        self._open.append(file)
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **(env or {})},
            cwd=REPOSITORY,
            preexec_fn=_pinned(core),
            start_new_session=True,
        )
        self._started.append(process)
        self._outputs[process.pid] = output
        return process

    def said(self, process: subprocess.Popen[bytes], lines: int = 15) -> str:
        """The last lines a process wrote, for an error message."""
        text = self._outputs[process.pid].read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(
        self,
        ready: Callable[[], bool],
        process: subprocess.Popen[bytes],
        what: str,
        *,
        deadline: float = 30.0,
    ) -> None:
        """Wait for a condition; Failed, with the process's own words, when it ends or the deadline passes."""
        end = time.monotonic() + deadline
        while not ready():
            code = process.poll()
            if code is not None:
                raise Failed(f"{what} ended with {code} while starting:\n{self.said(process)}")
            if time.monotonic() > end:
                raise Failed(f"{what} did not answer within {deadline:g} s:\n{self.said(process)}")
            time.sleep(0.02)

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        """End these now: SIGTERM, `patience`, then SIGKILL for them and what they started."""
        self._end(list(processes))
        self._started = [process for process in self._started if process not in processes]

    def _end(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        family = {
            pid: found.began
            for process in processes
            if process.poll() is None
            for pid in procs.tree(process.pid)
            if (found := procs.stat(pid)) is not None
        }
        for process in processes:
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + self.patience
        for process in processes:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid, began in family.items():
            if (found := procs.stat(pid)) is not None and found.began == began:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one, and give it."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def python(module: str, *arguments: str) -> list[str]:
    """The command line that runs one of our modules in this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def _pinned(core: int) -> Callable[[], None]:
    parent = os.getpid()

    def before_exec() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)
        os.sched_setaffinity(0, {core})

    return before_exec


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
