"""An answer waits a moment for stacks, and no longer."""

import asyncio
import time

import pytest

from proxy.admin.hanging import WITHIN, Hanging
from proxy.control.stacks import NoStacks


@pytest.mark.slow
async def test_what_comes_late_is_there_for_who_asks_again() -> None:
    come, asked = asyncio.Event(), []

    async def take(pid: int) -> str:
        asked.append(pid)
        if pid == 7:
            raise NoStacks("no Python in it")
        await come.wait()
        return f"stack of {pid}"

    hanging = Hanging(take)
    began = time.monotonic()
    assert await asyncio.gather(hanging.stacks((7, 8)), hanging.stacks((7, 8))) == ["", ""]
    assert WITHIN <= time.monotonic() - began < 1.0
    come.set()
    assert await hanging.stacks((7, 8)) == "stack of 8" and asked == [7, 8]


async def test_none_that_can_be_had_is_none() -> None:
    async def take(pid: int) -> str:
        raise NoStacks("no Python in it")

    assert await Hanging(take).stacks((7, 8)) == ""
