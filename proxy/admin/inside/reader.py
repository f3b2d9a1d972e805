"""What reads /proc for the API: a few threads of its own, and processes for what takes long; both bounded.

Always true:
  - what hangs (a network file system, a process whose memory is locked) holds a thread of these, never one that others
    need, and nobody waits for it longer than WITHIN;
  - at most MOST calls wait or read at once; further ones are refused with 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from aiohttp import web

import proxy
from proxy.admin.errors import ApiProblem
from proxy.diagnostics.inside.deeper import Answer, Question

THREADS: Final = 3
"""One reads; the others are there for when one hangs."""
MOST: Final = 24
WITHIN: Final = 8.0
"""Seconds for one look."""
DEEPER: Final = 20.0
"""Seconds for a process of its own."""
AT_ONCE: Final = 2
LARGEST: Final = 8 << 20
"""Bytes of its answer."""

T = TypeVar("T")


class Reader:
    """Made on control's loop, used only there."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="inside")
        self._turn = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._under_way = 0

    def __repr__(self) -> str:
        return f"<Reader {self._under_way} under way>"

    async def read(self, work: Callable[[], T], within: float = WITHIN) -> T:
        """In a thread. Raises what it raises, and ApiProblem when it takes too long or too many are waiting."""
        with self._counted():
            try:
                async with asyncio.timeout(within), self._turn:
                    return await asyncio.get_running_loop().run_in_executor(self._threads, work)
            except TimeoutError:
                raise _slow(within) from None

    async def ask(self, question: Question) -> Answer:
        """In a process of its own, which is ended with all that it started. Raises ApiProblem."""
        with self._counted():
            try:
                async with asyncio.timeout(DEEPER):
                    async with self._places:
                        return await _ask(question)
            except TimeoutError:
                raise _slow(DEEPER) from None
            except OSError as error:  # no descriptors or memory for one more process
                raise ApiProblem(
                    503, "not-answered", "It could not be looked at",
                    f"No process could be started for it: {(error.strerror or str(error)).lower()}.",
                ) from None  # fmt: skip

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self._under_way >= MOST:
            raise ApiProblem(
                503, "busy-looking", f"{MOST} calls look inside already", hint="Ask again in a moment.",
                headers={"Retry-After": "2"},
            )  # fmt: skip
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """What hangs goes on hanging in its thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _ask(question: Question) -> Answer:
    env = {**os.environ, "PYTHONPATH": str(Path(proxy.__file__).parent.parent)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "proxy.diagnostics.inside.deeper", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=env, start_new_session=True,
        limit=1 << 18,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(msgspec.json.encode(question))
            await process.stdin.drain()
        process.stdin.close()
        found = b""
        while data := await process.stdout.read(1 << 18):
            found += data
            if len(found) > LARGEST:
                raise ApiProblem(503, "too-much", "There is more than can be shown", f"It is over {LARGEST:,} bytes.")
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    try:
        return await asyncio.to_thread(msgspec.json.decode, found, type=Answer)
    except msgspec.MsgspecError:
        raise ApiProblem(
            503, "not-answered", "It could not be looked at", f"The process that was to look ended with code {code}."
        ) from None


def _slow(seconds: float) -> ApiProblem:
    return ApiProblem(
        503, "not-answered", "It could not be looked at in time", f"There was no answer within {seconds:g} s.",
        "A file system or a process may hang: GET processes shows which waits in the kernel.",
        headers={"Retry-After": "5"},
    )  # fmt: skip


READER: Final[web.AppKey[Reader]] = web.AppKey("reader", Reader)
