"""One task at a time, begun from a tick, ended with its owner; what it raises is told, and the next one is begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class OneTask:
    """`broke` is told of an exception."""

    def __init__(self, name: str, broke: Callable[[Exception], None]) -> None:
        self._name = name
        self._broke = broke
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """None may be running."""
        assert not self.running
        self._task = asyncio.get_running_loop().create_task(self._run(work), name=self._name)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._broke(error)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
