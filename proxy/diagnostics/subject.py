"""What a collector is told: the session's input, and which instance it is to look into."""

from __future__ import annotations

import os
import re
import select
import signal
from dataclasses import dataclass
from pathlib import Path

import msgspec

from proxy.link.session import INPUT, Input, Instance, Known


class NotThere(Exception):
    """What the collector would look into, or the program it would use, is not there: in words."""


class NotForThis(Exception):
    """The collector looks into other things than this one: in words."""


class NoRoom(Exception):
    """What it would write is more than the session or the disk has room for: in words."""


@dataclass(slots=True)
class Subject:
    """`pid` 0: no process runs, or none that can be seen from here."""

    input: Input
    instance: Instance | None = None  # None: the app as a whole, or the host
    seconds: float = 0.0  # for which to sample; 0: one quick look
    room: int = 0  # bytes that it may write; 0: no limit
    _stop: int = -1  # becomes readable when gathering is to end

    @property
    def known(self) -> Known:
        """As it was when the session began."""
        return self.input.known

    @property
    def pid(self) -> int:
        return self.instance.pid if self.instance is not None else 0

    @property
    def started(self) -> int:
        """Clock ticks since boot, which tell a reused pid."""
        return self.instance.started if self.instance is not None else 0

    def wait(self, seconds: float) -> bool:
        """Sleep. False: gathering is to end now."""
        ready, _, _ = select.select([self._stop] if self._stop >= 0 else [], [], [], max(0.0, seconds))
        return not ready

    def ends_on_term(self) -> None:
        """TERM does not end this process any more, but its waiting."""
        stop = self._stop = os.eventfd(0)
        signal.signal(signal.SIGTERM, lambda number, frame: os.eventfd_write(stop, 1))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


def read(folder: Path) -> Input:
    """Raises OSError, msgspec.MsgspecError."""
    return msgspec.json.decode((folder / INPUT).read_bytes(), type=Input)


def plain(instance: str) -> str:
    """Its name as that of a folder; no two instances of a session may share it: see gather.places."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", instance)[:100]
    return safe if safe.strip(".") else f"_{safe}"
