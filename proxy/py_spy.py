"""Where py-spy is, and what it means by what it says: control and the collectors both take stacks with it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

MISSING: Final = "py-spy is not installed"


def program() -> str | None:
    """Beside our own Python, else on the PATH; None: it is not installed."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


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
