"""Accepting: TCP, TLS and Unix sockets by the event loop's own servers; with PROXY headers by hand.

The listening sockets belong to the launcher; what is here are duplicates. Closing them stops accepting, and those who
connect meanwhile wait in the kernel's backlog.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

from proxy.dataplane.client import ClientConnection
from proxy.dataplane.log import log
from proxy.dataplane.tls import Certificates
from proxy.link.messages import Listener
from proxy.wire.proxy_protocol import MAX_V2, ProxyProtocolError, parse

if TYPE_CHECKING:
    from proxy.dataplane.worker import Worker

BACKLOG = 4096


class Listening:
    """All of a worker's listeners. `open()` and `close()` as often as needed."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.certificates = Certificates()
        self._given: list[tuple[Listener, int]] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_hand: list[socket.socket] = []
        self.is_open = False
        self._busy = asyncio.Lock()

    def give(self, listeners: list[Listener], fds: list[int]) -> None:
        """The listeners from now on; the descriptors are ours."""
        stay = {os.fstat(fd).st_ino for fd in fds}
        for listener, fd in self._given:
            if os.fstat(fd).st_ino not in stay:
                self._empty(listener, fd)
            os.close(fd)
        self._given = list(zip(listeners, fds, strict=True))

    async def open(self) -> None:
        async with self._busy:
            if self.is_open:
                return
            try:
                await self._open_all()
            except OSError as error:
                self._close_all()  # no descriptor left: the worker's tick asks again
                log("listening-failed", level="warning", why=error.strerror)
            else:
                self.is_open = True

    async def _open_all(self) -> None:
        worker, loop = self._worker, self._worker.loop
        proxied = worker.settings.proxy_protocol
        for listener, fd in self._given:
            sock = socket.socket(fileno=os.dup(fd))
            sock.setblocking(False)
            if proxied:
                self._by_hand.append(sock)
                loop.add_reader(sock.fileno(), self._accept, sock, listener.tls)
                continue
            ssl = self.certificates.front if listener.tls else None
            tls = listener.tls
            port = _port(sock)
            timeout = worker.settings.head_timeout if ssl else None

            def factory(tls: bool = tls, port: int = port) -> ClientConnection:
                return ClientConnection(worker, tls, port)

            if sock.family == socket.AF_UNIX:
                server = await loop.create_unix_server(
                    factory, sock=sock, backlog=BACKLOG, ssl=ssl, ssl_handshake_timeout=timeout
                )
            else:
                server = await loop.create_server(
                    factory, sock=sock, backlog=BACKLOG, ssl=ssl, ssl_handshake_timeout=timeout
                )
            self._servers.append(server)

    async def close(self) -> None:
        async with self._busy:
            self.is_open = False
            self._close_all()

    def _close_all(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self._by_hand:
            self._worker.loop.remove_reader(sock.fileno())
            sock.close()
        self._by_hand.clear()

    def _empty(self, listener: Listener, fd: int) -> None:
        """Accept all that wait: this may be the last copy of the socket, and who waits when it is closed is reset."""
        with socket.socket(fileno=os.dup(fd)) as sock:
            sock.setblocking(False)
            while self._accept(sock, listener.tls):
                pass

    @property
    def handing_over(self) -> bool:
        """Some were accepted by hand and are not clients yet."""
        return bool(self._tasks)

    # --- PROXY protocol ---------------------------------------------------------------------------

    def _accept(self, listening: socket.socket, tls: bool) -> bool:
        """By hand; whether there may be more."""
        for _ in range(64):
            try:
                sock, address = listening.accept()
            except (InterruptedError, ConnectionAbortedError):
                continue
            except OSError:
                return False  # none waits; or no descriptor is left: the guard sees to it
            sock.setblocking(False)
            task = self._worker.loop.create_task(self._begin(sock, address, tls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    async def _begin(self, sock: socket.socket, address: object, tls: bool) -> None:
        """Read exactly the header, if one is due, then hand the connection over. Without a valid one it is closed."""
        worker = self._worker
        peer = address[0] if isinstance(address, tuple) else "unix"
        proxied = None
        port = _port(sock)
        try:
            limit = worker.settings.head_timeout
            began = time.monotonic()
            if worker.settings.proxy_protocol and worker.forwarding.is_trusted(peer):
                async with asyncio.timeout(limit):
                    proxied = await self._header(sock)
            left = max(limit - (time.monotonic() - began), 0.1)
            await worker.loop.connect_accepted_socket(
                lambda: ClientConnection(worker, tls, port, proxied),
                sock,
                ssl=self.certificates.front if tls else None,
                ssl_handshake_timeout=left if tls else None,
            )
        except (ProxyProtocolError, TimeoutError, OSError):
            sock.close()

    async def _header(self, sock: socket.socket) -> tuple[str, int] | None:
        """Peek until the header is whole, then take it: `start_tls` could not be given bytes already read."""
        loop = self._worker.loop
        seen = 0
        while True:
            await _readable(loop, sock, seen)
            data = sock.recv(MAX_V2 + 16, socket.MSG_PEEK)
            if not data:
                raise ProxyProtocolError("closed before the header")
            parsed = parse(data)
            if parsed is not None:
                sock.recv(parsed.consumed)
                return (parsed.source, parsed.destination_port) if parsed.source else None
            seen = len(data)


def _port(sock: socket.socket) -> int:
    """The port it is bound to; 0 for a Unix socket."""
    name = sock.getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket, seen: int) -> None:
    """Wait until more than `seen` bytes can be peeked at. SO_RCVLOWAT keeps poll quiet until then."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)
    ready = loop.create_future()
    fd = sock.fileno()
    loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(fd)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
