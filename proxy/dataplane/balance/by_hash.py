"""`hash`: the same key to the same instance, while it can take it.

A hash ring with bounded load (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016;
HAProxy's `hash-balance-factor`): from the key's place on, the first candidate that is free and has less than
BOUND times its fair share of what this worker has in flight. Removing a candidate moves its own keys only
(and what overflows).

Always true: `_total` is the sum of `_loads`, which has an entry for each candidate of the present pool and no
other. Loads are this worker's own, counted from pick to done: the bound then holds in each worker, so it
holds over all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from hashlib import blake2b
from itertools import chain
from math import ceil
from random import random
from struct import Struct
from typing import Final

from proxy.dataplane.balance.contract import Candidate
from proxy.dataplane.balance.pool import Pool

BOUND: Final = 1.25  # HAProxy's documentation names 125 % as the low end of what is useful
# Shares differ by about 1/sqrt(64), an eighth. 1,000 candidates are 64,000 points: the first
# rebuild takes 40 ms, a later one 12.
POINTS: Final = 64
_MOST_POINTS: Final = 1024
_PER_DIGEST: Final = 8
_unpack = Struct("!8Q").unpack


def _points(name: str, count: int) -> list[int]:
    """The first `count` of the endless series of a name's places on the ring."""
    encoded = name.encode()
    points: list[int] = []
    for number in range(-(-count // _PER_DIGEST)):
        points += _unpack(blake2b(encoded + b"#%d" % number).digest())
    return points[:count]


class ByHash(Pool):
    __slots__ = ("_loads", "_owners", "_places", "_ring", "_share", "_total")

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[tuple[str, int], list[int]] = {}
        self._ring: list[int] = []
        self._owners: dict[int, int] = {}  # point to place in _active
        self._loads: dict[Candidate, int] = {}
        self._total = 0
        self._share: list[float] = []  # of the load each may have, BOUND included

    def rebuild(self, candidates: Sequence[Candidate]) -> None:
        super().rebuild(candidates)
        wanted = [(each.name, min(max(round(POINTS * each.weight), 1), _MOST_POINTS)) for each in self._active]
        if wanted != list(self._places):
            self._lay_out(wanted)
        self._loads = {each: self._loads.get(each, 0) for each in self._active}
        self._total = sum(self._loads.values())

    def _lay_out(self, wanted: list[tuple[str, int]]) -> None:
        """Make the ring of (name, count of points) each, which stand in the order of `_active`."""
        before = self._places
        places = {place: before.get(place) or _points(*place) for place in wanted}
        owners: dict[int, int] = {}
        for at, place in enumerate(wanted):
            owners.update(dict.fromkeys(places[place], at))
        self._owners = owners
        # What stays is in order already, and sorting two runs is a merge: adding one to 1,000 is cheap.
        new = sorted(chain.from_iterable(places[place] for place in wanted if place not in before))
        if before.keys() <= places.keys():
            stayed = self._ring
        else:
            gone = set(chain.from_iterable(before[place] for place in before.keys() - places.keys()))
            stayed = [point for point in self._ring if point not in gone]
        self._ring = sorted(stayed + new) if new else stayed
        self._places = places

    def _refresh(self, now: float) -> None:
        super()._refresh(now)
        total = sum(self._weights)
        self._share = [BOUND * weight / total for weight in self._weights]

    def pick(self, now: float, key: bytes | None = None, exclude: Collection[Candidate] = ()) -> Candidate | None:
        """Without a key (a request without the cookie or header) the place is random."""
        if self._size < 2:
            picked = self._pick_only(exclude)
            return self._raise(picked) if picked is not None else None
        if now >= self._refresh_at:
            self._refresh(now)
        ring, owners, active = self._ring, self._owners, self._active
        if key is None:
            at = int(random() * len(ring))
        else:
            at = bisect_left(ring, int.from_bytes(blake2b(key, digest_size=8).digest(), "big"))
        loads, share, total = self._loads, self._share, self._total + 1
        passed: set[int] = set()
        for step in range(len(ring)):
            place = owners[ring[(at + step) % len(ring)]]
            if place in passed:
                continue
            each = active[place]
            if each.free and loads[each] < ceil(share[place] * total) and not (exclude and each in exclude):
                return self._raise(each)
            passed.add(place)
            if len(passed) == self._size:
                break
        # All below their bound are full or excluded: better over the bound than nowhere.
        usable = self._usable(exclude, self._size)
        if not usable:
            return None
        return self._raise(active[min(usable, key=lambda place: loads[active[place]] / self._weights[place])])

    def _raise(self, candidate: Candidate) -> Candidate:
        self._loads[candidate] += 1
        self._total += 1
        return candidate

    def done(self, candidate: Candidate, now: float, latency: float | None, failed: bool) -> None:
        if self._loads.get(candidate):
            self._loads[candidate] -= 1
            self._total -= 1
