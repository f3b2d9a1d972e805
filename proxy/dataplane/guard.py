"""The worker's own limits: connections, descriptors, memory, and its event loop's lag.

`shedding` is "" or why; `sheds()` then says for each request whether it is turned away: a share that grows with the
lag, so that what is let in is still answered well.
"""

from __future__ import annotations

import errno
import os
import resource
from random import random
from typing import Final

LAG: Final = 0.25
"""Seconds the loop may be late, on average over about a second, before requests are turned away."""
LAG_ALL: Final = 1.0
RESERVE: Final = 64
"""Connections beyond the limit that still get an answer; then accepting stops."""
MEMORY_LEAST: Final = 0.03
"""Share of the machine's memory that must be available."""


class Guard:
    __slots__ = ("_lag", "descriptors_short", "memory_short", "most_clients", "shedding")

    def __init__(self) -> None:
        self.most_clients = 10000
        self.shedding = ""
        self.memory_short = False
        self.descriptors_short = False
        """None is left: connections that come are closed by the event loop, unanswered."""
        self._lag = 0.0

    def limit(self, connections: int) -> None:
        """Set `most_clients`: two descriptors for each, 256 left for everything else."""
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.most_clients = max(1, min(connections, (descriptors - 256) // 2))

    def tick(self, lag: float) -> None:
        self._lag += (lag - self._lag) * 0.05
        if self._lag > LAG:
            self.shedding = f"its event loop is {self._lag * 1000:.0f} ms late"
        elif self.memory_short:
            self.shedding = "the machine's memory is used up"
        elif self.descriptors_short:
            self.shedding = "no file descriptor is left"
        elif self.shedding and self._lag < LAG / 2:
            self.shedding = ""

    def sheds(self) -> bool:
        if self.memory_short:
            return True
        return random() < min((self._lag - LAG / 2) / (LAG_ALL - LAG / 2), 0.9)

    def look_at_memory(self) -> None:
        """Once a second; that the file can't be opened says that no descriptor is left."""
        try:
            with open("/proc/meminfo", "rb") as file:
                head = file.read(256).split()
            self.memory_short = int(head[7]) < int(head[1]) * MEMORY_LEAST
            self.descriptors_short = False
        except OSError as error:
            self.descriptors_short = error.errno in (errno.EMFILE, errno.ENFILE)
        except (ValueError, IndexError):
            self.memory_short = False


def rss() -> int:
    """Bytes of this process in memory."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
