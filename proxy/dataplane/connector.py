"""Connecting to instances: the only tasks in the course of a request, since connecting has no callback.

Every way it can fail is a fault here: what the kernel or TLS says, in the words of faults.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from typing import TYPE_CHECKING

from proxy import faults
from proxy.dataplane.upstream import InstanceConnection
from proxy.faults import Fault
from proxy.link.messages import Tls

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange
    from proxy.dataplane.instance import Instance
    from proxy.dataplane.worker import Worker

monotonic = time.monotonic

_UNREACHABLE = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.EACCES,
    errno.EPERM,
}
_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Connector:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._tasks: dict[Exchange, asyncio.Task[None]] = {}
        self._contexts: dict[Tls, ssl.SSLContext] = {}

    def begin(self, instance: Instance, exchange: Exchange) -> None:
        """Connect for this exchange; it hears `connected` or `failed`."""
        spec = instance.spec
        if spec.dns and not spec.resolved:
            fault = faults.DNS_TIMEOUT if spec.dns == "timeout" else faults.DNS_ERROR
            # Not at once: `failed` may come back here, for the next instance.
            self._worker.loop.call_soon(self._fail, instance, exchange, fault, f"the name {spec.host}", monotonic())
            return
        task = self._worker.loop.create_task(self._connect(instance, exchange))
        self._tasks[exchange] = task
        task.add_done_callback(lambda done: self._done(exchange, done))

    def _done(self, exchange: Exchange, task: asyncio.Task[None]) -> None:
        if self._tasks.get(exchange) is task:
            del self._tasks[exchange]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._worker.broke(error, exchange)

    def forget(self, exchange: Exchange) -> None:
        """Nobody waits for this connection any more."""
        task = self._tasks.pop(exchange, None)
        if task is not None and task is not asyncio.current_task(self._worker.loop):
            task.cancel()

    def for_whom(self, instance: Instance) -> list[Exchange]:
        """The exchanges that wait for a connection to it."""
        return [each for each in self._tasks if each.instance is instance and each.conn is None]

    async def _connect(self, instance: Instance, exchange: Exchange) -> None:
        worker, app = self._worker, instance.app
        began = monotonic()
        limit = app.spec.connect
        timer = asyncio.timeout(limit)
        conn: InstanceConnection | None = None
        connected = began
        try:
            async with timer:
                sock = await self._socket(instance)
                connected = monotonic()
                conn = InstanceConnection(worker, instance)
                made = conn
                tls = instance.spec.tls
                try:
                    if tls is None:
                        await worker.loop.create_connection(lambda: made, sock=sock)
                    else:
                        await worker.loop.create_connection(
                            lambda: made,
                            sock=sock,
                            ssl=self._context(tls),
                            server_hostname=tls.server_name or instance.spec.host,
                            ssl_handshake_timeout=limit,
                        )
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError:
            self._fail(instance, exchange, faults.CONNECT_TIMEOUT, f"not within {limit:g} s", began)
            return
        except ssl.SSLCertVerificationError as error:
            self._fail(instance, exchange, faults.TLS_CERTIFICATE, error.verify_message, began)
            return
        except ssl.SSLError as error:
            self._fail(instance, exchange, faults.TLS_ERROR, error.reason or str(error), began)
            return
        except OSError as error:
            fault = _fault(error, connected > began)
            self._fail(instance, exchange, fault, error.strerror or str(error), began)
            return
        now = monotonic()
        if exchange.over or exchange.instance is not instance or exchange.conn is not None:
            conn.close()
            return
        instance.tally.connects += 1
        if conn.surplus:
            self._fail(instance, exchange, faults.BAD_RESPONSE, "it sent bytes before anything was asked", began)
            return
        self._tasks.pop(exchange, None)
        if conn.closed:  # accepted, and closed before anything could be sent
            exchange.lost(now, False, "")
            return
        exchange.connected(conn, connected - began, now - connected if instance.spec.tls else 0.0, now)

    async def _socket(self, instance: Instance) -> socket.socket:
        """A connected socket: the addresses in turn, beginning with the one that worked last."""
        spec = instance.spec
        if spec.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            return await _reach_path(sock, spec.path)
        addresses = spec.resolved or (spec.host,)
        for attempt in range(len(addresses)):
            address = addresses[(instance.address_at + attempt) % len(addresses)]
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                reached = await self._reach(sock, (address, spec.port))
            except OSError:
                if attempt + 1 == len(addresses):
                    raise
                continue
            instance.address_at = (instance.address_at + attempt) % len(addresses)
            return reached
        raise AssertionError("this can't happen: no address")

    async def _reach(self, sock: socket.socket, address: str | tuple[str, int]) -> socket.socket:
        try:
            await self._worker.loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _fail(self, instance: Instance, exchange: Exchange, fault: Fault, detail: str, began: float) -> None:
        if exchange.over or exchange.instance is not instance or exchange.conn is not None:
            return
        self._tasks.pop(exchange, None)
        now = monotonic()
        exchange.connect_last = now - began
        exchange.connect_time += now - began
        if fault in (faults.CONNECT_REFUSED, faults.CONNECT_UNREACHABLE):
            instance.refuses(now)
        exchange.failed(fault, detail, now=now, sent=0)

    def _context(self, tls: Tls) -> ssl.SSLContext:
        context = self._contexts.get(tls)
        if context is None:
            context = ssl.create_default_context(cafile=tls.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            if not tls.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[tls] = context
        return context

    async def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _reach_path(sock: socket.socket, path: str) -> socket.socket:
    """A Unix socket connects at once or not at all. EAGAIN is a full backlog, which the event loop would take for
    "under way" and then for success: tried again until the time limit, as TCP does it by itself."""
    try:
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                await asyncio.sleep(0.005)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


def _fault(error: OSError, handshaking: bool) -> Fault:
    code = error.errno
    if code in _DESCRIPTORS:
        return faults.DESCRIPTORS_EXHAUSTED
    if code == errno.EADDRNOTAVAIL:
        return faults.PORTS_EXHAUSTED
    if code in _UNREACHABLE:
        return faults.CONNECT_UNREACHABLE
    if code == errno.ETIMEDOUT:
        return faults.CONNECT_TIMEOUT
    if handshaking and not isinstance(error, ConnectionRefusedError):
        return faults.TLS_ERROR
    return faults.CONNECT_REFUSED
