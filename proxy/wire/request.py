"""A request's head: checked by llhttp, understood by one pass of a regular expression, spliced rather than rebuilt.

The head as it came is validated bytes. What must not go on to an instance (hop-by-hop fields, what a client may not
claim about where it comes from) is cut out of it; all else goes on untouched, in order and case.

Rules over llhttp, each because it lets something pass (see DESIGN "Rules over httptools"): exactly one space on either
side of the target, HTTP/1.0 or 1.1, one valid Host on 1.1, no Transfer-Encoding on 1.0, Transfer-Encoding exactly
`chunked`, header names with `_` that shadow framing or forwarding ones are dropped.

Always true:
  - `Fields` are never changed once made, so that a connection whose next head has the same section can use them again;
  - content follows exactly as `length` (>= 0) or `chunked` says; both never hold.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Collection
from typing import Final, NamedTuple

import httptools

from proxy.faults import BAD_FRAMING, BAD_REQUEST, HEAD_TOO_LARGE, TARGET_TOO_LONG, Fault
from proxy.wire.hosts import HostError, parse_authority

METHODS: Final[dict[bytes, tuple[str, bool]]] = {
    name.encode(): (name, name in {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
    for name in [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "PATCH",
        "TRACE",
        "PROPFIND",
        "PROPPATCH",
        "MKCOL",
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
        "SEARCH",
        "REPORT",
        "MKACTIVITY",
        "CHECKOUT",
        "MERGE",
        "M-SEARCH",
        "NOTIFY",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "PURGE",
        "MKCALENDAR",
        "BIND",
        "REBIND",
        "UNBIND",
        "ACL",
        "LINK",
        "UNLINK",
        "SOURCE",
        "QUERY",
    ]
}
"""Those llhttp knows, less CONNECT and PRI: the name, and whether it is idempotent (RFC 9110 section 9.2.2)."""

REQUEST_LINE: Final = re.compile(rb"([A-Z-]+) ([\x21\x22\x24-\x7e]+) HTTP/1\.([01])\r\n")
_VERSION = re.compile(rb"HTTP/[0-9.]*\Z")

# One pass over the lower-cased section. `_` stands for `-` in what servers behind CGI-like borders would confuse.
_FIELDS = re.compile(
    rb"\n(c(?:onnection|ontent[-_]length)|host|t(?:ransfer[-_]encoding|e|race(?:parent|state))|upgrade|expect"
    rb"|keep-alive|max-forwards|proxy(?:-connection)?"
    rb"|x[-_](?:forwarded[-_][a-z_-]+|request[-_]id|real[-_]ip)|forwarded|via):[ \t]*([^\r]*)"
)
_LOGGED = re.compile(rb"\n(user-agent|referer):[ \t]*([^\r]*)", re.IGNORECASE)
_COOKIE = re.compile(rb"\ncookie:[ \t]*([^\r]*)", re.IGNORECASE)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
# W3C Trace Context section 3.2: version ff is not valid, 00 has nothing behind the flags, a later one may have.
_TRACEPARENT = re.compile(
    rb"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?"
)
# Named in Connection these stay all the same: dropping them would change the message, or let a client strip what the
# app relies on.
_NOT_DROPPABLE: Final = frozenset(
    b"""host content-length content-type authorization cookie cache-control x-request-id traceparent tracestate
    via""".split()
)
_NO_INBOUND: Final[dict[bytes, bytes]] = {}


class HeadError(Exception):
    """The head is refused: the fault, a status where the fault has several, and which part was wrong."""

    def __init__(self, fault: Fault, detail: str, status: int | None = None, offset: int | None = None) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail
        self.status = status if status is not None else fault.status
        self.offset = offset


class RequestLine(NamedTuple):
    """`end` is the offset of the first field line."""

    method: bytes
    target: bytes
    minor: int
    end: int


class Fields:
    """What the field lines mean to a gateway."""

    __slots__ = (
        "chunked", "close", "expect", "forwarded", "host", "host_field", "host_text", "keep_alive", "kept", "length",
        "max_forwards", "plain", "request_id", "te_trailers", "trace", "traceparent", "upgrade", "via",
    )  # fmt: skip

    def __init__(self) -> None:
        self.kept = b""
        """The field lines that go on, each with its CRLF; Host among them."""
        self.host = b""
        """As routing compares it; empty without a Host (HTTP/1.0)."""
        self.host_field = b""
        """As it came."""
        self.host_text = ""
        """The same, for records."""
        self.length = 0
        """Content-Length; 0 where there is none."""
        self.chunked = False
        self.close = False
        self.keep_alive = False
        self.upgrade = b""
        """The Upgrade field, lower-cased, if Connection names it."""
        self.expect = False
        self.te_trailers = False
        self.plain = False
        """Nothing in them asks for more than passing on: no content of unknown length, no upgrade, nobody before us."""
        self.via = b""
        self.traceparent = b""
        """The one valid traceparent, as it came; it stays in `kept`. Empty: none, not valid, or several."""
        self.trace = ""
        """Its trace id."""
        self.max_forwards = -1
        """Max-Forwards; -1 where there is none. It means something with OPTIONS and TRACE only (RFC 9110 7.6.2)."""
        self.request_id = b""
        self.forwarded = _NO_INBOUND
        """X-Forwarded-*, X-Real-IP and Forwarded as they came, by lower-case name; to be believed or not."""

    def __repr__(self) -> str:
        framing = "chunked" if self.chunked else f"{self.length} bytes"
        return f"<Fields {self.host.decode()} {framing}>"


def read_line(data: bytes, target_limit: int) -> RequestLine:
    """The request line at the start of `data`, which holds it whole. Raises HeadError."""
    found = REQUEST_LINE.match(data)
    if found is None:
        raise _bad_line(data)
    method, target, minor = found.groups()
    if len(target) > target_limit:
        raise HeadError(TARGET_TOO_LONG, f"the target has {len(target)} bytes, {target_limit} are allowed")
    if method not in METHODS:
        raise HeadError(BAD_REQUEST, f"the method {method.decode()} is not known here", 501)
    return RequestLine(method, target, 1 if minor == b"1" else 0, found.end())


def _bad_line(data: bytes) -> HeadError:
    line, ended, _ = data.partition(b"\n")
    line = line.removesuffix(b"\r")
    if not ended or b"\r" in line:
        return HeadError(BAD_REQUEST, "the request line is not valid", offset=0)
    method = line.partition(b" ")[0]
    found = _VERSION.search(line, len(method))
    version = found[0] if found is not None else None
    if method in (b"CONNECT", b"PRI"):
        return HeadError(BAD_REQUEST, f"{method.decode()} is not served here", 501)
    if version is None:
        return HeadError(BAD_REQUEST, "the request line has no HTTP version", offset=0)
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        known = re.fullmatch(rb"HTTP/\d\.\d", version) is not None
        return HeadError(BAD_REQUEST, "only HTTP/1.1 and HTTP/1.0 are spoken here", 505 if known else 400)
    if (
        re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", method)
        and method not in METHODS
        and line.count(b" ") == 2
    ):
        return HeadError(BAD_REQUEST, f"the method {method.decode()} is not known here", 501)
    return HeadError(BAD_REQUEST, "the request line is not valid: METHOD, space, target, space, version", offset=0)


def check(head: bytes, parser: httptools.HttpRequestParser | None = None) -> None:
    """Let llhttp look at a whole head, or at its last part where `parser` has had the rest. Raises HeadError."""
    try:
        (parser or httptools.HttpRequestParser(_SILENT)).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise refuse(error) from None


def refuse(error: Exception) -> HeadError:
    """llhttp's error as ours."""
    words = str(error)
    if "Content-Length" in words or "Transfer-Encoding" in words or "chunk" in words.lower():
        return HeadError(BAD_FRAMING, words)
    return HeadError(BAD_REQUEST, words)


