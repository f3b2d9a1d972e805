"""A client on a bare socket, and the strict reading of HTTP messages that it shares with the scripted origins.

Nothing is forgiven while reading: what a careful client would refuse raises Malformed, so that a test fails where the
gateway wrote something ambiguous.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType

DEADLINE = 30.0
PACE = 0.0001
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ([^\r\n\0]*)")
_REQUEST = re.compile(rb"([A-Z-]+) ([\x21-\x7e]+) (HTTP/1\.1)")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([^\r\n\0]*)")


class Malformed(AssertionError):
    """What came is no valid HTTP message."""


class Ended(AssertionError):
    """The other side ended before the message did."""


class Reset(Ended):
    """It ended by RST."""


@dataclass
class Message:
    """A whole message. `fields` keep their order and case; `body` is without its framing."""

    start: bytes
    fields: list[tuple[bytes, bytes]]
    raw: bytes
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.fields if key.lower() == wanted]

    def __getitem__(self, name: str) -> str:
        """The only value of a field; "" where there is none."""
        found = self.all(name)
        assert len(found) < 2, f"{name} stands there {len(found)} times: {found}"
        return found[0] if found else ""

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def chunked(self) -> bool:
        return self["Transfer-Encoding"] == "chunked"

    @property
    def length(self) -> int | None:
        value = self["Content-Length"]
        return int(value) if value else None


class Response(Message):
    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    @property
    def id(self) -> str:
        return self["X-Request-ID"]

    @property
    def fault(self) -> str:
        """The fault's name, as Proxy-Status tells it."""
        found = re.search(r'details="([a-z-]+)"', self["Proxy-Status"])
        return found[1] if found else ""

    @property
    def keeps(self) -> bool:
        return "close" not in self["Connection"].lower()


class Request(Message):
    @property
    def method(self) -> str:
        return self.start.split(b" ")[0].decode()

    @property
    def target(self) -> str:
        return self.start.split(b" ")[1].decode("latin-1")


