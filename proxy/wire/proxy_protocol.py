"""The PROXY protocol's header, versions 1 and 2: who the client of a trusted proxy is.

Source: HAProxy's doc/proxy-protocol.txt, "The PROXY protocol, versions 1 & 2". A worker peeks at the first
bytes of a connection, calls `parse` until it has an answer, and then takes exactly `consumed` bytes.

A header that says nothing usable (v1 UNKNOWN, v2 LOCAL, AF_UNSPEC, datagrams) is valid: the connection then
stands for itself, and `source` is None.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

MAX_V1: Final = 107  # the document's own worst case, CRLF included
# An AF_UNIX header is 232 bytes; what comes beside it are TLVs, and a client certificate's name is the
# longest in use.
MAX_V2: Final = 4096

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) (\d{1,5}) (\d{1,5})\r\n")
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [\t \x21-\x7e]*)?\r\n")
_CRC32C = 0x03


class ProxyProtocolError(ValueError):
    """The bytes are not a PROXY header: the connection must be closed without an answer."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the header says. Addresses are normalised text; an AF_UNIX one is its path, with port 0."""

    consumed: int
    version: int
    source: str | None = None
    source_port: int = 0
    destination: str | None = None
    destination_port: int = 0


def parse(data: bytes) -> Parsed | None:
    """The header at the start of `data`; None if more bytes are needed. Raises ProxyProtocolError."""
    if data[:1] == b"P":
        return _parse_v1(data)
    if data[:12] == _V2:
        return _parse_v2(data)
    if _V2.startswith(data):
        return None
    raise ProxyProtocolError("no PROXY header")


def _parse_v1(data: bytes) -> Parsed | None:
    end = data.find(b"\n", 0, MAX_V1) + 1
    if not end:
        if len(data) >= MAX_V1:
            raise ProxyProtocolError("PROXY v1 header longer than 107 bytes")
        if not data.startswith(_V1[: len(data)]):
            raise ProxyProtocolError("no PROXY header")
        return None
    line = data[:end]
    found = _V1_LINE.fullmatch(line)
    if found is None:
        if _V1_UNKNOWN.fullmatch(line):
            return Parsed(end, 1)
        raise ProxyProtocolError("bad PROXY v1 header")
    version = 4 if found[1] == b"TCP4" else 6
    return Parsed(
        end,
        1,
        _v1_address(found[2], version),
        _v1_port(found[4]),
        _v1_address(found[3], version),
        _v1_port(found[5]),
    )


def _v1_address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise ProxyProtocolError("bad address in a PROXY v1 header") from None
    if address.version != version:
        raise ProxyProtocolError("an address of another family in a PROXY v1 header")
    return _text(address)


def _v1_port(text: bytes) -> int:
    port = int(text)
    if port > 65535 or (len(text) > 1 and text[0] == 0x30):
        raise ProxyProtocolError("bad port in a PROXY v1 header")
    return port


def _parse_v2(data: bytes) -> Parsed | None:
    if len(data) < 16:
        return None
    command, family = data[12], data[13]
    if command not in (0x20, 0x21):
        raise ProxyProtocolError("PROXY v2 header of another version or command")
    if family >> 4 > 3 or family & 15 > 2:
        raise ProxyProtocolError("PROXY v2 header of an unknown family")
    end = 16 + int.from_bytes(data[14:16], "big")
    if end > MAX_V2:
        raise ProxyProtocolError(f"PROXY v2 header longer than {MAX_V2} bytes")
    if len(data) < end:
        return None
    if command == 0x20 or family in (0x00, 0x01, 0x02, 0x10, 0x20, 0x30):
        return Parsed(end, 2)  # LOCAL: what follows is to be skipped unread
    size = _ADDRESSES[family >> 4]
    if end < 16 + size:
        raise ProxyProtocolError("PROXY v2 header too short for its addresses")
    _check_tlvs(data[:end], 16 + size)
    if family & 15 != 1:
        return Parsed(end, 2)  # a datagram's addresses say nothing about this stream
    if family == 0x31:
        return Parsed(end, 2, _path(data[16:124]), 0, _path(data[124:232]), 0)
    half = (size - 4) // 2
    ports = 16 + 2 * half
    return Parsed(
        end,
        2,
        _text(ipaddress.ip_address(data[16 : 16 + half])),
        int.from_bytes(data[ports : ports + 2], "big"),
        _text(ipaddress.ip_address(data[16 + half : ports])),
        int.from_bytes(data[ports + 2 : ports + 4], "big"),
    )


_ADDRESSES: Final = {1: 12, 2: 36, 3: 216}


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _path(raw: bytes) -> str:
    # An abstract name begins with NUL; shown as ss(8) does.
    shown = b"@" + raw[1:] if raw[:1] == b"\0" and raw[1:2] != b"\0" else raw
    return shown.split(b"\0", 1)[0].decode("ascii", "backslashreplace")


def _check_tlvs(header: bytes, at: int) -> None:
    """TLVs are skipped, but must fill the header exactly, and a checksum among them must hold."""
    end = len(header)
    while at < end:
        if end - at < 3:
            raise ProxyProtocolError("PROXY v2 header ends within a TLV")
        value = at + 3
        after = value + int.from_bytes(header[at + 1 : value], "big")
        if after > end:
            raise ProxyProtocolError("a TLV longer than its PROXY v2 header")
        if header[at] == _CRC32C:
            if after - value != 4:
                raise ProxyProtocolError("bad checksum TLV in a PROXY v2 header")
            if crc32c(header[:value] + bytes(4) + header[after:]) != int.from_bytes(header[value:after], "big"):
                raise ProxyProtocolError("wrong checksum in a PROXY v2 header")
        at = after


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum (RFC 3720 section B.4); some 0.1 µs a byte, once per connection that has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE: Final = tuple(map(_table_entry, range(256)))
