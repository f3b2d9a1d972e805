"""What became of an instance: the answer to a worker whose connection to it closed with a request on it.

Whether the process ended decides how the request may be tried again (docs/faults.md, Suspects), so the worker waits a
moment for this; the exit often comes some milliseconds after the closed connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from proxy.control import sampling
from proxy.control.process import ProcessRunner
from proxy.control.state import Exit
from proxy.link import messages as link

WAIT: Final = 0.15
"""Seconds for an exit to be reported."""
ZOMBIE: Final = 1.0
"""Seconds when /proc says already that it ended: the report is on its way."""
REMEMBERED: Final = 200


class Fates:
    """Knows the exits of late, and answers."""

    def __init__(self, find: Callable[[str], ProcessRunner | None], send: Callable[[int, link.ToWorker], None]) -> None:
        self._find = find
        self._send = send
        self._known: dict[tuple[str, int], link.Fate] = {}
        self._asked: dict[tuple[int, str], asyncio.Task[None]] = {}

    def of(self, instance: str, row: int, ended: Exit, inflight: int) -> link.Fate:
        """Remember an exit, as workers are told it. `inflight`: what the board said before they were."""
        fate = link.Fate(instance, row, True, ended.by_itself, ended.ours, ended.words, inflight)
        self._known[instance, row] = fate
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return fate

    def lost(self, slot: int, question: link.Lost) -> None:
        """Answer as soon as it is known; a question asked twice is answered once."""
        key = (slot, question.instance)
        if key not in self._asked:
            task = asyncio.get_running_loop().create_task(self._answer(slot, question))
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key, None))

    async def _answer(self, slot: int, question: link.Lost) -> None:
        runner = self._find(question.instance)
        if runner is not None and runner.state.pid:
            pid, began = runner.state.pid, time.monotonic()
            while not runner.ended.is_set() and runner.state.pid == pid:
                limit = WAIT if sampling.alive(pid) else ZOMBIE
                if time.monotonic() - began >= limit:
                    break
                await asyncio.sleep(0.005)
        fate = self._known.get((question.instance, question.row))
        self._send(slot, fate or link.Fate(question.instance, question.row, False))
