"""Triage's own log: one JSON object a line, never mixed with what instances print.

Under `triage run` a person reads the terminal: only warnings appear, as plain lines.

Always true: a reader that does not read never stops control; what it would have read is counted and dropped.
"""

from __future__ import annotations

import os
import select
import time
from typing import Any, Final

import orjson

from proxy.control.logs.lines import stamp

PART: Final = 4096
"""A write of at most PIPE_BUF bytes to a pipe that polls as writable does not block (pipe(7))."""


class Sink:
    """Writes whole lines to a descriptor, or drops them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.dropped = 0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, line: bytes) -> None:
        """A line with its end. One that is cut in the middle is dropped from there on."""
        for at in range(0, len(line), PART):
            try:
                ready = self._poll.poll(0)
                if not ready or not ready[0][1] & select.POLLOUT:
                    raise BlockingIOError
                os.write(self.fd, line[at : at + PART])
            except OSError:
                self.dropped += 1
                return


class Log:
    """`where` is the config's `gateway.log`: stderr, stdout or a file. `plain` is for `triage run`."""

    def __init__(self, where: str = "stderr", plain: bool = False) -> None:
        self._plain = plain
        self._sink = Sink(1 if where == "stdout" else 2)
        if where not in ("stderr", "stdout"):
            try:
                os.makedirs(os.path.dirname(where), exist_ok=True)
                self._sink = Sink(os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
            except OSError as error:
                self.error("log", f"{where} can't be written, so this goes to stderr: {error.strerror}")

    def info(self, event: str, text: str, **more: Any) -> None:
        if not self._plain:
            self._write("info", event, text, more)

    def warning(self, event: str, text: str, **more: Any) -> None:
        self._write("warning", event, text, more)

    def error(self, event: str, text: str, **more: Any) -> None:
        self._write("error", event, text, more)

    def _write(self, level: str, event: str, text: str, more: dict[str, Any]) -> None:
        if self._plain:
            self._sink.write(f"triage: {text}\n".encode(errors="replace"))
            return
        line = {"time": stamp(time.time()), "level": level, "process": "control", "event": event, "text": text}
        line.update((key, value) for key, value in more.items() if value not in ("", None))
        if self._sink.dropped:
            line["dropped"] = str(self._sink.dropped)
        self._sink.write(orjson.dumps(line, default=str) + b"\n")
