"""What requests wait for within an app: found, nearly so, and not to be told."""

from typing import Any

import pytest

from proxy.diagnostics.analyzers import cpu, event_loop, locks, pool_exhausted, slow_dependency, slow_handler
from proxy.diagnostics.analyzers.contract import Finding
from proxy.diagnostics.artifacts import Known
from tests.analyzers import made, stacked
from tests.analyzers.stacked import ACQUIRES, KEPT, LOOP, READING, RESTING, SERVED

LOAD = (*READING, "load_prices app:212", *SERVED)


def late(wait: float = 8.0, before: float = 0.02, length: int = 600, **fields: Any) -> Known:
    """Since a minute answers take `wait` seconds, and there are timeouts; one instance has 20 requests."""
    column = [before] * (length - 60) + [wait] * 60
    rings = {
        "": made.ring(length, requests=10.0, wait_p50=column, in_flight=20.0, faults={"head-timeout": [1] * 40}),
        "web-1": made.ring(length, requests=10.0, wait_p50=column, in_flight=20.0, cpu=0.02),
    }
    usual: dict[str, Any] = {"instances": [made.instance(in_flight=20)], "rings": rings}
    return made.known(**{**usual, **fields})


def fine() -> Known:
    """As many requests, answered as ever."""
    rings = {key: made.ring(requests=10.0, wait_p50=0.2, in_flight=20.0) for key in ("", "web-1")}
    return made.known(instances=[made.instance(in_flight=20)], rings=rings)


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, [one.id for one in findings]
    return findings[0]


# --- a slow dependency -----------------------------------------------------------------------------


def test_threads_and_connections_that_wait_for_one_peer_name_it() -> None:
    threads = stacked.stacks(stacked.threads(20, *LOAD))
    peers = stacked.sockets(stacked.asked(count=20, waiters=range(100, 120)), stacked.asked("10.0.3.9:6379"))
    found = only(made.run(slow_dependency.ANALYZER, late(), each={"web-1": [threads, peers, stacked.activity()]}))
    assert (found.id, found.certainty) == ("slow-dependency", "very likely")
    assert "10.0.3.12:5432 (PostgreSQL)" in found.title and "load_prices (web/app.py:212)" in found.cause
    assert "20 connections" in found.cause and {"head-timeout", "queue-timeout", "slow"} <= set(found.faults)


def test_with_stacks_alone_it_is_likely_and_the_peer_is_not_known() -> None:
    threads = stacked.stacks(stacked.threads(20, *LOAD))
    found = only(made.run(slow_dependency.ANALYZER, late(), each={"web-1": [threads]}))
    assert found.certainty == "likely" and found.unknown == "Which peer it is."


def test_an_idle_event_loop_with_as_many_questions_out_as_requests() -> None:
    threads = stacked.stacks([stacked.thread(1001, *RESTING)])
    peers = stacked.sockets(stacked.asked("10.0.3.12:8080", count=20))
    found = only(made.run(slow_dependency.ANALYZER, late(), each={"web-1": [threads, peers]}))
    assert found.certainty == "very likely" and "event loop itself is idle" in found.cause


@pytest.mark.parametrize(
    ("given", "artifacts"),
    [
        (fine(), [stacked.stacks(stacked.threads(20, *LOAD)), stacked.sockets(stacked.asked(count=20))]),
        (late(), [stacked.stacks(stacked.threads(20, *LOAD)),
                  stacked.sockets(stacked.asked(count=20, waiters=range(100, 120), seconds=0.05))]),
        (late(), [stacked.stacks([stacked.thread(1001, *RESTING)]), stacked.sockets(stacked.asked(count=1))]),
        (late(), [stacked.stacks([*stacked.threads(19, *KEPT), stacked.thread(500, *LOAD)]), stacked.sockets()]),
    ],
    ids=["answered as ever", "it answers soon", "a poller in the background", "kept connections"],
)  # fmt: skip
def test_who_waits_for_a_peer_but_not_long_accuses_nobody(given: Known, artifacts: list[Any]) -> None:
    found = made.run(slow_dependency.ANALYZER, given, each={"web-1": artifacts})
    assert [one for one in found if one.certainty != "likely"] == []
    if given.rings[""].faults == {} or len(artifacts[1].samples[0].peers) == 1:
        assert found == []


def test_a_peer_that_can_not_be_reached() -> None:
    connects = ("create_connection lib:socket.py:836", "load app:3", *SERVED)
    threads = stacked.stacks(stacked.threads(8, *connects, wchan="wait_woken"))
    peers = stacked.sockets(stacked.asked("10.0.3.12:5432", connecting=8, established=0))
    found = made.run(slow_dependency.ANALYZER, late(), each={"web-1": [threads, peers]})
    assert [(one.id, one.certainty) for one in found] == [("dependency-unreachable", "very likely")]


