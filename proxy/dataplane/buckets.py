"""The rate limit per client: token buckets, one float each, bounded in number.

The bucket is kept as the time at which it will be full again (the "theoretical arrival time" of the generic
cell rate algorithm, ITU-T I.371): no refilling, no object per client, and a bucket whose time has passed is
the same as none.

Always true:
  - at most 2 × `most` clients are kept, in two generations; the older one is dropped when the younger is
    full, or when every bucket in it would be full again anyway;
  - a client dropped early begins with a full bucket: memory is bounded at the price of exactness under a
    flood of addresses, never the other way round.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

_ROUNDING: Final = 1e-9  # sums of floats are off by less; who waits exactly as long as told gets in
MOST: Final = 50_000  # clients of a generation: about 8 MB with text keys


class Buckets:
    """`rate` requests a second, `burst` at once, for each key. Times in seconds, of any one clock."""

    __slots__ = ("_full_after", "_interval", "_most", "_old", "_rotate_at", "_slack", "_young")

    def __init__(self, rate: float, burst: float, most: int = MOST) -> None:
        if rate <= 0 or burst < 1 or most < 1:
            raise ValueError("rate above 0, burst and most of at least 1")
        self._interval = 1.0 / rate
        self._full_after = burst * self._interval
        # How far ahead of `now` a bucket's time may be for one more.
        self._slack = self._full_after - self._interval
        self._most = most
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}
        self._rotate_at = 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __repr__(self) -> str:
        rate, burst = 1 / self._interval, self._full_after / self._interval
        return f"<Buckets {rate:g}/s, burst {burst:g}, {len(self)} clients>"

    def take(self, key: str, now: float) -> float:
        """0.0 if the request may go on; else the seconds to wait until one may."""
        if now >= self._rotate_at:
            self._rotate(now)
        full_at = self._young.get(key)
        if full_at is None:
            full_at = self._old.pop(key, now)
            if len(self._young) >= self._most:
                self._rotate(now)
        if full_at < now:
            full_at = now
        wait = full_at - now - self._slack
        if wait <= _ROUNDING:
            full_at += self._interval
            wait = 0.0
        self._young[key] = full_at
        return wait

    def _rotate(self, now: float) -> None:
        self._old = self._young
        self._young = {}
        self._rotate_at = now + self._full_after


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
