"""The gateway's own question through its own listeners: `OPTIONS *` that goes nowhere (RFC 9110 section 7.6.2).

A worker answers it itself, counts it as no traffic and logs nothing. Each time on a connection of its own, which may
land on any worker: over time all are asked.

Always true: one check runs at a time, and none for longer than WITHIN seconds a listener, all of them at once.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.config.schema import Gateway as GatewayConfig
from proxy.control.incidents.scene import Check
from proxy.control.one_task import OneTask
from proxy.link.spawn import Listener
from proxy.units import millis
from proxy.wire.forwarding import UNIX_PEER, Forwarding

EVERY: Final = 5.0
AGAIN: Final = 1.0
"""Seconds between two checks, and to the next one after a failure."""
WITHIN: Final = 2.0
QUESTION: Final = (
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nUser-Agent: triage-self-check\r\nMax-Forwards: 0\r\n"
    b"Connection: close\r\n\r\n"
)
PROXY_LOCAL: Final = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
"""PROXY protocol version 2, LOCAL: a connection of the proxy's own, as health checks are to send it (section 2.2)."""
ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Last:
    """Of one check over all listeners."""

    at: float  # Unix seconds; 0.0: none yet
    ok: bool
    ms: float | None  # of the slowest listener that answered
    words: str


class SelfCheck:
    """`ready`: whether there is somebody to be asked."""

    def __init__(
        self,
        listeners: Callable[[], list[Listener]],
        tls: Callable[[], set[str]],
        config: Callable[[], GatewayConfig],
        ready: Callable[[], bool],
        broke: Callable[[Exception], None],
    ) -> None:
        self.last = Last(0.0, True, None, "not checked yet")
        self.fails = 0
        """In a row."""
        self._listeners = listeners
        self._tls = tls
        self._config = config
        self._ready = ready
        self._since = 0.0
        self._due = 0.0
        self._task = OneTask("self-check", broke)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE  # it asks itself, whatever its certificate is called

    def __repr__(self) -> str:
        return f"<SelfCheck {self.last.words}>"

    def seen(self) -> Check | None:
        """For signals; None before the first one."""
        return Check(self.last.ok, self.fails, self.last.words, self._since) if self.last.at else None

    def tick(self, now: float) -> None:
        """Once a second; `now` is monotonic."""
        if now < self._due or self._task.running:
            return
        if not self._ready() or not self._listeners():
            self.fails, self._since = 0, 0.0
            return
        self._due = now + EVERY
        self._task.start(self._run())

    async def close(self) -> None:
        await self._task.close()

    async def _run(self) -> None:
        at = time.time()
        tls = self._tls()
        found = await asyncio.gather(*(self._ask(one, one["name"] in tls) for one in self._listeners()))
        wrong = next((words for _, words in found if words), "")
        slowest = max((seconds for seconds, words in found if not words), default=None)
        ms = round(slowest * 1000, 3) if slowest is not None else None
        if wrong:
            self.fails += 1
            self._since = self._since or at
            self._due = time.monotonic() + AGAIN
            self.last = Last(at, False, ms, wrong)
            return
        self.fails, self._since = 0, 0.0
        self.last = Last(at, True, ms, f"the gateway answers itself in {millis(slowest or 0.0)}")

    async def _ask(self, listener: Listener, tls: bool) -> tuple[float, str]:
        """Seconds, and what was wrong; "" is nothing."""
        name = _name(listener)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(WITHIN):
                wrong = await self._answer(listener, tls)
        except TimeoutError:
            return WITHIN, f"no answer at {name} within {WITHIN:g} s"
        except ConnectionRefusedError:
            return 0.0, f"{name} refused the connection"
        except (OSError, ssl.SSLError) as error:
            return 0.0, f"{name}: {error.strerror or error}"
        except asyncio.IncompleteReadError:
            return 0.0, f"{name} closed the connection without an answer"
        except asyncio.LimitOverrunError:
            return 0.0, f"{name} gave a wrong answer: not HTTP"
        return time.perf_counter() - began, f"{name} gave a wrong answer: {wrong}" if wrong else ""

    async def _answer(self, listener: Listener, tls: bool) -> str:
        loop = asyncio.get_running_loop()
        unix = listener["kind"] == "unix"
        family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in listener["host"] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            host = ANY.get(listener["host"], listener["host"])
            await loop.sock_connect(sock, listener["path"] if unix else (host, listener["port"]))
            if self._proxied(UNIX_PEER if unix else str(sock.getsockname()[0])):
                await loop.sock_sendall(sock, PROXY_LOCAL)
            context, name = (self._context, "localhost") if tls else (None, None)
            reader, writer = await asyncio.open_connection(sock=sock, limit=16_384, ssl=context, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        try:
            writer.write(QUESTION)
            head = await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.transport.abort()
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        return "" if line.startswith("HTTP/1.1 200") else line[:60]

    def _proxied(self, peer: str) -> bool:
        """Whether a header of the PROXY protocol is awaited from us."""
        config = self._config()
        return config.proxy_protocol and Forwarding(config.trusted_proxies, "0" * 8).is_trusted(peer)


def _name(listener: Listener) -> str:
    if listener["kind"] == "unix":
        return f"unix:{listener['path']}"
    host = listener["host"]
    return f"{f'[{host}]' if ':' in host else host}:{listener['port']}"