# --- pools and locks -------------------------------------------------------------------------------


def test_a_pool_that_is_too_small_names_what_its_holders_do() -> None:
    threads = stacked.stacks([*stacked.threads(18, *ACQUIRES, *SERVED), *stacked.threads(2, *LOAD, first=300)])
    found = only(made.run(pool_exhausted.ANALYZER, late(), each={"web-1": [threads, stacked.activity()]}))
    assert (found.id, found.certainty) == ("pool-exhausted", "very likely")
    assert "2 threads wait for bytes on a socket at load_prices" in found.cause


def test_a_pool_that_nobody_gives_back_to() -> None:
    threads = stacked.stacks(stacked.threads(20, *ACQUIRES, *SERVED))
    idle = stacked.sockets(stacked.asked(count=0))
    found = only(made.run(pool_exhausted.ANALYZER, late(), each={"web-1": [threads, idle, stacked.activity()]}))
    assert (found.id, found.certainty) == ("pool-leak", "very likely")


def test_workers_that_wait_for_work_are_no_exhausted_pool() -> None:
    waits = ("Condition.wait lib:threading.py:327", "Queue.get lib:queue.py:171", "consume app:30")
    threads = stacked.stacks([*stacked.threads(20, *waits), *stacked.threads(20, *LOAD, first=300)])
    assert made.run(pool_exhausted.ANALYZER, late(), each={"web-1": [threads]}) == []


def lock(line: int, first: int, count: int = 10) -> list[Any]:
    return stacked.threads(count, f"transfer app:{line}", *SERVED, first=first, wchan="futex_do_wait")


def test_a_deadlock_names_the_lines() -> None:
    threads = stacked.stacks([*lock(19, 100), *lock(28, 200)])
    found = only(made.run(locks.ANALYZER, late(), each={"web-1": [threads, stacked.activity(0.01)]}))
    assert (found.id, found.certainty) == ("deadlock", "very likely")
    assert "app.py:19" in found.cause and "app.py:28" in found.cause


def test_a_lock_that_is_held_names_what_its_holder_does() -> None:
    holder = stacked.thread(900, "transfer app:20", *SERVED, wchan="hrtimer_nanosleep")
    threads = stacked.stacks([*lock(19, 100), holder])
    found = only(made.run(locks.ANALYZER, late(), each={"web-1": [threads, stacked.activity(0.01)]}))
    assert (found.id, found.certainty) == ("lock-held", "very likely")
    assert "sleeps at transfer (web/app.py:20)" in found.cause


def test_threads_that_want_the_global_lock_are_no_deadlock() -> None:
    rounds = [
        [*stacked.threads(9, f"spin app:{line}", *SERVED, wchan="futex_do_wait"),
         stacked.thread(300, "spin app:9", *SERVED, active=True, gil=True)]
        for line in (3, 4, 5)
    ]  # fmt: skip
    threads = stacked.stacks(*rounds)
    assert made.run(locks.ANALYZER, late(), each={"web-1": [threads, stacked.activity(0.98, 0.12)]}) == []


def test_a_deadlock_of_a_healthy_app_is_none() -> None:
    threads = stacked.stacks([*lock(19, 100), *lock(28, 200)])
    assert made.run(locks.ANALYZER, fine(), each={"web-1": [threads, stacked.activity(0.01)]}) == []


# --- event loops, CPU, lines -----------------------------------------------------------------------


def test_a_call_that_waits_on_the_event_loop() -> None:
    threads = stacked.stacks([stacked.thread(1001, "upload app:31", *LOOP, wchan="hrtimer_nanosleep")])
    peers = stacked.sockets(waiting=6)
    found = only(made.run(event_loop.ANALYZER, late(), each={"web-1": [threads, peers, stacked.activity(0.02)]}))
    assert (found.id, found.certainty) == ("event-loop-blocked", "very likely")
    assert "upload (web/app.py:31) sleeps within the event loop" in found.cause


def test_an_event_loop_that_is_busy_now_and_then_is_not_blocked() -> None:
    busy = [stacked.thread(1001, "handle app:31", *LOOP, active=True)]
    rest = [stacked.thread(1001, *RESTING)]
    threads = stacked.stacks(busy, rest, rest, rest)
    assert made.run(event_loop.ANALYZER, late(), each={"web-1": [threads, stacked.activity(0.3)]}) == []


