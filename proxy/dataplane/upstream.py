"""A connection to an instance: the response's framing, reuse, and what its ending means.

Always true:
  - a connection is in its instance's pool, or serves one exchange, or is closed;
  - it returns to the pool only when the request was written whole, the response read whole, and no byte followed;
  - bytes that belong to no response are never passed on: they close the connection, as `response-framing`;
  - a content that is cut short is never ended so that it looks whole.

It is longer than most modules, for the reason that client.py gives: one connection's state, used on every request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Final, cast

from proxy import faults
from proxy.dataplane import watches
from proxy.dataplane.splice import HIGH_WATER, LEAST, begin
from proxy.dataplane.wheel import INFINITE
from proxy.faults import Fault
from proxy.wire import response
from proxy.wire.chunked import ChunkedDecoder, ChunkedError
from proxy.wire.request import HeadError

if TYPE_CHECKING:
    import httptools

    from proxy.dataplane.client import ClientConnection
    from proxy.dataplane.exchange import Exchange
    from proxy.dataplane.instance import Instance
    from proxy.dataplane.splice import Splice
    from proxy.dataplane.worker import Worker
    from proxy.wire.response import ResponseHead

monotonic = time.monotonic

_EVENTS: Final = re.compile(rb"\r\ncontent-type:[ \t]*text/event-stream", re.IGNORECASE)
HEAD, LENGTH, CHUNKED, UNTIL_CLOSE, TUNNEL, IDLE = range(6)
_STATES: Final = ("head", "length", "chunked", "until close", "tunnel", "idle")


class InstanceConnection(asyncio.Protocol):
    __slots__ = (
        "closed", "closing", "decoder", "due", "exchange", "head", "held", "idle_since", "instance", "last", "left",
        "parser", "paused", "peer", "raw", "spare", "splice", "state", "stopped_since", "surplus", "transport",
        "wheel_due", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker, instance: Instance) -> None:
        self.worker = worker
        self.instance = instance
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport | None = None
        self.state = HEAD
        self.held = b""
        """The beginning of a head whose end is still to come."""
        self.parser: httptools.HttpResponseParser | None = None
        self.raw = b""
        """The last head as it came, and what it meant: the next one is often the same bytes."""
        self.head: ResponseHead | None = None
        self.left = 0
        self.decoder: ChunkedDecoder | None = None
        self.idle_since = 0.0
        self.last = 0.0
        """When the instance last sent something, or was last asked."""
        self.paused = False
        self.stopped_since = 0.0
        """Since when it has not read what we write; 0.0 when it reads."""
        self.peer: ClientConnection | None = None
        self.spare = -1
        """A second descriptor of the socket while content is sent: what the instance answered before it stopped
        reading can still be read through it when writing failed."""
        self.splice: Splice | None = None
        self.closing = False
        self.closed = False
        self.surplus = False
        self.due = INFINITE
        self.wheel_due = INFINITE

    def __repr__(self) -> str:
        return f"<InstanceConnection {self.instance.name} {_STATES[self.state]}{' closed' if self.closed else ''}>"

    @property
    def state_has_content(self) -> bool:
        """Whether the response under way has content whose end is told by chunks or by closing."""
        return self.state in (CHUNKED, UNTIL_CLOSE)

    @property
    def endless(self) -> bool:
        """Whether what passes has no end of its own: a tunnel, or server-sent events. Their clients connect again."""
        if self.state == TUNNEL:
            return True
        return self.state_has_content and _EVENTS.search(self.raw) is not None

    # --- asyncio ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.instance.open.add(self)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        try:
            if exchange is None:
                self._unasked(data)
                return
            state = self.state
            if state == HEAD:
                raw = self.raw
                if raw and not self.held and data.startswith(raw) and self.head is not None:
                    self._answer(data, len(raw), self.head, exchange)  # the same head as last time
                else:
                    self._read_head(data, exchange)
            elif state == LENGTH:
                left = self.left = self.left - len(data)
                if left > 0:
                    self.last = monotonic()
                    exchange.pass_on(data)
                    if left >= LEAST:
                        begin(self, exchange)
                else:
                    if left < 0:
                        data = data[:left]
                        self.surplus = True
                    exchange.pass_on(data)
                    self.ended(exchange, monotonic())
            elif state == CHUNKED:
                self._read_chunks(data, exchange)
            elif state == TUNNEL:
                self.last = monotonic()
                exchange.bytes_out += len(data)
                if self.peer is not None:
                    self.peer.write(data)
            else:
                self.last = monotonic()
                exchange.pass_on_pieces([data])
        except Exception as error:
            self.broke(error, exchange)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            if self.closed:
                return
            now = monotonic()
            exchange = self.exchange
            idle = exchange is None and self.idle_since > 0.0
            if self.spare >= 0 and exc is not None and exchange is not None and self.state in (HEAD, LENGTH, CHUNKED):
                self._read_what_is_left()
                exchange = self.exchange
            self._forget()
            if exchange is None:
                if idle and not (self.instance.spec.pid and self.worker.has_ended(self.instance)):
                    self.instance.learn_idle(now - self.idle_since)
                return
            if self.state == HEAD:
                # Half a head, then the end: told apart from no answer at all by the detail.
                half = f"after {len(self.held)} bytes of a response head" if self.held else ""
                exchange.lost(now, exc is not None, half)
            elif self.state == UNTIL_CLOSE and exc is None:
                exchange.trailers([])
                self.ended(exchange, now)
            elif self.state == TUNNEL:
                peer = self.peer
                exchange.tunnel_ended(now)
                if peer is not None:
                    peer.close_after_writing()
            else:
                fault: Fault = faults.BODY_TRUNCATED
                if self.instance.spec.pid and self.worker.has_ended(self.instance):
                    fault = faults.INSTANCE_EXITED
                exchange.failed(fault, self._missing(), now=now)
        except Exception as error:
            self.broke(error, self.exchange)

    def pause_writing(self) -> None:
        """The instance does not read what the client sends."""
        self.stopped_since = monotonic()
        if self.state == TUNNEL:
            if self.peer is not None:
                self.peer.pause("instance")
        elif self.exchange is not None:
            self.exchange.client.pause("instance")

    def resume_writing(self) -> None:
        self.stopped_since = 0.0
        if self.state == TUNNEL:
            if self.peer is not None:
                self.peer.resume("instance")
        elif self.exchange is not None:
            exchange = self.exchange
            exchange.client.resume("instance")
            if not exchange.request_done and exchange.app is not None:
                self.due = monotonic() + exchange.app.spec.first_byte
                if self.due < self.wheel_due:
                    self.worker.wheel.arm(self, self.due)

    # --- the response -----------------------------------------------------------------------------

    def _read_head(self, data: bytes, exchange: Exchange) -> None:
        held = self.held
        if held:
            fed = len(held)
            data = held + data
            self.held = b""
        else:
            fed = 0
        while True:
            raw = self.raw
            if raw and data.startswith(raw):
                head = self.head
                assert head is not None
                end = len(raw)
            else:
                end = data.find(b"\r\n\r\n", max(fed - 3, 0)) + 4
                limit = self.worker.settings.head_limit
                if end < 4:
                    self._hold(data, fed, limit, exchange)
                    return
                if end > limit:
                    exchange.bad_response(_too_large(limit), data, monotonic())
                    return
                raw = data[:end]
                parser, self.parser = self.parser, None
                head = self.worker.answers.get(raw)  # the same bytes came on another connection
                if head is None:
                    try:
                        response.check(raw[fed:] if parser is not None else raw, parser)
                        head = response.read(raw)
                    except HeadError as error:
                        if error.offset is None:
                            error.offset = max(fed, 0)
                        exchange.bad_response(error, data, monotonic())
                        return
                    if head.status >= 200:
                        self.worker.remember_answer(raw, head)
                if head.status >= 200:
                    self.raw, self.head = raw, head
            if head.status >= 200:
                break
            if head.status == 101:
                exchange.switched(head, data[end:], monotonic())
                return
            if head.status == 100 or head.status in (102, 103):
                exchange.informational(head)
            data = data[end:]
            fed = 0
            if not data:
                return
        self._answer(data, end, head, exchange)

    def _answer(self, data: bytes, end: int, head: ResponseHead, exchange: Exchange) -> None:
        """A final head, `data[:end]`, and perhaps content behind it."""
        now = self.last = monotonic()
        status, length = head.status, head.length
        if exchange.method == b"HEAD" or status == 204 or status == 304:
            self.state, length = LENGTH, 0
        elif head.chunked:
            self.state = CHUNKED
            self.decoder = ChunkedDecoder()
        elif length >= 0:
            self.state = LENGTH
        else:
            self.state = UNTIL_CLOSE
        out = exchange.on_head(head, now)
        if out is None:
            return
        if head.idle_timeout:
            self.instance.hint_idle(head.idle_timeout)
        client = exchange.client
        if self.state == LENGTH:
            have = len(data) - end
            left = self.left = length - have
            if left > 0:
                exchange.bytes_out += have
                client.write(b"".join((out, memoryview(data)[end:])) if have else out)
                self._wait_on(exchange, now)
                if left >= LEAST:
                    begin(self, exchange)
                return
            if left < 0:
                self.surplus = True
                data = data[:left]
            exchange.bytes_out = length
            exchange.at_once = True
            client.write(out + data[end:] if length else out)
            self.ended(exchange, monotonic())
            return
        client.write(out)
        self._wait_on(exchange, now)
        if len(data) > end:
            if self.state == CHUNKED:
                self._read_chunks(data[end:], exchange)
            else:
                exchange.pass_on_pieces([data[end:]])

    def _wait_on(self, exchange: Exchange, now: float) -> None:
        """More content is to come: the limit is the longest gap now."""
        watches.head_came(exchange)
        due = now + exchange.app.spec.idle  # type: ignore[union-attr]
        self.worker.wheel.arm(self, due)

    def _hold(self, data: bytes, fed: int, limit: int, exchange: Exchange) -> None:
        """Half a head: let llhttp see it already, so that garbage is refused at once."""
        if len(data) >= limit:
            exchange.bad_response(_too_large(limit), data, monotonic())
            return
        if self.parser is None:
            self.parser = response.new_parser()
        try:
            response.check(data[fed:], self.parser)
        except HeadError as error:
            error.offset = fed
            exchange.bad_response(error, data, monotonic())
            return
        self.held = data

    def _read_chunks(self, data: bytes, exchange: Exchange) -> None:
        self.last = monotonic()
        decoder = self.decoder
        assert decoder is not None
        try:
            pieces = decoder.feed(data)
        except ChunkedError as error:
            fault = faults.RESPONSE_FRAMING
            exchange.bad_response(HeadError(fault, str(error), offset=error.offset), data, monotonic())
            return
        if pieces:
            exchange.pass_on_pieces(pieces)
        if decoder.done:
            self.surplus = bool(decoder.rest)
            exchange.trailers(decoder.trailers)
            self.ended(exchange, monotonic())

    def ended(self, exchange: Exchange, now: float) -> None:
        """The response is whole."""
        head = self.head
        assert head is not None
        instance = self.instance
        reusable = exchange.request_done and not head.close and self.state != UNTIL_CLOSE and not self.closing
        if self.surplus:
            reusable = False
            self._report_surplus()
        self.exchange = None
        self.decoder = None
        if reusable:
            self.resume()
            if self.spare >= 0:
                self._close_spare()
            self.state = HEAD
            self.idle_since = now
            if instance.keep(self, now):
                due = self.due = now + instance.idle_limit
                if due < self.wheel_due:
                    self.worker.wheel.arm(self, due)
            else:
                self.close()
        else:
            self.close()
        exchange.response_ended(now)

    def _report_surplus(self) -> None:
        """Bytes behind a complete response: they concern nobody but the instance."""
        self.instance.tally.fault(faults.RESPONSE_FRAMING.name)
        self.instance.went_wrong(faults.RESPONSE_FRAMING)

    def _unasked(self, data: bytes) -> None:
        """Bytes on an idle connection (a 408 before closing is usual): never part of a response."""
        if not data.startswith(b"HTTP/1.1 408") and self.state != TUNNEL:
            self.instance.tally.fault(faults.RESPONSE_FRAMING.name)
        self.surplus = True
        self.close()

    # --- sending ----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.closing:
            self.transport.write(data)

    def guard_writes(self) -> None:
        """Content follows: keep a second descriptor, see `spare`."""
        if self.spare < 0 and self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            if sock is not None and self.transport.get_extra_info("ssl_object") is None:
                with contextlib.suppress(OSError):
                    self.spare = os.dup(sock.fileno())

    def _read_what_is_left(self) -> None:
        """Writing failed: what the instance had answered before may still lie in the socket."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.spare)) as sock:
            sock.setblocking(False)
            for _ in range(64):
                try:
                    data = sock.recv(65536)
                except OSError:
                    return
                if not data or self.exchange is None:
                    return
                self.closing = True
                self.data_received(data)

    def pause(self) -> None:
        """The client does not read fast enough."""
        if self.splice is None and not self.paused and self.transport is not None and not self.closing:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.splice is not None:
            self.splice.go()
        elif self.paused and self.transport is not None and not self.closing:
            self.paused = False
            self.last = monotonic()
            self.transport.resume_reading()

    # --- tunnels ----------------------------------------------------------------------------------

    def open_tunnel(self, client: ClientConnection, now: float) -> None:
        self.state = TUNNEL
        self.peer = client
        self.last = now
        self.worker.wheel.arm(self, now + self.exchange.app.spec.tunnel_idle)  # type: ignore[union-attr]

    # --- the end ----------------------------------------------------------------------------------

    def on_due(self, now: float) -> None:
        exchange = self.exchange
        if exchange is None:
            if not self.closed:
                self.close()  # idle for as long as the instance is known to like
            elif self.transport is not None:
                self.transport.abort()  # it was closed, and what is left to write never left
            return
        app = exchange.app
        assert app is not None
        spec = app.spec
        if self.state == HEAD:
            if exchange.request_done:
                came = f"only {len(self.held)} bytes of a response head" if self.held else "nothing"
                exchange.failed(faults.HEAD_TIMEOUT, f"{came} within {spec.first_byte:g} s", now=now)
            elif self.stopped_since and now - self.stopped_since >= spec.first_byte:
                exchange.failed(faults.SEND_TIMEOUT, f"it read nothing for {spec.first_byte:g} s", now=now)
            else:
                self.worker.wheel.arm(self, (self.stopped_since or now) + spec.first_byte)
            return
        limit = spec.tunnel_idle if self.state == TUNNEL else spec.idle
        last = self.last
        if self.state == TUNNEL and self.peer is not None:
            last = max(last, self.peer.last)
        if self.paused:
            last = now  # it is the client who keeps us waiting
        if now - last < limit:
            self.worker.wheel.arm(self, last + limit)
        elif self.state == TUNNEL:
            peer = self.peer
            exchange.tunnel_ended(now, detail=f"idle for {limit:g} s")
            if peer is not None:
                peer.close_after_writing()
        else:
            exchange.failed(faults.BODY_TIMEOUT, f"{self._missing()}; nothing for {limit:g} s", now=now)

    def broke(self, error: Exception, exchange: Exchange | None) -> None:
        self.worker.broke(error, exchange)
        self.close()

    def _missing(self) -> str:
        if self.state == LENGTH:
            return f"{self.left} bytes of the content are missing"
        return "the end of the content is missing"

    def close(self) -> None:
        """Close now; what is still to be written is dropped."""
        if not self.closed:
            self._forget()
            if self.transport is not None:
                self.transport.abort()

    def close_after_writing(self) -> None:
        if not self.closed:
            self._forget()
            if self.transport is not None:
                self.transport.close()
                if self.transport.get_write_buffer_size():
                    self.worker.wheel.arm(self, monotonic() + self.worker.settings.body_timeout)

    def _forget(self) -> None:
        self.closed = self.closing = True
        self.due = INFINITE
        instance = self.instance
        if self.splice is not None:
            self.splice.end()
        if self.spare >= 0:
            self._close_spare()
        instance.open.discard(self)
        if self.exchange is None and self.idle_since and self in instance.idle:
            instance.idle.remove(self)

    def _close_spare(self) -> None:
        os.close(self.spare)
        self.spare = -1


def _too_large(limit: int) -> HeadError:
    return HeadError(faults.RESPONSE_HEAD_TOO_LARGE, f"more than {limit} bytes without an end", offset=limit)
