"""Triage's own log: one JSON object a line on stderr, never mixed with what instances print."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import orjson

from proxy.control.output import stamp


class Log:
    """`quiet` (under `triage run`) leaves out what is not a warning; people read that terminal."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet

    def info(self, event: str, text: str, **more: Any) -> None:
        if not self._quiet:
            self._write("info", event, text, more)

    def warning(self, event: str, text: str, **more: Any) -> None:
        self._write("warning", event, text, more)

    def error(self, event: str, text: str, **more: Any) -> None:
        self._write("error", event, text, more)

    def say(self, text: str) -> None:
        """A plain line, for the person at `triage run`."""
        self._put(f"{text}\n")

    def _write(self, level: str, event: str, text: str, more: dict[str, Any]) -> None:
        line = {"time": stamp(time.time()), "level": level, "process": "control", "event": event, "text": text}
        line.update((key, value) for key, value in more.items() if value not in ("", None))
        self._put(orjson.dumps(line, default=str).decode() + "\n")

    def _put(self, line: str) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more; that must not end control


