"""How often one caller may call, and how much it may have open.

Always true:
  - each caller has a bucket for what it reads and a smaller one for its acts; who is refused for want of a token has
    one by its address. Nobody else's calls take from it;
  - at most MOST buckets are kept; the one that was used longest ago goes first, and it is full again by then as a rule;
  - `/healthz` and `/readyz` are never limited: who watches the gateway must not be told that it is down.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from proxy.admin.errors import ApiProblem

UNLIMITED: Final = frozenset({"/healthz", "/readyz"})
MOST: Final = 4096
"""Buckets: about 0.5 MB."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many at once, and so many a second for good."""

    name: str
    most: int
    rate: float  # a second

    @property
    def policy(self) -> str:
        return f'"{self.name}";q={self.most};w={math.ceil(self.most / self.rate)}'


READS: Final = Allowance("reads", 5000, 500.0)
"""A dashboard makes some ten calls a page, `triage top` one a second; a script that asks in a loop until something has
happened does not feel it for ten seconds and more. 500 a second are half of control's time."""
ACTS: Final = Allowance("acts", 200, 20.0)
"""A script that rolls through all instances of all apps, one call each, does not feel it."""
REFUSED: Final = Allowance("refused", 200, 5.0)
"""Calls without a token that is known, of one address."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float  # monotonic


class Limits:
    """All buckets."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self.refused = 0
        """Calls that were one too many."""

    def __repr__(self) -> str:
        return f"<Limits {len(self._buckets)} buckets, {self.refused} refused>"

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: str, of: Allowance, now: float | None = None) -> dict[str, str]:
        """One call; headers that say what is left. Raises ApiProblem 429 when nothing is."""
        now = time.monotonic() if now is None else now
        key = (of.name, caller)
        bucket = self._buckets.pop(key, None) or _Bucket(of.most, now)
        bucket.left = min(of.most, bucket.left + max(0.0, now - bucket.at) * of.rate)
        bucket.at = now
        self._buckets[key] = bucket
        while len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        if bucket.left < 1.0:
            self.refused += 1
            wait = math.ceil((1.0 - bucket.left) / of.rate)
            raise ApiProblem(
                429, "too-many-calls", "Too many calls",
                f"{of.most} {of.name} at once and {of.rate:g} a second are taken from one caller.",
                f"Ask again in {wait} s; events, logs and metrics/stream can be followed instead of asked for.",
                headers={"Retry-After": str(wait), **_headers(of, 0.0, wait)},
            )  # fmt: skip
        bucket.left -= 1.0
        return _headers(of, bucket.left, math.ceil((of.most - bucket.left) / of.rate))


def _headers(of: Allowance, left: float, full_in: int) -> dict[str, str]:
    """As the draft RateLimit fields of the IETF's httpapi group have them."""
    return {"RateLimit-Policy": of.policy, "RateLimit": f'"{of.name}";r={int(left)};t={full_in}'}


def of_call(request: web.Request) -> str:
    """Whose bucket a call takes from: a token's or login's, wherever it is used; else an address, a socket's user."""
    caller = request.get("caller")
    if caller is not None and caller.name:
        return f"{caller.name} {request['way'].partition(',')[0]}"
    if request.remote:
        return of_address(request.remote)
    return str(request["way"].partition(", pid")[0])


def of_address(text: str) -> str:
    """Who is behind an address: of IPv6 its network, as who has one address there has all of them."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
