"""Memory that runs out, and memory that only looks so: warm-up, a ramp of load, a sawtooth, a full cache."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from proxy.diagnostics.analyzers import memory
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, VERY_LIKELY, Finding, Inconclusive
from proxy.diagnostics.artifacts import Activity, ActivitySample, HostReport, HostSample, TypeRow, Types
from tests.analyzers.made import NOW, instance, known, record, records, ring, run

MB = 1_000_000


def of(
    curve: Callable[[int], float], length: int = 600, limit: int | None = 512 * MB, load: Any = 10.0, **each: Any
) -> list[Finding]:
    """One instance whose life is `length` seconds."""
    last = curve(length - 1)
    one = instance(
        ready_at=NOW - length, started_at=NOW - length - 1, memory=int(last), memory_limit=limit, limited_by="cgroup v2"
    )
    rings = {"web-1": ring(length, memory=curve, requests=load, in_flight=1.0)}
    return run(memory.ANALYZER, known(instances=[one], rings=rings), **each)


def test_a_steady_rise_towards_the_limit_is_a_projection() -> None:
    found = of(lambda at: 100 * MB + at * 0.5 * MB)
    assert [one.id for one in found] == ["memory-rising"] and found[0].certainty == LIKELY
    assert found[0].severity == "warning" and "A projection" in found[0].cause and "leak" not in str(found[0])
    assert "3 min" in found[0].title or "4 min" in found[0].title


def test_what_is_about_to_hit_the_limit_is_said_early() -> None:
    found = of(lambda at: (15 + 3 * at) * MB, 45, 400 * MB)
    assert [one.severity for one in found] == ["warning"]


@pytest.mark.parametrize(
    ("curve", "length"),
    [
        (lambda at: (60 + 100 * (1 - math.exp(-at / 30))) * MB, 300),  # a warm-up
        (lambda at: (60 + min(at, 40) * 1.2) * MB, 120),  # a cache that is full
        (lambda at: (60 + at * 1.6) * MB, 35),  # a cache that fills: too soon to say
        (lambda at: (200 + (at % 20)) * MB, 600),  # a sawtooth
        (lambda at: (250 + 5 * math.sin(at / 60)) * MB, 600),
        (lambda at: 80 * MB, 600),
    ],
)
def test_what_healthy_apps_do_is_not_above_info(curve: Callable[[int], float], length: int) -> None:
    assert all(one.severity == "info" for one in of(curve, length))


def test_a_rise_with_the_load_is_info() -> None:
    found = of(lambda at: 100 * MB + at * 0.5 * MB, load=lambda at: 5.0 + at / 20)
    assert [one.severity for one in found] == ["info"] and found[0].against


def test_a_slow_rise_far_from_the_limit_is_info() -> None:
    assert all(one.severity == "info" for one in of(lambda at: (50 + at * 0.01) * MB))


def test_types_that_grew_are_named() -> None:
    types = Types(rows=[TypeRow(name="app.Visit", count=900, size=90 * MB, grew=300)], seconds_between=20.0)
    found = of(lambda at: 100 * MB + at * 0.5 * MB, each={"web-1": [types]})
    assert "app.Visit +300" in found[0].cause


def test_at_the_limit() -> None:
    found = of(lambda at: 500 * MB)
    assert [one.id for one in found] == ["memory-at-limit"] and found[0].certainty == CERTAIN
    assert not of(lambda at: 400 * MB)


def thrash(faults: float, swap: int = 0, available: int = 8 * 10**9) -> dict[str, Any]:
    samples = [ActivitySample(at=NOW - at, major_faults=faults, rss=400 * MB, swap=swap) for at in range(5)]
    host = HostReport(memory_total=16 * 10**9, samples=[HostSample(at=NOW, available=available)])
    return {"each": {"web-1": [Activity(samples=samples)]}, "whole": [host]}


def test_thrashing_needs_two_kinds_of_evidence() -> None:
    found = of(lambda at: 400 * MB, limit=None, **thrash(300.0, swap=200 * MB))
    assert [one.id for one in found] == ["memory-thrashing"] and found[0].certainty == VERY_LIKELY
    assert not of(lambda at: 400 * MB, limit=None, **thrash(300.0))
    assert not of(lambda at: 400 * MB, limit=None, **thrash(5.0, swap=200 * MB))


def test_jumps_with_one_kind_of_request() -> None:
    def curve(at: int) -> float:
        return (100 + (250 if at % 150 in range(100, 110) else 0)) * MB

    one = instance(ready_at=NOW - 600, memory_limit=512 * MB)
    there = [record(600 - at + 1, target="/export", total=8.0) for at in (100, 250, 400, 550)]
    given = known(
        instances=[one],
        rings={"web-1": ring(memory=curve)},
        records=[*there, *records(100, span=600, target="/", instance="web-2")],
    )
    found = run(memory.ANALYZER, given)
    assert [each.id for each in found] == ["memory-jumps"] and "/export" in found[0].title


def test_a_life_too_short_to_tell_is_no_pass() -> None:
    with pytest.raises(Inconclusive):
        of(lambda at: (20 + 3 * at) * MB, 20)
