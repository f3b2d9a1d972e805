"""Faults of an instance that took the request: what it says, leaves out, or does not end."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from proxy import faults
from proxy.dataplane.wheel import TICK
from proxy.link.messages import BadResponse
from tests.dataplane.harness import worker
from tests.dataplane.provoke import (
    Asked,
    Cut,
    Gateway,
    answers,
    app,
    origin,
    provokes,
    response,
    says,
    until,
)

SLACK = 15.0
"""How late a limit may be on a machine that is busy with other things."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


@provokes(faults.CLOSED_BEFORE_HEAD)
def test_closed_before_head(gateway: Gateway) -> None:
    with origin(says(b"")) as bad:
        spec = gateway.serve(app(bad.instance()))
        with gateway.connect() as client:
            record = gateway.shown(spec, client.ask("/", "POST", b"x"), faults.CLOSED_BEFORE_HEAD)
            assert record.attempts is not None and len(record.attempts) == 1
            assert record.attempts[0].fault == "closed-before-head" and record.attempts[0].sent > 0
            bad.script = answers()
            assert client.ask().status == 200, "a gateway fault does not close a healthy client connection"


@provokes(faults.RESET_BEFORE_HEAD)
def test_reset_before_head(gateway: Gateway) -> None:
    with origin(says(b"", "reset")) as bad:
        spec = gateway.serve(app(bad.instance()))
        gateway.shown(spec, gateway.ask("/", "POST", b"x"), faults.RESET_BEFORE_HEAD)


def test_half_a_head_says_how_much_came(gateway: Gateway) -> None:
    with origin(says(b"HTTP/1.1 200 OK\r\nContent-Le")) as bad:
        spec = gateway.serve(app(bad.instance()))
        record = gateway.shown(spec, gateway.ask("/", "POST", b"x"), faults.CLOSED_BEFORE_HEAD)
        assert "27 bytes" in record.detail


@provokes(faults.HEAD_TIMEOUT)
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
@pytest.mark.slow
def test_head_timeout(gateway: Gateway, said: bytes) -> None:
    with origin(says(said, "wait")) as bad:
        spec = gateway.serve(app(bad.instance(), first_byte=0.3))
        with gateway.connect() as client:
            answer = client.ask()
            record = gateway.shown(spec, answer, faults.HEAD_TIMEOUT)
            assert 0.3 <= answer.seconds < 0.3 + TICK + SLACK
            assert record.wait_us is not None and record.wait_us >= 299_000
            bad.script = answers()
            assert client.ask().status == 200


@provokes(faults.BODY_TIMEOUT)
@pytest.mark.slow
def test_body_timeout(gateway: Gateway) -> None:
    with origin(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "wait")) as bad:
        spec = gateway.serve(app(bad.instance(), idle=0.3))
        began = time.monotonic()
        with gateway.connect() as client, pytest.raises(Cut) as cut:
            client.ask()
        assert cut.value.reset and time.monotonic() - began >= 0.3
        record = gateway.shown(spec, None, faults.BODY_TIMEOUT)
        assert record.status == 200 and "6 bytes" in record.detail


@pytest.mark.slow
def test_gaps_shorter_than_idle_are_no_fault(gateway: Gateway) -> None:
    def drop_by_drop(sock: socket.socket, asked: Asked) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            time.sleep(0.15)
            sock.sendall(b".")
        return True

    with origin(drop_by_drop) as slow:
        gateway.serve(app(slow.instance(), idle=0.6, first_byte=0.5))
        answer = gateway.ask()
        assert answer.body == b"......" and answer.seconds > 0.6


@provokes(faults.TOTAL_TIMEOUT)
@pytest.mark.slow
def test_total_timeout(gateway: Gateway) -> None:
    with origin(says(b"", "wait")) as bad:
        spec = gateway.serve(app(bad.instance(), total=0.3))
        answer = gateway.ask()
        gateway.shown(spec, answer, faults.TOTAL_TIMEOUT)
        assert answer.seconds >= 0.3


@pytest.mark.slow
def test_total_timeout_cuts_an_answer_that_drips(gateway: Gateway) -> None:
    def drip(sock: socket.socket, asked: Asked) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            sock.sendall(b".")
            time.sleep(0.05)

    with origin(drip) as bad:
        spec = gateway.serve(app(bad.instance(), total=0.4))
        with gateway.connect() as client, pytest.raises(Cut) as cut:
            client.ask()
        assert cut.value.reset
        gateway.shown(spec, None, faults.TOTAL_TIMEOUT)


@provokes(faults.SEND_TIMEOUT)
@pytest.mark.slow
def test_send_timeout(gateway: Gateway) -> None:
    def never_reads(sock: socket.socket, asked: Asked) -> bool:
        bad.ending.wait()
        return False

    with origin(never_reads, read_body=False) as bad:
        spec = gateway.serve(app(bad.instance(), first_byte=0.4))
        with gateway.connect() as client:
            size = 60 << 20
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            client.sock.settimeout(0.05)
            sent = 0
            with suppress(TimeoutError, ConnectionError):
                while sent < size:
                    sent += client.sock.send(b"x" * 65536)
            assert sent < size
            client.sock.settimeout(30)
            answer = client.read()
            assert answer.closes, "the rest of the content has not been read"
            record = gateway.shown(spec, answer, faults.SEND_TIMEOUT)
            assert record.bytes_in < 30 << 20, "what the instance does not read is not read from the client"


GARBAGE = {
    "not-http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "status": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "version": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "field": b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "fold": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
}


