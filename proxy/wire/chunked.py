"""The chunked transfer coding (RFC 9112 section 7.1), read strictly and made anew.

A relay takes content out of its sender's chunks and frames it again, so that nothing of the sender's
framing (extensions, odd line ends, padded sizes) ever reaches the other side.

Always true:
  - what `feed` has returned is content, in order, and all of what was fed that is known to be content;
  - `rest` holds exactly the bytes after the end of the message, and is empty before `done`;
  - an error is final: after it every `feed` raises again;
  - what is kept between two calls is one unfinished line at most, bounded by its limit.

Stricter than the RFC's grammar where parsers are known to differ: no whitespace anywhere in a chunk
header (the "bad whitespace" of section 7.1.1, which llhttp refuses too), at most 16 digits of size, and no
framing field among the trailers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

Piece = bytes | memoryview

MAX_LINE: Final = 4096  # of one chunk header, as in Go's net/http
MAX_EXTENSIONS: Final = 16 * 1024  # of all of a message: reading them costs, and carries nothing (CVE-2023-39326)
MAX_TRAILERS: Final = 100
MAX_SIZE: Final = 2**63 - 1
LAST_CHUNK: Final = b"0\r\n\r\n"

# A slice below this is copied: a memoryview costs 0.1 µs more than a small slice, and keeps the whole read
# alive.
_VIEW_FROM: Final = 4096

# An unfinished line longer than this is an extension or a trailer.
_LONG: Final = 32

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*)\r\n")
_HEADER_SO_FAR = re.compile(rb"[0-9A-Fa-f]{0,16}|[0-9A-Fa-f]{1,16}(?:;[\t \x21-\x7e\x80-\xff]*)?\r?")
_EXTENSION_SO_FAR = re.compile(rb"[\t \x21-\x7e\x80-\xff]*\r?")
_TRAILER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t \x21-\x7e\x80-\xff]*)\r\n")

_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
# RFC 9110 section 6.5.1: no framing, routing, modifiers, authentication, response control or content format.
# Also hop-by-hop fields, and those by which the gateway itself tells the instance who asks.
_NEVER_FORWARDED = frozenset(
    b"""host te trailer connection keep-alive proxy-connection upgrade
    authorization proxy-authorization www-authenticate proxy-authenticate authentication-info
    proxy-authentication-info cookie set-cookie
    cache-control expect max-forwards pragma range if-match if-none-match if-modified-since
    if-unmodified-since if-range age expires date location retry-after vary warning
    content-encoding content-type content-range content-location
    forwarded via x-real-ip x-request-id traceparent tracestate proxy-status""".split()
)


class ChunkedError(ValueError):
    """The content is not valid chunked coding. `offset` counts bytes from the start of the content."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} at offset {offset}")
        self.message = message
        self.offset = offset


