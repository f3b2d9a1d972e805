"""The retry rule, over the whole table of faults, and the budget."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import faults
from proxy.dataplane.retries import IDEMPOTENT, RetryBudget, Sent, Tried, Verdict, decide
from proxy.faults import FAULTS, Fault, Retry

ASKED = frozenset(("head-timeout", "app-error"))


def verdict(fault: Fault, tried: Tried, **more: object) -> Verdict:
    return decide(fault, tried, 1.0, RetryBudget(), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=repr)
def test_the_rules_that_hold_for_every_fault(fault: Fault) -> None:
    for method, sent, kept, answered, attempts, fresh, exits, alone, listed, asked in itertools.product(
        (b"GET", b"POST"), Sent, (True, False), (True, False), (1, 2, 3), (True, False), (0, 1, 2), (True,
        False), (True, False), (ASKED, ()),
    ):  # fmt: skip
        tried = Tried(method, sent, kept, answered, attempts, fresh, exits, alone, listed)
        found = verdict(fault, tried, asked=asked)
        if found.again:
            assert not answered
            assert fault.retry is not Retry.NEVER
            assert sent is Sent.NOTHING or (method in IDEMPOTENT and kept)
            assert found is Verdict.FRESH or attempts < 3
            assert (found is Verdict.FRESH) == (fault.retry is Retry.STALE and not fresh)
            if fault.retry is Retry.SUSPECT and sent is not Sent.NOTHING:
                assert exits < 2 and not alone and not listed
            if fault.retry is Retry.IF_ASKED:
                assert asked
        elif fault.retry is not Retry.NEVER and sent is Sent.NOTHING and not answered:
            # Nothing left this machine: only the count of attempts, or not being asked, can say no.
            assert found in (Verdict.NO_ATTEMPT, Verdict.NOT_ASKED)


SENT = Tried(b"GET", Sent.WHOLE)
POST = Tried(b"POST", Sent.WHOLE)


@pytest.mark.parametrize(
    ("fault", "tried", "expected"),
    [
        (faults.CONNECT_REFUSED, Tried(b"POST", Sent.NOTHING), Verdict.AGAIN),
        (faults.CLOSED_BEFORE_HEAD, SENT, Verdict.AGAIN),
        (faults.CLOSED_BEFORE_HEAD, POST, Verdict.NOT_IDEMPOTENT),
        (faults.CLOSED_BEFORE_HEAD, Tried(b"POST", Sent.PARTLY), Verdict.NOT_IDEMPOTENT),
        (faults.CLOSED_BEFORE_HEAD, Tried(b"PUT", Sent.PARTLY, kept=False), Verdict.NOT_KEPT),
        (faults.CLOSED_BEFORE_HEAD, Tried(b"GET", Sent.WHOLE, attempts=3), Verdict.NO_ATTEMPT),
        (faults.CLOSED_BEFORE_HEAD, Tried(b"GET", Sent.WHOLE, answered=True), Verdict.ANSWERED),
        (faults.CLOSED_BEFORE_HEAD, Tried(b"get", Sent.WHOLE), Verdict.NOT_IDEMPOTENT),
        (faults.STALE_CONNECTION, SENT, Verdict.FRESH),
        (faults.STALE_CONNECTION, Tried(b"POST", Sent.NOTHING), Verdict.FRESH),
        (faults.STALE_CONNECTION, POST, Verdict.NOT_IDEMPOTENT),
        (faults.STALE_CONNECTION, Tried(b"GET", Sent.WHOLE, attempts=3), Verdict.FRESH),
        (faults.STALE_CONNECTION, Tried(b"GET", Sent.WHOLE, fresh=True), Verdict.AGAIN),
        (faults.HEAD_TIMEOUT, SENT, Verdict.NOT_ASKED),
        (faults.TOTAL_TIMEOUT, SENT, Verdict.NEVER),
        (faults.BAD_RESPONSE, SENT, Verdict.NEVER),
        (faults.INSTANCE_RECYCLED, SENT, Verdict.AGAIN),
        (faults.INSTANCE_EXITED, Tried(b"GET", Sent.WHOLE, exits=1), Verdict.AGAIN),
        (faults.INSTANCE_EXITED, Tried(b"POST", Sent.WHOLE, exits=1), Verdict.NOT_IDEMPOTENT),
        (faults.INSTANCE_EXITED, Tried(b"GET", Sent.WHOLE, exits=1, alone=True), Verdict.SUSPECT_ALONE),
        (faults.INSTANCE_EXITED, Tried(b"GET", Sent.WHOLE, exits=2), Verdict.SUSPECT_TWICE),
        (faults.INSTANCE_EXITED, Tried(b"GET", Sent.WHOLE, exits=1, listed=True), Verdict.SUSPECT_LISTED),
        (faults.INSTANCE_EXITED, Tried(b"POST", Sent.NOTHING, exits=1, alone=True), Verdict.AGAIN),
    ],
)
def test_known_cases(fault: Fault, tried: Tried, expected: Verdict) -> None:
    assert verdict(fault, tried) is expected


def test_what_is_asked_for() -> None:
    assert verdict(faults.HEAD_TIMEOUT, SENT, asked=ASKED) is Verdict.AGAIN
    assert verdict(faults.HEAD_TIMEOUT, POST, asked=ASKED) is Verdict.NOT_IDEMPOTENT
    assert verdict(faults.CLOSED_BEFORE_HEAD, SENT, attempts=0) is Verdict.NO_ATTEMPT


def test_only_a_retry_that_is_made_costs_budget() -> None:
    budget = RetryBudget(ratio=0.0, per_second=0.1)  # one in ten seconds
    for _ in range(5):
        assert decide(faults.CLOSED_BEFORE_HEAD, POST, 1.0, budget) is Verdict.NOT_IDEMPOTENT
        assert decide(faults.STALE_CONNECTION, SENT, 1.0, budget) is Verdict.FRESH
    assert decide(faults.CLOSED_BEFORE_HEAD, SENT, 1.0, budget) is Verdict.AGAIN
    assert decide(faults.CLOSED_BEFORE_HEAD, SENT, 1.0, budget) is Verdict.NO_BUDGET
    assert decide(faults.STALE_CONNECTION, SENT, 1.0, budget) is Verdict.FRESH
    assert decide(faults.CLOSED_BEFORE_HEAD, SENT, 11.1, budget) is Verdict.AGAIN


def taken(budget: RetryBudget, now: float, most: int = 10**6) -> int:
    return next(number for number in range(most + 1) if number == most or not budget.take(now))


def test_a_quiet_app_has_the_constant() -> None:
    budget = RetryBudget()
    assert taken(budget, 50.0) == 100
    assert taken(budget, 50.5) == 0
    assert taken(budget, 61.0) == 100
    assert repr(budget) == "<RetryBudget 0.0 left>"


def test_a_share_of_the_traffic_of_the_last_ten_seconds() -> None:
    budget = RetryBudget(0.2, 0.0)
    budget.requests += 1000
    assert taken(budget, 100.0) == 200
    budget.requests += 100
    assert taken(budget, 101.5) == 20
    budget.requests += 50
    assert taken(budget, 200.0) == 1  # 50 in 98 seconds: 5 of them in the last ten


def test_deposits_fade() -> None:
    budget = RetryBudget(0.2, 0.0)
    budget.take(99.0)
    budget.requests += 1000
    assert budget.take(100.0)
    assert taken(budget, 108.5) == 199
    assert taken(budget, 112.0) == 0


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 300), st.integers(0, 80)), max_size=40))
def test_never_more_than_the_share_and_the_constant(steps: list[tuple[float, int, int]]) -> None:
    """Over the whole of any run: 20 % of what came, and 10/s over the time and one `ttl`."""
    budget = RetryBudget()
    now, came, retried = 1000.0, 0, 0
    for gap, requests, wanted in steps:
        now += gap
        budget.requests += requests
        came += requests
        retried += taken(budget, now, wanted)
        assert retried <= 0.2 * came + 10 * (now - 1000.0) + 10 * 11
