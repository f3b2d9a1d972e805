"""Connections of the admin API: how long each may take, how many there may be, and one error shape also for what is
no request at all.

Always true:
  - a request's head is whole HEAD seconds after its first byte or after the connect; content keeps coming, and not
    slower than SLOWEST; what is sent is taken, and not slower than that. Else the connection is closed;
  - there are never more than MOST, and as many on the Unix socket: one too many takes the place of the oldest that
    carries no request, and is refused only where each of them carries one;
  - what aiohttp answers by itself (bad request lines, heads too large, bad chunks) has the one error shape.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import http_exceptions as wrong
from aiohttp import web

from proxy.admin.errors import PROTECTION, ApiProblem

HEAD: Final = 15.0
"""Seconds for a request's head, as a slow telephone needs one."""
GRACE: Final = 30.0
"""Seconds before the rate of what comes or goes counts."""
SLOWEST: Final = 1024.0
"""Bytes a second that a client must send or take."""
MOST: Final = 1024
LOOK: Final = 1.0
"""Seconds between two looks at all of them; one takes about 1 µs each."""
USER_TIMEOUT: Final = 60_000
"""Milliseconds until what was sent is acknowledged, else the peer is gone."""
UNTAKEN: Final = 1 << 18
"""Bytes that the kernel holds for a client that does not take them; it would take some MB of each by itself."""
LARGEST_LINE: Final = 16384
MOST_FIELDS: Final = 128

_ACKED: Final = struct.Struct("120xQ")  # tcpi_bytes_acked of struct tcp_info


