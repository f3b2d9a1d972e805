"""Old files of a log: PATH.1 is the newest, PATH.N the oldest that stays. Blocking; for a thread.

`rotate` is called by one at a time: who holds the lock of the file at PATH, which every other would need.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import re
import time
from typing import Final

_JSON: Final = re.compile(rb'"time":([0-9]+(?:\.[0-9]+)?)')
_COMBINED: Final = re.compile(rb"\[([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2}) \+0000\]")
_HEAD: Final = 4096


def rotate(path: str, files: int) -> None:
    """Make way for a new file at `path`; at most `files` old ones stay. Raises OSError, and then nothing is lost."""
    folder, name = os.path.split(path)
    old = re.compile(re.escape(name) + r"\.([1-9][0-9]{0,8})")
    numbers = sorted(int(found[1]) for each in os.listdir(folder or ".") if (found := old.fullmatch(each)))
    for number in numbers:
        if number >= files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}.{number}")
    for number in reversed(numbers):
        if number < files:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}.{number}", f"{path}.{number + 1}")
    os.rename(path, f"{path}.1")


def first_line_at(path: str) -> float:
    """The Unix time that a log's first line says, in either format; 0.0 if it says none that can be read.

    A file has no time of birth that every file system keeps, and a copy has another; its first line stays the same.
    """
    try:
        with open(path, "rb") as file:
            line = file.readline(_HEAD)
    except OSError:
        return 0.0
    if line[:1] == b"{":
        found = _JSON.search(line)
        return float(found[1]) if found else 0.0
    found = _COMBINED.search(line)
    try:
        return calendar.timegm(time.strptime(found[1].decode(), "%d/%b/%Y:%H:%M:%S")) if found else 0.0
    except ValueError:
        return 0.0
