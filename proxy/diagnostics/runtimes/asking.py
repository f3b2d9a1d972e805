"""Running a program that looks into a process and prints what it saw."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def printed(
    command: Sequence[str], within: float, *, user: int | None = None, group: int | None = None
) -> tuple[subprocess.CompletedProcess[bytes] | None, str]:
    """What came of it, or None and why nothing did. `within` seconds; then it is killed."""
    try:
        run = subprocess.run(
            command, capture_output=True, timeout=within, check=False, stdin=subprocess.DEVNULL, user=user, group=group,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"{command[0]} gave no answer within {within:g} s"
    except OSError as error:
        return None, f"{command[0]} could not be started: {error.strerror or error}"
    return run, ""
