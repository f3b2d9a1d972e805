"""The poll loop: one turn waits for descriptors or a moment, whichever comes first."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Final

from proxy.launcher.journal import Log

NEVER: Final = float("inf")


class Loop:
    def __init__(self, log: Log) -> None:
        self.log = log
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, reader: Callable[[], None]) -> None:
        self._readers[fd] = reader
        self._epoll.register(fd, select.EPOLLIN)

    def also_writable(self, fd: int, wanted: bool) -> None:
        if fd in self._readers:
            self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def unwatch(self, fd: int) -> None:
        """Before it is closed. Nothing when it is not watched."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, due: float) -> float:
        """Wait for readable descriptors until `due` (CLOCK_MONOTONIC), then call their readers.

        Returns how many seconds late it woke: much only when the machine slept or had no time for us."""
        events = self._epoll.poll(None if due == NEVER else max(0.0, due - time.monotonic()))
        late = time.monotonic() - due
        for fd, _ in events:
            reader = self._readers.get(fd)  # gone when an earlier one of this turn closed it
            if reader is not None:
                self.guarded(reader)
        return max(0.0, late)

    def guarded(self, call: Callable[[], None]) -> None:
        """An error of our own is told, and the loop goes on: ending would end every app."""
        try:
            call()
        except Exception:
            import traceback  # half a megabyte that is not needed as long as all is well

            self.log.error("internal-error", text=traceback.format_exc(limit=-4))
            time.sleep(0.05)  # should it come at every turn, it must not take a core
