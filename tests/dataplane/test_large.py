"""Large content that passes through a pipe in the kernel: whole, bounded, and its failures told as of any other."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.link.messages import Record
from tests.dataplane.client import DEADLINE, Client, Ended, Reset, get, post
from tests.dataplane.conftest import Serve
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Conn

pytestmark = pytest.mark.slow
MB = 1 << 20
BODY = random.Random(7).randbytes(MB) * 6
DIGEST = hashlib.sha256(BODY).hexdigest()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def pipes(gateway: WorkerUnderTest) -> int:
    """Ends of pipes that the worker has."""
    found = 0
    for each in Path(f"/proc/{gateway.process.pid}/fd").iterdir():
        try:
            found += os.readlink(each).startswith("pipe:")
        except FileNotFoundError:
            pass
    return found


def until(what: Callable[[], object], why: str = "not in time") -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.005)


class Slowly:
    """An origin that sends the first half of BODY, waits to be told, then does `after`."""

    def __init__(self, after: Callable[[Conn], None]) -> None:
        self.go = threading.Event()
        self._after = after

    def __call__(self, conn: Conn) -> None:
        conn.request()
        conn.send(HEAD % len(BODY), BODY[: len(BODY) // 2])
        assert self.go.wait(DEADLINE)
        self._after(conn)


def large(conn: Conn) -> None:
    while True:
        conn.request()
        conn.send(HEAD % len(BODY), BODY)


def rest(conn: Conn) -> None:
    conn.send(BODY[len(BODY) // 2 :])
    large(conn)


def half_taken(client: Client) -> None:
    client.response_head()
    client.exactly(len(BODY) // 2)


def test_it_is_the_way_that_is_gone(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Through a pipe while it lasts; afterwards the pipe is gone, and both connections serve on."""
    script = Slowly(rest)
    origin = serve(script)
    before = pipes(gateway)
    with Client(gateway.port) as client:
        client.send(get("/large"))
        until(lambda: pipes(gateway) == before + 2, "no pipe")
        half_taken(client)
        script.go.set()
        assert client.exactly(len(BODY) // 2) == BODY[len(BODY) // 2 :]
        until(lambda: pipes(gateway) == before)
        works_large(gateway)
    assert len(origin.connections) == 1


def test_one_after_the_other(gateway: WorkerUnderTest, serve: Serve) -> None:
    """On one connection of the client and one of the instance; also requests that were sent ahead."""
    origin = serve(large)
    with Client(gateway.port) as client:
        client.send(get("/1"), get("/2"), get("/3"))
        for number in range(3):
            answer = client.response()
            assert (answer.status, hashlib.sha256(answer.body).hexdigest()) == (200, DIGEST)
            until(lambda answer=answer: gateway.find(answer.id))  # type: ignore[misc]
            assert gateway.record(answer.id).bytes_out == len(BODY), number
    assert len(origin.connections) == 1


def test_many_at_once(gateway: WorkerUnderTest, serve: Serve) -> None:
    """More than there are pipes for, and slow readers among them."""
    serve(large)
    before = pipes(gateway)
    good: list[str] = []

    def ask(receive_buffer: int | None) -> None:
        with Client(gateway.port, **({"receive_buffer": receive_buffer} if receive_buffer else {})) as client:
            good.append(hashlib.sha256(client.ask(get()).body).hexdigest())

    asking = [threading.Thread(target=ask, args=(16384 if number % 3 == 0 else None,)) for number in range(80)]
    for each in asking:
        each.start()
    for each in asking:
        each.join(DEADLINE * 2)
    assert good == [DIGEST] * 80
    until(lambda: pipes(gateway) == before)


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_an_end_too_early(gateway: WorkerUnderTest, serve: Serve, how: str) -> None:
    """The client's connection is cut, never ended so that it looks whole."""
    script = Slowly(lambda conn: conn.reset() if how == "resets" else conn.close())
    origin = serve(script)
    before = pipes(gateway)
    with Client(gateway.port) as client:
        client.send(get("/early"))
        until(lambda: pipes(gateway) == before + 2)
        half_taken(client)
        script.go.set()
        with pytest.raises((Ended, Reset)):
            client.exactly(1)
        assert client.ended == "RST"
    record = newest(gateway, "/early")
    assert (record.fault, record.status, record.bytes_out) == ("body-truncated", 200, len(BODY) // 2)
    assert str(len(BODY) // 2) in record.detail
    until(lambda: pipes(gateway) == before)
    origin.script = large
    works_large(gateway)


def test_an_instance_that_stops(gateway: WorkerUnderTest, serve: Serve) -> None:
    script = Slowly(lambda conn: None)
    serve(script, idle=0.4)
    before = pipes(gateway)
    with Client(gateway.port) as client:
        client.send(get("/stops"))
        half_taken(client)
        with pytest.raises((Ended, Reset)):
            client.exactly(1)
    assert newest(gateway, "/stops").fault == "body-timeout"
    script.go.set()
    until(lambda: pipes(gateway) == before)


def test_more_than_it_said(gateway: WorkerUnderTest, serve: Serve) -> None:
    """The client gets what was said; the connection is not used again."""

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(HEAD % len(BODY), BODY, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        conn.until_closed()

    origin = serve(script)
    with Client(gateway.port) as client:
        for number in range(2):
            assert hashlib.sha256(client.ask(get()).body).hexdigest() == DIGEST
            assert len(origin.connections) == number + 1


def test_a_client_that_leaves(gateway: WorkerUnderTest, serve: Serve) -> None:
    """While nothing comes, and while it does not read: the pipe goes, and the instance's connection with it."""
    script = Slowly(rest)
    origin = serve(script)
    before = pipes(gateway)
    with Client(gateway.port) as client:
        client.send(get("/left"))
        half_taken(client)
        until(lambda: pipes(gateway) == before + 2)
    assert newest(gateway, "/left").fault == "client-left"
    script.go.set()
    origin.wait(lambda origin: all(each.finished.is_set() for each in origin.connections))
    until(lambda: pipes(gateway) == before)


def test_a_client_that_does_not_read(gateway: WorkerUnderTest, serve: Serve) -> None:
    serve(large, settings={"body_timeout": 0.6})
    before = pipes(gateway)
    with Client(gateway.port, receive_buffer=4096) as client:
        client.send(get("/stalled"))
        assert newest(gateway, "/stalled").fault == "client-stalled"
        client.rest()
        assert client.ended == "RST" and len(client.taken) < len(BODY)
    until(lambda: pipes(gateway) == before)


def test_the_whole_time_is_over(gateway: WorkerUnderTest, serve: Serve) -> None:
    script = Slowly(lambda conn: None)
    serve(script, total=0.5)
    with Client(gateway.port) as client:
        client.send(get("/total"))
        half_taken(client)
        with pytest.raises((Ended, Reset)):
            client.exactly(1)
    assert newest(gateway, "/total").fault == "total-timeout"
    script.go.set()


def test_an_answer_while_the_request_still_comes(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Large content both ways at once."""

    def script(conn: Conn) -> None:
        conn.head_only()
        conn.send(HEAD % len(BODY), BODY)
        conn.until_closed()

    serve(script)
    with Client(gateway.port) as client:
        whole = post(b"a" * 100_000)
        client.send(whole[:-50_000])
        answer = client.response_head()
        assert answer.status == 200
        assert hashlib.sha256(client.exactly(len(BODY))).hexdigest() == DIGEST


def newest(gateway: WorkerUnderTest, target: str) -> Record:
    """The record of the newest request with this target."""
    found: list[Record] = []

    def look() -> bool:
        found[:] = [each for each in gateway.find("", 20) if each.target == target]
        return bool(found)

    until(look, f"no record of {target}")
    return found[0]


def works_large(gateway: WorkerUnderTest) -> None:
    with Client(gateway.port) as client:
        assert hashlib.sha256(client.ask(get()).body).hexdigest() == DIGEST

