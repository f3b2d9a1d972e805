"""`random`: by weight, and nothing else."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from itertools import accumulate
from random import random
from typing import Final

from proxy.dataplane.balance.contract import Candidate
from proxy.dataplane.balance.pool import Pool

_DRAWS: Final = (
    4  # a candidate that cannot be used is drawn again, not replaced by its neighbour, which would get double
)


class WeightedRandom(Pool):
    __slots__ = ("_sums",)

    def __init__(self) -> None:
        super().__init__()
        self._sums: list[float] = []

    def _refresh(self, now: float) -> None:
        super()._refresh(now)
        self._sums = list(accumulate(self._weights))

    def pick(self, now: float, key: bytes | None = None, exclude: Collection[Candidate] = ()) -> Candidate | None:
        size = self._size
        if size < 2:
            return self._pick_only(exclude)
        if now >= self._refresh_at:
            self._refresh(now)
        active, sums, equal = self._active, self._sums, self._equal
        for _ in range(_DRAWS):
            if equal:
                each = active[int(random() * size)]
            else:
                each = active[min(bisect_right(sums, random() * sums[-1]), size - 1)]
            if each.free and not (exclude and each in exclude):
                return each
        return self._pick_of_the_usable(exclude)

    def _pick_of_the_usable(self, exclude: Collection[Candidate]) -> Candidate | None:
        usable = self._usable(exclude, self._size)
        if not usable:
            return None
        sums = list(accumulate(self._weights[at] for at in usable))
        return self._active[usable[min(bisect_right(sums, random() * sums[-1]), len(usable) - 1)]]