class Wire:
    """A socket with a buffer, from which whole messages are read. `taken` is all that was read from it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(DEADLINE)
        self.buffer = b""
        self.taken = bytearray()
        self.ended = ""
        """"FIN" or "RST" once the other side has ended."""

    # --- reading ----------------------------------------------------------------------------------

    def more(self, most: int = 262144) -> bytes:
        """One read; b"" at the end. Raises Reset."""
        try:
            data = self.sock.recv(most)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = "RST"
            raise Reset(f"RST after {bytes(self.taken[-200:])!r}") from None
        except ssl.SSLEOFError:
            self.ended = "RST"  # without close_notify: as good as one
            raise Reset(f"a TLS connection cut after {bytes(self.taken[-200:])!r}") from None
        except TimeoutError:
            raise AssertionError(f"nothing within {DEADLINE:g} s; before: {bytes(self.taken[-300:])!r}") from None
        if not data:
            self.ended = "FIN"
        self.buffer += data
        self.taken += data
        return data

    def until(self, mark: bytes) -> bytes:
        """All up to `mark`, with it."""
        while (at := self.buffer.find(mark)) < 0:
            if not self.more():
                raise Ended(f"FIN before {mark!r}; there is {self.buffer[-300:]!r}")
        return self._cut(at + len(mark))

    def exactly(self, size: int) -> bytes:
        if len(self.buffer) < size:
            parts, have = [self.buffer], len(self.buffer)
            self.buffer = b""
            while have < size:
                data = self.more(min(size - have, 1 << 20))
                if not data:
                    self.buffer = b"".join(parts)
                    raise Ended(f"FIN after {have} of {size} bytes")
                parts.append(data)
                have += len(data)
                self.buffer = b""
            self.buffer = b"".join(parts)
        return self._cut(size)

    def _cut(self, size: int) -> bytes:
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def rest(self) -> bytes:
        """All that still comes, until the other side ends; `ended` says how."""
        parts = [self._cut(len(self.buffer))]
        try:
            while self.more():
                parts.append(self._cut(len(self.buffer)))
        except Reset:
            pass
        return b"".join(parts)

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Field lines up to the empty one."""
        found = []
        while (line := self.until(b"\r\n")) != b"\r\n":
            match = _FIELD.fullmatch(line[:-2])
            if match is None:
                raise Malformed(f"field line {line!r}")
            found.append((match[1], match[2].rstrip(b" \t")))
        return found

    def head(self, kind: type[Message], pattern: re.Pattern[bytes]) -> Message:
        before = len(self.taken) - len(self.buffer)
        line = self.until(b"\r\n")[:-2]
        if pattern.fullmatch(line) is None:
            raise Malformed(f"start line {line!r}")
        fields = self.fields()
        raw = bytes(self.taken[before : len(self.taken) - len(self.buffer)])
        message = kind(line, fields, raw)
        if "Transfer-Encoding" in message:
            if message["Transfer-Encoding"] != "chunked" or "Content-Length" in message:
                raise Malformed(f"framing of {raw!r}")
        elif "Content-Length" in message and re.fullmatch(r"\d+", message["Content-Length"]) is None:
            raise Malformed(f"framing of {raw!r}")
        return message

    def chunk(self) -> bytes:
        """One chunk's content; b"" for the last one, whose trailer section is still to be read."""
        line = self.until(b"\r\n")
        if re.fullmatch(rb"[0-9a-fA-F]+\r\n", line) is None:
            raise Malformed(f"chunk line {line!r}")
        size = int(line, 16)
        if not size:
            return b""
        data = self.exactly(size)
        if self.exactly(2) != b"\r\n":
            raise Malformed("no CRLF behind a chunk")
        return data

    def content(self, message: Message, *, to_the_end: bool = False) -> None:
        """Read the content of `message`; `to_the_end`: without framing it goes on until the connection ends."""
        if message.chunked:
            while data := self.chunk():
                message.chunks.append(data)
            message.body = b"".join(message.chunks)
            message.trailers = self.fields()
        elif message.length is not None:
            message.body = self.exactly(message.length)
        elif to_the_end:
            message.body = self.rest()
            if self.ended == "RST":
                raise Reset(f"RST in a content that ends with the connection, after {len(message.body)} bytes")

    # --- writing ----------------------------------------------------------------------------------

    def send(self, *pieces: bytes) -> None:
        """Each piece is written by itself, paced so that most are also read by themselves; nothing depends on it."""
        for piece in pieces:
            self.sock.sendall(piece)
            if len(pieces) > 1:
                time.sleep(PACE)

    def fin(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def splits(data: bytes, next: bytes = b"") -> Iterator[tuple[str, list[bytes]]]:
    """How a parser case is sent: whole, byte by byte, and with the next message already behind it."""
    yield "whole", [data]
    yield "byte by byte", [data[at : at + 1] for at in range(len(data))]
    if next:
        yield "with the next behind it", [data + next]


def get(target: str = "/", *lines: str, host: str = "a.example", method: str = "GET", version: str = "1.1") -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", f"Host: {host}", *lines, "", ""]).encode("latin-1")


def post(content: bytes, *lines: str, target: str = "/") -> bytes:
    return get(target, f"Content-Length: {len(content)}", *lines, method="POST") + content


def chunked(pieces: Iterable[bytes], trailers: bytes = b"") -> bytes:
    """Chunked coding, one chunk for each piece."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


class Client(Wire):
    """`Client(port)`, `Client("/path/to.sock")`, `Client(("::1", port))`; with `tls` and `name`, over TLS."""

    def __init__(
        self,
        to: int | str | tuple[str, int],
        *,
        tls: ssl.SSLContext | None = None,
        name: str | None = None,
        first: bytes = b"",
        receive_buffer: int = 0,
    ) -> None:
        """`first` is sent before a TLS handshake (a PROXY header)."""
        if isinstance(to, str):
            sock = socket.socket(socket.AF_UNIX)
        else:
            sock = socket.socket(socket.AF_INET6 if isinstance(to, tuple) and ":" in to[0] else socket.AF_INET)
        try:
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.settimeout(DEADLINE)
            if isinstance(to, int):
                to = ("127.0.0.1", to)
            sock.connect(to)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if first:
                sock.sendall(first)
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False)
        except BaseException:
            sock.close()
            raise
        super().__init__(sock)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def response_head(self) -> Response:
        """The next head, of an interim response too."""
        message = self.head(Response, _STATUS)
        assert isinstance(message, Response)
        return message

    def response(self, method: str = "GET") -> Response:
        """The next whole response, that must be a final one."""
        found = self.response_head()
        assert found.status >= 200, f"an interim response: {found.raw!r}"
        if found.status in (204, 304) or method == "HEAD":
            return found
        self.content(found, to_the_end=True)
        return found

    def ask(self, data: bytes) -> Response:
        """Send a whole request and read its response."""
        self.send(data)
        return self.response(data.split(b" ", 1)[0].decode("latin-1"))

    def is_closed(self) -> str:
        """Wait for the other side to end: "FIN" or "RST"; nothing more may come."""
        left = self.rest()
        assert left == b"", f"there came {left[:500]!r}"
        return self.ended


def request_of(wire: Wire) -> Request:
    """The next whole request, as an origin reads it."""
    message = wire.head(Request, _REQUEST)
    assert isinstance(message, Request)
    return message
