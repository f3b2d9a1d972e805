"""PROXY headers: the triple, the document's examples, and limits."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.proxy_protocol import MAX_V1, MAX_V2, Parsed, ProxyProtocolError, crc32c, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def decode(reads: Iterable[bytes]) -> tuple[object, bytes]:
    """As a worker does: look at what there is, again and again, then take exactly what was consumed."""
    seen = b""
    parsed = None
    for read in reads:
        seen += read
        parsed = parsed or parse(seen)
    if parsed is None:
        return "more", b""
    return parsed, seen[parsed.consumed :]


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", len(body)) + body


V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.2") + struct.pack("!HH", 56324, 443)
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "::1")
    + struct.pack("!HH", 1, 65535)
)
UNIX = b"/run/a.sock".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")


def with_checksum(body: bytes) -> bytes:
    empty = v2(0x21, 0x11, body + b"\x03\x00\x04" + bytes(4))
    return empty[:-4] + crc32c(empty).to_bytes(4, "big")


VALID = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", (1, "192.0.2.1", 56324, "198.51.100.2", 443)),
    (b"PROXY TCP6 2001:DB8::1 ::1 0 65535\r\n", (1, "2001:db8::1", 0, "::1", 65535)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", (1, "192.0.2.1", 1, "::1", 2)),
    (b"PROXY UNKNOWN\r\n", (1, None, 0, None, 0)),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", (1, None, 0, None, 0)),
    (v2(0x21, 0x11, V4), (2, "192.0.2.1", 56324, "198.51.100.2", 443)),
    (v2(0x21, 0x21, V6), (2, "2001:db8::1", 1, "::1", 65535)),
    (v2(0x21, 0x31, UNIX), (2, "/run/a.sock", 0, "@abstract", 0)),
    (v2(0x20, 0x00, b""), (2, None, 0, None, 0)),
    (v2(0x20, 0x11, b"skipped unread"), (2, None, 0, None, 0)),
    (v2(0x21, 0x00, b""), (2, None, 0, None, 0)),
    (v2(0x21, 0x12, V4), (2, None, 0, None, 0)),
    (v2(0x21, 0x11, V4 + b"\x01\x00\x02h2\x04\x00\x00"), (2, "192.0.2.1", 56324, "198.51.100.2", 443)),
    (with_checksum(V4), (2, "192.0.2.1", 56324, "198.51.100.2", 443)),
]

INVALID = [
    b"GET / HTTP/1.1\r\n", b"P\r\n", b"POST / HTTP/1.1\r\n", b"PROXY\r\n", b"PROXY TCP4\r\n", b"PROXYTCP4 ",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n", b"PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 70000\r\n", b"PROXY TCP4 192.0.2.1 198.51.100.2 056 443\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n", b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", b"PROXY UNKNOWNX\r\n", b"PROXY TCP4 " + b"1" * MAX_V1,
    b"\r\n\r\n\x00\r\nQUIZ", v2(0x11, 0x11, V4), v2(0x22, 0x11, V4), v2(0x21, 0x41, V4), v2(0x21, 0x13, V4),
    v2(0x21, 0x11, V4[:-1]), v2(0x21, 0x21, V4), v2(0x21, 0x11, V4 + b"\x01"),
    v2(0x21, 0x11, V4 + b"\x01\x00\x05h"),
    with_checksum(V4)[:-1] + b"\x00", v2(0x21, 0x11, V4 + b"\x03\x00\x01a"),
    v2(0x21, 0x11, V4 + bytes(MAX_V2)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), VALID)
def test_valid(
    check_all_splits: Callable[..., None], data: bytes, expected: tuple[int, str | None, int, str | None, int]
) -> None:
    check_all_splits(decode, data, Parsed(len(data), *expected))


@pytest.mark.parametrize("data", INVALID)
def test_invalid(check_all_splits: Callable[..., None], data: bytes) -> None:
    check_all_splits(decode, data, ProxyProtocolError)


@pytest.mark.parametrize("data", [data for data, _ in VALID])
def test_every_prefix_wants_more(data: bytes) -> None:
    for end in range(len(data)):
        assert parse(data[:end]) is None


def test_a_v2_header_over_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProxyProtocolError):
        parse(v2(0x21, 0x11, bytes(MAX_V2))[:16])


def test_the_checksum_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"123456789") == 0xE3069283


@given(
    st.one_of(
        st.binary(max_size=300), st.binary(max_size=300).map(lambda tail: SIGNATURE + b"\x21\x11" + tail)
    )
)
def test_anything_is_parsed_wanted_or_refused(data: bytes) -> None:
    try:
        parsed = parse(data)
    except ProxyProtocolError:
        return
    if parsed is not None:
        assert parsed.consumed <= len(data)
    else:
        assert len(data) < MAX_V2
