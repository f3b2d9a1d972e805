"""What else could give the same signs: a thread or loop in the background, an error that was there all day, a peer."""

from typing import Any

import pytest

from proxy.diagnostics.analyzers import app_errors, change, crash_loop, event_loop, gateway_load, locks, names, tls
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, VERY_LIKELY, Finding
from proxy.diagnostics.artifacts import Deploy, HostReport, Known, Record
from tests.analyzers import stacked
from tests.analyzers.made import (
    NOW,
    attempt,
    burst,
    ended,
    exceptions,
    instance,
    known,
    lines,
    record,
    records,
    ring,
    run,
)
from tests.analyzers.stacked import LOOP, READING, SERVED

LOCK = ("get_config app:19", *SERVED)


def slow() -> Known:
    """One instance with 20 requests that take 8 s since a minute."""
    column = [0.02] * 540 + [8.0] * 60
    rings = {name: ring(requests=10.0, wait_p50=column, in_flight=20.0, cpu=0.02) for name in ("", "web-1")}
    return known(instances=[instance(in_flight=20)], rings=rings)


@pytest.mark.parametrize(
    ("background", "certainty"),
    [
        ([], VERY_LIKELY),
        ([(*READING, "refresh app:70", "Thread.run lib:threading.py:982")], LIKELY),
        ([("Event.wait lib:threading.py:629", "tick app:80", "Thread.run lib:threading.py:982")], VERY_LIKELY),
    ],
    ids=["nobody else", "one that waits for a peer", "one that ticks"],
)
def test_a_lock_may_be_held_by_a_thread_in_the_background(background: list[Any], certainty: str) -> None:
    waits = stacked.threads(20, *LOCK, wchan="futex_do_wait")
    held = stacked.stacks([*waits, *(stacked.thread(900 + n, *one) for n, one in enumerate(background))])
    found = run(locks.ANALYZER, slow(), each={"web-1": [held, stacked.activity(0.01)]})
    assert [(one.id, one.certainty) for one in found] == [("deadlock", certainty)]
    assert any("in the background" in one.cause for one in found[0].rivals) is (certainty == LIKELY)


def test_a_loop_in_the_background_does_not_hold_up_requests_of_threads() -> None:
    reports = stacked.thread(44, "report app:90", *LOOP, wchan="hrtimer_nanosleep")
    serves = stacked.threads(20, *READING, "load app:12", *SERVED)
    beside = stacked.stacks([reports, *serves])
    assert not run(event_loop.ANALYZER, slow(), each={"web-1": [beside, stacked.activity(0.01)]})
    alone = run(event_loop.ANALYZER, slow(), each={"web-1": [stacked.stacks([reports]), stacked.activity(0.01)]})
    assert [one.id for one in alone] == ["event-loop-blocked"]
    pool = ("read app:12", "_WorkItem.run lib:concurrent/futures/thread.py:58", "Thread.run lib:threading.py:982")
    main = stacked.thread(1001, "report app:90", *LOOP, wchan="hrtimer_nanosleep")
    mixed = stacked.stacks([main, *stacked.threads(3, *READING, *pool)])
    assert run(event_loop.ANALYZER, slow(), each={"web-1": [mixed, stacked.activity(0.01)]}), "it is the first thread's"


# --- errors ------------------------------------------------------------------------------------------


def failing(printed: bool, **group: Any) -> list[Finding]:
    """20 errors in the last minute; lines of all that time are at hand."""
    bad = records(20, span=50, status=500, fault="app-error", attempts=[attempt(fault="app-error", status=500)])
    texts = [line for one in bad for line in lines("ValueError: bad", ago=NOW - one.time - 0.01)] if printed else []
    said = sorted([*lines("hello", ago=900), *texts], key=lambda line: line.at)
    given = known(
        records=bad, lines={"web-1": said}, exceptions=[exceptions(**group)],
        rings={"": ring(requests=5.0, faults={"app-error": burst(20, 50)})},
    )  # fmt: skip
    return run(app_errors.ANALYZER, given)


