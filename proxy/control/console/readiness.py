"""Waiting for a descriptor, only as long as somebody wants it."""

from __future__ import annotations

import asyncio


async def ready(fd: int, *, reading: bool) -> None:
    """Until it can be read, or written."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def done() -> None:
        if not waiting.done():
            waiting.set_result(None)

    (loop.add_reader if reading else loop.add_writer)(fd, done)
    try:
        await waiting
    finally:
        (loop.remove_reader if reading else loop.remove_writer)(fd)
