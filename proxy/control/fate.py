"""How a process ended, in facts and in words.

Pure but for `OomWatch`, which reads the kernel's counters. *Certain* is said only where a cgroup that holds this
instance alone counted the kill; a counter that others share and that rose makes it *likely*.
"""

from __future__ import annotations

import signal
from collections import deque
from pathlib import Path
from typing import Final

from proxy.control import room
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
    """A count of out-of-memory kills that others share: of the cgroup that Triage runs in, else of the machine.

    The cgroup's own is the better one: it counts each kill of a process directly in it, whoever was short of memory,
    and none of another container. The machine's counts only where memory was short, as kills elsewhere do not make it.
    """

    VMSTAT: Final = Path("/proc/vmstat")

    def __init__(self, cgroup: Path | None = None) -> None:
        self._cgroup = cgroup if cgroup is not None and _kills(cgroup) is not None else None
        self._samples: deque[tuple[int, bool]] = deque([self._sample()], maxlen=WINDOW)

    def sample(self) -> None:
        """Once a second: a kill counts for exits of the next seconds, which may be reported a little later."""
        self._samples.append(self._sample())

    def of_exit(self, by_signal: int | None, ours: bool) -> str:
        """ "likely" or "no", for a process that ended just now; certain is only its own cgroup (limits.py)."""
        if by_signal != signal.SIGKILL or ours or self._count() <= self._samples[0][0]:
            return "no"
        return "likely" if any(short for _, short in self._samples) else "no"

    def _sample(self) -> tuple[int, bool]:
        return self._count(), self._cgroup is not None or room.short()

    def _count(self) -> int:
        return (_kills(self._cgroup) if self._cgroup is not None else _count(self.VMSTAT)) or 0


def cgroup_kills(folder: Path) -> int:
    """`oom_kill` of memory.events (v2) or memory.oom_control (v1); 0 where neither can be read."""
    for name in ("memory.events", "memory.oom_control"):
        if (found := _count(folder / name)) is not None:
            return found
    return 0


def _kills(folder: Path) -> int | None:
    """Of processes directly in this cgroup; None where that can't be read (the root has none)."""
    for name in ("memory.events.local", "memory.oom_control"):
        if (found := _count(folder / name)) is not None:
            return found
    return None


def _count(path: Path) -> int | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None
