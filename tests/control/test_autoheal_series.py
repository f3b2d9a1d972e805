"""Readings in order: what a look back finds, and what it costs to keep."""

import pytest

from proxy.control.autoheal.contract import Reading
from proxy.control.autoheal.series import Thinned


def filled(seconds: int, keep: float, step: float = 1.0) -> Thinned:
    series = Thinned(keep)
    for number in range(int(seconds / step)):
        series.add(Reading(at=1000 + number * step, requests=number))
    return series


def test_a_look_back_finds_the_newest_reading_that_is_old_enough() -> None:
    series = filled(100, 120)
    now = 1099.0
    for back in (0, 1, 17, 99):
        found = series.before(now - back)
        assert found is not None and found.at == now - back
    oldest = series.before(0)
    assert oldest is not None and oldest.at == 1000, "the oldest when all are younger"


def test_an_empty_one_has_nothing() -> None:
    series = Thinned()
    assert series.last is None and series.first is None and series.before(5) is None


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "most"), [(120, 300), (1200, 500), (90_000, 3700)])
def test_a_day_of_readings_is_thinned_and_bounded(keep: float, most: int) -> None:
    series = filled(100_000, keep)
    assert len(series) <= most
    now = 1000.0 + 99_999
    for back, slack in ((60, 1), (600, 10), (3600, 60), (86_000, 60)):
        if back <= keep:
            found = series.before(now - back)
            assert found is not None and 0 <= now - back - found.at <= slack


def test_what_is_not_younger_than_the_last_one_is_dropped() -> None:
    series = filled(10, 120)
    for at in (1009.0, 1005.0, 1009.5):
        series.add(Reading(at=at, requests=999))
    last = series.last
    assert last is not None and last.requests == 9
