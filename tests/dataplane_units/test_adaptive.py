"""The adaptive limit, against a simulated instance with a known number of cores."""

from __future__ import annotations

from proxy.dataplane.adaptive import FIRST, LEAST, MOST, Gradient


def simulate(gradient: Gradient, places: int, rounds: int, service: float = 0.02) -> None:
    """An instance that works on `places` requests at once: what is beyond waits in it."""
    for _ in range(rounds):
        inflight = gradient.limit
        gradient.answered(service * max(1.0, inflight / places), inflight)


def test_it_grows_while_answers_stay_fast_and_stops_where_they_queue() -> None:
    gradient = Gradient()
    simulate(gradient, places=100, rounds=1500)
    assert gradient.limit > FIRST
    assert gradient.limit <= 100 * 2.5  # tolerance and the small queue above what the instance can do


def test_it_shrinks_when_the_instance_gets_slow() -> None:
    gradient = Gradient()
    simulate(gradient, places=200, rounds=1000)
    before = gradient.limit
    simulate(gradient, places=10, rounds=60)
    assert gradient.limit < before / 2


def test_it_learns_nothing_from_an_idle_instance_and_keeps_its_bounds() -> None:
    gradient = Gradient()
    for _ in range(1000):
        assert gradient.answered(0.01, 1) == FIRST
    for _ in range(1000):
        gradient.failed()
    assert gradient.limit == LEAST
    simulate(gradient, places=10**9, rounds=20_999)
    assert gradient.limit == MOST
