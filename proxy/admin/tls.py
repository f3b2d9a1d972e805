"""TLS of the admin listener: its certificate, read again when its files change, and a bound on handshakes.

Always true: what listens with TLS never answers without it; a certificate that can't be read leaves the one before in
place, and without any no handshake succeeds.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final

from aiohttp import web

from proxy.admin.tries import source_of

LOOK: Final = 2.0
"""Seconds between two looks at the files."""
HANDSHAKE: Final = 10.0
"""Seconds, as gateway.timeouts.head is by default for clients."""
MOST: Final = 256
"""Handshakes at once; who comes next waits in the backlog."""
MOST_OF_ONE: Final = 32
"""Of one address: the next ones are closed, so that nobody takes all."""

Pair = tuple[str, str]
"""Paths of certificate chain and key."""


class Certificate:
    """`pair()` is what the config says now."""

    def __init__(self, pair: Callable[[], Pair | None]) -> None:
        self.front = _context()
        self.front.sni_callback = self._choose
        self._pair = pair
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[object, ...] = ()
        self._problem = ""

    def look(self) -> tuple[str, str] | None:
        """Read what changed; the kind and words of an event, where there is news. Slow: for a thread."""
        pair = self._pair()
        if pair is None:
            return self._failed("admin.certificate is not set any more")
        try:
            rows = [os.stat(path) for path in pair]
            stamp = (pair, *((row.st_mtime_ns, row.st_ino, row.st_size) for row in rows))
            if stamp == self._stamp:
                return None
            context = _context()
            context.load_cert_chain(*pair, password=lambda: b"")
        except (OSError, ValueError) as error:  # SSLError is an OSError
            return self._failed(f"the admin certificate {pair[0]} is not read: {error}")
        again = self._context is not None
        self._context, self._stamp, self._problem = context, stamp, ""
        return ("certificate", f"the admin listener has a new certificate: {pair[0]}") if again else None

    def _failed(self, problem: str) -> tuple[str, str] | None:
        if problem == self._problem:
            return None
        self._problem = problem
        also = "; the one before is used" if self._context is not None else "; nobody can connect with TLS"
        return "certificate-not-read", problem + also

    def _choose(self, connection: ssl.SSLObject, name: str | None, front: ssl.SSLContext) -> int | None:
        if self._context is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._context
        return None

    async def watch(self, say: Callable[[str, str], object]) -> None:
        """Look again and again, for ever; `say` is told the news."""
        while True:
            if news := await asyncio.to_thread(self.look):
                say(*news)
            await asyncio.sleep(LOOK)


class Site(web.SockSite):
    """A listening socket that speaks TLS."""

    def __init__(self, runner: web.BaseRunner, sock: socket.socket, certificate: Certificate) -> None:
        super().__init__(runner, sock)
        self._accepting = Accepting(sock, certificate.front)

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        self._accepting.begin(server)

    async def stop(self) -> None:
        self._accepting.close()
        await super().stop()


class Accepting:
    """Accepts, and lets in who has made a handshake in time.

    By hand, as asyncio's own server takes any number of connections that never say a word.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._handshakes: dict[asyncio.Task[None], str] = {}
        self._fewer = asyncio.Event()

    def begin(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """`factory` makes the protocol of a connection."""
        self._task = asyncio.get_running_loop().create_task(self._accept(factory), name="admin tls")

    def close(self) -> None:
        """Accept no more, and end the handshakes."""
        for task in (*self._handshakes, *((self._task,) if self._task is not None else ())):
            task.cancel()
        self._sock.close()

    async def _accept(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while len(self._handshakes) >= MOST:
                self._fewer.clear()
                await self._fewer.wait()
            try:
                sock, address = await loop.sock_accept(self._sock)
            except OSError:  # no descriptor is left, or the client was gone already
                await asyncio.sleep(0.1)
                continue
            source = source_of(str(address[0]))
            if sum(1 for one in self._handshakes.values() if one == source) >= MOST_OF_ONE:
                sock.close()
                continue
            task = loop.create_task(self._handshake(factory, sock), name="admin handshake")
            self._handshakes[task] = source
            task.add_done_callback(self._ended)

    async def _handshake(self, factory: Callable[[], asyncio.BaseProtocol], sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                factory, sock, ssl=self._context, ssl_handshake_timeout=HANDSHAKE, ssl_shutdown_timeout=HANDSHAKE
            )
        except OSError:  # SSLError and the timeout too: it is no TLS, or it came to nothing
            sock.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._handshakes[task]
        self._fewer.set()


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context
