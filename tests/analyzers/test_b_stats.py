"""Statistics, checked by simulation with fixed seeds: how often they alarm where nothing happened."""

import math
import random
from itertools import pairwise

import pytest

from proxy.diagnostics.analyzers import stats


def noise(seed: int, length: int, ar: float = 0.0, level: float = 10.0) -> list[float]:
    """Autocorrelated noise with a standard deviation of one around `level`."""
    rng = random.Random(seed)
    value, found = 0.0, []
    for _ in range(length):
        value = ar * value + math.sqrt(1 - ar * ar) * rng.gauss(0, 1)
        found.append(level + value)
    return found


@pytest.mark.parametrize(("share", "of"), [(0.01, 50), (0.01, 300), (0.2, 40)])
def test_wilson_covers_where_the_plain_interval_does_not(share: float, of: int) -> None:
    covered = 0.0
    for hits in range(of + 1):
        low, high = stats.wilson(hits, of)
        if low <= share <= high:
            covered += math.comb(of, hits) * share**hits * (1 - share) ** (of - hits)
    assert 0.9 <= covered <= 0.99


def test_fisher_is_exact() -> None:
    assert stats.fisher(5, 40, 2, 120) == pytest.approx(0.011, abs=0.001)
    assert stats.fisher(2, 10, 0, 30) == pytest.approx(0.058, abs=0.001)
    assert stats.fisher(0, 10, 5, 10) == pytest.approx(1.0)
    assert stats.fisher(3, 3, 0, 3) == pytest.approx(1 / math.comb(6, 3))
    assert stats.fisher(1, 0, 1, 5) == 1.0


@pytest.mark.slow
def test_holm_over_equal_instances_alarms_no_more_often_than_it_says() -> None:
    rng = random.Random(2)
    alarms = 0
    for _ in range(400):
        bad = [sum(rng.random() < 0.05 for _ in range(60)) for _ in range(6)]
        ps = [stats.fisher(one, 60, sum(bad) - one, 300) for one in bad]
        alarms += any(stats.holm(ps, 0.05))
    assert alarms / 400 <= 0.06
    assert stats.holm([0.0001, 0.9, 0.8], 0.01) == [True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("ar", [0.0, 0.8, 0.95])
def test_step_does_not_alarm_on_noise(ar: float) -> None:
    false = sum(stats.step(noise(seed, 90, ar, level=10.0), ratio=1.2) is not None for seed in range(60))
    assert false / 60 <= 0.05
    false = sum(stats.step([2 + abs(one) for one in noise(seed, 90, ar, 0.0)]) is not None for seed in range(60))
    assert false / 60 <= (0.1 if ar > 0.9 else 0.0)


@pytest.mark.slow
def test_step_is_no_ramp_no_spike_no_warm_up_and_no_day() -> None:
    for seed in range(20):
        rough = noise(seed, 180, 0.5, 0.0)
        assert stats.step([10 + at * 0.3 + one for at, one in enumerate(rough)]) is None, "a ramp"
        assert stats.step([10 + (60 if 80 <= at < 90 else 0) + one for at, one in enumerate(rough)]) is None, "a spike"
        assert stats.step([10 + 60 * math.exp(-at / 15) + one for at, one in enumerate(rough)]) is None, "a warm-up"
        day = [30 + 25 * math.sin(at / 180 * math.pi - math.pi / 2) + one for at, one in enumerate(rough)]
        assert stats.step(day) is None, "a day"


@pytest.mark.slow
def test_step_finds_a_jump_and_where() -> None:
    for seed in range(20):
        series = noise(seed, 60, 0.5) + noise(seed + 500, 30, 0.5, level=40.0)
        found = stats.step(series)
        assert found is not None and found.at == 60
        assert found.before == pytest.approx(10, abs=1.5) and found.after == pytest.approx(40, abs=1.5)


def test_buckets_keep_the_last_one_whole() -> None:
    assert stats.buckets([1, 1, 3, None, 5, 7], 4) == [1.0, 5.0]
    assert stats.buckets([None, None], 2) == [None]
    assert all(a <= b for a, b in pairwise([stats.quantile([3, 1, 2], q) for q in (0.0, 0.3, 0.6, 1.0)]))
