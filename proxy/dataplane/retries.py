"""Whether a request that failed is sent again.

The rule speaks of faults, what was sent, and the method; never of statuses. It is total: every fault and
every state has a verdict, and a verdict that says no says why, in the words `triage why` prints.

Always true:
  - once the response's head went to the client, nothing is sent again;
  - what may have reached an instance is sent again only if its method is idempotent (RFC 9110 section 9.2.2)
    and all of it is still kept;
  - the budget is asked last, so a refusal for another reason costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from proxy.faults import Fault, Retry

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class Sent(Enum):
    """How much of the request went to the instance of this attempt."""

    NOTHING = "nothing"  # no byte was given to a connected transport
    PARTLY = "partly"
    WHOLE = "whole"


class Verdict(Enum):
    """The value of a no is the reason, as a person reads it."""

    AGAIN = "sent again, to another instance"
    FRESH = "sent again, on a fresh connection"

    NEVER = "this fault is never retried"
    ANSWERED = "the answer had begun"
    NOT_IDEMPOTENT = "its method is not idempotent, and some of it was sent"
    NOT_KEPT = "more was sent than is kept"
    NOT_ASKED = "retries.on does not name this fault"
    SUSPECT_ALONE = "it was the only request on the instance that ended, and may have ended it"
    SUSPECT_TWICE = "two instances ended while they had it"
    SUSPECT_LISTED = "its method and path are suspect since an earlier exit"
    NO_ATTEMPT = "no attempt was left"
    NO_BUDGET = "the budget for retries was used up"

    @property
    def again(self) -> bool:
        return self is Verdict.AGAIN or self is Verdict.FRESH


@dataclass(slots=True)
class Tried:
    """What an exchange knows about its request when an attempt has failed."""

    method: bytes
    sent: Sent
    kept: bool = True  # all that was sent can be sent again
    answered: bool = False  # the response's head, or an informational one, went to the client
    attempts: int = 1  # made so far, this one included; one that ended in FRESH is not counted
    fresh: bool = False  # one ended in FRESH already
    # Of instances that ended by themselves while they had it, this one included:
    exits: int = 0
    alone: bool = False  # it was the only one on this instance
    listed: bool = False  # its method and path are on the list of suspects


class RetryBudget:
    """At most `ratio` of the requests of the last `ttl` seconds, and `per_second` besides, are sent again.

    As Finagle's RetryBudget: the ratio keeps retries from multiplying an outage, the constant lets a quiet
    app have some at all. Whoever takes up a request adds one to `requests`; everything else happens when a
    retry is asked for.
    """

    __slots__ = ("_at", "_per_second", "_ratio", "_slot", "_slots", "requests")

    def __init__(self, ratio: float = 0.2, per_second: float = 10.0, ttl: int = 10) -> None:
        self.requests = 0
        self._ratio = ratio
        self._per_second = per_second
        self._slots = [0.0] * ttl  # what each of the last `ttl` seconds brought, retries subtracted
        self._slot = -1  # the second that the slots are up to
        self._at = 0.0  # when `requests` was last counted in

    def __repr__(self) -> str:
        return f"<RetryBudget {self.left:.1f} left>"

    @property
    def left(self) -> float:
        """Retries left, as of the last look."""
        return sum(self._slots) + self._per_second * len(self._slots)

    def take(self, now: float) -> bool:
        """Whether one more retry is within the budget; counts it if so."""
        self._turn(now)
        if self.left < 1.0:
            return False
        self._slots[self._slot % len(self._slots)] -= 1.0
        return True

    def _turn(self, now: float) -> None:
        """Forget the seconds that are over, and count in what came since."""
        slots, second = self._slots, int(now)
        size = len(slots)
        passed = second - self._slot
        if self._slot < 0 or passed >= size:
            slots[:] = [0.0] * size
        else:
            for each in range(self._slot + 1, second + 1):
                slots[each % size] = 0.0
        first_look = self._slot < 0
        self._slot = second
        if self.requests:
            # Since when is known, how they were spread is not: evenly, and those older than `ttl` are over.
            over = 1 if first_look else min(max(passed, 0), size - 1) + 1
            elapsed = 0.0 if first_look else now - self._at
            counted = self.requests * self._ratio * (min(1.0, size / elapsed) if elapsed > 0.0 else 1.0)
            for each in range(second - over + 1, second + 1):
                slots[each % size] += counted / over
            self.requests = 0
        self._at = now


def decide(
    fault: Fault,
    tried: Tried,
    now: float,
    budget: RetryBudget,
    attempts: int = 2,
    asked: Collection[str] = (),
) -> Verdict:
    """Whether to send a request again after `fault`. `attempts` is `retries.attempts`, `asked` is
    `retries.on`.

    After AGAIN the caller leaves out all instances already tried; if none is left the answer is the first
    fault.
    """
    if tried.answered:
        return Verdict.ANSWERED
    rule = fault.retry
    if rule is Retry.NEVER:
        return Verdict.NEVER
    if rule is Retry.IF_ASKED and fault.name not in asked:
        return Verdict.NOT_ASKED
    if tried.sent is not Sent.NOTHING:
        if rule is Retry.SUSPECT:
            suspicion = _suspect(tried)
            if suspicion is not None:
                return suspicion
        if tried.method not in IDEMPOTENT:
            return Verdict.NOT_IDEMPOTENT
        if not tried.kept:
            return Verdict.NOT_KEPT
    match rule:
        case Retry.STALE if not tried.fresh:
            return Verdict.FRESH
        case Retry.STALE | Retry.ALWAYS | Retry.IF_IDEMPOTENT | Retry.IF_ASKED | Retry.SUSPECT:
            if tried.attempts > attempts:
                return Verdict.NO_ATTEMPT
            return Verdict.AGAIN if budget.take(now) else Verdict.NO_BUDGET
        case _:
            assert_never(rule)


def _suspect(tried: Tried) -> Verdict | None:
    """Why a request must not go on from an instance that ended by itself; None if it may."""
    if tried.exits >= 2:
        return Verdict.SUSPECT_TWICE
    if tried.listed:
        return Verdict.SUSPECT_LISTED
    return Verdict.SUSPECT_ALONE if tried.alone else None
