"""The rate limit per client: token buckets, one float each, in cells that all workers share.

The bucket is kept as the time at which it will be full again (the "theoretical arrival time" of the generic cell rate
algorithm, ITU-T I.371): no refilling, no object per client, and a bucket whose time has passed is the same as none.

A client's cell is found by a hash of its key, in one of WAYS places, by a 64-bit mark of the key beside the time.

Always true:
  - the cells are as many as they are: under a flood of addresses the bucket nearest to being full makes place,
    and a client dropped so begins with a full one; memory is bounded at the price of exactness, never the other way;
  - two workers that write one cell at once may let one request too many pass, no more.
"""

from __future__ import annotations

import ipaddress
from array import array
from collections.abc import MutableSequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

WAYS: Final = 8
_ROUNDING: Final = 1e-9


class Buckets:
    """`rate` requests a second, `burst` at once, for each key. Times in seconds, of a clock all workers share.

    `marks` and `times` are the shared cells; `salt` keeps apps apart within them.
    """

    __slots__ = ("_full_after", "_interval", "_marks", "_places", "_salt", "_slack", "_times")

    def __init__(
        self,
        rate: float,
        burst: float,
        marks: MutableSequence[int] | memoryview[int] | None = None,
        times: MutableSequence[float] | memoryview[float] | None = None,
        salt: bytes = b"",
    ) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError("rate above 0, burst of at least 1")
        self._interval = 1.0 / rate
        self._full_after = burst * self._interval
        # How far ahead of `now` a bucket's time may be for one more.
        self._slack = self._full_after - self._interval
        self._marks = marks if marks is not None else array("Q", bytes(8 * 4096))
        self._times = times if times is not None else array("d", bytes(8 * 4096))
        self._places = len(self._marks) // WAYS
        self._salt = salt[:16]

    def __repr__(self) -> str:
        return f"<Buckets {1 / self._interval:g}/s, burst {self._full_after / self._interval:g}>"

    def take(self, key: str, now: float) -> float:
        """0.0 if the request may go on; else the seconds to wait until one may."""
        digest = blake2b(key.encode(), digest_size=8, salt=self._salt).digest()
        mark = int.from_bytes(digest, "little") or 1
        marks, times = self._marks, self._times
        first = mark % self._places * WAYS
        found = oldest = first
        for place in range(first, first + WAYS):
            if marks[place] == mark:
                found, full_at = place, times[place]
                break
            if times[place] < times[oldest]:
                oldest = place
        else:
            found, full_at = oldest, now
            marks[found] = mark
        if full_at < now:
            full_at = now
        wait = full_at - now - self._slack
        if wait <= _ROUNDING:
            full_at += self._interval
            wait = 0.0
        times[found] = full_at
        return wait


def client_key(address: str) -> str:
    """What a client's address is counted as: IPv4 as it is, IPv6 by /64, which is what one site is given.

    A text that is no address ("unix") stands for itself.
    """
    return _v6_key(address) if ":" in address else address


@lru_cache(4096)
def _v6_key(address: str) -> str:
    try:
        number = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = number.ipv4_mapped
    return str(mapped) if mapped is not None else f"{int(number) >> 64:016x}/64"
