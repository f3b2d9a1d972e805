"""A response's head: checked by llhttp, understood in one pass, spliced rather than rebuilt.

Rules over llhttp: status 100 to 599, version 1.0 or 1.1, Transfer-Encoding exactly `chunked` on 1.1 or none, one
Content-Length. A head that breaks them is `bad-response`, or `response-framing` where the end of the content would be
ambiguous.

Always true:
  - `ResponseHead` is never changed once made: a connection whose next head is the same bytes uses it again;
  - `length` is -1 where the content ends with the connection, and content has one framing only.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from proxy.faults import BAD_RESPONSE, RESPONSE_FRAMING
from proxy.wire.request import HeadError, without

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])( [\t \x21-\x7e\x80-\xff]*)?\r\n")
_FIELDS = re.compile(
    rb"\n(c(?:onnection|ontent-length)|t(?:ransfer-encoding|e)|upgrade|keep-alive|proxy-connection|x-request-id)"
    rb":[ \t]*([^\r]*)"
)
_KEEP_ALIVE = re.compile(rb"(?:^|[,; \t])timeout[ \t]*=[ \t]*\"?(\d{1,6})")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_NOT_DROPPABLE: Final = frozenset(
    b"content-length content-type content-encoding content-range location set-cookie www-authenticate date etag "
    b"cache-control".split()
)


class ResponseHead:
    """What a response's head means to a gateway."""

    __slots__ = ("chunked", "close", "idle_timeout", "kept", "length", "minor", "reason", "status", "upgrade")

    def __init__(self, status: int, reason: bytes, minor: int) -> None:
        self.status = status
        self.reason = reason
        """With its leading space."""
        self.minor = minor
        self.kept = b""
        """Status line and field lines that go on, each with its CRLF. Content-Length is among them."""
        self.length = -1
        self.chunked = False
        self.close = minor == 0
        """The instance closes the connection after this."""
        self.idle_timeout = 0.0
        """Keep-Alive: timeout=, seconds; 0.0 where it says none."""
        self.upgrade = b""

    def __repr__(self) -> str:
        framing = "chunked" if self.chunked else "until it closes" if self.length < 0 else f"{self.length} bytes"
        return f"<ResponseHead {self.status} {framing}>"


class _Silent:
    """No callbacks: llhttp only validates."""


_SILENT: Final = _Silent()


def new_parser() -> httptools.HttpResponseParser:
    """A parser for a head that comes in pieces."""
    return httptools.HttpResponseParser(_SILENT)


def check(head: bytes, parser: httptools.HttpResponseParser | None = None) -> None:
    """Let llhttp look at a whole head, or at its last part where `parser` has had the rest. Raises HeadError."""
    try:
        (parser or httptools.HttpResponseParser(_SILENT)).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        words = str(error)
        if "Pause on CONNECT" in words:
            return  # a 101 whose fields do not fit: told apart later
        framing = "Content-Length" in words or "Transfer-Encoding" in words
        raise HeadError(RESPONSE_FRAMING if framing else BAD_RESPONSE, words) from None


def read(head: bytes) -> ResponseHead:
    """Understand a head that `check` let pass; `head` ends with the empty line. Raises HeadError."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise HeadError(BAD_RESPONSE, "the status line is not valid", offset=0)
    minor, status, reason = line.groups()
    found = ResponseHead(int(status), reason or b" ", 1 if minor == b"1" else 0)
    section = head[line.end() - 1 : -2]
    lowered = section.lower()
    parts = [b"HTTP/1.1 %b%b\r\n" % (status, found.reason)]
    kept_to = 1
    drop_also: set[bytes] = set()
    upgrade = False
    for match in _FIELDS.finditer(lowered):
        name, value = match.groups()
        start, end = match.span()
        value = value.rstrip(b" \t")
        if name == b"content-length":
            if found.length >= 0 or not value.isdigit():
                raise HeadError(RESPONSE_FRAMING, "Content-Length is repeated or not a number")
            found.length = int(value)
            if found.status >= 200 and found.status != 204:
                continue
        elif name == b"connection":
            for token in value.split(b","):
                token = token.strip(b" \t")
                if token == b"close":
                    found.close = True
                elif token == b"keep-alive":
                    if minor != b"1":
                        found.close = False
                elif token == b"upgrade":
                    upgrade = True
                elif token and _TOKEN.fullmatch(token) and token not in _NOT_DROPPABLE:
                    drop_also.add(token)
        elif name == b"transfer-encoding":
            if minor != b"1" or found.chunked or value != b"chunked":
                raise HeadError(RESPONSE_FRAMING, "a Transfer-Encoding other than exactly chunked on HTTP/1.1")
            found.chunked = True
        elif name == b"keep-alive":
            hint = _KEEP_ALIVE.search(value)
            if hint is not None:
                found.idle_timeout = float(hint[1])
        elif name == b"upgrade":
            found.upgrade = value
        parts.append(section[kept_to : start + 1])
        kept_to = end + 2
    parts.append(section[kept_to:])
    found.kept = b"".join(parts)
    if drop_also:
        found.kept = without(found.kept, drop_also)
    if found.chunked and found.length >= 0:
        raise HeadError(RESPONSE_FRAMING, "both Content-Length and Transfer-Encoding")
    if not upgrade:
        found.upgrade = b""
    return found
