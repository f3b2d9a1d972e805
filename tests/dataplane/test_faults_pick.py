"""Faults of picking: no instance, none that may be picked, or none with a slot; and the gateway's own limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proxy import faults
from proxy.link.messages import App
from tests.dataplane.harness import worker
from tests.dataplane.provoke import Cut, Gate, Gateway, answers, app, origin, place, provokes, until


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


def again(spec: App, **changes: Any) -> App:
    """The same app with other keys."""
    given = {name: getattr(spec, name) for name in spec.__struct_fields__}
    return App(**(given | changes))


@provokes(faults.NO_INSTANCE)
def test_no_instance(gateway: Gateway) -> None:
    spec = gateway.serve(app(wanted=0))
    with gateway.connect() as client:
        gateway.shown(spec, client.ask(), faults.NO_INSTANCE)
        assert gateway.shown(spec, client.ask(), faults.NO_INSTANCE).queue_us is None, "there is nothing to wait for"


@provokes(faults.ALL_UNREADY)
def test_all_unready_when_none_is_on_its_way(gateway: Gateway) -> None:
    spec = gateway.serve(app(wanted=2, queue_timeout=20.0))
    answer = gateway.ask()
    gateway.shown(spec, answer, faults.ALL_UNREADY)
    assert answer.seconds < 15


def test_all_unready_after_the_wait_for_one_that_starts(gateway: Gateway) -> None:
    spec = gateway.serve(app(wanted=1, starting=1, queue_timeout=0.2))
    answer = gateway.ask()
    record = gateway.shown(spec, answer, faults.ALL_UNREADY)
    assert answer.seconds >= 0.2 and record.queue_us is not None and record.queue_us >= 200_000


@provokes(faults.ALL_EJECTED)
def test_all_ejected(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance(admission="ejected"), queue_timeout=0.2))
        answer = gateway.ask()
        gateway.shown(spec, answer, faults.ALL_EJECTED)
        assert good.connections == 0


def test_who_waits_for_an_ejected_one_is_served_when_it_is_admitted(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance(admission="ejected"), queue_timeout=20.0))
        waiting = gateway.later()
        until(lambda: gateway.worker.board.waiting(spec.row) == 1)
        gateway.serve(again(spec, instances=(good.instance(row=spec.instances[0].row),)))
        assert waiting.answer.status == 200


@provokes(faults.STOPPED)
def test_stopped(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance(), state="stopped"))
        gateway.shown(spec, gateway.ask(), faults.STOPPED)
        gateway.serve(again(spec, state="up"))
        assert gateway.ask().status == 200


def test_stopping_answers_who_waits(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance(), state="held", queue_timeout=20.0))
        waiting = gateway.later()
        until(lambda: gateway.worker.board.waiting(spec.row) == 1)
        gateway.serve(again(spec, state="stopped"))
        gateway.shown(spec, waiting.answer, faults.STOPPED)


@provokes(faults.HELD_TOO_LONG)
def test_held_too_long(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance(), state="held", queue_timeout=0.2))
        answer = gateway.ask()
        gateway.shown(spec, answer, faults.HELD_TOO_LONG)
        assert answer.seconds >= 0.2 and good.connections == 0


def test_release_serves_those_held_in_order(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance(slots=1), state="held", queue_timeout=20.0))
        waiting = []
        for number in range(5):
            waiting.append(gateway.later(f"/{number}"))
            until(lambda: gateway.worker.board.waiting(spec.row) == len(waiting))
        gateway.serve(again(spec, state="up"))
        assert [each.answer.status for each in waiting] == [200] * 5
        assert [each.target for each in good.requests] == [f"/{number}" for number in range(5)]


@provokes(faults.QUEUE_FULL)
def test_queue_full(gateway: Gateway) -> None:
    gate = Gate()
    with origin(gate) as slow:
        spec = gateway.serve(app(slow.instance(slots=1), queue_size=2, queue_timeout=60.0))
        waiting = [gateway.later() for _ in range(3)]
        until(lambda: gateway.worker.board.waiting(spec.row) == 2 and slow.requests)
        with gateway.connect() as client:
            answer = client.ask()
            assert (answer.status, answer.fault, answer.closes) == (503, "queue-full", False)
            assert 1 <= int(answer.fields["retry-after"]) <= 30
            gate.open()
            assert [each.answer.status for each in waiting] == [200] * 3
            gateway.shown(spec, answer, faults.QUEUE_FULL)
            assert client.ask().status == 200


@provokes(faults.QUEUE_TIMEOUT)
@pytest.mark.slow
def test_queue_timeout(gateway: Gateway) -> None:
    gate = Gate()
    with origin(gate) as slow:
        spec = gateway.serve(app(slow.instance(slots=1), queue_timeout=0.3))
        first = gateway.later()
        until(lambda: slow.requests)
        answer = gateway.ask()
        assert answer.fault == "queue-timeout" and answer.seconds >= 0.3
        gate.open()
        assert first.answer.status == 200
        record = gateway.shown(spec, answer, faults.QUEUE_TIMEOUT)
        assert record.queue_us is not None and record.queue_us >= 300_000 and record.tries == 0


@provokes(faults.SHED)
@pytest.mark.slow
def test_under_pressure_the_oldest_are_shed_and_the_newest_served_first(gateway: Gateway) -> None:
    """The queue is full, and its oldest has waited half the time limit: it makes place for who comes."""
    gate = Gate()
    with origin(gate) as slow:
        spec = gateway.serve(app(slow.instance(slots=1), queue_size=4, queue_timeout=1.5))
        first = gateway.later("/first")
        until(lambda: slow.requests)
        old = []
        for number in range(4):
            old.append(gateway.later(f"/old{number}"))
            until(lambda: gateway.worker.board.waiting(spec.row) == len(old))
        answer = gateway.ask()
        assert answer.fault == "queue-full", "its oldest has only just come"
        shed = until(lambda: shed_by_a_newcomer(gateway, old))
        gate.let(1)
        until(lambda: len(slow.requests) >= 2)
        assert slow.requests[1].target == "/new", "newest first"
        gate.open()
        assert first.answer.status == 200
        assert shed.answer.fault == "shed"
        gateway.shown(spec, shed.answer, faults.SHED)


def shed_by_a_newcomer(gateway: Gateway, old: list[Any]) -> Any:
    newcomer = gateway.later("/new")
    newcomer.join(0.05)
    return old[0] if newcomer.is_alive() else None


@provokes(faults.GATEWAY_OVERLOAD)
def test_connections_beyond_the_limit_get_an_answer(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance()), connections_limit=3)
        before = [gateway.connect() for _ in range(3)]
        try:
            assert [each.ask().status for each in before] == [200] * 3
            with gateway.connect() as client:
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
                answer = client.read()
                assert answer.closes and client.at_end()
                gateway.shown(spec, answer, faults.GATEWAY_OVERLOAD, name=" ")
            assert [each.ask().status for each in before] == [200] * 3, "those inside are not touched"
            before.pop().sock.close()
            until(lambda: accepted(gateway))
        finally:
            for each in before:
                each.sock.close()
        gateway.serve(spec, connections_limit=10000)


def accepted(gateway: Gateway) -> bool:
    try:
        return gateway.ask().status == 200
    except Cut:
        return False


def test_an_app_that_left_the_table_answers_who_waits(gateway: Gateway) -> None:
    spec = gateway.serve(app(starting=1, queue_timeout=20.0))
    waiting = gateway.later()
    until(lambda: gateway.worker.board.waiting(spec.row) == 1)
    gateway.serve(app(place(1), hosts=("other.example",)))
    assert waiting.answer.fault == "no-route"
    assert gateway.worker.board.waiting(spec.row) == 0
