"""A request's head: what is refused, what it means, what goes on, with h11 as an independent judge."""

from __future__ import annotations

import time

import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.faults import BAD_FRAMING, BAD_REQUEST, HEAD_TOO_LARGE, TARGET_TOO_LONG
from proxy.wire import request
from proxy.wire.request import Fields, HeadError, RequestLine, cookie, field, for_the_log


def read(head: bytes, *, targets: int = 8192, headers: int = 100) -> tuple[RequestLine, Fields]:
    """As a connection reads a whole head."""
    line = request.read_line(head, targets)
    request.check(head)
    return line, request.read_fields(head[line.end - 1 : -2], line.minor, headers)


def head(*lines: bytes, line: bytes = b"POST /x HTTP/1.1", host: bytes = b"Host: a.example") -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *lines, b"", b""])


def refused(data: bytes, **limits: int) -> HeadError:
    with pytest.raises(HeadError) as caught:
        read(data, **limits)
    return caught.value


def test_plain() -> None:
    line, fields = read(head(b"X: y", b"Accept: */*", line=b"GET /x?y HTTP/1.1"))
    assert (line.method, line.target, line.minor) == (b"GET", b"/x?y", 1)
    assert (fields.host, fields.host_field, fields.length, fields.chunked, fields.close) == (
        b"a.example",
        b"a.example",
        0,
        False,
        False,
    )
    assert b"X: y\r\nAccept: */*\r\n" in fields.kept and fields.kept.endswith(b"\r\n")
    assert repr(fields) == "<Fields a.example 0 bytes>"


@pytest.mark.parametrize(
    ("lines", "length", "chunked"),
    [
        ([b"Content-Length: 5"], 5, False),
        ([b"content-length:5"], 5, False),
        ([b"CONTENT-LENGTH: 005 "], 5, False),
        ([b"Transfer-Encoding: chunked"], 0, True),
        ([b"Transfer-encoding:\tCHUNKED "], 0, True),
        ([], 0, False),
    ],
)
def test_framing(lines: list[bytes], length: int, chunked: bool) -> None:
    _, fields = read(head(*lines))
    assert (fields.length, fields.chunked) == (length, chunked)


@pytest.mark.parametrize(
    ("data", "fault", "status"),
    [
        (head(b"Content-Length: 5", b"Content-Length: 5"), BAD_FRAMING, 400),
        (head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), BAD_FRAMING, 400),
        (head(b"Transfer-Encoding: gzip, chunked"), BAD_FRAMING, 400),
        (head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"), BAD_FRAMING, 400),
        (head(b"X : y"), BAD_REQUEST, 400),
        (head(b"Host: b.example"), BAD_REQUEST, 400),
        (head(host=b""), BAD_REQUEST, 400),
        (head(line=b"POST / HTTP/1.2"), BAD_REQUEST, 505),
        (head(line=b"FROB / HTTP/1.1"), BAD_REQUEST, 501),
        (head(line=b"CONNECT a:1 HTTP/1.1"), BAD_REQUEST, 501),
        (head(b"Expect: x"), BAD_REQUEST, 417),
        (head(b"Connection: a b"), BAD_REQUEST, 400),
    ],
)
def test_refused(data: bytes, fault: object, status: int) -> None:
    error = refused(data)
    assert (error.fault, error.status) == (fault, status)
    assert error.detail


def test_limits() -> None:
    assert refused(head(*(b"X: y" for _ in range(100)))).fault is HEAD_TOO_LARGE
    assert read(head(*(b"X: y" for _ in range(99))))
    assert refused(head(line=b"GET /" + b"a" * 10 + b" HTTP/1.1"), targets=10).fault is TARGET_TOO_LONG
    assert read(head(line=b"GET /" + b"a" * 9 + b" HTTP/1.1"), targets=10)


def test_what_is_cut_out() -> None:
    _, fields = read(
        head(
            b"Connection: X-One, close, Keep-Alive",
            b"X-One: 1",
            b"X-Two: 2",
            b"Keep-Alive: 5",
            b"Proxy: x",
            b"Upgrade: h2c",
            b"TE: gzip, trailers",
            b"X_Forwarded_For: 1",
            b"Content_Length: 7",
            b"X-Forwarded-For: 9.9.9.9",
            b"X-Request-ID: abc",
            b"Via: 1.1 a",
            b"Via: 1.1 b",
            b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
        )
    )
    assert b"X-Two: 2\r\n" in fields.kept
    for name in (
        b"x-one",
        b"keep-alive",
        b"proxy:",
        b"upgrade",
        b"te:",
        b"x_f",
        b"content_",
        b"x-forw",
        b"x-request",
        b"connection",
    ):
        assert name not in fields.kept.lower(), name
    assert fields.close and fields.keep_alive and fields.te_trailers and not fields.upgrade
    assert fields.request_id == b"abc"
    assert [each.strip() for each in fields.via.split(b",")] == [b"1.1 a", b"1.1 b"]
    assert fields.traceparent.startswith(b"00-aaaa")
    assert fields.forwarded[b"x-forwarded-for"] == b"9.9.9.9"


def test_in_pieces() -> None:
    """What a parser that saw the head in pieces lets pass is the same as for a whole one."""
    for data in (head(b"X: y"), head(b"X : y"), head(b"Content-Length: 1", b"Content-Length: 1"), head(b"X: a\0")):
        whole = split = None
        try:
            request.check(data)
        except HeadError as error:
            whole = error.fault
        parser = request.new_parser()
        try:
            for at in range(len(data)):
                request.check(data[at : at + 1], parser)
        except HeadError as error:
            split = error.fault
        assert whole is split, data


