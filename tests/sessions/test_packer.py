"""The process that packs a bundle: what it says of a failure is not lost."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE

from proxy.admin import bundle


def test_its_last_words_are_heard_and_masked() -> None:
    async def fails() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", "raise ValueError('password=hunter22 ' + 'x' * 5)",
            stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        said = await bundle._last_words(process.stderr)
        await process.wait()
        return said

    said = asyncio.run(fails())
    assert said.startswith("ValueError: ") and "hunter22" not in said
