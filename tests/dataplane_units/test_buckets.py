"""The rate limit per client."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dataplane.buckets import Buckets, client_key


def test_a_burst_then_the_rate() -> None:
    buckets = Buckets(rate=10, burst=5)
    assert [buckets.take("a", 100.0) for _ in range(5)] == [0.0] * 5
    assert buckets.take("a", 100.0) == pytest.approx(0.1)
    assert buckets.take("b", 100.0) == 0.0
    assert buckets.take("a", 100.05) == pytest.approx(0.05)
    assert buckets.take("a", 100.1) == 0.0
    assert buckets.take("a", 100.1) > 0.0
    assert [buckets.take("a", 200.0) for _ in range(6)].count(0.0) == 5


def test_to_wait_as_long_as_said_is_enough_and_refusals_cost_nothing() -> None:
    buckets = Buckets(rate=3, burst=1)
    assert buckets.take("a", 0.5) == 0.0
    waits = [buckets.take("a", 0.5) for _ in range(100)]
    assert len(set(waits)) == 1
    assert buckets.take("a", 0.5 + waits[0]) == 0.0


@given(
    st.lists(st.floats(0.0, 0.4), min_size=1, max_size=200),
    st.sampled_from([0.5, 3.0, 50.0]),
    st.sampled_from([1.0, 4.0, 20.0]),
)
def test_never_more_than_burst_and_rate(gaps: list[float], rate: float, burst: float) -> None:
    buckets = Buckets(rate, burst)
    now, passed = 1000.0, []
    for gap in gaps:
        now += gap
        if buckets.take("a", now) == 0.0:
            passed.append(now)
        for first in range(len(passed)):
            assert len(passed) - first <= burst + (now - passed[first]) * rate + 1e-3


def test_cells_are_bounded_and_shared() -> None:
    marks, times = array("Q", bytes(8 * 64)), array("d", bytes(8 * 64))
    one, other = (Buckets(0.001, 1, marks, times, b"web") for _ in range(2))
    assert one.take("a", 5.0) == 0.0
    assert other.take("a", 5.0) > 0.0  # another worker's, the same cells
    assert Buckets(0.001, 1, marks, times, b"api").take("a", 5.0) == 0.0
    for number in range(10_000):
        one.take(f"{number}", 5.0)
    assert len(marks) == len(times) == 64


def test_a_client_that_goes_on_is_kept_among_many() -> None:
    buckets = Buckets(rate=0.001, burst=1)
    assert buckets.take("busy", 1.0) == 0.0
    for number in range(1000):
        buckets.take(f"{number}", 1.0)
        if number % 20 == 0:
            assert buckets.take("busy", 1.0) > 0.0


def test_bad_limits_are_refused() -> None:
    for rate, burst in ((0, 1), (1, 0.5), (-1, 5)):
        with pytest.raises(ValueError, match="rate above 0"):
            Buckets(rate, burst)


def test_keys() -> None:
    keys = {
        "192.0.2.1": "192.0.2.1",
        "::ffff:192.0.2.1": "192.0.2.1",
        "2001:db8:1:2:3:4:5:6": "20010db800010002/64",
        "2001:db8:1:2::": "20010db800010002/64",
        "2001:db8:1:3::": "20010db800010003/64",
        "fe80::1%eth0": "fe80000000000000/64",
        "unix": "unix",
        "not:an:address": "not:an:address",
    }
    assert {address: client_key(address) for address in keys} == keys
