"""Faults that are the client's doing, or found before an instance is looked for."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from proxy import faults
from proxy.dataplane.wheel import TICK
from proxy.link.messages import App
from tests.dataplane.harness import worker
from tests.dataplane.provoke import RST, Cut, Gate, Gateway, answers, app, origin, place, provokes, says, until

QUICK = {"head_timeout": 0.3, "body_timeout": 0.4, "idle_timeout": 20.0}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


@provokes(faults.BAD_REQUEST)
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ],
)
def test_bad_request(gateway: Gateway, head: bytes, status: int) -> None:
    spec = gateway.serve(app())
    with gateway.connect() as client:
        client.send(head)
        answer = client.read()
        gateway.shown(spec, answer, faults.BAD_REQUEST, status=status, name=" ")
        assert answer.closes and client.at_end(), "where the next request begins is not known"


@provokes(faults.BAD_FRAMING)
def test_bad_framing_never_reaches_an_instance(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance()))
        with gateway.connect() as client:
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            )
            answer = client.read()
            gateway.shown(spec, answer, faults.BAD_FRAMING, name=" ")
            assert answer.closes and client.at_end()
        assert good.connections == 0


@provokes(faults.HEAD_TOO_LARGE)
@pytest.mark.parametrize(
    "fields", [b"X-Large: " + b"x" * 70000 + b"\r\n\r\n", b"X-Endless: " + b"x" * 70000, b"X: y\r\n" * 150 + b"\r\n"]
)
def test_head_too_large(gateway: Gateway, fields: bytes) -> None:
    spec = gateway.serve(app())
    with gateway.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields)
        gateway.shown(spec, client.read(), faults.HEAD_TOO_LARGE, name=" ")


@provokes(faults.TARGET_TOO_LONG)
def test_target_too_long(gateway: Gateway) -> None:
    spec = gateway.serve(app())
    gateway.shown(spec, gateway.ask("/" + "x" * 9000), faults.TARGET_TOO_LONG, name=" ")


@provokes(faults.BODY_TOO_LARGE)
def test_body_too_large_by_its_length(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance(), max_body=1000))
        answer = gateway.ask("/", "POST", b"x" * 1001)
        gateway.shown(spec, answer, faults.BODY_TOO_LARGE)
        assert good.connections == 0
        assert gateway.ask("/", "POST", b"x" * 1000).status == 200


def test_body_too_large_found_while_it_comes(gateway: Gateway) -> None:
    """Chunked content shows its size late: the instance never sees an end that would look whole."""
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance(), max_body=1000))
        with gateway.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.sock.sendall((b"200\r\n" + b"x" * 512 + b"\r\n") * 4 + b"0\r\n\r\n")
            answer = client.read()
            gateway.shown(spec, answer, faults.BODY_TOO_LARGE)
            assert answer.closes
        assert good.requests == []


@provokes(faults.CLIENT_TIMEOUT)
@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX-"])
@pytest.mark.slow
def test_client_timeout_before_the_head_is_whole(gateway: Gateway, sent: bytes) -> None:
    spec = gateway.serve(app(), **QUICK)
    with gateway.connect() as client:
        client.send(sent)
        if not sent:
            assert client.at_end(), "who says nothing is closed without a word"
            return
        answer = client.read()
        gateway.shown(spec, answer, faults.CLIENT_TIMEOUT, name=" ")
        assert answer.seconds >= 0.3 - TICK and answer.closes


@pytest.mark.slow
def test_one_byte_at_a_time_does_not_prolong_the_head(gateway: Gateway) -> None:
    gateway.serve(app(), **QUICK)
    with gateway.connect() as client:
        client.sock.settimeout(0.1)
        client.send(b"GET / HTTP/1.1\r\nX-")
        got = b""
        while not got:
            try:
                client.sock.sendall(b"x")
                got = client.sock.recv(65536)
            except TimeoutError:
                continue
        assert got.startswith(b"HTTP/1.1 408 ")


@pytest.mark.slow
def test_client_timeout_in_the_content(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance()), **QUICK)
        with gateway.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
            answer = client.read()
            record = gateway.shown(spec, answer, faults.CLIENT_TIMEOUT)
            assert answer.seconds >= 0.4 and answer.closes and record.bytes_in == 4
        assert good.requests == [], "it is never ended so that it looks whole"


@pytest.mark.slow
def test_time_limits_of_a_new_table_hold_for_what_is_idle(gateway: Gateway) -> None:
    with origin(answers()) as good:
        gateway.serve(app(good.instance()), idle_timeout=0.3)
        with gateway.connect() as client:
            assert client.ask().status == 200
            assert client.at_end()


@provokes(faults.CLIENT_LEFT)
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_client_left_while_it_waits(gateway: Gateway, how: str) -> None:
    gate = Gate()
    with origin(gate) as slow:
        spec = gateway.serve(app(slow.instance()))
        with gateway.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: slow.requests)
            if how == "rst":
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        until(lambda: gateway.in_flight(spec) == 0, "the slot is free again")
        record = gateway.shown(spec, None, faults.CLIENT_LEFT)
        assert record.status == 499
        gate.open()


def test_client_left_while_it_sends(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance()))
        with gateway.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
            until(lambda: gateway.in_flight(spec) == 1)
        record = gateway.shown(spec, None, faults.CLIENT_LEFT)
        assert record.status == 499 and good.requests == []


def test_client_left_while_it_waits_in_the_queue(gateway: Gateway) -> None:
    gate = Gate()
    with origin(gate) as slow:
        spec = gateway.serve(app(slow.instance(slots=1)))
        first = gateway.later()
        until(lambda: slow.requests)
        with gateway.connect() as client:
            client.send(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: gateway.worker.board.waiting(spec.row) == 1)
        until(lambda: gateway.worker.board.waiting(spec.row) == 0, "its place is free again")
        gate.open()
        assert first.answer.status == 200
        assert len(slow.requests) == 1


@provokes(faults.CLIENT_STALLED)
@pytest.mark.slow
def test_client_stalled(gateway: Gateway) -> None:
    with origin(says(b"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n" + b"x" * 60_000_000)) as large:
        spec = gateway.serve(app(large.instance()), **QUICK)
        with gateway.connect(receive=4096) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            record = gateway.shown(spec, None, faults.CLIENT_STALLED)
            assert record.status == 499 and record.bytes_out < 30_000_000
            with pytest.raises(Cut):
                client.read()
        assert gateway.blamed(spec.name) == {}


def rated(good: object, **more: object) -> App:
    return app(good.instance(), rate=0.5, burst=2.0, **more)  # type: ignore[attr-defined]


@provokes(faults.RATE_LIMITED)
def test_rate_limited(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(rated(good))
        with gateway.connect() as client:
            assert [client.ask().status for _ in range(3)] == [200, 200, 429]
            answer = client.ask()
            gateway.shown(spec, answer, faults.RATE_LIMITED)
            assert answer.fields["retry-after"] in ("1", "2") and not answer.closes
        with gateway.connect(source="127.0.0.9") as other:
            assert other.ask().status == 200, "each client has its own"


def test_rate_limit_counts_ipv6_clients_by_their_network(gateway: Gateway) -> None:
    with origin(answers()) as good:
        gateway.serve(rated(good), trusted_proxies=("127.0.0.1/32",))
        with gateway.connect() as client:

            def from_(address: str) -> int:
                return client.ask(X_Forwarded_For=address).status

            assert [from_(f"2001:db8:1:2::{n:x}") for n in range(4)] == [200, 200, 429, 429]
            assert from_("2001:db8:1:3::1") == 200, "the next /64"
            assert from_("203.0.113.1") == 200 and from_("203.0.113.2") == 200


@provokes(faults.NO_ROUTE)
def test_no_route(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance(), hosts=("other.example",)))
        with gateway.connect() as client:
            gateway.shown(spec, client.ask(), faults.NO_ROUTE, name=" ")
            client.send(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
            assert client.read().status == 200


@provokes(faults.LOOP_DETECTED)
def test_loop_detected(gateway: Gateway) -> None:
    """An app whose address leads back here: the second time round is refused, and nothing runs away."""
    spec = gateway.serve(app(place(gateway.port), first_byte=10.0), head_timeout=10.0)
    with gateway.connect() as client:
        answer = client.ask()
        assert (answer.status, answer.fault) == (502, "loop-detected")
        until(lambda: gateway.counted("", "loop-detected") >= 1)
        assert client.ask().fault == "loop-detected"
    until(lambda: gateway.in_flight(spec) == 0)
