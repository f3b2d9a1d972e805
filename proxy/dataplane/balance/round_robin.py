"""`round-robin`: in turn, smoothly by weight.

With equal weights a counter; else earliest deadline first, as in Envoy's scheduler: each pick sets the
candidate's next turn 1/weight later, which interleaves like nginx's smooth round robin at O(log n) instead of
O(n). A full or excluded candidate loses its turn. Workers start at random places, so that they do not march
in step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heapreplace
from random import random
from typing import Final

from proxy.dataplane.balance.contract import Candidate
from proxy.dataplane.balance.pool import Pool

_SKIPS: Final = 8  # turns passed over before a plain scan is cheaper


class RoundRobin(Pool):
    __slots__ = ("_next", "_turns")

    def __init__(self) -> None:
        super().__init__()
        self._next = 0
        self._turns: list[tuple[float, int]] = []  # a heap of (deadline, place in _active)

    def rebuild(self, candidates: Sequence[Candidate]) -> None:
        super().rebuild(candidates)
        self._next = int(random() * self._size)
        self._turns = []

    def pick(self, now: float, key: bytes | None = None, exclude: Collection[Candidate] = ()) -> Candidate | None:
        size = self._size
        if size < 2:
            return self._pick_only(exclude)
        if now >= self._refresh_at:
            self._refresh(now)
        if not self._equal:
            return self._pick_by_weight(exclude)
        active, at = self._active, self._next
        for _ in range(size):
            each = active[at]
            at += 1
            if at == size:
                at = 0
            if each.free and not (exclude and each in exclude):
                self._next = at
                return each
        return None

    def _pick_by_weight(self, exclude: Collection[Candidate]) -> Candidate | None:
        turns, weights = self._turns, self._weights
        if not turns:
            turns.extend((random() / weight, at) for at, weight in enumerate(weights))
            heapify(turns)
        for _ in range(min(_SKIPS, 2 * self._size)):
            deadline, at = turns[0]
            heapreplace(turns, (deadline + 1.0 / weights[at], at))
            each = self._active[at]
            if each.free and not (exclude and each in exclude):
                return each
        usable = self._usable(exclude, 1)
        return self._active[usable[0]] if usable else None
