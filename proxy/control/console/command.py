"""A command of the console: no shell, its output streamed while it runs, within limits of time and size.

Always true:
  - output is read only as fast as it is taken, so nothing of it piles up here;
  - what is beyond MOST_OUTPUT is read and dropped, and counted;
  - when it is over, however that came, all that the command started is ended.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.control.console.kept import Ended, Kept
from proxy.control.console.readiness import ready
from proxy.control.console.where import Where

MOST_OUTPUT: Final = 16 * units.MIB
"""Bytes told of one command; more is a file to be downloaded."""
PIECE: Final = 1 << 15
GRACE: Final = 2.0
"""Seconds between SIGTERM and SIGKILL."""
END_WITHIN: Final = 10.0
"""Seconds for that, the kill and the kernel's own time."""
CLOSED_WITHIN: Final = 2.0
"""Seconds for the pipes to close once all has ended; they don't where something got away."""

Tell = Callable[[str, str], Awaitable[None]]
"""Of `out` or `err`, and the text. Raises where nobody listens any more."""


@dataclass(slots=True)
class Outcome:
    """What came of a command. Sizes in bytes."""

    ended: Ended
    late: bool = False
    out: int = 0
    err: int = 0
    told: int = 0
    dropped: int = 0
    took: float = 0.0
    timeout: float = 0.0

    @property
    def words(self) -> str:
        """ "exit code 0", "not within 10s: ended; signal 15 (SIGTERM)"."""
        late = f"not within {units.write_duration(self.timeout)}: ended; " if self.late else ""
        left = self.ended.left - 1 if self.late else self.ended.left
        also = f"; {left} process{'es' if left != 1 else ''} that it left {'were' if left != 1 else 'was'} ended"
        stuck = f"; could not be ended: pid {', '.join(map(str, self.ended.stuck))}" if self.ended.stuck else ""
        return f"{late}{self.ended.words}{also if left > 0 else ''}{stuck}"


class Output:
    """One of the two streams: its pipe, and how its bytes become text."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.read_fd, False)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.size = 0

    async def read(self) -> bytes:
        """b"" at its end. Nothing is read unless this is called."""
        while True:
            try:
                return os.read(self.read_fd, PIECE)
            except BlockingIOError:
                await ready(self.read_fd, reading=True)

    def started(self) -> None:
        """The program has its end of it."""
        os.close(self.write_fd)
        self.write_fd = -1

    def close(self) -> None:
        for fd in (self.read_fd, self.write_fd):
            if fd >= 0:
                os.close(fd)
        self.read_fd = self.write_fd = -1


class Running:
    """A command that runs. `follow` is called once, `close` always."""

    def __init__(self, argv: Sequence[str], where: Where, timeout: float) -> None:
        self.argv, self.where = list(argv), where
        self.outcome = Outcome(Ended(), timeout=timeout)
        self._outputs = (Output("out"), Output("err"))
        self._kept: Kept | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._began = time.monotonic()

    def __repr__(self) -> str:
        return f"<Running {self.argv[0]!r} pid {self.pid}>"

    @property
    def pid(self) -> int:
        return self._kept.pid if self._kept is not None else 0

    async def start(self, env: Mapping[str, str] | None = None) -> None:
        """`env` is added to that of its place. Raises NotPossible."""
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            targets = {0: null, 1: self._outputs[0].write_fd, 2: self._outputs[1].write_fd}
            self._kept = await Kept.start(self.argv, self.where, targets, env=env)
        finally:
            os.close(null)
        for one in self._outputs:
            one.started()

    async def follow(self, tell: Tell) -> Outcome:
        """To its end, and that of all it started. Raises whatever `tell` raises."""
        kept, outcome = self._kept, self.outcome
        assert kept is not None and kept.done is not None
        telling = asyncio.Lock()
        self._tasks = [asyncio.ensure_future(_relay(one, outcome, telling, tell)) for one in self._outputs]
        await _until(kept.done, self._tasks, outcome, kept)
        outcome.ended = kept.done.result() if kept.done.done() else Ended(stuck=(kept.pid,))
        outcome.took = time.monotonic() - self._began
        await _until_closed(self._tasks)
        return outcome

    async def close(self) -> None:
        """Whatever of it still runs is killed, and nothing of it stays open here."""
        if self._kept is not None:
            self._kept.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self._outputs:
            one.close()


async def _until(
    done: asyncio.Task[Ended], tasks: list[asyncio.Task[None]], outcome: Outcome, kept: Kept
) -> None:
    """Until all has ended, or the kernel does not end it; raises what `tell` raised, where nobody listens."""
    deadline = time.monotonic() + outcome.timeout
    left = set(tasks)
    while not done.done():
        wait = deadline - time.monotonic()
        if wait <= 0 and outcome.late:
            return
        if wait <= 0:
            outcome.late, deadline = True, time.monotonic() + END_WITHIN
            kept.end(GRACE)
            continue
        ended, _ = await asyncio.wait({done, *left}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        for task in ended & left:
            left.discard(task)
            task.result()


async def _until_closed(tasks: list[asyncio.Task[None]]) -> None:
    """What was printed last is told before the end is, however slowly it is read."""
    waits = [task for task in tasks if not task.done()]
    if waits:
        await asyncio.wait(waits, timeout=CLOSED_WITHIN)
    for task in tasks:
        if task.done():
            task.result()


async def _relay(output: Output, outcome: Outcome, telling: asyncio.Lock, tell: Tell) -> None:
    while data := await output.read():
        setattr(outcome, output.name, getattr(outcome, output.name) + len(data))
        room = max(0, MOST_OUTPUT - outcome.told)
        outcome.dropped += max(0, len(data) - room)
        data = data[:room]
        outcome.told += len(data)
        if text := output.decoder.decode(data):
            async with telling:
                await tell(output.name, text)
    if text := output.decoder.decode(b"", True):
        async with telling:
            await tell(output.name, text)
