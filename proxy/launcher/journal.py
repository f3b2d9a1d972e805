"""The launcher's log: one JSON object a line on stderr. A reader that does not read never stops us."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Final

STDERR: Final = 2
LONGEST: Final = 4000
"""A write of at most PIPE_BUF (4,096) bytes to a pipe that polls as writable does not block (pipe(7))."""


class Log:
    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.dropped = 0

    def info(self, event: str, **fields: object) -> None:
        if not self.quiet:
            self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        first: dict[str, object] = {"time": stamp, "level": level, "process": "launcher", "event": event}
        row = {**first, **fields}
        if self.dropped:
            row["dropped"] = self.dropped
        line = json.dumps(row, separators=(",", ":"), default=str).encode()
        if len(line) > LONGEST:
            line = json.dumps({**first, "text": line[:1500].decode(errors="replace")}).encode()
        try:
            poll = select.poll()
            poll.register(STDERR, select.POLLOUT)
            ready = poll.poll(0)
            if not ready or not ready[0][1] & select.POLLOUT:
                raise BlockingIOError
            os.write(STDERR, line + b"\n")
            self.dropped = 0
        except OSError:
            self.dropped += 1