def new_parser() -> httptools.HttpRequestParser:
    """A parser for a head that comes in pieces."""
    return httptools.HttpRequestParser(_SILENT)


class _Silent:
    """No callbacks: llhttp only validates."""


_SILENT: Final = _Silent()


def read_fields(section: bytes, minor: int, headers_limit: int) -> Fields:
    """Understand the field lines of a head that `check` let pass.

    `section` begins with the request line's LF and ends with the last field line's CRLF. Raises HeadError.
    """
    count = section.count(b"\n") - 1
    if count > headers_limit:
        raise HeadError(HEAD_TOO_LARGE, f"{count} fields, {headers_limit} are allowed")
    fields = Fields()
    lowered = section.lower()
    parts: list[bytes] = []
    kept_to = 1
    drop_also: set[bytes] = set()
    upgrade = te = b""
    hosts = parents = states = 0
    for found in _FIELDS.finditer(lowered):
        name, value = found.groups()
        start, end = found.span()
        start += 1
        if name == b"host":
            hosts += 1
            fields.host_field = section[end - len(value) : end].rstrip(b" \t")
            continue
        if name == b"content-length":
            fields.length = int(value)
            continue
        if name == b"expect":
            if value.strip(b" \t") != b"100-continue":
                raise HeadError(BAD_REQUEST, "only Expect: 100-continue is understood", 417)
            fields.expect = minor == 1
            if minor == 1:
                continue
        elif name == b"via":
            fields.via = (fields.via + b"," if fields.via else b"") + value
            continue
        elif name == b"traceparent":
            parents += 1
            raw = section[end - len(value) : end].rstrip(b" \t")  # its digits are lower case, or it is not valid
            if parents == 1 and _TRACEPARENT.fullmatch(raw):
                fields.traceparent = raw
                continue
        elif name == b"tracestate":
            states += 1
            continue
        elif name == b"max-forwards":
            digits = value.rstrip(b" \t")
            if digits.isdigit():
                least = min(int(digits[:10]), 1_000_000)
                fields.max_forwards = least if fields.max_forwards < 0 else min(least, fields.max_forwards)
            continue
        elif name == b"connection":
            for token in value.split(b","):
                token = token.strip(b" \t")
                if token == b"close":
                    fields.close = True
                elif token == b"keep-alive":
                    fields.keep_alive = True
                elif token == b"upgrade" or token == b"te" or not token:
                    pass
                elif not _TOKEN.fullmatch(token):
                    raise HeadError(BAD_REQUEST, "the Connection field is not a list of names")
                elif token not in _NOT_DROPPABLE:
                    drop_also.add(token)
            if b"upgrade" in value:
                upgrade = upgrade or b"?"
        elif name == b"upgrade":
            fields.upgrade = value.rstrip(b" \t") if not fields.upgrade else b"?"
        elif name == b"te":
            te += b"," + value
        elif name == b"transfer-encoding":
            if minor == 0:
                raise HeadError(BAD_FRAMING, "Transfer-Encoding on HTTP/1.0")
            if fields.chunked or value.rstrip(b" \t") != b"chunked":
                raise HeadError(BAD_FRAMING, "a Transfer-Encoding other than exactly chunked")
            fields.chunked = True
        elif name == b"x-request-id":
            if not fields.request_id:
                fields.request_id = section[end - len(value) : end].rstrip(b" \t")
        elif name == b"forwarded" or name[:2] == b"x-":
            if fields.forwarded is _NO_INBOUND:
                fields.forwarded = {}
            raw = section[end - len(value) : end].rstrip(b" \t")
            before = fields.forwarded.get(name)
            fields.forwarded[name] = raw if before is None else before + b", " + raw
        # What reaches this line is cut out: also keep-alive, proxy-connection, Proxy (httpoxy), and names with "_".
        parts.append(section[kept_to:start])
        kept_to = end + 2
    parts.append(section[kept_to:])
    fields.kept = b"".join(parts)
    if parents > 1 and fields.traceparent:
        fields.traceparent = b""
        drop_also.add(b"traceparent")
    if fields.traceparent:
        fields.trace = fields.traceparent[3:35].decode()
    elif states:
        drop_also.add(b"tracestate")  # it speaks of a trace that is not gone on with (section 3.3)
    if drop_also:
        fields.kept = without(fields.kept, drop_also)
    if not upgrade:
        fields.upgrade = b""
    fields.te_trailers = b"trailers" in te
    if hosts == 1:
        try:
            fields.host = parse_authority(fields.host_field).host
        except HostError as error:
            raise HeadError(BAD_REQUEST, str(error)) from None
    elif hosts or minor:
        raise HeadError(BAD_REQUEST, f"{'more than one' if hosts else 'no'} Host field")
    if fields.length and fields.chunked:
        raise HeadError(BAD_FRAMING, "both Content-Length and Transfer-Encoding")
    fields.host_text = fields.host_field.decode("latin-1")
    fields.plain = minor == 1 and not (fields.chunked or fields.upgrade or fields.via or fields.forwarded)
    if fields.max_forwards >= 0:
        fields.plain = False
    return fields


