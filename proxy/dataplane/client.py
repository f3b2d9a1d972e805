"""A client's connection: the requests' framing, keep-alive, pipelining, backpressure, and its end.

Heads are validated before anything is done with them; content is counted or de-chunked here and handed to the
exchange. While an exchange runs, what else comes is kept, up to a limit, and read when its turn has come: so an error
belongs to the message it is in, and those before it are answered first, in order.

Always true:
  - at most one exchange runs, and answers leave in the order of their requests;
  - after an answer to a request whose content was not read to its end, no further request is read;
  - reading pauses while the instance does not take what came, or more than HELD bytes wait; never for ever:
    a paused client is looked at each second, since neither FIN nor RST is reported then.

It is longer than most modules: what the parser says and what is done with it share the state of one connection, and
each call between two modules would be paid on every request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, cast

from proxy import faults
from proxy.dataplane import exchange as exchanges
from proxy.dataplane.exchange import Exchange
from proxy.dataplane.guard import RESERVE
from proxy.dataplane.splice import HIGH_WATER
from proxy.dataplane.wheel import INFINITE
from proxy.wire import request
from proxy.wire.chunked import ChunkedDecoder, ChunkedError
from proxy.wire.forwarding import UNIX_PEER
from proxy.wire.hosts import TargetError, parse_authority, parse_target
from proxy.wire.request import METHODS, REQUEST_LINE, Fields, HeadError

if TYPE_CHECKING:
    import httptools

    from proxy.dataplane.upstream import InstanceConnection
    from proxy.dataplane.worker import Worker

monotonic = time.monotonic

HELD: Final = 65536
"""Bytes of pipelined requests that wait; then reading pauses."""
SLOW_WINDOW: Final = 30.0
SLOW_RATE: Final = 1024
"""Bytes a second below which, over SLOW_WINDOW, a body or an answer is too slow."""
LINGER_BYTES: Final = 1 << 20
LINGER_TIME: Final = 2.0
_VIA: Final = (b"1.0", b"1.1")
RST: Final = struct.pack("ii", 1, 0)
HEAD, LENGTH, CHUNKED, WAITING, TUNNEL, LINGER = range(6)


class ClientConnection(asyncio.Protocol):
    __slots__ = (
        "closed", "dropped", "due", "decoder", "exchange", "fields", "head_began", "held", "last", "left",
        "local", "local_port", "mark", "mark_at", "parser", "paused_by", "peer", "peer_key",
        "proxied", "pumping", "section", "stalled", "state", "tail", "tail_for", "tls", "transport", "tunnel",
        "wheel_due", "worker", "write_paused",
    )  # fmt: skip

    def __init__(
        self, worker: Worker, tls: bool = False, port: int = 0, proxied: tuple[str, int] | None = None
    ) -> None:
        self.worker = worker
        self.tls = tls
        self.proxied = proxied
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.state = HEAD
        self.held = b""
        self.parser: httptools.HttpRequestParser | None = None
        self.section = b""
        """The last head without its request line, and what it meant: on one connection the next is often the same."""
        self.fields: Fields | None = None
        self.tail = b""
        self.tail_for: Fields | None = None
        self.left = 0
        self.decoder: ChunkedDecoder | None = None
        self.head_began = 0.0
        self.last = 0.0
        self.mark = 0
        self.mark_at = 0.0
        self.stalled = 0
        self.paused_by = 0
        self.write_paused = False
        self.pumping = False
        self.closed = False
        self.dropped = 0
        self.tunnel: InstanceConnection | None = None
        self.peer = self.peer_key = ""
        self.local = False
        self.local_port = port
        """Where it came to; 0 on a Unix socket."""
        self.due = INFINITE
        self.wheel_due = INFINITE

    def __repr__(self) -> str:
        return f"<ClientConnection {self.peer} {self.exchange or 'idle'}>"

    # --- asyncio ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        worker = self.worker
        peer = transport.get_extra_info("peername")
        if self.proxied is not None:
            self.peer, self.local_port = self.proxied
            self.peer_key = self.peer
        elif isinstance(peer, tuple):
            self.peer = self.peer_key = peer[0]
            if self.peer.startswith("::ffff:"):
                self.peer = self.peer_key = self.peer[7:]
        else:
            self.peer = self.peer_key = UNIX_PEER
        self.local = self.peer == UNIX_PEER or self.peer.startswith("127.") or self.peer == "::1"
        worker.clients.add(self)
        worker.accepted += 1
        now = monotonic()
        if len(worker.clients) > worker.guard.most_clients:
            if len(worker.clients) > worker.guard.most_clients + RESERVE:
                worker.stop_accepting()
                self.cut()
            else:
                self._turn_away(now)
            return
        worker.wheel.arm(self, now + worker.settings.head_timeout)

    def _turn_away(self, now: float) -> None:
        """More connections than the gateway may hold: answered at once, whatever it wanted to ask."""
        exchange = exchanges.rejected(self, HeadError(faults.GATEWAY_OVERLOAD, ""), b"", now, now)
        self.exchange = exchange
        self.state = WAITING
        exchange.refuse(faults.GATEWAY_OVERLOAD, "too many connections")

    def data_received(self, data: bytes) -> None:
        try:
            if self.exchange is None:
                if self.state == LINGER:
                    self._drop(len(data))
                    return
                now = monotonic()
                if not self.held and not self.write_paused:
                    # The short way: a whole head, and with it all content. Its field lines are often known already.
                    found = REQUEST_LINE.match(data)
                    if found is not None:
                        end = found.end()
                        fields = self.fields
                        if fields is None or not data.startswith(self.section, end):
                            fields = self._understand(data, end)
                        if fields is not None:
                            head_size = end + len(self.section)
                            size = len(data) - head_size
                            method, target, minor = found.groups()
                            worker = self.worker
                            if (
                                size == fields.length
                                and target[0] == 47
                                and method in METHODS
                                and minor == b"1"
                                and len(target) <= worker.target_limit
                                and head_size <= worker.head_limit
                            ):
                                self.state = WAITING
                                exchange = self.exchange = Exchange(self, method, target, 1, fields, now, now)
                                if size:
                                    exchange.given(data[-size:])
                                exchange.begin(now)
                                return
                if self.held:
                    data = self.held + data
                    self.held = b""
                else:
                    self.head_began = now
                self._pump(data, now)
                return
            state = self.state
            if state == LENGTH:
                self._content(data, monotonic())
            elif state == CHUNKED:
                self._chunks(data, monotonic())
            elif state == TUNNEL:
                self.last = monotonic()
                self.exchange.bytes_in += len(data)
                if self.tunnel is not None:
                    self.tunnel.write(data)
            else:
                self.held = self.held + data if self.held else data
                if len(self.held) > HELD:
                    self.pause("held")
        except Exception as error:
            self.worker.broke(error, self.exchange, self)

    def eof_received(self) -> bool:
        """FIN. While a request runs it is the client leaving; a tunnel ends with either side."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            if self.closed:
                return
            self._forget()
            exchange = self.exchange
            if exchange is None:
                return
            now = monotonic()
            if self.state == TUNNEL:
                exchange.tunnel_ended(now)
            else:
                exchange.client_left(now)
        except Exception as error:
            self.worker.broke(error, self.exchange, self)

    def pause_writing(self) -> None:
        """The client does not read."""
        self.write_paused = True
        self.stalled = self._unsent()
        if self.tunnel is not None:
            self.tunnel.pause()
        elif self.exchange is not None and self.exchange.conn is not None:
            self.exchange.conn.pause()
        self.worker.wheel.arm(self, monotonic() + self.worker.settings.body_timeout)

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.tunnel is not None:
            self.tunnel.resume()
        elif self.exchange is not None:
            if self.exchange.conn is not None:
                self.exchange.conn.resume()
        elif self.held:
            self._pump(self._take_held(), monotonic())

    def _unsent(self) -> int:
        """Bytes that wait for the client to read."""
        waiting = self.transport.get_write_buffer_size() if self.transport is not None else 0
        conn = self.exchange.conn if self.exchange is not None else None
        return waiting + (conn.splice.inside if conn is not None and conn.splice is not None else 0)

    # --- heads ------------------------------------------------------------------------------------

    def _understand(self, data: bytes, end: int) -> Fields | None:
        """What the field lines from `end` on mean, looked up or read; None if the long way has to be gone.

        That is for heads in pieces, for what is refused, and for content that comes otherwise than with its head.
        """
        worker = self.worker
        stop = data.find(b"\r\n\r\n", end - 2) + 4  # from the request line's own end: a head without fields ends there
        if stop < 4 or stop > worker.head_limit or data[end - 3] != 49:
            return None
        section = data[end:stop]
        fields = worker.heads.get(section)
        if fields is None:
            try:
                request.check(data if stop == len(data) else data[:stop])
                fields = request.read_fields(data[end - 1 : stop - 2], 1, worker.settings.headers_limit)
            except HeadError:
                return None
            if fields.chunked or fields.upgrade or fields.expect:
                return None
            worker.remember(section, fields)
        self.section, self.fields = section, fields
        return fields

    def _pump(self, data: bytes, now: float) -> None:
        """Read requests until one has to wait for an instance, or no whole head is left."""
        if self.pumping:
            self.held = data
            return
        self.pumping = True
        try:
            while data and self.exchange is None and self.state == HEAD and not self.closed and not self.write_paused:
                if data[:2] == b"\r\n":
                    data = data[2:]  # RFC 9112 section 2.2
                    if not data:
                        self.head_began = 0.0
                    continue
                rest = self._read_head(data, now)
                if rest is None:
                    return
                data = rest
                if self.held and self.exchange is None:
                    data, self.held = self.held + data, b""
            if data:
                if self.state == LINGER:
                    self._drop(len(data))
                elif not self.closed:
                    self.held = self.held + data
                    if len(self.held) > HELD:
                        self.pause("held")
        finally:
            self.pumping = False

    def _read_head(self, data: bytes, now: float) -> bytes | None:
        """Begin an exchange if the head is whole; what follows it, or None."""
        settings = self.worker.settings
        parser, self.parser = self.parser, None
        fed = 0 if parser is None else self.mark
        end = data.find(b"\r\n\r\n", max(fed - 3, 0)) + 4
        try:
            if end < 4:
                self._hold_head(data, fed, parser, now)
                return None
            if end > settings.head_limit:
                raise HeadError(faults.HEAD_TOO_LARGE, f"{end} bytes; {settings.head_limit} are allowed")
            head = data if end == len(data) else data[:end]
            line = request.read_line(head, settings.target_limit)
            request.check(head[fed:] if parser is not None else head, parser)
            section = head[line.end - 1 : -2]
            fields = request.read_fields(section, line.minor, settings.headers_limit)
            exchange = exchanges.of(self, line, fields, self.head_began or now, now)
            if line.target[:1] != b"/":
                self._absolute(exchange, line.method, line.target, fields)
        except HeadError as error:
            self.reject(error, data, now)
            return b""
        self.mark = 0
        self.head_began = 0.0
        self.exchange = exchange
        rest = data[end:] if len(data) > end else b""
        if fields.chunked:
            self.state = CHUNKED
            self.decoder = ChunkedDecoder()
            self._expect_content(now)
        else:
            if len(rest) >= fields.length:
                self.state = WAITING
                if fields.length:
                    exchange.given(rest[: fields.length])
                    rest = rest[fields.length :]
            else:
                self.state = LENGTH
                self.left = fields.length
                self._expect_content(now)
        exchange.begin(now)
        if rest and self.exchange is exchange:
            if self.state == LENGTH:
                self._content(rest, now)
                return b""
            if self.state == CHUNKED:
                self._chunks(rest, now)
                return b""
        return rest

    def _hold_head(self, data: bytes, fed: int, parser: httptools.HttpRequestParser | None, now: float) -> None:
        """Half a head: let llhttp see it already, so that garbage is refused at once. Raises HeadError.

        Only once the request line is whole: what is wrong with that one is ours to say, the same however it is cut.
        """
        settings = self.worker.settings
        if data.find(b"\n") >= 0:
            if len(data) >= settings.head_limit:
                raise HeadError(faults.HEAD_TOO_LARGE, f"no end within {settings.head_limit} bytes")
            request.read_line(data, settings.target_limit)
            if parser is None:
                parser = request.new_parser()
            request.check(data[fed:], parser)
            self.parser = parser
            self.mark = len(data)
        elif len(data) > settings.target_limit + 32:
            raise HeadError(faults.TARGET_TOO_LONG, f"more than {settings.target_limit} bytes")
        elif not (32 < data[0] < 127 or data[0] == 13):
            raise HeadError(faults.BAD_REQUEST, "no HTTP: the first byte begins no method", offset=0)
        if fed == 0:
            self.head_began = self.head_began or now
            self.worker.wheel.arm(self, self.head_began + settings.head_timeout)
        self.held = data

    def _absolute(self, exchange: Exchange, method: bytes, target: bytes, fields: Fields) -> None:
        """Absolute and asterisk form. The authority of the target replaces Host (RFC 9112 section 3.2.2)."""
        try:
            exchange.target, authority = parse_target(method, target)
        except TargetError as error:
            raise HeadError(faults.BAD_REQUEST, str(error), error.status) from None
        if authority is not None:
            lines = [each for each in fields.kept.split(b"\r\n") if each[:5].lower() != b"host:"]
            fields.kept = b"\r\n".join([b"Host: " + authority, *lines])
            fields.host_field = authority
            fields.host_text = authority.decode("latin-1")
            fields.host = parse_authority(authority).host

    def reject(self, error: HeadError, data: bytes, now: float) -> None:
        exchange = exchanges.rejected(self, error, data, self.head_began or now, now)
        self.exchange = exchange
        self.state = WAITING
        exchange.refuse(error.fault, error.detail, status=error.status)

    def make_tail(self, fields: Fields, minor: int) -> bytes:
        """What follows the request line of every head with these fields, up to the request id's value."""
        worker = self.worker
        if fields.forwarded:
            lines = worker.forwarding.lines(
                self.peer_key, self.tls, self.local_port, fields.host_field, fields.forwarded, _VIA[minor]
            )
        else:
            lines = worker.forwarding_lines(self.peer_key, self.tls, self.local_port, fields.host_field, _VIA[minor])
        kept = fields.kept
        if fields.traceparent and worker.spans is not None:
            kept = request.without(kept, {b"traceparent"})
        parts = [kept]
        if not fields.host_field:
            parts.append(b"Host: " + worker.default_host(self.transport) + b"\r\n")
        parts.append(lines)
        if fields.chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        names = []
        if fields.upgrade and self.exchange is not None and self.upgrade_goes_on(self.exchange):
            names.append(b"Upgrade")
            parts.append(b"Upgrade: " + fields.upgrade + b"\r\n")
        if fields.te_trailers:
            names.append(b"TE")
            parts.append(b"TE: trailers\r\n")
        if names:
            parts.append(b"Connection: " + b", ".join(names) + b"\r\n")
        parts.append(b"X-Request-ID: ")
        self.tail = b"".join(parts)
        self.tail_for = fields
        return self.tail

    def forget_heads(self) -> None:
        """Other settings are in force: what was made of the last head may be made otherwise now."""
        self.section = b""
        self.fields = self.tail_for = None

    def upgrade_goes_on(self, exchange: Exchange) -> bool:
        """Only listed protocols, on GET without content (DESIGN "Headers"); h2c never."""
        fields, app = exchange.fields, exchange.app
        return (
            bool(fields.upgrade)
            and exchange.method == b"GET"
            and exchange.minor == 1
            and not fields.length
            and not fields.chunked
            and app is not None
            and fields.upgrade.decode("latin-1") in app.spec.upgrades
        )

    # --- content ----------------------------------------------------------------------------------

    def _expect_content(self, now: float) -> None:
        self.last = self.mark_at = now
        self.mark = 0
        self.worker.wheel.arm(self, now + self.worker.settings.body_timeout)

    def _content(self, data: bytes, now: float) -> None:
        """Content of known length, and perhaps the next requests behind it."""
        exchange = self.exchange
        assert exchange is not None
        self.last = now
        size = len(data)
        rest = b""
        if size >= self.left:
            rest = data[self.left :] if size > self.left else b""
            data = data[: self.left] if rest else data
            size = self.left
            self.left = 0
            self.state = WAITING
        else:
            self.left -= size
        exchange.content([data], size)
        if self.left == 0 and not exchange.over:
            exchange.content_ended([], now)
            self._keep(rest)

    def _chunks(self, data: bytes, now: float) -> None:
        exchange, decoder = self.exchange, self.decoder
        assert exchange is not None and decoder is not None
        self.last = now
        try:
            pieces = decoder.feed(data)
        except ChunkedError as error:
            exchange.failed(faults.BAD_FRAMING, str(error), now=now)
            return
        if pieces:
            exchange.content(pieces, sum(map(len, pieces)))
        if decoder.done and not exchange.over:
            self.state = WAITING
            self.decoder = None
            exchange.content_ended(decoder.trailers, now)
            self._keep(decoder.rest)

    def _keep(self, rest: bytes) -> None:
        """Bytes behind the request: the next ones."""
        if rest:
            if self.exchange is None and self.state == HEAD:
                self._pump(rest, monotonic())
            else:
                self.held += rest

    # --- answers ----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not self.closed and self.transport is not None:
            self.transport.write(data)

    def exchange_ended(self, exchange: Exchange, now: float) -> None:
        """The answer was written: wait for the next request, or close."""
        if self.exchange is not exchange:
            return
        self.exchange = None
        if self.closed:
            return
        if exchange.keep:
            self.state = HEAD
            due = self.due = now + self.worker.idle_timeout
            if due < self.wheel_due:
                self.worker.wheel.arm(self, due)
            if self.paused_by:
                self.resume("instance")
                self.resume("held")
            if self.held and not self.pumping:
                self._pump(self._take_held(), now)
        elif exchange.request_done and (
            exchange.fault is None or (exchange.fault.origin is not faults.Origin.CLIENT and exchange.method)
        ):
            self.close_after_writing()
        else:
            self._linger(now)

    def _take_held(self) -> bytes:
        held, self.held = self.held, b""
        return held

    # --- backpressure -----------------------------------------------------------------------------

    def pause(self, why: str) -> None:
        """Read no more: "instance" does not take what came, or enough is "held"."""
        if self.closed or self.transport is None:
            return
        if not self.paused_by:
            self.transport.pause_reading()
            self.worker.paused.add(self)
        self.paused_by |= 1 if why == "instance" else 2

    def resume(self, why: str) -> None:
        if not self.paused_by:
            return
        self.paused_by &= ~(1 if why == "instance" else 2)
        if not self.paused_by and not self.closed and self.transport is not None:
            self.worker.paused.discard(self)
            self.last = self.mark_at = monotonic()
            self.mark = self.exchange.bytes_in if self.exchange is not None else 0
            self.transport.resume_reading()

    def look(self, now: float) -> None:
        """Once a second while reading is paused: has it closed its side?"""
        sock = self.transport.get_extra_info("socket") if self.transport is not None else None
        if sock is None or sock.family == socket.AF_UNIX:
            return
        with contextlib.suppress(OSError):
            state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]
            if state in (7, 8):  # TCP_CLOSE, TCP_CLOSE_WAIT
                self.worker.paused.discard(self)
                exchange = self.exchange
                if exchange is not None and not exchange.tunnel:
                    exchange.client_left(now)
                    return
                self.cut()
                if exchange is not None:
                    exchange.tunnel_ended(now)  # `connection_lost` will find it closed and say nothing

    # --- tunnels ----------------------------------------------------------------------------------

    def open_tunnel(self, conn: InstanceConnection, now: float) -> None:
        self.state = TUNNEL
        self.tunnel = conn
        self.last = now
        self.due = INFINITE
        if self.held:
            if self.exchange is not None:
                self.exchange.bytes_in += len(self.held)
            conn.write(self._take_held())
            self.resume("held")

    # --- the end ----------------------------------------------------------------------------------

    def on_due(self, now: float) -> None:
        exchange = self.exchange
        if self.closed:
            if self.transport is not None:
                self.transport.abort()  # it was closed, and what is left to write never left
            return
        if self.state == LINGER:
            self._end_linger()
            return
        settings = self.worker.settings
        if self.write_paused and self.transport is not None:
            left = self._unsent()
            if self.stalled - left < SLOW_RATE * settings.body_timeout:
                why = f"{left} bytes wait for it to read"
                if exchange is None:
                    self.cut()
                elif self.state == TUNNEL:
                    exchange.tunnel_ended(now, faults.CLIENT_STALLED, why)
                    self.cut()
                else:
                    exchange.refuse(faults.CLIENT_STALLED, why)
                return
            self.stalled = left
            self.worker.wheel.arm(self, now + settings.body_timeout)
            return
        if exchange is None:
            if self.held or self.head_began:
                began = self.head_began or now
                if now - began < settings.head_timeout:
                    self.worker.wheel.arm(self, began + settings.head_timeout)
                    return
                late = HeadError(faults.CLIENT_TIMEOUT, f"no whole head within {settings.head_timeout:g} s")
                self.reject(late, self._take_held(), now)
            else:
                self.close_after_writing()
            return
        if self.state in (LENGTH, CHUNKED):
            self._content_due(exchange, now)

    def _content_due(self, exchange: Exchange, now: float) -> None:
        """The longest gap, and after it less than SLOW_RATE over SLOW_WINDOW."""
        limit = self.worker.settings.body_timeout
        if self.paused_by or (exchange.conn is None and not exchange.bytes_in):
            self.worker.wheel.arm(self, now + limit)  # it is the instance who keeps it waiting
            return
        if now - self.last >= limit:
            exchange.failed(faults.CLIENT_TIMEOUT, f"no content for {limit:g} s", now=now)
            return
        if now - self.mark_at >= SLOW_WINDOW:
            rate = (exchange.bytes_in - self.mark) / (now - self.mark_at)
            if rate < SLOW_RATE:
                exchange.failed(faults.CLIENT_TIMEOUT, f"content comes at {rate:.0f} bytes a second", now=now)
                return
            self.mark, self.mark_at = exchange.bytes_in, now
        self.worker.wheel.arm(self, min(self.last + limit, max(self.mark_at + SLOW_WINDOW, now + 0.1)))

    def drain(self, now: float, idle: float) -> None:
        """The worker is to end: close when idle for so long; else after the answer under way."""
        if self.exchange is None:
            if self.state == HEAD and not self.held:
                self.worker.wheel.arm(self, now + idle)
        elif not self.exchange.head_sent:
            self.exchange.keep = False

    def _linger(self, now: float) -> None:
        """Half-close, read and drop what still comes, so that the answer is not lost to a RST.

        TLS has no half-close here: its client sees `Connection: close` and a length, or the end after LINGER_TIME.
        """
        transport = self.transport
        if transport is None or self.closed:
            return
        self.held = b""
        self.state = LINGER
        self.dropped = 0
        if not self.tls and transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                transport.write_eof()
        self.paused_by = 0
        self.worker.paused.discard(self)
        transport.resume_reading()
        self.worker.wheel.arm(self, now + LINGER_TIME)

    def _drop(self, size: int) -> None:
        self.dropped += size
        if self.dropped > LINGER_BYTES:
            self._end_linger()

    def _end_linger(self) -> None:
        if not self.closed:
            self._forget()
            if self.transport is not None:
                self.transport.abort()

    def close_after_writing(self) -> None:
        """Close when all is written; a client that never reads is cut."""
        if not self.closed and self.transport is not None:
            self._forget()
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self.worker.wheel.arm(self, monotonic() + self.worker.settings.body_timeout)

    def cut(self) -> None:
        """Close so that the client can't take what it has for a whole answer: RST."""
        if not self.closed and self.transport is not None:
            self._forget()
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            self.transport.abort()

    def _forget(self) -> None:
        self.closed = True
        self.due = INFINITE
        self.worker.clients.discard(self)
        self.worker.paused.discard(self)
        self.held = b""
        self.section = b""
        self.fields = self.tail_for = None
        self.tail = b""
        self.worker.client_gone()
