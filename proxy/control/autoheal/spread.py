"""Work of a second done in pieces of a few milliseconds, so that the loop serves others in between.

Always true: one work at a time; one that is not over when the next begins is done to its end first, so that none is
lost and none piles up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

PIECE: Final = 0.002
"""Seconds after which the loop is given back: half of what nothing on it may take."""


class Spread:
    """`broke` is told of an exception, which ends the work it came from."""

    def __init__(self, broke: Callable[[Exception], None]) -> None:
        self._broke = broke
        self._work: Iterator[None] | None = None

    def start(self, work: Iterator[None]) -> None:
        """The first piece now, the others as the loop comes to them. Each `yield` of `work` ends a small part."""
        if self._work is not None:
            self._run(self._work, float("inf"))
        self._work = work
        self._piece(work)

    def _piece(self, work: Iterator[None]) -> None:
        if self._work is work and not self._run(work, time.perf_counter() + PIECE):
            asyncio.get_running_loop().call_soon(self._piece, work)

    def _run(self, work: Iterator[None], until: float) -> bool:
        """Whether it is over."""
        try:
            for _ in work:
                if time.perf_counter() >= until:
                    return False
        except Exception as error:
            self._broke(error)
        self._work = None
        return True
