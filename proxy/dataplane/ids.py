"""Request ids: 16 hex digits, made without a system call.

Six digits of a counter that is mixed so that ids of one moment start differently (people type the first few), two of
the worker, eight of the Unix second. `why` reads worker and second out of an id of which nothing else is kept.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

_MASK: Final = 0xFFFFFF
_MIX: Final = 0x9E3779
"""Odd, so multiplying by it modulo 2**24 is one-to-one; near 2**24 / golden ratio, so neighbours lie far apart."""


class Parts(NamedTuple):
    worker: int
    second: int


class Ids:
    """A worker's ids. `second` is told once a tick, not read at each request."""

    __slots__ = ("_n", "_suffix", "trace_prefix", "trace_text", "worker")

    def __init__(self, worker: int, second: int) -> None:
        self.worker = worker
        self._n = int.from_bytes(os.urandom(3), "big")
        self.trace_prefix = os.urandom(8).hex().encode()
        """The first half of the trace ids this worker begins; the second is the request id."""
        self.trace_text = self.trace_prefix.decode()
        self._suffix = b""
        self.tell(second)

    def tell(self, second: int) -> None:
        self._suffix = b"%02x%08x" % (self.worker & 0xFF, second & 0xFFFFFFFF)

    def next(self) -> bytes:
        n = self._n = (self._n + 1) & _MASK
        return b"%06x" % (n * _MIX & _MASK) + self._suffix


def parse(text: str) -> Parts | None:
    """Worker and second of one of our ids; None if it can't be one."""
    if len(text) != 16:
        return None
    try:
        return Parts(int(text[6:8], 16), int(text[8:], 16))
    except ValueError:
        return None
