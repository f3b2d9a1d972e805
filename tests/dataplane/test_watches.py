"""What an app's rules want counted: exactly, on the instance it belongs to; and since when the oldest request waits."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from proxy.link.messages import App, Stats, Watch
from tests.dataplane.harness import listening, worker
from tests.dataplane.provoke import (
    Asked,
    Gate,
    Gateway,
    answers,
    app,
    origin,
    place,
    request,
    response,
    says,
    until,
    wait_for_end,
)

EACH = (
    Watch("all", "requests"),
    Watch("api", "requests", path="/api/*"),
    Watch("5xx", "status", codes=((500, 599),)),
    Watch("slow", "slow", above=0.2),
    Watch("late", "fault", names=("head-timeout",)),
    Watch("refused", "fault", names=("connect-refused", "closed-before-head"), path="/refused"),
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


def watched(gateway: Gateway, spec: App, instance: str | None = None) -> dict[str, int]:
    """What was counted by now; of the app's only instance unless told which."""
    name = spec.instances[0].name if instance is None else instance
    row = gateway.rows(spec.name).get(name)
    return row.watched if row is not None else {}


def first(*ports: int, **more: object) -> App:
    """Requests go to the first instance, but for one in a million."""
    each = [place(port, name=f"p{at}", weight=1e6 if at == 0 else 1.0) for at, port in enumerate(ports)]
    return app(*each, balance="random", watches=EACH, **more)


def test_requests_by_path_and_status(gateway: Gateway) -> None:
    def script(sock: socket.socket, asked: Asked) -> bool:
        sock.sendall(response(status="500 Odd" if "bad" in asked.target else "200 OK"))
        return True

    with origin(script) as one:
        spec = gateway.serve(app(one.instance(), watches=EACH))
        with gateway.connect() as client:
            for target in ("/api/a", "/api/", "/api/x/y?z", "/api", "/x?/api/", "/api/bad", "/bad"):
                client.ask(target)
        assert watched(gateway, spec) == {"all": 7, "api": 4, "5xx": 2}


def test_what_reached_no_instance_is_the_app_s_own(gateway: Gateway) -> None:
    spec = gateway.serve(app(watches=EACH, wanted=0))
    assert gateway.ask("/api/x").status == 503
    assert watched(gateway, spec, "") == {"all": 1, "api": 1, "5xx": 1}


def test_a_slow_answer_counts_and_a_prompt_one_does_not(gateway: Gateway) -> None:
    def script(sock: socket.socket, asked: Asked) -> bool:
        time.sleep(0.3 if asked.target == "/slow" else 0.0)  # it is a slow origin
        sock.sendall(response())
        return True

    with origin(script) as one:
        spec = gateway.serve(app(one.instance(), watches=EACH))
        with gateway.connect() as client:
            for target in ("/", "/slow", "/"):
                client.ask(target)
        assert watched(gateway, spec) == {"all": 3, "slow": 1}


def test_a_wait_that_ended_in_a_retry_counts_where_it_was(gateway: Gateway) -> None:
    with origin(says(b"", "wait")) as bad, origin(answers()) as good:
        spec = gateway.serve(first(bad.port, good.port, first_byte=0.3, retry_on=("head-timeout",)))
        assert gateway.ask().status == 200
        assert watched(gateway, spec, "p0") == {"slow": 1, "late": 1}
        assert watched(gateway, spec, "p1") == {"all": 1}
        assert gateway.ask("/", "POST", b"x").status == 504  # it is not tried again: one wait, one fault, one request
        assert watched(gateway, spec, "p0") == {"slow": 2, "late": 2, "all": 1, "5xx": 1}


def test_an_error_that_another_instance_was_asked_after_counts_where_it_was(gateway: Gateway) -> None:
    with origin(answers(b"no", "503 No", after=0.3)) as bad, origin(answers()) as good:
        spec = gateway.serve(first(bad.port, good.port, retry_on=("app-error",)))
        assert gateway.ask().status == 200
        assert watched(gateway, spec, "p0") == {"slow": 1, "5xx": 1}
        assert watched(gateway, spec, "p1") == {"all": 1}


def test_a_fault_counts_once_on_each_instance_that_had_it(gateway: Gateway) -> None:
    with listening() as sock:
        nobody = int(sock.getsockname()[1])
    with origin(answers()) as good:
        spec = gateway.serve(first(nobody, good.port))
        assert gateway.ask("/refused").status == 200
        assert watched(gateway, spec, "p0") == {"refused": 1} and watched(gateway, spec, "p1") == {"all": 1}
    spec = gateway.serve(app(place(nobody), watches=EACH))
    assert gateway.ask("/refused").status == 502
    assert gateway.ask("/other").status == 502
    assert watched(gateway, spec) == {"all": 2, "5xx": 2, "refused": 1}


