"""What wrk says, and which runs have no figures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from loadtests import wrk
from loadtests.lab import Failed, Lab
from loadtests.stage import start_origin
from loadtests.works import SMALL, WORKS
from loadtests.wrk import Figures

SAID = """\
Running 1s test @ http://127.0.0.1:9000/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.18ms  200.00us   3.00ms   90.00%
    Req/Sec    51.70k     1.20k   53.00k    70.00%
  51682 requests in 1.00s, 13.00MB read
Requests/sec:  51682.00
Transfer/sec:     13.00MB

wrk-figures {"duration": 1000000, "requests": 51682, "bytes": 13000000, "connect": 0, "read": 0, "write": 0,\
 "status": 0, "timeout": 0, "p50": 1180, "p99": 1630, "max": 3000}
"""
GOOD = Figures(
    duration=1.0, requests=1000, received=1000 * (SMALL + 150), p50=0.001, p99=0.002, longest=0.01, errors={}
)


def test_figures_are_seconds_and_bytes() -> None:
    figures = wrk.parse(SAID)
    assert figures == Figures(1.0, 51682, 13_000_000, 0.00118, 0.00163, 0.003, {})
    assert figures.rate == 51682


def test_errors_are_named_with_their_counts() -> None:
    figures = wrk.parse(SAID.replace('"read": 0', '"read": 3').replace('"status": 0', '"status": 7'))
    assert figures.errors == {"read": 3, "status": 7}
    assert wrk.wrong(figures, WORKS["small"]) == "3 read errors, 7 status errors"


def test_words_without_figures_are_refused() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_a_good_run_has_no_fault() -> None:
    assert wrk.wrong(GOOD, WORKS["small"]) == ""


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        (replace(GOOD, requests=0, received=0), "no answer"),
        (replace(GOOD, received=1000 * 50), "50 bytes per answer"),
        (replace(GOOD, received=1000 * 10_000), "10000 bytes per answer"),
    ],
)
def test_a_run_with_wrong_bodies_has_no_figures(figures: Figures, why: str) -> None:
    assert why in wrk.wrong(figures, WORKS["small"])


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason=f"wrk is not installed: {wrk.GET}")
@pytest.mark.parametrize("name", [name for name, work in WORKS.items() if not work.tls and not work.close])
def test_wrk_itself(lab: Lab, name: str) -> None:
    work = WORKS[name]
    figures = wrk.run(work, start_origin(lab), 1.0, lab.folder)
    assert wrk.wrong(figures, work) == ""
    assert figures.requests > 0
    assert 0 < figures.p50 <= figures.p99 <= figures.longest


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason=f"wrk is not installed: {wrk.GET}")
def test_nobody_listens(lab: Lab) -> None:
    with pytest.raises(Failed, match="unable to connect"):
        wrk.run(WORKS["small"], lab.free_port(), 1.0, lab.folder)
