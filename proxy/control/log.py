"""Triage's own log: one JSON object a line, never mixed with what instances print.

Under `triage run` a person reads the terminal: only warnings appear, as plain lines.
"""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import orjson

from proxy.control.output import stamp


class Log:
    """`where` is the config's `gateway.log`: stderr, stdout or a file. `plain` is for `triage run`."""

    def __init__(self, where: str = "stderr", plain: bool = False) -> None:
        self._plain = plain
        self._stream: TextIO = sys.stdout if where == "stdout" else sys.stderr
        if where not in ("stderr", "stdout"):
            try:
                self._stream = open(where, "a", encoding="utf-8", errors="replace")
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
            self._put(f"triage: {text}\n")
            return
        line = {"time": stamp(time.time()), "level": level, "process": "control", "event": event, "text": text}
        line.update((key, value) for key, value in more.items() if value not in ("", None))
        self._put(orjson.dumps(line, default=str).decode() + "\n")

    def _put(self, line: str) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more; that must not end control