def test_uploads_bodies_and_tunnels_are_no_waits(gateway: Gateway) -> None:
    """Each lasts longer than the watch allows a wait; the last one waits, and is counted before its content ends."""
    on = threading.Event()

    def script(sock: socket.socket, asked: Asked) -> bool:
        if asked.field("Upgrade"):
            sock.sendall(SWITCHED)
            wait_for_end(sock)
            return False
        if asked.target == "/late":
            time.sleep(0.3)  # it is a slow origin
        if asked.method == "GET":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            if asked.target == "/late":
                on.wait()
            time.sleep(0.3)  # it sends slowly
            sock.sendall(b"half")
        else:
            sock.sendall(response())
        return True

    with origin(script) as one:
        spec = gateway.serve(app(one.instance(), watches=EACH))
        with gateway.connect() as client:
            whole = request("/", "POST", b"12345678")
            client.send(whole[:-4])
            until(lambda: gateway.in_flight(spec) == 1)
            time.sleep(0.3)  # it is a slow client
            client.send(whole[-4:])
            assert client.read().status == 200
        assert gateway.ask().body == b"halfhalf"
        with gateway.connect() as client:
            answer = client.ask(Connection="Upgrade", Upgrade="websocket")
            assert answer.status == 101
            time.sleep(0.3)  # a tunnel lasts
        until(lambda: gateway.in_flight(spec) == 0)
        assert watched(gateway, spec) == {"all": 3}
        late = gateway.later("/late")
        until(lambda: watched(gateway, spec).get("slow") == 1)
        assert watched(gateway, spec)["all"] == 3
        on.set()
        assert late.answer.body == b"halfhalf"
        assert watched(gateway, spec) == {"all": 4, "slow": 1}


def test_counts_go_on_over_tables_by_their_key(gateway: Gateway) -> None:
    with origin(answers()) as one:
        spec = gateway.serve(app(one.instance(), watches=EACH[:1]))
        gateway.ask()
        assert watched(gateway, spec) == {"all": 1}
        none = App(name=spec.name, row=spec.row, instances=spec.instances)
        gateway.serve(none)
        gateway.ask()
        gateway.serve(App(name=spec.name, row=spec.row, instances=spec.instances, watches=EACH[:2]))
        gateway.ask("/api/x")
        assert watched(gateway, spec) == {"all": 2, "api": 1}


def test_since_when_the_oldest_request_waits(gateway: Gateway) -> None:
    """Of three on one instance the first; not one whose content is still coming, neither one way nor the other."""
    gate = Gate()
    half = says(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", "wait")
    with origin(gate) as one, origin(half) as two, origin(answers()) as three:
        held = app(one.instance(), name="held", paths=("/held",))
        gateway.serve(
            held, app(two.instance(), name="half", paths=("/half",)), app(three.instance(), name="up", paths=("/up",))
        )
        with gateway.connect() as half_read, gateway.connect() as half_sent:
            half_read.send(request("/half"))
            half_sent.send(request("/up", "POST", b"1234")[:-1])
            before = time.monotonic()
            waiting = [gateway.later("/held")]
            until(lambda: gate_has(one.requests, 1))
            after = time.monotonic()
            waiting += [gateway.later("/held"), gateway.later("/held")]
            until(lambda: gate_has(one.requests, 3))
            told = gateway.worker.wait(Stats, lambda stats: bool(stats.oldest))
            assert list(told.oldest) == ["held"] and list(told.oldest["held"]) == [held.instances[0].name]
            since = told.oldest["held"][held.instances[0].name]
            assert before <= since <= after and told.at - since >= 1.0
        gate.open()
        assert all(each.answer.status == 200 for each in waiting)
        count = len(gateway.worker.received)
        until(lambda: any(isinstance(each, Stats) and not each.oldest for each in gateway.worker.received[count:]))


def gate_has(requests: list[Asked], count: int) -> bool:
    return len(requests) >= count


def test_a_longer_queue_timeout_holds_for_who_waits_already(gateway: Gateway) -> None:
    """A planned act that leaves no instance for a while says so in a table: nobody is turned away meanwhile."""
    with origin(answers()) as one:
        spec = gateway.serve(app(queue_timeout=2.0, starting=1))
        began = time.monotonic()
        waiting = gateway.later()
        until(lambda: gateway.worker.board.waiting(spec.row) == 1)
        gateway.serve(App(name=spec.name, row=spec.row, starting=1, queue_timeout=60.0))
        until(lambda: time.monotonic() > began + 3.0)  # the limit that held when it came is over
        assert gateway.worker.board.waiting(spec.row) == 1
        gateway.serve(App(name=spec.name, row=spec.row, instances=(one.instance(),)))
        assert waiting.answer.status == 200