def without(lines: bytes, names: Collection[bytes]) -> bytes:
    """Field lines (a status line among them stays) less those of these lower-case names; one pass, however many."""
    each_line = lines.splitlines(keepends=True)
    return b"".join([line for line in each_line if line.partition(b":")[0].lower() not in names])


def one_hop_less(fields: Fields) -> Fields:
    """The same fields, with Max-Forwards as the next recipient is to see it (RFC 9110 section 7.6.2)."""
    less = copy.copy(fields)
    less.max_forwards = fields.max_forwards - 1
    less.kept = without(fields.kept, {b"max-forwards"}) + b"Max-Forwards: %d\r\n" % less.max_forwards
    return less


def for_the_log(section: bytes) -> tuple[str, str]:
    """User-Agent and Referer, for the combined log format."""
    agent = referer = ""
    for name, value in _LOGGED.findall(section):
        if name[:1] in b"uU":
            agent = value.decode("latin-1")
        else:
            referer = value.decode("latin-1")
    return agent, referer


def cookie(kept: bytes, name: bytes) -> bytes:
    """A cookie's value from kept field lines; empty when there is none."""
    for line in _COOKIE.findall(b"\n" + kept):
        for pair in line.split(b";"):
            key, _, value = pair.strip(b" \t").partition(b"=")
            if key == name:
                return bytes(value)
    return b""


@functools.cache
def _pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"\n" + re.escape(name.encode()) + rb":[ \t]*([^\r]*)", re.IGNORECASE)


def field(kept: bytes, name: str) -> bytes:
    """The first value of a field; empty when there is none."""
    found = _pattern(name).search(b"\n" + kept)
    return found[1].rstrip(b" \t") if found else b""
