"""Running a command of the operator's: no shell, a session of its own, bounded time, and its last lines kept.

If control dies meanwhile the command is ended: the launcher adopts it and kills what no child of its own stands for.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

LINES: Final = 20
LINE: Final = 400
"""Characters kept of a line."""
KILL_AFTER: Final = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    ok: bool
    words: str  # "exit code 1", "not within 1m: killed", "could not be started: …"
    lines: tuple[str, ...] = ()  # its last ones

    @property
    def text(self) -> str:
        return f"{self.words}; its last lines: {' | '.join(self.lines[-5:])}" if self.lines else self.words


async def run(arguments: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> Outcome:
    """Never raises for anything the command does. `env` is added to Triage's own."""
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True, env={**os.environ, **(env or {})},
        )  # fmt: skip
    except OSError as error:
        return Outcome(False, f"could not be started: {error.strerror or error}")
    assert process.stdout is not None
    kept: deque[str] = deque(maxlen=LINES)
    reading = asyncio.ensure_future(_read(process.stdout, kept))
    late = False
    try:
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            late = True
            _signal(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(KILL_AFTER):
                    await process.wait()
        _signal(process.pid, signal.SIGKILL)  # and what it left in its session
        await process.wait()
        with suppress(TimeoutError):  # a grandchild in another session may hold the pipe
            async with asyncio.timeout(1.0):
                await reading
    finally:
        if process.returncode is None:
            _signal(process.pid, signal.SIGKILL)
        reading.cancel()
    if late:
        return Outcome(False, f"not within {timeout:g} s: killed", tuple(kept))
    code = process.returncode or 0
    words = f"exit code {code}" if code >= 0 else f"signal {-code}"
    return Outcome(code == 0, words, tuple(kept))


async def _read(stream: asyncio.StreamReader, kept: deque[str]) -> None:
    rest = b""
    while data := await stream.read(65536):
        *lines, rest = (rest + data).split(b"\n")
        kept.extend(line.decode(errors="replace")[:LINE] for line in lines)
        rest = rest[-LINE:]
    if rest:
        kept.append(rest.decode(errors="replace"))


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