def test_an_exception_that_comes_as_often_but_not_then_is_not_held_against_the_errors() -> None:
    assert [one.certainty for one in failing(True)] == [VERY_LIKELY]
    beside = failing(False)
    assert [one.certainty for one in beside] == [LIKELY] and "0 %" in beside[0].against[0].text


def test_an_exception_that_was_there_before_the_errors_says_less() -> None:
    def certainty(first_at: float) -> str:
        bad = records(20, span=50, status=500, fault="app-error", attempts=[attempt(fault="app-error", status=500)])
        rings = {"": ring(requests=5.0, faults={"app-error": burst(20, 50)})}
        return run(app_errors.ANALYZER, known(records=bad, exceptions=[exceptions(first_at=first_at)], rings=rings))[
            0
        ].certainty

    assert (certainty(NOW - 50), certainty(NOW - 7000)) == (VERY_LIKELY, LIKELY)


@pytest.mark.parametrize(("ago", "certainty"), [(250.0, LIKELY), (65.0, VERY_LIKELY)])
def test_a_peer_that_fails_minutes_after_a_deploy(ago: float, certainty: str) -> None:
    given = known(
        deploys=[Deploy(at=NOW - ago, what="deployed", text="version 41 in place of 40")],
        exceptions=[exceptions("ConnectionRefusedError", "[Errno 111] Connection refused", first_at=NOW - 60)],
        rings={"": ring(requests=10.0, errors=[0.0] * 540 + [9.0] * 60)},
    )
    found = run(change.ANALYZER, given)
    assert [(one.id, one.certainty) for one in found] == [("bad-deploy", certainty)]
    given.exceptions[0].type, given.exceptions[0].message = "KeyError", "'total'"
    assert run(change.ANALYZER, given)[0].certainty == VERY_LIKELY


def test_a_crash_loop_is_as_sure_as_its_least_sure_end() -> None:
    ends = [ended(f"web-{n}", ago=100 - 20 * n, lasted=15.0, signal=9, oom=oom)
            for n, oom in ((1, "likely"), (2, "likely"), (3, "certain"))]  # fmt: skip
    found = run(crash_loop.ANALYZER, known(exits=ends), [HostReport(oom_kills=3)])
    assert [one.certainty for one in found] == [LIKELY]


# --- what is over ------------------------------------------------------------------------------------


def address(fault: str, detail: str, answered: float) -> Known:
    name = "shop.test:443"
    there = instance(name, kind="address", pid=0, address=name, listens_on=[], answered_at=NOW - answered)
    tries: list[Record] = [
        record(60 + n, instance=name, fault=fault, status=502, attempts=[attempt(name, fault=fault, detail=detail)])
        for n in range(5)
    ]
    return known(instances=[there], records=tries)


@pytest.mark.parametrize(
    ("analyzer", "fault", "detail"),
    [(names.ANALYZER, "dns-error", ""), (tls.ANALYZER, "tls-certificate", "certificate has expired")],
)
def test_what_is_answered_again_is_told_of_as_past(analyzer: Any, fault: str, detail: str) -> None:
    now, past = (run(analyzer, address(fault, detail, answered))[0] for answered in (200, 1))
    assert now.until == 0.0 and past.until and " until " in past.title and now.certainty == CERTAIN


def test_a_certificate_is_judged_by_a_clock() -> None:
    given = address("tls-certificate", "certificate has expired", 200)
    moved = run(tls.ANALYZER, given, [HostReport(clock_step=90_000.0)])[0]
    assert moved.certainty == LIKELY and "clock" in moved.rivals[0].cause
    assert run(tls.ANALYZER, given, [HostReport()])[0].certainty == CERTAIN


def test_a_defect_of_the_gateway_is_no_limit_of_it() -> None:
    def ids(fault: str) -> list[str]:
        given = known(rings={"": ring(requests=20.0, faults={fault: burst(20)})})
        return [one.id for one in run(gateway_load.ANALYZER, given)]

    assert ids("internal-error") == [] and ids("gateway-overload") == ["gateway-overload"]
