"""What a chaos run counts, and that each promise can be broken; a short run of the whole."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from loadtests import chaos_load
from loadtests.chaos_count import Killed, Promise, Tally, Window, tally
from loadtests.chaos_load import Outcome
from loadtests.lab import REPOSITORY

GOOD = {"fresh": False, "due": 10.0, "sent": 10.0, "ended": 10.1, "status": 200, "failure": "", "worker": 1, "id": ""}


def outcome(number: int, failure: str = "", **other: object) -> Outcome:
    """A good answer; with a failure, a 502, or no answer at all if the connection was closed."""
    status = 200 if not failure else 0 if failure == "closed" else 502
    fields = {**GOOD, "status": status, "failure": failure, **other}
    return Outcome(number, chaos_load.method_of(number), **fields)  # type: ignore[arg-type]


def count(promise: Promise, *outcomes: Outcome, book: tuple[int, ...] = (), **window: object) -> Tally:
    made = replace(Window("it", promise, began=9.0, ended=12.0), **window)  # type: ignore[arg-type]
    return tally(outcomes, [Window("calm", Promise.NOTHING, 0.0), made], book)


def test_good_answers_break_nothing() -> None:
    found = count(Promise.NOTHING, outcome(2), outcome(3), book=(3,))
    assert not found.broken()
    assert [found.of(method).answered for method in ("GET", "POST")] == [1, 1]


def test_a_post_executed_twice_is_broken_also_when_it_was_answered() -> None:
    assert count(Promise.INSTANCE, outcome(3), book=(3, 3)).broken() == ["POST 3 was executed more than once"]


def test_a_post_that_was_answered_but_is_not_in_the_book_is_broken() -> None:
    assert count(Promise.NOTHING, outcome(3)).broken() == ["POST 3 was answered but never executed"]


@pytest.mark.parametrize("number", [2, 3])
def test_nothing_may_fail_where_that_is_promised(number: int) -> None:
    (said,) = count(Promise.NOTHING, outcome(number, "all-unready")).broken()
    assert said == "it: promised that nothing fails; failed: 1 all-unready"


def test_a_killed_instance_may_cost_what_was_on_it_and_no_get() -> None:
    lost = count(Promise.INSTANCE, outcome(3, "instance-exited"), outcome(5, "instance-exited"), book=(5,))
    assert not lost.broken()
    assert (lost.failed_executed, lost.failed_not_executed) == (1, 1)
    assert count(Promise.INSTANCE, outcome(2, "instance-exited")).broken()
    assert count(Promise.INSTANCE, outcome(3, "queue-timeout")).broken(), "that was never on the instance"


def test_what_was_inside_a_killed_worker_is_counted_apart() -> None:
    killed = [Killed(1, at=10.05, gone=10.1)]
    found = count(Promise.WORKER, outcome(2, "closed"), outcome(3, "closed", worker=0), workers=killed)
    assert not found.broken()
    assert [found.of(method).inside for method in ("GET", "POST")] == [1, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"worker": 2},  # the other worker's connection
        {"sent": 10.2, "ended": 10.3},  # sent when that worker was gone
        {"ended": 10.01},  # lost before it was killed
        {"failure": "connect-refused"},  # an answer, of a worker that lived
    ],
)
def test_what_was_not_inside_it_is_broken(other: dict[str, object]) -> None:
    killed = [Killed(1, at=10.05, gone=10.1)]
    failure = str(other.pop("failure", "closed"))
    assert count(Promise.WORKER, outcome(2, failure, **other), workers=killed).broken()


def test_an_exit_may_cost_one_request() -> None:
    lost = [outcome(2, "instance-exited"), outcome(3, "instance-exited")]
    assert not count(Promise.EXIT, *lost, exits=2).broken()
    assert count(Promise.EXIT, *lost, exits=1).broken() == ["it: 2 failed at 1 exits"]


def test_an_outcome_belongs_to_the_disturbance_in_whose_time_it_ended() -> None:
    windows = [Window("before", Promise.NOTHING, 0.0), Window("kill", Promise.INSTANCE, 10.05)]
    found = tally([outcome(3, "instance-exited")], windows, ())
    assert found.rows["kill"].methods["POST"].failed == {"instance-exited": 1}
    assert not found.broken()


def test_requests_are_of_both_methods_on_both_kinds_of_connection_and_some_are_slow() -> None:
    kinds = {(chaos_load.method_of(n), chaos_load.is_fresh(n), b"ms=250" in chaos_load.request(n)) for n in range(72)}
    assert len(kinds) == 8


@pytest.mark.slow
def test_a_short_run_keeps_every_promise() -> None:
    """Real processes, killed and replaced; the exit code is the verdict."""
    chosen = "instance KILL,worker KILL,control KILL,recycle,scale out,recycle on a full disk"
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.chaos", "--seconds", "1", "--only", chosen],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=110, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sent = re.search(r"^sent +([\d,]+) +([\d,]+)$", done.stdout, re.MULTILINE)
    assert sent and int(sent[1].replace(",", "")) > 100, done.stdout


@pytest.mark.slow
def test_a_short_healthy_day() -> None:
    """Traffic of every kind and a deploy: nothing fails, no rule fires."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.healthy_day", "--seconds", "8", "--deploys", "1"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
