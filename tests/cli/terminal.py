"""A terminal, as the command sees one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.cli.conftest import ROOT

LONG = 40.0


class Terminal:
    """`triage ARGS` with a pseudoterminal for standard input, output and error.

    `said` is what it showed, without colours and movements; `shown` all of it. `more` is of its environment.
    """

    def __init__(self, folder: Path, *args: str, size: tuple[int, int] = (80, 24), **more: str) -> None:
        ours, theirs = pty.openpty()
        self.shown = b""
        self.resize(*size, ours)
        self.before = termios.tcgetattr(ours)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("TRIAGE_", "XDG_"))}
        env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        env |= {"PYTHONPATH": str(ROOT), "HOME": str(folder), "TZ": "Etc/GMT-1", "TERM": "xterm", **more}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy.main", *args], cwd=folder, env=env,
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        self.ours = ours
        self.theirs = theirs  # kept: a terminal that nobody has open forgets its modes
        self.said = ""

    def resize(self, columns: int, lines: int, descriptor: int | None = None) -> None:
        """As when somebody pulls at the window's corner."""
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.ours if descriptor is None else descriptor, termios.TIOCSWINSZ, size)
        if descriptor is None:
            self.process.send_signal(signal.SIGWINCH)

    def as_it_was(self) -> bool:
        """Whether its modes are those from before the command."""
        return termios.tcgetattr(self.ours) == self.before

    def expect(self, text: str, times: int = 1) -> None:
        """Wait until it was shown so often."""
        deadline = time.monotonic() + LONG
        while self.said.count(text) < times:
            if time.monotonic() > deadline or not self._read():
                self.process.kill()
                self.process.wait(LONG)
                raise AssertionError(f"{text!r} did not come: {self.said[-4000:]}")

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def end(self, *, keep: bool = False) -> int:
        """Its exit code. `keep`: this side stays open, for a look at its modes until `close`."""
        deadline = time.monotonic() + LONG
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.said
            self._read()
        while select.select([self.ours], [], [], 0)[0] and self._read():
            pass
        if not keep:
            self.close()
        return self.process.returncode

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.theirs)

    def _read(self) -> bool:
        """False at the end."""
        if select.select([self.ours], [], [], 0.2)[0]:
            try:
                data = os.read(self.ours, 65536)
            except OSError:  # the other side is closed
                return False
            self.shown += data
            self.said = re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[>=])", "", self.shown.decode(errors="replace"))
            return bool(data)
        return True
