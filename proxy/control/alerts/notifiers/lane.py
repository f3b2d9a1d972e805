"""A thread of a notifier's own, for what can only wait: name lookups and the mail protocol.

The loop's pool of threads is control's: a name server that does not answer would fill it, and hold up everything else.
A thread that hangs here holds up its notifier alone, and, being a daemon, not the end of control either.

Always true: of one lane at most one thread runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Lane:
    """Used from one loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._free = asyncio.Event()
        self._free.set()

    async def run(self, work: Callable[[], T]) -> T:
        """In the thread. Who is cancelled leaves it running; who comes next waits for its end."""
        while not self._free.is_set():
            await self._free.wait()
        self._free.clear()
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def done(value: T | None, error: BaseException | None) -> None:
            self._free.set()
            if result.cancelled():
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(value)  # type: ignore[arg-type]

        def run() -> None:
            value, error = None, None
            try:
                value = work()
            except BaseException as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(done, value, error)
            except RuntimeError:
                pass  # the loop has ended

        threading.Thread(target=run, name=f"notify {self._name}", daemon=True).start()
        return await result
