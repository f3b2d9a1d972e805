"""`least-latency`: the better of two random instances, by response time × (in-flight + 1) / weight.

Power of two choices over peak-EWMA, as in Finagle (`PeakEwma.scala`) and Linkerd: an average that jumps up to
a slower answer at once and forgets it over DECAY seconds, so that one slow answer is enough to be avoided,
and time alone is enough to be tried again.

  - A failure enters as the larger of the pool's peak and FAILED, so that failing fast attracts nothing. The
    peak is of response time × (in-flight + 1), the measure by which it will be compared: an instance that
    fails at once has nothing in flight, and by response time alone it would win against busy ones that work.
    Each failure in a row doubles it, DOUBLINGS times at most: one 5xx among good answers costs an instance
    little, one that only fails is tried some twice a minute. (Without the doubling, in a simulation with
    answers of 0.5 s and eight requests in flight on each of the others, it got 30 % of the traffic.)
  - An instance about which nothing is known is picked when drawn, and from then on counts as slow as a failed
    one until it answers: one request tries it (in each worker), not a burst.
  - Of a large pool the two are drawn from a part of WARM that moves on over all, as long as one of them has
    nothing in flight; else from all. Drawn from all always, 64 requests in flight touch a thousand
    connections in turn, each cold in the caches and with its ACKs sent alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import exp
from random import random, shuffle
from typing import Final

from proxy.dataplane.balance.contract import Candidate
from proxy.dataplane.balance.pool import Pool

DECAY: Final = 10.0  # Linkerd's default
FAILED: Final = 1.0
DOUBLINGS: Final = 4
WARM: Final = 256  # four times 64 requests in flight: then 15 of 16 draws find one that is idle
PASSING: Final = 200.0  # instances a second by which the part in use moves on
# Averages fade towards this instead of 0, so that after a long silence in-flight counts decide, not old
# noise.
FLOOR: Final = 0.0001


class LeastLatency(Pool):
    __slots__ = ("_failing", "_peak", "_peak_at", "_trying")

    def __init__(self) -> None:
        super().__init__()
        self._peak = 0.0  # of late, fading as the averages do
        self._peak_at = 0.0
        self._trying: set[Candidate] = set()
        self._failing: dict[Candidate, int] = {}  # failures in a row

    def rebuild(self, candidates: Sequence[Candidate]) -> None:
        if len(candidates) > WARM:
            candidates = list(candidates)
            shuffle(candidates)  # neighbours in a config often fare alike; and workers shall not meet
        super().rebuild(candidates)
        self._trying.intersection_update(self._active)
        self._failing = {each: self._failing[each] for each in self._active if each in self._failing}

    def pick(self, now: float, key: bytes | None = None, exclude: Collection[Candidate] = ()) -> Candidate | None:
        size = self._size
        if size < 2:
            return self._pick_only(exclude)
        if now >= self._refresh_at:
            self._refresh(now)
        active = self._active
        one = other = 0
        if size > WARM:
            at = int(now * PASSING)
            one = (at + int(random() * WARM)) % size
            other = (at + int(random() * WARM)) % size
        if size <= WARM or (active[one].inflight and active[other].inflight):
            one = int(random() * size)
            other = int(random() * (size - 1))
            if other >= one:
                other += 1
        first, second = active[one], active[other]
        if not (first.free and second.free) or (exclude and (first in exclude or second in exclude)):
            usable = self._usable(exclude, 2)
            if not usable:
                return None
            one, other = usable[0], usable[-1]
            first, second = active[one], active[other]
        if not first.ewma_at:
            return self._try(first, now)
        if not second.ewma_at:
            return self._try(second, now)
        weights = self._weights
        if (first.ewma * exp((first.ewma_at - now) / DECAY) + FLOOR) * (first.inflight + 1) * weights[other] <= (
            second.ewma * exp((second.ewma_at - now) / DECAY) + FLOOR
        ) * (second.inflight + 1) * weights[one]:
            return first
        return second

    def _try(self, candidate: Candidate, now: float) -> Candidate:
        candidate.ewma = self._penalty(now)
        candidate.ewma_at = now
        self._trying.add(candidate)
        return candidate

    def _penalty(self, now: float) -> float:
        return max(self._peak * exp((self._peak_at - now) / DECAY), FAILED)

    def done(self, candidate: Candidate, now: float, latency: float | None, failed: bool) -> None:
        if self._size < 2:
            return  # nothing to compare with; who joins later begins as unknown, and so does this one
        trying = self._trying
        if trying and candidate in trying:
            trying.discard(candidate)
            if latency is None and not failed:
                candidate.ewma_at = 0.0  # the try told nothing: still unknown
                return
            candidate.ewma = 0.0
        if failed:
            row = self._failing.get(candidate, 0)
            self._failing[candidate] = row + 1
            faded = candidate.ewma * exp((candidate.ewma_at - now) / DECAY)
            penalty = self._penalty(now) * 2 ** min(row, DOUBLINGS)
            candidate.ewma = max(faded, penalty, latency or 0.0)
            candidate.ewma_at = now
        elif latency is not None:
            if self._failing:
                self._failing.pop(candidate, None)
            peak = self._peak * exp((self._peak_at - now) / DECAY)
            load = latency * (candidate.inflight + 1)
            if load > peak:
                self._peak = load
                self._peak_at = now
            if latency >= candidate.ewma:
                candidate.ewma = latency
            else:
                kept = exp((candidate.ewma_at - now) / DECAY)
                candidate.ewma = candidate.ewma * kept + latency * (1.0 - kept)
            candidate.ewma_at = now
