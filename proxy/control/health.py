"""One health check: an HTTP/1.1 request over a connection of its own, or a connect when no path is set.

Raw sockets rather than an HTTP client: a probe must see what a client would see, a redirect or a half answer
included, and cost little at a thousand instances.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.control.state import ProbeResult

AGENT: Final = "triage-probe"
HEAD_LIMIT: Final = 65536
BODY_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class Target:
    """Where to look, and what is right."""

    host: str = ""  # an IP address, or "" with `unix`
    port: int = 0
    unix: str = ""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    path: str = ""  # "": a connect is enough
    host_field: str = ""
    timeout: float = 2.0
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)


async def probe(target: Target) -> ProbeResult:
    """Never raises for anything the other side does."""
    at, began = time.time(), time.monotonic()

    def result(ok: bool, words: str, status: int | None = None, refused: bool = False, body: str = "") -> ProbeResult:
        return ProbeResult(ok, words, at, time.monotonic() - began, status, refused, body)

    stage = "connect"
    connection: _Plain | _Secure | None = None
    try:
        connection = _Plain(target) if target.tls is None else _Secure(target)
        await connection.open()
        if not target.path:
            return result(True, "connected")
        stage = "answer"
        connection.write(_request(target))
        head, rest = await _read_head(connection.read)
        status, location = _parse(head)
        if status is None:
            return result(False, f"no HTTP response: {head[:60]!r}")
        well = any(low <= status <= high for low, high in target.statuses)
        body = (rest if rest or well else await _first_of_body(connection.read))[:BODY_KEPT].decode("utf-8", "replace")
        if well:
            return result(True, f"status {status}", status, body=body)
        words = f"status {status}"
        if 300 <= status < 400 and location:
            words += f", a redirect to {location}: redirects are not followed, set health.path to what it leads to"
        return result(False, words, status, body=body)
    except TimeoutError:
        what = "no connection" if stage == "connect" else "no answer"
        return result(False, f"{what} within {units.duration(target.timeout)}")
    except ConnectionRefusedError:
        return result(False, "connection refused", refused=True)
    except FileNotFoundError:
        return result(False, f"there is no socket {target.unix}", refused=True)
    except ssl.SSLError as error:
        return result(False, f"TLS: {error.reason or error}")
    except EOFError:
        return result(False, "closed without a whole answer")
    except OSError as error:
        return result(False, error.strerror or str(error), refused=stage == "connect")
    finally:
        if connection is not None:
            connection.close()


class _Plain:
    """A socket and the loop's readiness, no more: a tenth of what a stream costs, at 200 probes a second."""

    def __init__(self, target: Target) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + target.timeout
        family = socket.AF_UNIX if target.unix else socket.AF_INET6 if ":" in target.host else socket.AF_INET
        self._to: str | tuple[str, int] = target.unix or (target.host, target.port)
        self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._fd = self._sock.fileno()

    async def open(self) -> None:
        error = self._sock.connect_ex(self._to)
        if error == errno.EINPROGRESS:
            error = self._sock.connect_ex(self._to)  # on the same machine it is done by now
        if error == errno.EALREADY:
            await self._ready(self._loop.add_writer, self._loop.remove_writer)
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error == errno.EAGAIN:  # of a Unix socket: its backlog is full
            raise TimeoutError
        if error:
            raise OSError(error, os.strerror(error))

    def write(self, data: bytes) -> None:
        self._sock.send(data, socket.MSG_NOSIGNAL)  # a few hundred bytes into an empty buffer

    async def read(self) -> bytes:
        while True:
            try:
                return self._sock.recv(HEAD_LIMIT)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)

    async def _ready(self, add: Callable[..., None], remove: Callable[[int], object]) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        add(self._fd, _done, ready)
        timer = self._loop.call_at(self._deadline, _late, ready)
        try:
            await ready
        finally:
            timer.cancel()
            remove(self._fd)

    def close(self) -> None:
        self._sock.close()


def _done(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _late(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_exception(TimeoutError())


class _Secure:
    """The same over TLS."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._deadline = asyncio.get_running_loop().time() + target.timeout
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        target, name = self._target, self._target.server_name
        async with asyncio.timeout_at(self._deadline):
            if target.unix:
                self._streams = await asyncio.open_unix_connection(target.unix, ssl=target.tls, server_hostname=name)
            else:
                self._streams = await asyncio.open_connection(
                    target.host, target.port, ssl=target.tls, server_hostname=name or None
                )

    def write(self, data: bytes) -> None:
        assert self._streams is not None
        self._streams[1].write(data)

    async def read(self) -> bytes:
        assert self._streams is not None
        async with asyncio.timeout_at(self._deadline):
            return await self._streams[0].read(HEAD_LIMIT)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()  # nothing is owed, and many connections in FIN-WAIT would be


def _request(target: Target) -> bytes:
    return (
        f"GET {target.path} HTTP/1.1\r\nHost: {target.host_field}\r\nUser-Agent: {AGENT}\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode("latin-1", "replace")


async def _read_head(read: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bytes]:
    """The final response's head, as far as it came, and what came with it; 1xx before it are passed over."""
    data = b""
    while True:
        head, end, rest = data.partition(b"\r\n\r\n")
        if end and head.startswith(b"HTTP/1.1 1"):
            data = rest
            continue
        if end or len(data) > HEAD_LIMIT:
            return head, rest
        more = await read()
        if not more:
            if not data:
                raise EOFError
            return data, b""
        data += more


async def _first_of_body(read: Callable[[], Awaitable[bytes]]) -> bytes:
    """What a failing check has to say; an answer without content may keep its connection open."""
    try:
        return await read()
    except OSError:  # TimeoutError is one
        return b""


def _parse(head: bytes) -> tuple[int | None, str]:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not code.isdigit() or len(code) != 3:
        return None, ""
    location = ""
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "location":
            location = value.strip()
    return int(code), location