class ChunkedDecoder:
    """Takes what was read, gives the content in it.

    `done` turns true with the last byte of the trailer section; `trailers` are then the fields that may be
    forwarded, `rest` what was read behind the message. `consumed` counts the coded bytes taken so far.
    """

    __slots__ = (
        "_extensions", "_failed", "_held", "_in_trailers", "_left", "_trailer_limit", "_trailer_size",
        "_trailers_seen", "consumed", "done", "rest", "trailers",
    )  # fmt: skip

    def __init__(self, trailer_limit: int = 16 * 1024) -> None:
        self.done = False
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self.consumed = 0
        self._left = 0  # of the present chunk, its CRLF included
        self._held = b""  # a line (or the CRLF after content) of which the end is still to come
        self._extensions = 0
        self._in_trailers = False
        self._trailer_limit = trailer_limit
        self._trailer_size = 0
        self._trailers_seen = 0
        self._failed: ChunkedError | None = None

    def __repr__(self) -> str:
        where = "done" if self.done else "trailers" if self._in_trailers else f"{self._left} to come"
        return f"<ChunkedDecoder {where}, {self.consumed} consumed>"

    def feed(self, data: bytes) -> list[Piece]:
        """The content in `data`, as slices of it. Raises ChunkedError."""
        if self._failed is not None:
            raise self._failed
        if self.done:
            self.rest += data
            return []
        if self._held:
            if len(self._held) > _LONG and b"\n" not in data:
                self._hold_more(data)
                return []
            data = self._held + data
            self._held = b""
        pieces: list[Piece] = []
        at, size, left = 0, len(data), self._left
        while not self._in_trailers:
            if left > 2:
                end = at + left - 2
                if end > size:
                    end = size
                if end > at:
                    pieces.append(_cut(data, at, end))
                    left -= end - at
                    at = end
                if left > 2:
                    break
            if left:
                if not data.startswith(b"\r\n", at):
                    if at == size or (at + 1 == size and data[at] == 13):
                        self._held = data[at:]
                        break
                    raise self._fail("no CRLF after the content of a chunk", at)
                at += 2
                left = 0
            header = _HEADER.match(data, at, at + MAX_LINE)
            if header is None:
                self._hold_header(data, at)
                break
            length = int(header[1], 16)
            if length > MAX_SIZE:
                raise self._fail("chunk size too large", at)
            end = header.end()
            if header.end(1) + 2 != end:
                self._count_extensions(end - header.end(1) - 2, at)
            at = end
            if length:
                left = length + 2
            else:
                self._in_trailers = True
        else:
            self._feed_trailers(data, at)
            return pieces
        self._left = left
        self.consumed += size - len(self._held)
        return pieces

    def _hold_header(self, data: bytes, at: int) -> None:
        """Keep an unfinished chunk header, if it can still become a valid one."""
        if not _HEADER_SO_FAR.fullmatch(data, at, at + MAX_LINE):
            raise self._fail("bad chunk header", at)
        if len(data) - at >= MAX_LINE:
            raise self._fail("chunk header too long", at)
        self._held = data[at:]

    def _hold_more(self, data: bytes) -> None:
        """Add to a long unfinished line, looking at the new bytes alone: a line that comes byte by byte must
        not cost its length each time."""
        size = len(self._held) + len(data)
        if self._in_trailers:
            if self._trailer_size + size > self._trailer_limit:
                raise self._fail("trailer section too large", 0)
        elif self._held[-1] == 13 or not _EXTENSION_SO_FAR.fullmatch(data):
            raise self._fail("bad chunk header", 0)
        elif size >= MAX_LINE:
            raise self._fail("chunk header too long", 0)
        self._held += data

    def _count_extensions(self, size: int, at: int) -> None:
        self._extensions += size
        if self._extensions > MAX_EXTENSIONS:
            raise self._fail("too many chunk extensions", at)

    def _feed_trailers(self, data: bytes, at: int) -> None:
        size = len(data)
        while True:
            if data.startswith(b"\r\n", at):
                self.done = True
                self.rest = data[at + 2 :]
                self.consumed += at + 2
                return
            if data.startswith(b"\r", at) and at + 1 < size:
                raise self._fail("bad end of the trailer section", at)
            end = data.find(b"\n", at) + 1
            line = (end or size) - at
            if self._trailer_size + line > self._trailer_limit:
                raise self._fail("trailer section too large", at)
            if not end:
                self._held = data[at:]
                self.consumed += at
                return
            self._add_trailer(data, at, end)
            self._trailer_size += line
            at = end

    def _add_trailer(self, data: bytes, at: int, end: int) -> None:
        field = _TRAILER.match(data, at)
        if field is None or field.end() != end:
            raise self._fail("bad trailer field", at)
        self._trailers_seen += 1
        if self._trailers_seen > MAX_TRAILERS:
            raise self._fail("too many trailer fields", at)
        name = field[1]
        # Many frameworks cannot tell "_" from "-" (CGI variables), so neither do we.
        plain = name.lower().replace(b"_", b"-")
        if plain in _FRAMING:
            raise self._fail("a framing field among the trailers", at)
        if plain not in _NEVER_FORWARDED and not plain.startswith(b"x-forwarded-"):
            self.trailers.append((name, field[2].rstrip(b" \t")))

    def _fail(self, message: str, at: int) -> ChunkedError:
        self._failed = ChunkedError(message, self.consumed + at)
        return self._failed


def _cut(data: bytes, start: int, end: int) -> Piece:
    if end - start < _VIEW_FROM or end - start == len(data):
        return data[start:end]  # the whole of a bytes object is itself, not a copy
    return memoryview(data)[start:end]


def encode_chunk(data: Piece) -> bytes:
    """One chunk around `data`, which must not be empty: an empty chunk would end the message."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))


def encode_pieces(pieces: Sequence[Piece]) -> list[Piece]:
    """The parts of one chunk around all of `pieces`, for one join or writelines; [] for no content."""
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []


def encode_last(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The last chunk, the trailer section and the end of the message. Trailers must be valid field lines."""
    fields = b"".join(b"%b: %b\r\n" % field for field in trailers)
    return b"0\r\n%b\r\n" % fields if fields else LAST_CHUNK
