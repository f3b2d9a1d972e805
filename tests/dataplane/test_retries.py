"""Which requests are tried again, where, and what the client sees when that does not help."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from proxy import faults
from proxy.link.messages import App
from tests.dataplane.harness import listening, worker
from tests.dataplane.provoke import (
    Asked,
    Gateway,
    Origin,
    answers,
    app,
    origin,
    place,
    provokes,
    response,
    says,
    until,
)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


def first(bad: Any, *others: Any, **more: Any) -> App:
    """An app whose requests go to `bad` first, but for one in a million."""
    each = [place(port, weight=1e6 if at == 0 else 1.0) for at, port in enumerate(map(port_of, (bad, *others)))]
    return app(*each, balance="random", **more)


def port_of(what: Origin | int) -> int:
    return what if isinstance(what, int) else what.port


def nobody() -> int:
    with listening() as sock:
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_connect_refused_any_method_goes_to_another(gateway: Gateway, method: str) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(first(nobody(), good))
        answer = gateway.ask("/", method, b"content")
        assert answer.status == 200 and good.requests[-1].body == b"content"
        record = gateway.worker.record(answer.id)
        assert record.tries == 2 and record.fault == "" and record.attempts is not None
        assert [each.fault for each in record.attempts] == ["connect-refused", ""]
        assert record.attempts[0].sent == 0
        until(lambda: sum(row.retries for row in gateway.rows(spec.name).values()) == 1)
        until(lambda: gateway.blamed(spec.name) == {"connect-refused": 1})


@pytest.mark.parametrize("fault", ["closed-before-head", "reset-before-head"])
@pytest.mark.parametrize(("method", "again"), [("GET", True), ("PUT", True), ("POST", False)])
def test_a_request_that_was_sent_is_tried_again_only_if_idempotent(
    gateway: Gateway, method: str, again: bool, fault: str
) -> None:
    with origin(says(b"", "close" if fault.startswith("closed") else "reset")) as bad, origin(answers()) as good:
        spec = gateway.serve(first(bad, good))
        answer = gateway.ask("/", method, b"content")
        if again:
            assert answer.status == 200 and good.requests[0].body == b"content"
            return
        record = gateway.shown(spec, answer, faults.FAULTS[fault])
        assert record.tries == 1 and "not idempotent" in record.detail
        assert good.requests == []


def stale(status: bytes = b"") -> Any:
    """Closes a connection as the second request on it arrives."""

    def script(sock: socket.socket, asked: Asked) -> bool:
        if asked.again:
            return False
        sock.sendall(response())
        return True

    return script


def test_a_stale_connection_is_replaced_outside_attempts_and_budget(gateway: Gateway) -> None:
    with origin(stale()) as short:
        spec = gateway.serve(app(short.instance(), attempts=0, budget=0.0, per_second=0.0))
        with gateway.connect() as client:
            assert client.ask().status == 200
            answer = client.ask()
            assert answer.status == 200, "the same instance, on a fresh connection"
            record = gateway.worker.record(answer.id)
            assert record.tries == 1 and record.fault == "" and record.attempts is not None
            assert [(each.fault, each.reused) for each in record.attempts] == [("stale-connection", True), ("", False)]
        assert short.connections == 2
        until(lambda: gateway.rows(spec.name)[spec.instances[0].name].requests == 2)
        assert gateway.blamed(spec.name) == {}, "it says nothing about the instance's health"


@provokes(faults.STALE_CONNECTION)
def test_a_post_on_a_stale_connection_is_not_sent_twice(gateway: Gateway) -> None:
    with origin(stale()) as short:
        spec = gateway.serve(app(short.instance()))
        with gateway.connect() as client:
            assert client.ask().status == 200
            record = gateway.shown(spec, client.ask("/", "POST", b"x"), faults.STALE_CONNECTION)
            assert record.reused and record.idle_us is not None
        assert len(short.requests) == 2


def test_stale_is_said_once_then_it_is_a_fault_of_the_instance(gateway: Gateway) -> None:
    script = stale()
    with origin(lambda sock, asked: bool(len(short.requests) == 1 and script(sock, asked))) as short:
        spec = gateway.serve(app(short.instance()))
        with gateway.connect() as client:
            assert client.ask().status == 200
            answer = client.ask()
            assert (answer.status, answer.fault) == (502, "stale-connection"), "its first fault"
            record = gateway.worker.record(answer.id)
            assert record.attempts is not None
            assert [each.fault for each in record.attempts] == ["stale-connection", "closed-before-head"]
        assert len(short.requests) == 3
        until(lambda: gateway.blamed(spec.name) == {"closed-before-head": 1})


def test_attempts_are_limited(gateway: Gateway) -> None:
    with origin(says(b"")) as bad:
        spec = gateway.serve(app(*(bad.instance(name=f"bad{n}") for n in range(4)), attempts=1))
        record = gateway.shown(spec, gateway.ask(), faults.CLOSED_BEFORE_HEAD)
        assert record.tries == 2 and len(bad.requests) == 2
        assert record.attempts is not None and len({each.instance for each in record.attempts}) == 2


def test_the_budget_is_limited(gateway: Gateway) -> None:
    """Nothing of the traffic and 0.2 a second: two in ten seconds."""
    with origin(says(b"")) as bad, origin(answers()) as good:
        spec = gateway.serve(first(bad, good, budget=0.0, per_second=0.2))
        answers_ = [gateway.ask() for _ in range(6)]
        assert [each.status for each in answers_].count(200) in (2, 3)
        assert answers_[0].status == 200 and answers_[-1].status == 502
        record = gateway.shown(spec, answers_[-1], faults.CLOSED_BEFORE_HEAD)
        assert record.tries == 1 and "budget" in record.detail


@pytest.mark.parametrize("on", [(), ("head-timeout",)])
@pytest.mark.slow
def test_a_head_timeout_is_tried_again_only_if_asked_for(gateway: Gateway, on: tuple[str, ...]) -> None:
    with origin(says(b"", "wait")) as bad, origin(answers()) as good:
        gateway.serve(first(bad, good, first_byte=0.2, retry_on=on))
        assert gateway.ask().status == (200 if on else 504)
        assert gateway.ask("/", "POST", b"x").status == 504
        assert len(good.requests) == len(on)


def test_an_app_error_is_tried_again_if_asked_for(gateway: Gateway) -> None:
    with origin(answers(b"broken", "503 Service Unavailable")) as bad, origin(answers()) as good:
        gateway.serve(first(bad, good, retry_on=("app-error",)))
        assert gateway.ask().status == 200
        with gateway.connect() as client:
            for _ in range(2):  # not idempotent: passed on as it came, and all goes on
                answer = client.ask("/", "POST", b"x")
                assert (answer.status, answer.body, answer.closes) == (503, b"broken", False)
        record = gateway.worker.record(answer.id)
        assert (record.fault, record.tries, record.reused) == ("app-error", 1, True)


def test_an_app_error_goes_on_as_sent_where_no_other_instance_is(gateway: Gateway) -> None:
    with origin(answers(b"broken", "500 Odd")) as bad:
        gateway.serve(app(bad.instance(), retry_on=("app-error",)))
        answer = gateway.ask()
        assert (answer.status, answer.body) == (500, b"broken")
        gateway.serve(app(bad.instance(), bad.instance(name="other"), retry_on=("app-error",)))
        answer = gateway.ask()
        assert (answer.status, answer.body) == (500, b"broken") and len(bad.requests) == 3


def test_an_app_error_and_then_nobody_keeps_its_status(gateway: Gateway) -> None:
    with origin(answers(b"broken", "500 Odd")) as bad:
        gateway.serve(first(bad, nobody(), retry_on=("app-error",)))
        answer = gateway.ask()
        assert answer.status == 500 and gateway.worker.record(answer.id).fault == "app-error"


@pytest.mark.parametrize(("size", "again"), [(60_000, True), (4_000_000, False)])
def test_content_is_kept_for_another_attempt_up_to_64_kib(gateway: Gateway, size: int, again: bool) -> None:
    with origin(says(b"")) as bad, origin(answers()) as good:
        spec = gateway.serve(first(bad, good))
        body = b"".join(b"%07d\n" % n for n in range(size // 8))
        answer = gateway.ask("/", "PUT", body)
        if again:
            assert answer.status == 200 and good.requests[0].body == body
        else:
            record = gateway.shown(spec, answer, faults.CLOSED_BEFORE_HEAD)
            assert "kept" in record.detail and not record.replayable and good.requests == []


def test_chunked_content_is_tried_again_whole(gateway: Gateway) -> None:
    with origin(says(b"")) as bad, origin(answers()) as good:
        gateway.serve(first(bad, good))
        with gateway.connect() as client:
            client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            client.sock.sendall(b"2\r\nde\r\n0\r\n\r\n")
            assert client.read().status == 200
        assert good.requests[0].body.endswith(b"0\r\n\r\n") and b"abc" in good.requests[0].body


def test_the_first_fault_is_what_the_client_sees(gateway: Gateway) -> None:
    with origin(says(b"")) as bad:
        spec = gateway.serve(first(bad, nobody()))
        record = gateway.shown(spec, gateway.ask(), faults.CLOSED_BEFORE_HEAD)
        assert record.attempts is not None
        assert [each.fault for each in record.attempts] == ["closed-before-head", "connect-refused"]


def test_never_on_an_instance_already_tried(gateway: Gateway) -> None:
    with origin(says(b"")) as bad:
        spec = gateway.serve(app(bad.instance()))
        assert gateway.shown(spec, gateway.ask(), faults.CLOSED_BEFORE_HEAD).tries == 1
        assert len(bad.requests) == 1


def test_a_backup_takes_what_the_primary_failed(gateway: Gateway) -> None:
    with origin(says(b"")) as bad, origin(answers()) as good:
        gateway.serve(app(bad.instance(), good.instance(backup=True), queue_timeout=20.0))
        answer = gateway.ask()
        assert answer.status == 200 and answer.seconds < 15
        assert len(bad.requests) == 1


def test_a_request_waits_for_an_instance_that_is_starting(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(place(nobody()), starting=1, wanted=2, queue_timeout=20.0))
        waiting = gateway.later("/", "POST", b"x")
        until(lambda: gateway.worker.board.waiting(spec.row) == 1)
        both = app(*spec.instances, good.instance(), name=spec.name, row=spec.row, queue_timeout=20.0)
        gateway.serve(both)
        assert waiting.answer.status == 200 and len(good.requests) == 1


@pytest.mark.slow
def test_and_gets_its_first_fault_when_none_comes(gateway: Gateway) -> None:
    spec = gateway.serve(app(place(nobody()), starting=1, wanted=2, queue_timeout=0.3))
    answer = gateway.ask()
    gateway.shown(spec, answer, faults.CONNECT_REFUSED)
    assert answer.seconds >= 0.3


class Idle:
    """Closes a connection that was idle for `seconds`; notes for each who closed it."""

    def __init__(self, seconds: float, fields: str = "") -> None:
        self.seconds, self.fields = seconds, fields
        self.ended: list[str] = []
        self.changed = threading.Event()

    def __call__(self, sock: socket.socket, asked: Asked) -> bool:
        sock.sendall(response(fields=self.fields))
        sock.settimeout(self.seconds)
        try:
            data = sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            self.ended.append("origin")
            return False
        if not data:
            self.ended.append("gateway")
        sock.settimeout(None)
        return bool(data)


@pytest.mark.slow
def test_the_idle_time_of_an_instance_is_learned(gateway: Gateway) -> None:
    """It closed one after a second; the next is closed by us, before."""
    script = Idle(1.0)
    with origin(script) as short:
        gateway.serve(app(short.instance()))
        assert gateway.ask().status == 200
        until(lambda: script.ended == ["origin"])
        assert gateway.ask().status == 200
        until(lambda: len(script.ended) == 2)
        assert script.ended[1] == "gateway"


@pytest.mark.slow
def test_the_idle_time_that_an_instance_tells_is_kept(gateway: Gateway) -> None:
    script = Idle(25.0, "Keep-Alive: timeout=1, max=100\r\n")
    with origin(script) as short:
        gateway.serve(app(short.instance()))
        assert gateway.ask().status == 200
        until(lambda: script.ended == ["gateway"])
