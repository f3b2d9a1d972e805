"""Where py-spy is, how it is asked for stacks, and what it means by what it says: control and the collectors use it.

py-spy stops all threads while it reads them, some 0.5 ms for each: so only where there are few. Else it reads while
they run, which is as good for those that sleep; of one that runs, the innermost frames may be some microseconds
apart (seen in 1.5 % of stacks of threads that do nothing but call), or the reading fails and is tried again.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

MISSING: Final = "py-spy is not installed"
STOPPED: Final = 4
"""Threads up to which a process is stopped while they are read: that is a pause of about 2 ms."""
STOPPED_AT_LAST: Final = 64
"""Threads up to which it is stopped when it could not be read while it ran."""


def program() -> str | None:
    """Beside our own Python, else on the PATH; None: it is not installed."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


def ways(threads: int) -> tuple[bool, ...]:
    """The tries of a dump, one after another until one goes well: whether the process is stopped for it."""
    if threads <= STOPPED:
        return (True, True)
    return (False, False, False, *((True,) if threads <= STOPPED_AT_LAST else ()))


def dump(program: str, pid: int, *more: str, stop: bool) -> list[str]:
    """The command that prints every thread's stack; `more` of py-spy's options."""
    return [program, "dump", *(() if stop else ("--nonblocking",)), *more, "--pid", str(pid)]


def reason(errors: str, code: int) -> str:
    """Why it failed, in one line: its innermost cause, else its error."""
    told = errors.partition("Stack backtrace:")[0]
    error, _, causes = told.partition("Caused by:")
    lines = [line.strip() for line in (causes or error).splitlines() if line.strip()]
    if not lines:
        return f"it ended with code {code}"
    line = lines[-1] if causes else lines[0]
    number, colon, rest = line.partition(": ")
    return rest if colon and (number.isdigit() or number == "Error") else line


def passing(why: str) -> bool:
    """Whether another try may go well: the interpreter was caught between two states, or has just begun."""
    return not any(
        word in why.lower()
        for word in ("permission denied", "operation not permitted", "no such", "failed to find", "unsupported")
    )
