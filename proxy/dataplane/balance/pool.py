"""What all balancers share: which candidates count, what they weigh now, and a scan for the rare cases.

Always true:
  - `_active` are the primaries, or the backups when no primary is admitting;
  - `_weights` runs beside it, and is at most REFRESH old while an instance is in slow start.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf
from random import random
from typing import Final

from proxy.dataplane.balance.contract import Candidate

REFRESH: Final = 0.25  # a ramp of 10 s moves in 40 steps; 1,000 instances cost 0.2 ms each time
_LEAST_WEIGHT: Final = 1e-6


class Pool:
    __slots__ = ("_active", "_equal", "_only", "_refresh_at", "_size", "_weights")

    def __init__(self) -> None:
        self._active: list[Candidate] = []
        self._weights: list[float] = []
        self._equal = True  # all weigh the same
        self._only: Candidate | None = None
        self._size = 0
        self._refresh_at = inf

    def __repr__(self) -> str:
        shown = ", ".join(f"{each.name}×{weight:g}" for each, weight in zip(self._active, self._weights, strict=True))
        return f"<{type(self).__name__} {shown or 'empty'}>"

    def rebuild(self, candidates: Sequence[Candidate]) -> None:
        self._active = [each for each in candidates if not each.backup] or list(candidates)
        self._size = len(self._active)
        self._only = self._active[0] if self._size == 1 else None
        self._weights = [each.weight for each in self._active]
        self._refresh_at = 0.0 if self._size > 1 else inf

    def done(self, candidate: Candidate, now: float, latency: float | None, failed: bool) -> None:
        """Most balancers learn nothing from how a request went."""

    def _refresh(self, now: float) -> None:
        """Weigh again; called by `pick` when `now` has reached `_refresh_at`."""
        ramping = False
        weights = []
        for each in self._active:
            part = each.ramp(now)
            if part < 1.0:
                ramping = True
            weights.append(max(each.weight * part, _LEAST_WEIGHT))
        self._weights = weights
        self._equal = min(weights) == max(weights)
        self._refresh_at = now + REFRESH if ramping else inf

    def _pick_only(self, exclude: Collection[Candidate]) -> Candidate | None:
        only = self._only
        if only is not None and only.free and not (exclude and only in exclude):
            return only
        return None

    def _usable(self, exclude: Collection[Candidate], most: int) -> list[int]:
        """The places of up to `most` candidates that can take a request, looked for from a random one on."""
        found: list[int] = []
        active, size = self._active, self._size
        start = int(random() * size)
        for at in (*range(start, size), *range(start)):
            each = active[at]
            if each.free and not (exclude and each in exclude):
                found.append(at)
                if len(found) == most:
                    break
        return found
