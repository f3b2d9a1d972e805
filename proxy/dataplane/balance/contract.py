"""What a balancer is given, and what it must do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

RAMP_FROM = 0.1  # of its weight is what an instance begins with under slow start


class Candidate(Protocol):
    """An admitting instance, as a balancer sees it. Compared and hashed by identity.

    The object of an instance lives as long as the instance: what was learned about it is kept on it.
    """

    ewma: float
    """Average response time, seconds; written by least-latency alone, 0.0 at first."""
    ewma_at: float
    """When `ewma` was last changed; 0.0 is never: nothing is known about this instance yet."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def backup(self) -> bool: ...
    @property
    def inflight(self) -> int:
        """Requests on it, over all workers."""
        ...

    @property
    def free(self) -> bool:
        """Whether it has a slot."""
        ...

    def ramp(self, now: float) -> float:
        """The share of its weight it has reached, RAMP_FROM to 1.0."""
        ...


class Balancer(Protocol):
    """Picks. Whoever calls raises the in-flight count of what was picked, and lowers it before `done`.

    Times are those of the event loop (seconds, always above 0).
    """

    def rebuild(self, candidates: Sequence[Candidate]) -> None:
        """The instances that are admitting now; called when the set, a weight or an admission changes."""
        ...

    def pick(self, now: float, key: bytes | None = None, exclude: Collection[Candidate] = ()) -> Candidate | None:
        """A candidate with a free slot that is not in `exclude`, or None. `key` is what `hash` goes by."""
        ...

    def done(self, candidate: Candidate, now: float, latency: float | None, failed: bool) -> None:
        """Once for each pick. `latency` is the wait for the response's head, None where it says nothing about
        the instance (the client left early); `failed` is a fault that counts against it, or a 5xx.
        """
        ...


def ramp(now: float, admitted_at: float, slow_start: float) -> float:
    """Slow start: linear from RAMP_FROM to 1.0 in `slow_start` seconds after admission."""
    if slow_start <= 0.0:
        return 1.0
    part = (now - admitted_at) / slow_start
    return 1.0 if part >= 1.0 else RAMP_FROM if part <= 0.0 else RAMP_FROM + (1.0 - RAMP_FROM) * part