class Connection(web.RequestHandler):
    """One of them."""

    def __init__(self, manager: Connections, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self.all = manager
        self.made = 0.0
        self.head_since = 0.0
        """When the head that is not whole yet began; 0.0: none did."""
        self.body_since = 0.0
        self.body_bytes = 0
        self.full_since = 0.0
        """Since when there was always something to be sent."""
        self.taken = 0

    @property
    def local(self) -> bool:
        """On the Unix socket: the operator's own way in, which nobody else's connections close."""
        sock = self.transport.get_extra_info("socket") if self.transport is not None else None
        return sock is not None and sock.family == socket.AF_UNIX

    @property
    def idle(self) -> bool:
        """It carries no request: it waits for the head of one."""
        return self._waiter is not None and not self._waiter.done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = self.head_since = time.monotonic()
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNTAKEN)
        self.all.joined(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.all.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        now = time.monotonic()
        if self._request_count != before:
            self._broke_off()
            self.head_since, self.body_since, self.body_bytes = 0.0, now, len(data)
            return
        self.body_bytes += len(data)
        if self.idle and not self.head_since:
            self.head_since = now

    def _broke_off(self) -> None:
        """Content whose framing is wrong: who reads it is told, and does not wait for the rest."""
        request = self._current_request
        if request is None or request.content.is_eof() or not self._messages:
            return
        if isinstance(getattr(self._messages[-1][0], "exc", None), wrong.HttpProcessingError):
            request.content.set_exception(web.RequestPayloadError("bad framing"))

    def look(self, now: float) -> None:
        """Close it if its client is too slow."""
        if self.transport is None:
            return
        if self.head_since and self.idle and now - self.head_since > HEAD:
            self.refuse(408, "slow-head", "The request did not come in time", f"Its head took over {HEAD:g} s.")
        elif self._slow_content(now) or self._slow_taker(now):
            self.transport.abort()

    def _slow_content(self, now: float) -> bool:
        request = self._current_request
        if request is None or self._buffer_paused or self._upgraded or request.content.is_eof():
            return False
        lasted = now - self.body_since - GRACE
        return lasted > 0 and self.body_bytes < lasted * SLOWEST

    def _slow_taker(self, now: float) -> bool:
        assert self.transport is not None
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self.full_since = 0.0
            return False
        taken = _acked(self.transport)
        if not self.full_since:
            self.full_since, self.taken = now, waiting if taken is None else taken
        elif taken is None:  # a Unix socket does not count: nothing at all must have moved
            if waiting != self.taken:
                self.full_since, self.taken = now, waiting
            return now - self.full_since >= GRACE
        elif now - self.full_since >= GRACE:
            if taken - self.taken < GRACE * SLOWEST:
                return True
            self.full_since, self.taken = now, taken
        return False

    def refuse(self, status: int, kind: str, title: str, detail: str) -> None:
        """Answer what is no whole request, and close."""
        if self.transport is not None:
            if self._request_count == 0 or self.idle:
                self.transport.write(ApiProblem(status, kind, title, detail).raw())
            self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What aiohttp would answer by itself."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        if isinstance(exc, ConnectionError):  # its client left
            raise exc
        if status >= 500:
            self.all.broke(exc)
        response = _problem(status, exc).response()
        response.headers.update(PROTECTION)
        response.force_close()
        return response


class Connections(web.Server):
    """All of them; what makes one for each accepted socket."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        broke: Callable[[BaseException | None], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(handler, **kwargs)
        self.broke = broke
        self.refused = 0
        """Connections that were one too many."""
        self._open: dict[Connection, None] = {}  # in the order of their coming
        self._local: dict[Connection, None] = {}

    def __repr__(self) -> str:
        return f"<Connections {len(self._open)} open, {len(self._local)} local, {self.refused} refused>"

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)

    def joined(self, one: Connection) -> None:
        """Make room for it, or refuse it."""
        kin = self._local if one.local else self._open
        if len(kin) >= MOST:
            oldest = next((other for other in kin if other.idle), None)
            self.refused += 1
            if oldest is None:
                one.refuse(503, "too-many-connections", "Too many connections", f"There are {MOST} that carry calls.")
                return
            del kin[oldest]
            oldest.force_close()
        kin[one] = None

    def left(self, one: Connection) -> None:
        self._open.pop(one, None)
        self._local.pop(one, None)

    async def watch(self) -> None:
        """Look at all of them, for ever."""
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            for one in (*self._open, *self._local):
                try:
                    one.look(now)
                except Exception as error:  # a defect with one must not end the looking at all others
                    self.broke(error)


class Runner(web.AppRunner):
    """Serves an application on Connections. `broke` is told of what nobody foresaw."""

    __slots__ = ("_broke", "_watch")

    def __init__(self, app: web.Application, broke: Callable[[BaseException | None], None], **kwargs: Any) -> None:
        super().__init__(
            app, max_line_size=LARGEST_LINE, max_field_size=LARGEST_LINE, max_headers=MOST_FIELDS,
            auto_decompress=False, **kwargs,
        )  # fmt: skip
        self._broke = broke
        self._watch: asyncio.Task[None] | None = None

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        handler: Any = made.request_handler

        async def shaped(request: web.BaseRequest) -> web.StreamResponse:
            try:
                found: web.StreamResponse = await handler(request)
            except web.HTTPException as error:  # raised before the application's own checks: Expect
                found = of_http(error).response()
                found.headers.update(PROTECTION)
            return found

        server = Connections(shaped, self._broke, request_factory=made.request_factory, **made._kwargs)
        self._watch = asyncio.get_running_loop().create_task(server.watch(), name="admin connections")
        return server

    async def _cleanup_server(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await super()._cleanup_server()


def of_http(error: web.HTTPException) -> ApiProblem:
    """What aiohttp raised, in our words."""
    if error.status == 417:
        return ApiProblem(
            417, "expectation", "This expectation is not known", "", "Expect: 100-continue is; most clients need none."
        )
    return ApiProblem(error.status, "http", error.reason)


def _problem(status: int, error: BaseException | None) -> ApiProblem:
    match error:
        case wrong.LineTooLong():
            return ApiProblem(
                431, "head-too-large", "A line of the head is too long", f"{LARGEST_LINE:,} bytes are taken."
            )
        case wrong.InvalidURLError():
            return ApiProblem(400, "bad-target", "The request's target cannot be read", "It is no path of a URL.")
        case wrong.TransferEncodingError() | wrong.PayloadEncodingError():
            return ApiProblem(400, "bad-content", "The content cannot be read", "It is not framed as HTTP/1.1 says.")
        case wrong.HttpProcessingError() if "Too many headers" in error.message:
            return ApiProblem(431, "head-too-large", "There are too many fields", f"{MOST_FIELDS} are taken.")
        case wrong.HttpProcessingError():
            return ApiProblem(400, "bad-request", "This is no HTTP request", "", "HTTP/1.1 is spoken here, and 1.0.")
        case _:
            pass
    if status >= 500:
        return ApiProblem(
            500, "internal-error", "Triage itself failed on this", type(error).__name__,
            "Please report it with the traceback in Triage's own log.",
        )  # fmt: skip
    return ApiProblem(status, "bad-request", "This is no HTTP request")


def _acked(transport: asyncio.Transport) -> int | None:
    """Bytes that the peer's kernel has acknowledged; None: not counted."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return None
    try:
        return int(_ACKED.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size))[0])
    except (OSError, struct.error):
        return None
