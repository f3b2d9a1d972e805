"""The next number of an incident: with instance numbers in `data_dir/numbers.json`, and in the ledger."""

from __future__ import annotations

import asyncio
from typing import Final

from proxy.control.names import Numbers

KEY: Final = "(incidents)"
"""No app can be called so."""


class IncidentNumbers:
    """`numbers` keeps it. A number is in use at once, and on the disk as soon as that can be."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._tasks: set[asyncio.Task[None]] = set()

    def at_least(self, number: int) -> None:
        self._numbers.at_least(KEY, number)

    def take(self) -> int:
        number = self._numbers.next.get(KEY, 1)
        self._numbers.next[KEY] = number + 1
        task = asyncio.get_running_loop().create_task(self._numbers.write())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return number
