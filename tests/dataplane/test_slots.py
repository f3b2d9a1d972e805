"""Slots over all workers: two real workers, one board."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from proxy.link.messages import Learned
from tests.dataplane.harness import WorkerUnderTest, listening, worker
from tests.dataplane.provoke import Asking, Cut, Gate, Gateway, answers, app, connect, origin, until

CLIENTS = 50


@contextmanager
def workers(count: int) -> Iterator[list[WorkerUnderTest]]:
    """On one address, as the launcher has it: a socket of each worker's own."""
    sock = listening(reuse=True)
    with worker((sock, False), workers=count) as first:
        if count == 1:
            yield [first]
            return
        other = listening(reuse=True, port=first.port)
        shared: dict[str, Any] = {"board_fd": first.board_fd, "wakeups": first.wakeups}
        with worker((other, False), workers=count, column=1, **shared) as second:
            yield [first, second]


@contextmanager
def pair() -> Iterator[list[WorkerUnderTest]]:
    """Two workers, each on an address of its own, so that a test says who gets what."""
    with worker(workers=2) as first:
        shared: dict[str, Any] = {"board_fd": first.board_fd, "wakeups": first.wakeups}
        with worker(workers=2, column=1, **shared) as second:
            yield [first, second]


def load(port: int, each: int) -> tuple[list[int], list[float]]:
    """CLIENTS that begin together; statuses, and how long each request took."""
    statuses: list[int] = []
    times: list[float] = []
    together = threading.Barrier(CLIENTS)

    def run() -> None:
        with connect(port) as client:
            together.wait()
            for _ in range(each):
                answer = client.ask()
                statuses.append(answer.status)
                times.append(answer.seconds)

    threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, times


@pytest.mark.slow
def test_one_slot_two_workers_fifty_clients() -> None:
    """No 503, nobody waits twice as long as with one worker, by the mean, and the limit is passed by one at most."""
    longest: list[float] = []
    for count in (1, 2):
        with workers(count) as those, origin(answers(after=0.002)) as slow:
            spec = app(slow.instance(slots=1), queue_timeout=60.0)
            for each in those:
                each.table(spec)
            statuses, times = load(those[0].port, 8)
            assert statuses == [200] * (CLIENTS * 8)
            assert slow.most <= count, "passed by at most workers - 1"
            assert len(slow.requests) == CLIENTS * 8
            longest.append(max(times) / sum(times) * len(times))
            board = those[0].board
            until(lambda: board.total(spec.instances[0].row) == 0 and board.waiting(spec.row) == 0)  # noqa: B023
    assert longest[1] < 2 * longest[0] + 2, longest


@pytest.mark.slow
def test_who_waits_in_one_worker_gets_the_slot_that_the_other_frees() -> None:
    gate = Gate()
    with pair() as (first, second), origin(gate) as slow:
        spec = app(slow.instance(slots=1), queue_timeout=60.0)
        for each in (first, second):
            each.table(spec)
        holding = Asking(first.port, "/0")
        until(lambda: len(slow.requests) == 1)
        waiting = []
        for number in range(1, 5):
            waiting.append(Asking((first, second)[number % 2].port, f"/{number}"))
            until(lambda: first.board.waiting(spec.row) == len(waiting))
        for number in range(2, 6):
            gate.let(1)
            until(lambda: len(slow.requests) == number)  # noqa: B023
            assert slow.now <= 2
        gate.open()
        assert [each.answer.status for each in (holding, *waiting)] == [200] * 5
        assert [each.target for each in slow.requests] == [f"/{n}" for n in range(5)], "the oldest first, over both"


@pytest.mark.slow
def test_the_queue_is_bounded_over_all_workers() -> None:
    gate = Gate()
    with pair() as (first, second), origin(gate) as slow:
        spec = app(slow.instance(slots=1), queue_size=3, queue_timeout=60.0)
        for each in (first, second):
            each.table(spec)
        asked = [Asking(first.port)]
        until(lambda: len(slow.requests) == 1)
        for number in range(3):
            asked.append(Asking((first, second)[number % 2].port))
            until(lambda: first.board.waiting(spec.row) == number + 1)  # noqa: B023
        for each in (first, second):
            assert Asking(each.port).answer.fault == "queue-full"
        gate.open()
        assert [each.answer.status for each in asked] == [200] * 4