def test_small_readers() -> None:
    kept = b"Cookie: a=1; b=2\r\nX: y\r\ncookie: c=3;d=4=5\r\nUser-Agent: me\r\nREFERER:  you\r\n"
    assert [cookie(kept, name) for name in (b"a", b"b", b"c", b"d", b"e")] == [b"1", b"2", b"3", b"4=5", b""]
    assert (field(kept, "x"), field(kept, "User-Agent"), field(kept, "none")) == (b"y", b"me", b"")
    assert for_the_log(b"\n" + kept) == ("me", "you")


# --- h11 judges -----------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        b"Host",
        b"Content-Length",
        b"content-length",
        b"Transfer-Encoding",
        b"Connection",
        b"X",
        b"Expect",
        b"Upgrade",
        b"TE",
        b"X-Forwarded-For",
        b"Content_Length",
        b"Transfer_Encoding",
        b"Cookie",
        b" X",
        b"X ",
        b"",
        b"X\t",
        b"Trailer",
        b"Via",
    ]
)
VALUES = st.sampled_from(
    [
        b"a.example",
        b"5",
        b"0",
        b"+5",
        b"5, 5",
        b"05",
        b"chunked",
        b"Chunked",
        b"gzip, chunked",
        b"chunked, chunked",
        b"close",
        b"keep-alive, X",
        b"Content-Length",
        b"Transfer-Encoding",
        b"100-continue",
        b"websocket",
        b"trailers",
        b"",
        b" ",
        b"\t5",
        b"5 ",
        b"\x0b5",
        b"a\rb",
        b"a\0",
        b"\xff",
        b"a\n b",
        b"identity",
        b"chunked\x0b",
        b"host, cookie, TE",
        b"Upgrade",
    ]
)
GAPS = st.sampled_from([b": "] * 12 + [b":", b" :", b":\t", b":  ", b"\t: ", b"", b": \x0b"])
ENDS = st.sampled_from([b"\r\n"] * 60 + [b"\n", b"\r", b"\r\r\n", b"\r\n "])
LINE = st.sampled_from(
    [b"POST / HTTP/1.1"] * 12
    + [
        b"GET /a HTTP/1.1",
        b"POST / HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"POST /\x0b HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET http://b.example/ HTTP/1.1",
        b"HEAD / HTTP/1.1",
        b"GET /\xe9 HTTP/1.1",
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    parts = [draw(LINE), draw(ENDS)]
    if draw(st.integers(0, 5)):
        parts += [b"Host: a.example\r\n"]
    for _ in range(draw(st.integers(0, 5))):
        parts += [draw(NAMES), draw(GAPS), draw(VALUES), draw(ENDS)]
    return b"".join([*parts, b"\r\n"])


def judged(data: bytes) -> h11.Request | None:
    """What h11 makes of a head; None if it refuses."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


def framing(found: h11.Request) -> tuple[bool, int]:
    names = dict(found.headers)
    return b"transfer-encoding" in names, int(names.get(b"content-length", b"0"))


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(heads())
@example(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n")
@pytest.mark.slow
def test_h11_agrees(data: bytes) -> None:
    """Whatever is accepted: as it came h11 frames it the same, if it takes it at all; as it goes on it must take it."""
    end = data.find(b"\r\n\r\n") + 4
    if end != len(data):
        return
    try:
        line, fields = read(data)
    except HeadError:
        return
    original = judged(data)
    if original is not None:
        assert framing(original) == (fields.chunked, fields.length)
    framed = b"Transfer-Encoding: chunked\r\n" if fields.chunked else b""
    name = b"" if fields.host_field else b"Host: a\r\n"
    forwarded = b"%b %b HTTP/1.1\r\n%b%b%b\r\n" % (line.method, line.target, fields.kept, framed, name)
    found = judged(forwarded)
    assert found is not None, forwarded
    assert framing(found) == (fields.chunked, fields.length)
    kept = {name for name, _ in found.headers}
    assert not kept & {
        b"connection",
        b"upgrade",
        b"te",
        b"keep-alive",
        b"content_length",
        b"transfer_encoding",
        b"x-forwarded-for",
    }


def test_many_names_in_connection_cost_little() -> None:
    """One pass over the lines, however many names Connection has: no client may buy a second for 25 KB."""

    def cost(line: bytes) -> float:
        section = b"\nHost: a\r\n" + line + b"\r\n"
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            request.read_fields(section, 1, 100)
            best = min(best, time.process_time() - began)
        return best

    names = b", ".join(b"name%d" % number for number in range(2500))
    assert cost(b"Connection: " + names) < 1000 * cost(b"X-Other: " + names)


def test_names_in_connection_are_dropped_whole() -> None:
    section = b"\nHost: a\r\nX-One: 1\r\nx-One-More: 2\r\nX-Two:3\r\n"
    section += b"Connection: x-one, X-TWO, host\r\nX-Three: x-one: 4\r\n"
    assert request.read_fields(section, 1, 100).kept == b"Host: a\r\nx-One-More: 2\r\nX-Three: x-one: 4\r\n"


def test_a_bad_request_line_is_refused_in_linear_time() -> None:
    """Spaces before a bare CR: what looks for the parts of a bad line must not try all ways to divide them."""

    def cost(spaces: int) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            with pytest.raises(HeadError):
                request.read_line(b"GET" + b" " * spaces + b"\rx\r\n", 8192)
            best = min(best, time.process_time() - began)
        return best

    cost(10)
    assert cost(400) < 100 * cost(10)
