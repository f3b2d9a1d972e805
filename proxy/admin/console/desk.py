"""What the Console's calls share: whether it is on, who asks, threads for the disk, and the terminals there are."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web

from proxy.admin import keys
from proxy.admin.console import roots, walk
from proxy.admin.errors import ApiProblem
from proxy.admin.routing import Handler
from proxy.control.console.book import Consoles

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

THREADS: Final = 8
DISK: Final = 20.0
"""Seconds for one look at the disk or one piece of a file."""
AGAIN: Final = 60.0
"""Seconds in which another read of the same file by the same caller is no news."""
MOST_KNOWN: Final = 256
MOST_TRANSFERS: Final = 64
"""Each has a piece of 256 KiB in memory, or two."""

T = TypeVar("T")


class Desk:
    """Of one admin API."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.consoles = Consoles()
        self.replacing = threading.Lock()
        """Held while it is checked that a file is the one that was meant, and it is replaced or removed."""
        self.busy: set[tuple[str, tuple[bytes, ...]]] = set()
        """Folders into which a zip is being unpacked."""
        self.packing = asyncio.Semaphore(2)
        self._transfers = 0
        self._threads = ThreadPoolExecutor(THREADS, "console")
        self._read: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"<Desk {self.consoles}>"

    async def thread(self, work: Callable[[], T], within: float = DISK) -> T:
        """Raises ApiProblem where the disk does not answer. What a late thread opened is closed."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            async with asyncio.timeout(within):
                return await asyncio.shield(future)
        except TimeoutError:
            future.add_done_callback(_dispose)
            raise ApiProblem(
                503, "disk-silent", "The disk does not answer", f"Not within {within:g} s.",
                headers={"Retry-After": "10"},
            ) from None  # fmt: skip
        except asyncio.CancelledError:
            future.add_done_callback(_dispose)
            raise

    async def closed(self) -> roots.Closed:
        """What is never shown."""
        key_files, data_dir = roots.keys(self.gateway), self.gateway.data_dir
        return await self.thread(lambda: roots.closed(data_dir, key_files))

    @contextmanager
    def transfer(self) -> Iterator[None]:
        """While content comes or goes. Raises ApiProblem: too much does."""
        if self._transfers >= MOST_TRANSFERS:
            raise ApiProblem(
                429, "too-many-transfers", f"{MOST_TRANSFERS} files come and go already",
                hint="Ask again in a moment.", headers={"Retry-After": "5"},
            )  # fmt: skip
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1

    def note(self, request: web.Request, text: str, app: str = "", instance: str = "", **details: Any) -> None:
        """An event of what was done here, and by whom."""
        by, way = who(request)
        self.gateway.shared.event("console", f"{by}: {text}", app, instance, by=by, way=way, **details)

    def first_read(self, request: web.Request, path: str) -> bool:
        """Whether this caller has not read it of late."""
        key, now = (who(request)[0], path), time.monotonic()
        known = self._read.get(key, float("-inf"))
        self._read[key] = now
        while len(self._read) > MOST_KNOWN:
            del self._read[next(iter(self._read))]
        return now - known > AGAIN

    async def close(self, app: web.Application) -> None:
        """Triage ends, or this control does."""
        await self.consoles.close("Triage stops, or its control is replaced")
        self._threads.shutdown(wait=False, cancel_futures=True)


def _dispose(future: asyncio.Future[Any]) -> None:
    """Of what came too late: an error was told already, a descriptor has no owner."""
    if future.cancelled() or future.exception() is not None:
        return
    found = future.result()
    for one in found if isinstance(found, tuple) else (found,):
        if hasattr(one, "close"):
            one.close()


class Descriptor:
    """An open file, closed only when no thread uses it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._users = 0
        self._closing = False

    async def use(
        self, desk: Desk, work: Callable[[int], T], also: Descriptor | None = None, within: float = DISK
    ) -> T:
        """`also`: another one that `work` uses. Raises ApiProblem."""
        loop = asyncio.get_running_loop()
        both = [self] if also is None else [self, also]

        def done() -> None:
            for one in both:
                one._users -= 1
                one._maybe_close()

        def run() -> T:
            try:
                return work(self.fd)
            finally:
                with suppress(RuntimeError):  # the loop is closed: so will be this process
                    loop.call_soon_threadsafe(done)

        for one in both:
            one._users += 1
        return await desk.thread(run, within)

    def close(self) -> None:
        self._closing = True
        self._maybe_close()

    def _maybe_close(self) -> None:
        if self._closing and not self._users and self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


def of(request: web.Request) -> Desk:
    """The desk. Raises ApiProblem: the Console is off."""
    if not request.app[keys.GATEWAY].config.admin.console:
        raise ApiProblem(
            403, "console-off", "The Console is off", "It gives whoever is an admin a shell on this machine.",
            "Set admin.console = true, and reload.",
        )  # fmt: skip
    return request.app[keys.DESK]


def guarded(handler: Callable[[web.Request, Desk], Awaitable[web.StreamResponse]]) -> Handler:
    """A handler that is refused where the Console is off."""

    async def checked(request: web.Request) -> web.StreamResponse:
        return await handler(request, of(request))

    return checked


def who(request: web.Request) -> tuple[str, str]:
    """Name of the caller, and the way that it came."""
    caller = request.get("caller")
    return (caller.name if caller is not None else "", request["way"])


def path_of(request: web.Request, prefix: str) -> walk.Path:
    """What the call names, from its path as it was sent. Raises ApiProblem."""
    raw = request.rel_url.raw_path
    return walk.parse(raw[len(prefix) :] if raw.startswith(prefix) else "", roots.roots(request.app[keys.GATEWAY]))


def writable(path: walk.Path) -> None:
    """Raises ApiProblem."""
    if not path.root.writable:
        raise ApiProblem(
            403, "read-only", f"The root {path.root.name} is read only", "It is Triage's own.",
            "DELETE /api/v1/sessions/ID removes a session.",
        )  # fmt: skip