@pytest.mark.slow
def test_a_worker_that_died_frees_its_slots() -> None:
    """Control zeroes its column; who waits in the other goes on at its next look."""
    gate = Gate()
    with pair() as (first, second), origin(gate) as slow:
        spec = app(slow.instance(slots=2), queue_timeout=60.0)
        for each in (first, second):
            each.table(spec)
        lost = [Asking(first.port), Asking(first.port)]
        until(lambda: len(slow.requests) == 2)
        waiting = [Asking(second.port) for _ in range(2)]
        until(lambda: second.board.waiting(spec.row) == 2)
        first.process.kill()
        first.process.wait()
        for each in lost:
            with pytest.raises(Cut):
                _ = each.answer
        assert second.board.waiting(spec.row) == 2
        second.board.zero_column(0)
        until(lambda: len(slow.requests) == 4)
        gate.open()
        assert [each.answer.status for each in waiting] == [200, 200]


@pytest.mark.slow
def test_a_trial_instance_gets_one_request_at_a_time_over_all_workers() -> None:
    gate = Gate()
    with pair() as (first, second), origin(gate) as ill:
        spec = app(ill.instance(admission="trial"), queue_timeout=60.0)
        for each in (first, second):
            each.table(spec)
        asked = [Asking(first.port)]
        until(lambda: len(ill.requests) == 1)
        for number in range(6):
            asked.append(Asking((first, second)[number % 2].port))
            until(lambda: first.board.waiting(spec.row) == number + 1)  # noqa: B023
        assert len(ill.requests) == 1
        gate.let(1)
        told = first.wait(Learned, lambda learned: learned.app == spec.name)
        assert told.good == 1 and told.streak == 0, "its one answer decides: control hears of it at once"
        gate.open()
        assert [each.answer.status for each in asked] == [200] * 7
        assert ill.most <= 2, "passed by at most workers - 1"


def test_a_trial_request_answered_with_5xx_is_no_good_answer() -> None:
    with worker() as under_test, origin(answers()) as ill:
        gateway = Gateway(under_test)
        spec = app(ill.instance())
        gateway.serve(spec)
        assert [gateway.ask().status for _ in range(3)] == [200] * 3
        ill.script = answers(status="500 Odd")
        row = spec.instances[0].row
        gateway.serve(app(ill.instance(row=row, admission="trial"), name=spec.name, row=spec.row))
        assert gateway.ask().status == 500
        told = until(lambda: gateway.learned(spec.name))
        assert [(each.good, each.faults) for each in told] == [(0, {"app-error": 1})], "nor do those before it count"


def test_the_request_on_trial_is_sent_though_it_was_slow_before() -> None:
    """What was known of it is forgotten when it is put on trial, else it would not be picked for it."""
    with worker() as under_test, origin(answers(status="500 Odd")) as ill, origin(answers()) as good:
        gateway = Gateway(under_test)
        spec = app(ill.instance(), good.instance(), balance="least-latency")
        gateway.serve(spec)
        with gateway.connect() as client:
            for _ in range(30):
                client.ask()
            failed = len(ill.requests)
            assert 1 <= failed <= 5
            trial = app(
                ill.instance(admission="trial", row=spec.instances[0].row),
                good.instance(row=spec.instances[1].row),
                name=spec.name,
                row=spec.row,
            )
            gateway.serve(trial)
            for _ in range(10):
                client.ask()
            assert len(ill.requests) > failed


def test_slots_are_counted_by_requests_not_by_connections() -> None:
    with worker() as under_test, origin(answers()) as good:
        gateway = Gateway(under_test)
        spec = gateway.serve(app(good.instance(slots=1)))
        began = time.monotonic()
        with gateway.connect() as one, gateway.connect() as two:
            for _ in range(20):
                assert (one.ask().status, two.ask().status) == (200, 200)
        assert time.monotonic() - began < 20
        until(lambda: gateway.in_flight(spec) == 0)
