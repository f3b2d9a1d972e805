"""A response's head: what is refused, what it means, what goes on, with h11 as an independent judge."""

from __future__ import annotations

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.faults import BAD_RESPONSE, RESPONSE_FRAMING
from proxy.wire import response
from proxy.wire.request import HeadError
from proxy.wire.response import ResponseHead


def read(data: bytes) -> ResponseHead:
    response.check(data)
    return response.read(data)


def head(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([line, *lines, b"", b""])


@pytest.mark.parametrize(
    ("data", "length", "chunked", "close"),
    [
        (head(b"Content-Length: 5"), 5, False, False),
        (head(b"content-length:\t005 "), 5, False, False),
        (head(b"Transfer-Encoding: Chunked"), -1, True, False),
        (head(), -1, False, False),
        (head(b"Content-Length: 5", b"Connection: close"), 5, False, True),
        (head(b"Content-Length: 5", b"connection: x, CLOSE"), 5, False, True),
        (head(b"Content-Length: 5", line=b"HTTP/1.0 200 OK"), 5, False, True),
        (head(b"Content-Length: 5", b"Connection: keep-alive", line=b"HTTP/1.0 200 OK"), 5, False, False),
    ],
)
def test_framing(data: bytes, length: int, chunked: bool, close: bool) -> None:
    found = read(data)
    assert (found.status, found.length, found.chunked, found.close) == (200, length, chunked, close)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (head(b"Content-Length: 5", b"Content-Length: 5"), RESPONSE_FRAMING),
        (head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), RESPONSE_FRAMING),
        (head(b"Transfer-Encoding: gzip"), RESPONSE_FRAMING),
        (head(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"), RESPONSE_FRAMING),
        (head(line=b"HTTP/1.2 200 OK"), BAD_RESPONSE),
        (head(line=b"HTTP/1.1 600 OK"), BAD_RESPONSE),
        (head(line=b"HTTP/1.1 099 OK"), BAD_RESPONSE),
        (head(line=b"HTTP/1.1 200 O\0K"), BAD_RESPONSE),
        (head(line=b"HTTP/1.1 200 O\x7fK"), BAD_RESPONSE),
        (head(b"X : y"), BAD_RESPONSE),
        (head(b"X: a\0"), BAD_RESPONSE),
    ],
)
def test_refused(data: bytes, fault: object) -> None:
    with pytest.raises(HeadError) as caught:
        read(data)
    assert caught.value.fault is fault


def test_what_goes_on() -> None:
    found = read(
        head(
            b"Content-Length: 5",
            b"Connection: X-One, Set-Cookie",
            b"X-One: 1",
            b"Keep-Alive: timeout=7, max=5",
            b"Set-Cookie: a=b",
            b"X-Request-ID: theirs",
            b"X-Two: 2",
            line=b"HTTP/1.0 299 Odd  one",
        )
    )
    assert found.kept == b"HTTP/1.1 299 Odd  one\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nX-Two: 2\r\n"
    assert found.idle_timeout == 7.0
    assert repr(found) == "<ResponseHead 299 5 bytes>"
    assert b"Content-Length" not in read(head(b"Content-Length: 0", line=b"HTTP/1.1 204 No Content")).kept
    assert read(head(line=b"HTTP/1.1 200")).kept == b"HTTP/1.1 200 \r\n"


def test_upgrades() -> None:
    line = b"HTTP/1.1 101 Switching Protocols"
    assert read(head(b"Connection: upgrade", b"Upgrade: WebSocket", line=line)).upgrade == b"websocket"
    assert read(head(b"Upgrade: websocket", line=line)).upgrade == b""


NAMES = st.sampled_from(
    [b"Content-Length", b"Transfer-Encoding", b"Connection", b"Keep-Alive", b"X", b"X ", b"", b"Set-Cookie", b"Upgrade"]
)
VALUES = st.sampled_from(
    [
        b"5",
        b"0",
        b"5, 5",
        b"+5",
        b"-1",
        b"chunked",
        b"Chunked",
        b"gzip, chunked",
        b"identity",
        b"close",
        b"keep-alive",
        b"Content-Length",
        b"x, Transfer-Encoding",
        b"timeout=5",
        b"a\0",
        b"a\rb",
        b"\xff",
        b"",
        b"\t5",
        b"5 ",
        b"\x0b5",
    ]
)
LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 5
    + [
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 No",
        b"HTTP/1.1 304 No",
        b"HTTP/1.1 200",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 404 \xff",
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    parts = [draw(LINES), b"\r\n"]
    for _ in range(draw(st.integers(0, 5))):
        parts += [
            draw(NAMES),
            draw(st.sampled_from([b": ", b":", b" :"])),
            draw(VALUES),
            draw(st.sampled_from([b"\r\n"] * 9 + [b"\n", b"\r\n "])),
        ]
    return b"".join([*parts, b"\r\n"])


def judged(data: bytes) -> h11.Response | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Response) else None


def framing(found: h11.Response) -> tuple[bool, int]:
    names = dict(found.headers)
    return b"transfer-encoding" in names, int(names.get(b"content-length", b"-1"))


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(heads())
@pytest.mark.slow
def test_h11_agrees(data: bytes) -> None:
    """Whatever is accepted h11 frames the same, as it came and as it goes on."""
    if data.find(b"\r\n\r\n") + 4 != len(data):
        return
    try:
        found = read(data)
    except HeadError:
        return
    original = judged(data)
    if original is not None and found.status not in (204, 304):
        assert framing(original) == (found.chunked, found.length)
    framed = b"Transfer-Encoding: chunked\r\n" if found.chunked else b""
    passed = judged(found.kept + framed + b"\r\n")
    assert passed is not None, found.kept
    if found.status != 204:
        assert framing(passed) == (found.chunked, found.length)
    assert not {name for name, _ in passed.headers} & {b"connection", b"keep-alive", b"upgrade"}