def test_an_event_loop_that_one_function_has_most_of_the_time_is_blocked() -> None:
    """In four of nine rounds, and nearly all that the CPU profile saw: 0.6 cores of one handler."""
    busy = [stacked.thread(1001, "draw app:31", *LOOP, active=True)]
    rest = [stacked.thread(1001, *RESTING)]
    threads = stacked.stacks(rest, rest, busy, rest, rest, rest, busy, busy, busy)
    hot = stacked.profile((880, "app < draw"), (20, "app < send"))
    many = stacked.profile((300, "app < draw"), (600, "app < send"))
    stands = late()
    wait = [0.02] * 540 + [8.0] * 60
    stands.rings[""] = made.ring(600, in_flight=9, requests=[0, 0, 20] * 200, wait_p50=wait)
    given = {"web-1": [threads, hot, stacked.activity(0.6)]}
    found = only(made.run(event_loop.ANALYZER, stands, each=given))
    assert (found.id, found.certainty) == ("event-loop-blocked", "very likely")
    assert made.run(event_loop.ANALYZER, late(), each=given) == [], "it answers all the time: the loop is busy"
    given = {"web-1": [threads, many, stacked.activity(0.6)]}
    assert made.run(event_loop.ANALYZER, stands, each=given) == [], "many functions: the loop is busy"


def test_a_hot_function_is_named_with_its_share() -> None:
    threads = stacked.stacks(stacked.threads(3, "shortest app:16", "way app:28", *SERVED, active=True))
    hot = stacked.profile((90, "way < shortest"), (10, "way < other"))
    given = {"web-1": [threads, hot, stacked.activity(0.97, 0.95)]}
    found = only(made.run(cpu.ANALYZER, late(1.5), each=given))
    assert (found.id, found.certainty) == ("cpu-bound", "very likely")
    assert "shortest (web/app.py:8) is in 90 % of its CPU time" in found.cause


def test_background_threads_that_hold_the_global_lock() -> None:
    spin = ("burn app:5", "Thread.run lib:threading.py:982")
    rounds = [
        [stacked.thread(300 + at, *spin, active=True, gil=True),
         *stacked.threads(9, *spin, first=400, wchan="futex_do_wait"),
         *stacked.threads(2, "answer app:40", *SERVED, first=600, wchan="futex_do_wait")]
        for at in range(3)
    ]  # fmt: skip
    threads = stacked.stacks(*rounds)
    found = only(made.run(cpu.ANALYZER, late(1.5), each={"web-1": [threads, stacked.activity(1.0, 0.12)]}))
    assert found.id == "gil-contention"


def test_throttling_is_what_the_kernel_counted() -> None:
    held = stacked.activity(0.25, throttled=0.8, throttled_seconds=0.6)
    one = made.instance(cpu_limit=0.25, in_flight=20)
    found = made.run(cpu.ANALYZER, late(1.5, instances=[one]), each={"web-1": [held]})
    assert ("cpu-throttled", "certain") in [(each.id, each.certainty) for each in found]
    seldom = stacked.activity(0.2, throttled=0.02, throttled_seconds=0.01)
    assert made.run(cpu.ANALYZER, late(1.5, instances=[one]), each={"web-1": [seldom]}) == []


def test_a_busy_app_that_answers_as_ever_is_well() -> None:
    assert made.run(cpu.ANALYZER, fine(), each={"web-1": [stacked.activity(1.0)]}) == []


def test_requests_that_sleep_at_one_line() -> None:
    threads = stacked.stacks(stacked.threads(6, "build app:14", *SERVED, wchan="hrtimer_nanosleep"))
    found = made.run(slow_handler.ANALYZER, late(3.0), each={"web-1": [threads, stacked.activity()]})
    assert [(one.id, one.certainty) for one in found] == [("slow-handler", "very likely")]
    assert "each sleeps" in found[0].cause


def test_only_one_path_is_slow() -> None:
    records = [
        *made.records(12, target="/report?id=7", wait=None, total=2.0, fault="head-timeout", status=504),
        *made.records(80, target="/", wait=0.01),
    ]
    given = late(0.01, records=records)
    found = made.run(slow_handler.ANALYZER, given)
    assert [one.id for one in found] == ["slow-path", "timeouts"]
    assert found[0].title == "Only GET /report is slow" and found[0].paths == ["GET /report"]


def test_a_limit_that_is_close_to_what_is_usual() -> None:
    column = [0.8] * 540 + [1.5] * 60
    rings = {"": made.ring(requests=10.0, wait_p50=0.4, wait_p99=column, faults={"head-timeout": [1] * 30})}
    given = made.known(app=made.app(first_byte=1.0), rings=rings)
    assert [one.id for one in made.run(slow_handler.ANALYZER, given)] == ["timeout-too-short"]
