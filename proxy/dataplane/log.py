"""The worker's own log: JSON lines on stderr, few of them."""

from __future__ import annotations

import sys
import time

import msgspec

_process = "worker"


def name(process: str) -> None:
    global _process
    _process = process


def log(event: str, *, level: str = "info", **fields: object) -> None:
    """One line. Never raises: a closed stderr loses the line."""
    now = time.time()
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    line = {"time": at, "level": level, "process": _process, "event": event, **fields}
    try:
        sys.stderr.write(msgspec.json.encode(line).decode() + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, TypeError):
        pass
