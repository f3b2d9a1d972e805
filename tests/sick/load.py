"""The load of a case: streams of real requests on a thread of their own, and what came of each.

Open loops at moderate rates, each stream with a bound on what is under way at a time; what is above it is not sent,
and counted. The last 20,000 results are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from tests.sick.case import Stream

KEPT: Final = 20_000
SLOW: Final = 1.0


@dataclass(frozen=True)
class Result:
    """One request. status 0: no answer, `error` says why."""

    at: float
    stream: int
    status: int
    seconds: float
    id: str = ""
    error: str = ""

    @property
    def bad(self) -> bool:
        return self.status >= 500 or self.status == 0


class Load:
    """`start`, `turn` (those that begin then do so), `stop`."""

    def __init__(self, port: int, streams: tuple[Stream, ...], seed: int = 1) -> None:
        self.port = port
        self.streams = streams
        self.results: deque[Result] = deque(maxlen=KEPT)
        self.sent = 0
        self.not_sent = 0
        self.turned_at = 0.0
        self.under_way = 0
        self._random = random.Random(seed)
        self._turned = asyncio.Event()
        self._stopped = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def turn(self) -> None:
        self.turned_at = time.time()
        self._loop.call_soon_threadsafe(self._turned.set)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(10)

    def since_turn(self) -> list[Result]:
        return [one for one in list(self.results) if one.at + one.seconds >= self.turned_at > 0]

    def troubled(self) -> list[Result]:
        """What failed or was slow since the turn."""
        return [one for one in self.since_turn() if one.bad or one.seconds > SLOW]

    def words(self) -> str:
        since = self.since_turn()
        bad = [one for one in since if one.bad]
        statuses: dict[str, int] = {}
        for one in bad:
            statuses[str(one.status or one.error)] = statuses.get(str(one.status or one.error), 0) + 1
        slow = sum(1 for one in since if not one.bad and one.seconds > SLOW)
        return f"{len(since)} requests since the turn, {len(bad)} failed {statuses or ''}, {slow} slow"

    # -- on its thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._all())
        self._loop.close()

    async def _all(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.sessions: dict[str, aiohttp.ClientSession] = {}
        for number, stream in enumerate(self.streams):
            self._begin(self._stream(number, stream))
        await self._stopped.wait()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for session in self.sessions.values():
            await session.close()
        await asyncio.sleep(0.05)

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def session(self, client: str) -> aiohttp.ClientSession:
        if client not in self.sessions:
            connector = aiohttp.TCPConnector(limit=0, local_addr=(client, 0), keepalive_timeout=30)
            self.sessions[client] = aiohttp.ClientSession(connector=connector)
        return self.sessions[client]

    async def _stream(self, number: int, stream: Stream) -> None:
        if stream.late:
            await self._turned.wait()
        how = HOW[stream.how]
        if stream.count:
            for _ in range(stream.count):
                self._begin(self._again(number, stream, how))
                await asyncio.sleep(0.02)
            return
        mine = 0

        async def one() -> None:
            nonlocal mine
            mine += 1
            try:
                await how(self, number, stream)
            finally:
                mine -= 1

        began = time.monotonic()
        while not (stream.until_turn and self._turned.is_set()):
            rate = stream.rate
            for since, then in stream.rates:
                if time.monotonic() - began >= since:
                    rate = then
            if rate <= 0:
                await asyncio.sleep(0.1)
                continue
            await asyncio.sleep(self._random.uniform(0.5, 1.5) / rate)
            if mine >= stream.at_most:
                self.not_sent += 1
                continue
            self._begin(one())

    async def _again(self, number: int, stream: Stream, how: How) -> None:
        while True:
            await how(self, number, stream)
            await asyncio.sleep(stream.pause)

    def note(self, number: int, began: float, status: int, request: str = "", error: str = "") -> Result:
        result = Result(began, number, status, time.time() - began, request, error)
        self.results.append(result)
        return result


async def ask(load: Load, number: int, stream: Stream) -> None:
    """One request, read whole."""
    await _ask(load, number, stream)


async def _ask(
    load: Load, number: int, stream: Stream, headers: dict[str, str] | None = None
) -> Result:
    load.sent += 1
    began = time.time()
    request = ""
    status = 0
    try:
        async with load.session(stream.client).request(
            stream.method,
            f"http://127.0.0.1:{load.port}{stream.path}",
            data=b"x" * stream.body if stream.body else None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=stream.timeout),
        ) as answer:
            request, status = answer.headers.get("X-Request-ID", ""), answer.status
            await answer.read()
    except TimeoutError:
        return load.note(number, began, 0, request, "timeout")
    except (aiohttp.ClientError, OSError) as error:
        return load.note(number, began, 0, request, type(error).__name__)
    return load.note(number, began, status, request)


async def ask_anew(load: Load, number: int, stream: Stream) -> None:
    """One request on a connection of its own."""
    await _ask(load, number, stream, {"Connection": "close"})


async def insist(load: Load, number: int, stream: Stream) -> None:
    """A client that asks again at once when it fails, up to five times."""
    for _ in range(6):
        if not (await _ask(load, number, stream)).bad:
            return
        await asyncio.sleep(0.05)


async def _opened(load: Load, stream: Stream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", load.port, local_addr=(stream.client, 0), limit=4096)


def _head(stream: Stream) -> bytes:
    length = f"Content-Length: {stream.body}\r\n" if stream.body else ""
    return f"{stream.method} {stream.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n".encode()


async def read_slowly(load: Load, number: int, stream: Stream) -> None:
    """One that takes `size` bytes a second."""
    load.sent += 1
    began = time.time()
    try:
        reader, writer = await _opened(load, stream)
    except OSError as error:
        load.note(number, began, 0, "", type(error).__name__)
        return
    try:
        writer.write(_head(stream))
        deadline = time.monotonic() + stream.timeout
        while time.monotonic() < deadline and await reader.read(max(1, stream.size // 4)):
            await asyncio.sleep(0.25)
    except OSError:
        pass
    finally:
        writer.transport.abort()
    load.note(number, began, 200)


async def cut_upload(load: Load, number: int, stream: Stream) -> None:
    """Half of the content, then gone."""
    load.sent += 1
    began = time.time()
    try:
        _, writer = await _opened(load, stream)
    except OSError as error:
        load.note(number, began, 0, "", type(error).__name__)
        return
    writer.write(_head(stream) + b"x" * (stream.body // 2))
    await asyncio.sleep(0.4)
    writer.transport.abort()
    load.note(number, began, 0, "", "cut")


async def hold(load: Load, number: int, stream: Stream) -> None:
    """A connection that only stays open."""
    try:
        reader, writer = await _opened(load, stream)
    except OSError:
        await asyncio.sleep(1)
        return
    try:
        async with asyncio.timeout(stream.timeout):
            await reader.read()
    except (TimeoutError, OSError):
        pass
    finally:
        writer.close()
    await asyncio.sleep(0.2)


How = Callable[[Load, int, Stream], Awaitable[None]]
HOW: Final[dict[str, How]] = {
    "ask": ask, "ask_anew": ask_anew, "insist": insist, "read_slowly": read_slowly,
    "cut_upload": cut_upload, "hold": hold,
}  # fmt: skip
