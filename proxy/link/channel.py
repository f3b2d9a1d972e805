"""How messages travel between control and a worker: each whole, or not at all.

A SOCK_SEQPACKET socketpair. A message is msgpack, cut into parts of at most PART bytes; the first part carries the
descriptors. A part has one byte before it: FIRST and LAST flags. A control that takes over from a dead one may
begin in the middle of a message: it drops parts until one that is FIRST. So a restart never leaves the two
sides out of step.

Always true:
  - `send` never blocks and never raises for a slow peer: what the socket does not take waits here, in order;
  - `waiting` is the number of bytes that wait; who can do without a message looks at it first.
"""

from __future__ import annotations

import array
import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

PART: Final = 48 * 1024
"""Below the smallest usual socket buffer (208 KiB counts twice what is sent), so several parts fit."""
_FIRST: Final = 1
_LAST: Final = 2
_MAX_FDS: Final = 250


def pair() -> tuple[socket.socket, socket.socket]:
    """A channel's two ends: control's and the worker's."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return ends


class Channel:
    """One end. `on_message(payload, descriptors)` is called for each whole message."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_message: Callable[[bytes, list[int]], None],
        on_closed: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._parts: list[bytes] | None = None
        self._fds: list[int] = []
        self._out: deque[tuple[bytes, Sequence[int]]] = deque()
        self.waiting = 0
        self.closed = False
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def send(self, payload: bytes, fds: Sequence[int] = ()) -> None:
        """Queue a message; descriptors are duplicated by the kernel when it leaves, keep them open until `flushed`."""
        if self.closed:
            return
        last = len(payload) - 1
        starts = range(0, len(payload), PART) if payload else range(1)
        for start in starts:
            flags = (_FIRST if start == 0 else 0) | (_LAST if start + PART > last else 0)
            part = bytes((flags,)) + payload[start : start + PART]
            self._out.append((part, fds if start == 0 else ()))
            self.waiting += len(part)
        if len(self._out) == len(starts):
            self._writable()

    @property
    def flushed(self) -> bool:
        return not self._out

    def take(self) -> None:
        """Read what has arrived: the last words of a peer that ended."""
        if not self.closed:
            self._readable()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()

    def _writable(self) -> None:
        out = self._out
        while out:
            part, fds = out[0]
            try:
                if fds:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    self._sock.sendmsg([part], rights, socket.MSG_NOSIGNAL)
                else:
                    self._sock.send(part, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._writable)
                return
            except OSError:
                self._end()
                return
            out.popleft()
            self.waiting -= len(part)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        for _ in range(64):  # a flood of messages must not hold the loop
            try:
                part, ancillary, _flags, _ = self._sock.recvmsg(
                    PART + 64, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._end()
                return
            if not part:
                self._end()
                return
            flags = part[0]
            if flags & _FIRST:
                self._parts, self._fds = [], _descriptors(ancillary)
            if self._parts is None:
                continue  # the tail of a message whose beginning another process read
            self._parts.append(part[1:])
            if flags & _LAST:
                payload, fds = b"".join(self._parts), self._fds
                self._parts, self._fds = None, []
                self._on_message(payload, fds)
                if self.closed:
                    return

    def _end(self) -> None:
        self.close()
        if self._on_closed is not None:
            self._on_closed()


def _descriptors(ancillary: Any) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