@provokes(faults.BAD_RESPONSE)
@pytest.mark.parametrize("kind", GARBAGE)
def test_bad_response(gateway: Gateway, kind: str) -> None:
    with origin(says(GARBAGE[kind], "wait")) as bad:
        spec = gateway.serve(app(bad.instance(), first_byte=20.0))
        with gateway.connect() as client:
            answer = client.ask()
            gateway.shown(spec, answer, faults.BAD_RESPONSE)
            assert answer.seconds < 15, "garbage is told at once, not by a time limit"
            kept = gateway.worker.wait(BadResponse, lambda each: each.app == spec.name)
            assert kept.id == answer.id and kept.data in GARBAGE[kind] and kept.data
            bad.script = answers()
            assert client.ask().status == 200


FRAMING = {
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length-and-chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "sign": b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
    "coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    "chunked-twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked-1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


@provokes(faults.RESPONSE_FRAMING)
@pytest.mark.parametrize("kind", FRAMING)
def test_response_framing(gateway: Gateway, kind: str) -> None:
    with origin(says(FRAMING[kind], "wait")) as bad:
        spec = gateway.serve(app(bad.instance()))
        gateway.shown(spec, gateway.ask(), faults.RESPONSE_FRAMING)


def test_a_bad_chunk_cuts_the_answer(gateway: Gateway) -> None:
    bytes_ = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
    with origin(says(bytes_, "wait")) as bad:
        spec = gateway.serve(app(bad.instance()))
        with gateway.connect() as client, pytest.raises(Cut) as cut:
            client.ask()
        assert cut.value.reset
        gateway.shown(spec, None, faults.RESPONSE_FRAMING)


def test_bytes_behind_an_answer_reach_no_other_request(gateway: Gateway) -> None:
    """The one complete is good; the instance is blamed, and the connection is not used again."""
    with origin(says(response(b"first") + response(b"never"), "wait")) as bad:
        spec = gateway.serve(app(bad.instance()))
        with gateway.connect() as client:
            assert client.ask().body == b"first"
            assert client.ask().body == b"first"
        assert bad.connections == 2
        until(lambda: gateway.counted(spec.name, "response-framing") == 2)
        until(lambda: gateway.blamed(spec.name) == {"response-framing": 2})


@provokes(faults.RESPONSE_HEAD_TOO_LARGE)
@pytest.mark.parametrize("ended", [True, False])
def test_response_head_too_large(gateway: Gateway, ended: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Large: " + b"x" * 70000 + (b"\r\nContent-Length: 0\r\n\r\n" if ended else b"")
    with origin(says(head, "wait")) as bad:
        spec = gateway.serve(app(bad.instance()))
        gateway.shown(spec, gateway.ask(), faults.RESPONSE_HEAD_TOO_LARGE)


@provokes(faults.BODY_TRUNCATED)
@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_truncated(gateway: Gateway, framing: str, then: str) -> None:
    data = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
        if framing == "length"
        else b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    )

    def half(sock: socket.socket, asked: Asked) -> bool:
        sock.sendall(data)
        seen.recv(1)  # the client has the first half: a reset must not overtake it
        return says(b"", then)(sock, asked)

    ours, seen = socket.socketpair()
    with ours, seen, origin(half) as bad:
        spec = gateway.serve(app(bad.instance()))
        with gateway.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            got = b""
            while b"half" not in got:
                got += client.sock.recv(65536)
            ours.send(b".")
            client.rest = got
            with pytest.raises(Cut) as cut:
                client.read()
            assert cut.value.reset, "never ended cleanly"
        gateway.shown(spec, None, faults.BODY_TRUNCATED)


@provokes(faults.UPGRADE_FAILED)
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (
            {"Connection": "Upgrade", "Upgrade": "websocket"},
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
        ),
        ({"Connection": "Upgrade", "Upgrade": "websocket"}, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    ],
)
def test_upgrade_failed(gateway: Gateway, asked: dict[str, str], said: bytes) -> None:
    with origin(says(said, "wait")) as bad:
        spec = gateway.serve(app(bad.instance()))
        gateway.shown(spec, gateway.ask(**asked), faults.UPGRADE_FAILED)


@provokes(faults.APP_ERROR)
def test_app_error_is_passed_on_and_blamed_by_ratio_only(gateway: Gateway) -> None:
    with origin(answers(b"broken\n", "500 Internal Server Error")) as bad:
        spec = gateway.serve(app(bad.instance()))
        with gateway.connect() as client:
            answer = client.ask()
            assert (answer.status, answer.body) == (500, b"broken\n")
            assert gateway.worker.record(answer.id).fault == "app-error"
            until(lambda: gateway.blamed(spec.name) == {"app-error": 1})
            assert gateway.learned(spec.name)[-1].streak == 0, "never in a row"
            until(lambda: gateway.counted(spec.name, "app-error") == 1)
            assert client.ask().status == 500


def test_a_row_of_faults_is_told_and_ended_by_a_good_answer(gateway: Gateway) -> None:
    with origin(says(b"")) as bad:
        spec = gateway.serve(app(bad.instance()))
        for count in range(1, 4):
            gateway.ask("/", "POST", b"x")
            until(lambda: gateway.learned(spec.name) and gateway.learned(spec.name)[-1].streak == count)  # noqa: B023
        bad.script = answers()
        gateway.ask()
        until(lambda: gateway.learned(spec.name)[-1].streak == 0)


@pytest.mark.slow
def test_an_instance_that_waits_for_content_that_does_not_come_is_not_blamed(gateway: Gateway) -> None:
    """first_byte counts from the last byte of the request."""
    with origin(answers(), read_body=True) as good:
        spec = gateway.serve(app(good.instance(), first_byte=0.2), body_timeout=5.0)
        with gateway.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx")
            time.sleep(0.5)  # it is a slow client
            client.sock.sendall(b"y")
            assert client.read().status == 200
        assert gateway.blamed(spec.name) == {}

