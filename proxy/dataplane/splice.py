"""Large content by splice(2): from the instance's socket to the client's through a pipe, never copied into Python.

Only where its length is known, both sides are plain sockets and the client's is TCP. It begins when all that was
written before has left, and moves bytes, nothing else: whatever is out of the ordinary (an end too early, an error,
a kernel that can't) it leaves to the instance's transport, which reads on and finds it.

Always true:
  - while it runs, the instance's transport does not read and nothing is written to the client's transport;
  - the pipe is filled only when it is empty, so `inside` is all that it holds;
  - a client that does not read is paused and found stalled exactly as one of the ordinary way.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.dataplane.client import ClientConnection
    from proxy.dataplane.exchange import Exchange
    from proxy.dataplane.upstream import InstanceConnection

monotonic = time.monotonic

LEAST: Final = 512 << 10
"""Bytes still to come for which it is worth its beginning: about a read's cost."""
SIZE: Final = 512 << 10
"""Of the pipe. A read of the ordinary way brings half as much."""
MOST: Final = 64
"""At a time in a worker: 32 MiB of pipes, half of what the kernel gives one user (pipe-user-pages-soft). Fewer where
descriptors are few: each takes four, of those that the guard keeps for everything but connections."""
HIGH_WATER: Final = 65536
_FLAGS: Final = 1 | 2  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK

Pipe = tuple[int, int]


class Pipes:
    """How many there are at a time in a worker."""

    __slots__ = ("most", "used")

    def __init__(self) -> None:
        self.used = 0
        self.most = min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 64)

    def open(self) -> Pipe | None:
        """None: too many are used, or the kernel gives no more."""
        if self.used >= self.most:
            return None
        pipe = -1, -1
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, SIZE)
        except OSError:
            _close(*pipe)
            return None
        self.used += 1
        return pipe

    def close(self, pipe: Pipe) -> None:
        self.used -= 1
        _close(*pipe)


class Splice:
    """The rest of one response's content."""

    __slots__ = ("blocked", "client", "conn", "exchange", "going", "inside", "loop", "pipe", "pipes", "sink", "source")

    def __init__(self, conn: InstanceConnection, exchange: Exchange, pipe: Pipe, source: int, sink: int) -> None:
        self.conn = conn
        self.exchange = exchange
        self.client: ClientConnection = exchange.client
        self.loop: asyncio.AbstractEventLoop = conn.worker.loop
        self.pipes = conn.worker.pipes
        self.pipe = pipe
        self.source, self.sink = source, sink
        """Descriptors of our own: the event loop watches a transport's for the transport alone."""
        self.inside = 0
        self.going = False
        """What was written before has left."""
        self.blocked = False
        """The client does not read."""

    def go(self) -> None:
        """The client has all that was written before."""
        if not self.going:
            self.going = True
            self.conn.paused = False
            self.conn.last = monotonic()
            self.loop.add_reader(self.source, self._readable)

    def end(self) -> None:
        """Let go of everything; the instance's transport reads again, if it is still open."""
        conn, client = self.conn, self.client
        conn.splice = None
        if self.blocked:
            self.loop.remove_writer(self.sink)
            client.write_paused = conn.paused = False
        elif self.going:
            self.loop.remove_reader(self.source)
        _close(self.source, self.sink)
        self.pipes.close(self.pipe)
        if not client.closed and client.transport is not None:
            client.transport.set_write_buffer_limits(high=HIGH_WATER)
        if not conn.closed and conn.transport is not None:
            conn.transport.resume_reading()

    def _readable(self) -> None:
        conn = self.conn
        try:
            try:
                size = os.splice(self.source, self.pipe[1], min(conn.left, SIZE), flags=_FLAGS)
            except BlockingIOError:
                return
            except OSError:
                size = 0
            if not size:
                self.end()
                return
            conn.last = monotonic()
            conn.left -= size
            self.inside = size
            self._write()
        except Exception as error:
            conn.broke(error, self.exchange)

    def _writable(self) -> None:
        try:
            self._write()
        except Exception as error:
            self.conn.broke(error, self.exchange)

    def _write(self) -> None:
        conn, exchange = self.conn, self.exchange
        while self.inside:
            try:
                size = os.splice(self.pipe[0], self.sink, self.inside, flags=_FLAGS)
            except BlockingIOError:
                self._block()
                return
            except OSError:
                exchange.client_left(monotonic())
                return
            self.inside -= size
            exchange.bytes_out += size
        if not conn.left:
            self.end()
            conn.ended(exchange, monotonic())
        elif self.blocked:
            self.blocked = conn.paused = False
            self.client.write_paused = False
            conn.last = monotonic()
            self.loop.remove_writer(self.sink)
            self.loop.add_reader(self.source, self._readable)

    def _block(self) -> None:
        if not self.blocked:
            self.blocked = self.conn.paused = True
            self.loop.remove_reader(self.source)
            self.loop.add_writer(self.sink, self._writable)
            self.client.pause_writing()


def begin(conn: InstanceConnection, exchange: Exchange) -> None:
    """Pass on the rest of the content so, where that can be done."""
    client, transport = exchange.client, conn.transport
    down = client.transport
    if client.tls or client.closed or down is None or transport is None:
        return
    if transport.get_extra_info("ssl_object") is not None:
        return
    up_socket, down_socket = transport.get_extra_info("socket"), down.get_extra_info("socket")
    if up_socket is None or down_socket is None or down_socket.family == socket.AF_UNIX:
        return
    pipe = conn.worker.pipes.open()
    if pipe is None:
        return
    source = sink = -1
    try:
        source = os.dup(up_socket.fileno())
        sink = os.dup(down_socket.fileno())
    except OSError:
        _close(source, sink)
        conn.worker.pipes.close(pipe)
        return
    if not conn.paused:
        conn.paused = True
        transport.pause_reading()
    splice = conn.splice = Splice(conn, exchange, pipe, source, sink)
    down.set_write_buffer_limits(high=0)  # calls pause_writing, and resume_writing as soon as all has left
    if not client.write_paused:
        splice.go()


def _close(*descriptors: int) -> None:
    for one in descriptors:
        if one >= 0:
            with contextlib.suppress(OSError):
                os.close(one)
