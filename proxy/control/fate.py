"""How a process ended, in facts and in words.

Pure but for `OomWatch`, which reads the kernel's counters. *Certain* is said only where a cgroup that holds this
instance alone counted the kill; a counter of the whole machine that rose makes it *likely*.
"""

from __future__ import annotations

import signal
from collections import deque
from pathlib import Path
from typing import Final

from proxy.control.state import Exit

WINDOW: Final = 3
"""Samples, a second apart."""
CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
"""Signals that a process brings upon itself."""


def describe(
    *,
    name: str,
    at: float,
    lasted: float,
    code: int | None,
    by_signal: int | None,
    oom: str = "no",
    ours: bool = False,
    last_lines: tuple[str, ...] = (),
) -> Exit:
    """The whole of an exit.

    `by_itself`: what it was doing may have ended it. An exit with code 0 while serving is odd, but nothing a request
    does to a process, so it makes no suspects; nor does a signal from outside.
    """
    if by_signal is not None:
        words = f"signal {by_signal} ({signal_name(by_signal)})"
        by_itself = by_signal in CRASHES or oom != "no"
    else:
        words = f"exit code {code}"
        by_itself = code != 0
    if oom == "certain":
        words += ", out of memory"
    elif oom == "likely":
        words += ", likely out of memory"
    return Exit(
        at=at,
        lasted=lasted,
        code=code,
        signal=by_signal,
        oom=oom,
        ours=ours,
        by_itself=by_itself and not ours,
        words=words,
        last_lines=last_lines,
        name=name,
    )


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


class OomWatch:
    """The machine's own count of out-of-memory kills."""

    VMSTAT: Final = Path("/proc/vmstat")

    def __init__(self) -> None:
        self._samples: deque[int] = deque([self._machine()], maxlen=WINDOW)

    def sample(self) -> None:
        """Once a second: a kill counts for exits of the next seconds, which may be reported a little later."""
        self._samples.append(self._machine())

    def of_exit(self, by_signal: int | None, ours: bool) -> str:
        """ "likely" or "no", for a process that ended just now; certain is only its own cgroup (limits.py)."""
        if by_signal == signal.SIGKILL and not ours and self._machine() > self._samples[0]:
            return "likely"
        return "no"

    def _machine(self) -> int:
        try:
            for line in self.VMSTAT.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        except (OSError, ValueError):
            pass
        return 0


def cgroup_kills(folder: Path) -> int:
    """`oom_kill` of memory.events (v2) or memory.oom_control (v1); 0 where neither can be read."""
    for name in ("memory.events", "memory.oom_control"):
        try:
            for line in (folder / name).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        except (OSError, ValueError):
            continue
    return 0
