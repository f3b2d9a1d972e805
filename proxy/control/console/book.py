"""The terminals there are, and how many commands run. Both are bounded; what is too many is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from proxy.control.console.terminal import Size, Terminal
from proxy.control.console.where import Where
from proxy.control.refusal import NotPossible

MOST: Final = 5
MOST_COMMANDS: Final = 8
END_WITHIN: Final = 8.0
"""Seconds: SIGHUP, its grace, SIGKILL, and the kernel's own time."""


class Consoles:
    """See the module."""

    def __init__(self) -> None:
        self.terminals: dict[str, Terminal] = {}
        self.commands = 0
        self._number = 0

    def __repr__(self) -> str:
        return f"<Consoles {len(self.terminals)} terminals, {self.commands} commands>"

    async def begin(self, where: Where, size: Size, by: str, way: str) -> Terminal:
        """A new terminal, whose shell runs. Raises NotPossible."""
        if len(self.terminals) >= MOST:
            raise NotPossible(
                "too-many-consoles", f"{MOST} terminals are open already",
                "End one of them: GET /api/v1/consoles lists them, DELETE /api/v1/consoles/ID ends one.",
            )  # fmt: skip
        self._number += 1
        made = Terminal(f"c-{self._number}", where, size, by, way)
        self.terminals[made.id] = made  # before the first await: none may slip by the count
        try:
            await made.start()
        except BaseException:
            del self.terminals[made.id]
            raise
        return made

    def forget(self, one: Terminal) -> None:
        """It has ended."""
        self.terminals.pop(one.id, None)

    @contextmanager
    def command(self) -> Iterator[None]:
        """While one runs. Raises NotPossible."""
        if self.commands >= MOST_COMMANDS:
            raise NotPossible("too-many-commands", f"{MOST_COMMANDS} commands run already", "Wait for one of them.")
        self.commands += 1
        try:
            yield
        finally:
            self.commands -= 1

    async def close(self, why: str) -> None:
        """End all terminals, and wait for it."""
        for one in list(self.terminals.values()):
            one.end(why)
        waits = [one.kept.done for one in self.terminals.values() if one.kept is not None and one.kept.done is not None]
        if waits:
            await asyncio.wait(waits, timeout=END_WITHIN)
