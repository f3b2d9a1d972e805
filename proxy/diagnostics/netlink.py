"""Sockets as the kernel tells them over NETLINK_SOCK_DIAG, with tcp_info and the true accept queues.

sock_diag(7), include/uapi/linux/inet_diag.h, unix_diag.h, tcp.h. Anyone may ask; what is told is of one network
namespace, the one this process was in when the link was opened. OSError when the kernel has none of it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, Self

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
ERROR: Final = 2
DONE: Final = 3
INET_DIAG_INFO: Final = 2
UNIX_SHOW: Final = 0x01 | 0x04 | 0x08 | 0x10  # UDIAG_SHOW_NAME, _PEER, _ICONS, _RQLEN
UNIX_NAME, UNIX_PEER, UNIX_WAITING, UNIX_LENGTHS = 0, 2, 3, 4
PATIENCE: Final = 5.0
"""Seconds: the kernel answers at once, or not at all."""

ESTABLISHED, SYN_SENT, SYN_RECV, TIME_WAIT, CLOSE, CLOSE_WAIT, LISTEN = 1, 2, 3, 6, 7, 8, 10
"""include/net/tcp_states.h."""

_HEAD = struct.Struct("=IHHII")
_INET = struct.Struct("=BBBB2s2s16s16s3IIIIII")
_INET_REQUEST = struct.Struct("=BBBxI48x")
_UNIX = struct.Struct("=BBBxI2I")
_UNIX_REQUEST = struct.Struct("=BBHIII2I")
_ATTRIBUTE = struct.Struct("=HH")


class Info(NamedTuple):
    """Of tcp_info; ages in seconds, to the tick of the kernel's clock (4 ms with 250 a second)."""

    sent_age: float  # since data last went out
    received_age: float  # since data last came
    confirmed_age: float  # since the other side last confirmed something, with data or without
    sent_segments: int | None  # with data; None: this kernel does not count them
    received_segments: int | None
    resent: int  # times that what is not confirmed went out again
    round_trip: float


class Inet(NamedTuple):
    """A TCP or UDP socket. For one that listens `receive` is how many wait, `send` the most that may."""

    state: int
    local: tuple[str, int]
    remote: tuple[str, int]
    receive: int
    send: int
    inode: int  # 0: no process has it (any more)
    info: Info | None
    six: bool = False  # of IPv6, if it is only by its kind


class Unix(NamedTuple):
    """`peer` is an inode, 0: none, or not accepted yet. A path that begins with "@" is abstract.

    `waiting`, of one that listens: the inodes of those that it did not accept yet.
    """

    state: int
    inode: int
    path: str
    peer: int
    receive: int
    send: int
    waiting: tuple[int, ...] = ()
    stream: bool = True  # of a stream, or of packets in order; else of datagrams


class Link:
    """A socket to the kernel; as a context it closes itself."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        self._socket.settimeout(PATIENCE)
        self._turn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def tcp(self, wanted: set[int] | None = None) -> Iterator[Inet]:
        """All TCP sockets. tcp_info is told of those whose inode is in `wanted`; None: of all."""
        for family in (socket.AF_INET, socket.AF_INET6):
            more = 0 if wanted is not None and not wanted else 1 << (INET_DIAG_INFO - 1)
            request = _INET_REQUEST.pack(family, socket.IPPROTO_TCP, more, 0xFFFFFFFF)
            for data, at, end in self._dump(request, missing=family == socket.AF_INET6):
                yield _inet(data, at, end, wanted)

    def udp(self) -> Iterator[Inet]:
        """UDP sockets that are connected to someone."""
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _INET_REQUEST.pack(family, socket.IPPROTO_UDP, 0, 1 << ESTABLISHED)
            for data, at, end in self._dump(request, missing=True):
                yield _inet(data, at, end, set())

    def unix(self) -> Iterator[Unix]:
        """All Unix sockets."""
        request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, UNIX_SHOW, 0xFFFFFFFF, 0xFFFFFFFF)
        for data, at, end in self._dump(request, missing=False):
            kind, state, inode = data[at + 1], data[at + 2], _UNIX.unpack_from(data, at)[3]
            path, peer, receive, send = "", 0, 0, 0
            waiting: tuple[int, ...] = ()
            for name, start, stop in _attributes(data, at + _UNIX.size, end):
                if name == UNIX_NAME:
                    raw = data[start:stop]
                    path = ("@" + os.fsdecode(raw[1:])) if raw[:1] == b"\0" else os.fsdecode(raw.rstrip(b"\0"))
                elif name == UNIX_PEER:
                    (peer,) = struct.unpack_from("=I", data, start)
                elif name == UNIX_WAITING:
                    waiting = struct.unpack_from(f"={(stop - start) // 4}I", data, start)
                elif name == UNIX_LENGTHS:
                    receive, send = struct.unpack_from("=II", data, start)
            yield Unix(state, inode, path, peer, receive, send, waiting, kind != socket.SOCK_DGRAM)

    def _dump(self, request: bytes, *, missing: bool) -> Iterator[tuple[bytes, int, int]]:
        """The bodies of all messages: data, begin, end. `missing`: a kernel that does not know the family has none."""
        self._turn += 1
        length = _HEAD.size + len(request)
        self._socket.send(_HEAD.pack(length, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, self._turn, 0) + request)
        while True:
            data = self._socket.recv(1 << 18)
            at = 0
            while at + _HEAD.size <= len(data):
                length, kind, _, turn, _ = _HEAD.unpack_from(data, at)
                if length < _HEAD.size:
                    raise OSError(errno.EPROTO, "the kernel's answer makes no sense")
                if turn != self._turn:
                    pass  # of a dump that was given up
                elif kind == DONE:
                    return
                elif kind == ERROR:
                    (code,) = struct.unpack_from("=i", data, at + _HEAD.size)
                    if missing and -code in (errno.ENOENT, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
                        return
                    raise OSError(-code, os.strerror(-code))
                else:
                    yield data, at + _HEAD.size, at + length
                at += (length + 3) & ~3


def _attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, begin, end of each."""
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield kind, at + 4, at + length
        at += (length + 3) & ~3


def _inet(data: bytes, at: int, end: int, wanted: set[int] | None) -> Inet:
    family, state, _, _, local_port, port, local, remote, *rest = _INET.unpack_from(data, at)
    receive, send, inode = rest[4], rest[5], rest[7]
    info = None
    if (wanted is None or inode in wanted) and state not in (LISTEN, TIME_WAIT):
        for kind, start, stop in _attributes(data, at + _INET.size, end):
            if kind == INET_DIAG_INFO:
                info = _info(data[start:stop])
                break
    return Inet(
        state,
        (_host(family, local), int.from_bytes(local_port, "big")),
        (_host(family, remote), int.from_bytes(port, "big")),
        receive, send, inode, info, family == socket.AF_INET6,
    )  # fmt: skip


def _info(raw: bytes) -> Info | None:
    """Fields were only ever added at its end."""
    if len(raw) < 104:
        return None
    sent_age, _, received_age, confirmed_age = struct.unpack_from("=4I", raw, 44)
    received, sent = struct.unpack_from("=2I", raw, 152) if len(raw) >= 160 else (None, None)
    (round_trip,) = struct.unpack_from("=I", raw, 68)
    return Info(sent_age / 1e3, received_age / 1e3, confirmed_age / 1e3, sent, received, raw[2], round_trip / 1e6)


def _host(family: int, packed: bytes) -> str:
    """An IPv4 address within IPv6 is written as such: it is the same host."""
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, packed[:4])
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)
