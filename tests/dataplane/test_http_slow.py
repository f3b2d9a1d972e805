"""Clients and instances that are slow, stall, or vanish: bounded in time and in memory."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import psutil
import pytest

from proxy.link.messages import Stats
from tests.dataplane.client import DEADLINE, Client, chunked, get, post
from tests.dataplane.conftest import Serve, works
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Conn, Origin, never, never_read, serve_ok

pytestmark = pytest.mark.slow
MB = 1 << 20


def until(what: Callable[[], object], why: str = "") -> None:
    """Wait for a condition."""
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, why or "not in time"
        time.sleep(0.01)


def inflight(gateway: WorkerUnderTest) -> int:
    return sum(gateway.board.inflight)


def rss(gateway: WorkerUnderTest) -> int:
    return int(psutil.Process(gateway.process.pid).memory_info().rss)


def fault_of(gateway: WorkerUnderTest, target: str) -> str:
    """The fault of the newest request with this target, once it is recorded."""
    found: list[str] = []

    def look() -> bool:
        found[:] = [each.fault for each in gateway.find("", 20) if each.target == target]
        return bool(found)

    until(look, f"no record of {target}")
    return found[0]


@pytest.mark.parametrize("framed", ["length", "chunked"])
def test_content_stops(gateway: WorkerUnderTest, serve: Serve, framed: str) -> None:
    """The client stops within its content: 408, and the instance's connection is closed."""
    origin = serve(settings={"body_timeout": 0.3})
    with Client(gateway.port) as client:
        if framed == "length":
            client.send(post(b"a" * 1000)[:-500])
        else:
            client.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhel")
        answer = client.response()
        assert (answer.status, answer.fault, answer.keeps) == (408, "client-timeout", False)
        assert client.is_closed() == "FIN"
    record = gateway.record(answer.id)
    assert (record.fault, record.status, record.bytes_in) == ("client-timeout", 408, 500 if framed == "length" else 3)
    origin.wait(lambda origin: all(each.finished.is_set() for each in origin.connections))
    until(lambda: inflight(gateway) == 0)
    works(gateway, origin)


def test_a_client_that_does_not_read(gateway: WorkerUnderTest, serve: Serve) -> None:
    """50 MB that nobody reads: memory is bounded, then the client is cut as client-stalled."""
    size = 50 * MB

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"a" * MB
        for _ in range(50):
            conn.send(piece)

    origin = serve(script, settings={"body_timeout": 1.0})
    before = rss(gateway)
    with Client(gateway.port, receive_buffer=16384) as client:
        client.send(get("/stalled"))
        highest = 0

        def over() -> bool:
            nonlocal highest
            highest = max(highest, rss(gateway))
            return bool(origin.connections) and origin.connections[0].finished.is_set()

        until(over)
        assert highest - before < 16 * MB
        client.rest()
        assert client.ended == "RST" and len(client.taken) < size
    assert fault_of(gateway, "/stalled") == "client-stalled"
    until(lambda: inflight(gateway) == 0)


def test_a_client_that_reads_slowly(gateway: WorkerUnderTest, serve: Serve) -> None:
    """A slow reader is waited for, gets all, and memory stays bounded."""
    size = 20 * MB

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"%x\r\n" % MB + b"a" * MB + b"\r\n"
        for _ in range(20):
            conn.send(piece)
        conn.send(b"0\r\n\r\n")

    serve(script, settings={"body_timeout": 5.0})
    before = rss(gateway)
    highest = 0
    with Client(gateway.port, receive_buffer=16384) as client:
        client.send(get())
        head = client.response_head()
        total = 0
        while data := client.chunk():
            total += len(data)
            highest = max(highest, rss(gateway))
        assert total == size
    assert highest - before < 16 * MB
    assert gateway.record(head.id).fault == ""


def test_an_instance_that_does_not_read(gateway: WorkerUnderTest, serve: Serve) -> None:
    """50 MB up to an instance that reads nothing: memory is bounded, then 504 send-timeout."""
    origin = serve(never_read, first_byte=1.0, origin={"receive_buffer": 16384})
    before = rss(gateway)
    highest = 0
    with Client(gateway.port) as client:
        client.send(get("/", f"Content-Length: {50 * MB}", method="POST"))
        client.sock.setblocking(False)
        sent = 0
        piece = b"a" * MB

        def answered() -> bool:
            nonlocal sent, highest
            highest = max(highest, rss(gateway))
            try:
                return bool(client.sock.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                pass
            try:
                sent += client.sock.send(piece)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass  # it may be cut while it still sends
            return False

        until(answered)
        client.sock.settimeout(DEADLINE)
        answer = client.response()
        assert (answer.status, answer.fault, answer.keeps) == (504, "send-timeout", False)
    assert highest - before < 16 * MB and sent < 40 * MB
    record = gateway.record(answer.id)
    assert (record.fault, record.status) == ("send-timeout", 504) and record.sent < 20 * MB
    until(lambda: inflight(gateway) == 0)
    assert len(origin.connections) == 1


def test_an_instance_that_reads_slowly(gateway: WorkerUnderTest, serve: Serve) -> None:
    """An upload through an instance that takes its time: all arrives, in bounded memory."""
    size = 20 * MB

    def script(conn: Conn) -> None:
        request = conn.head_only()
        total = 0
        while total < (request.length or 0):
            total += len(conn.exactly(min(65536, (request.length or 0) - total)))
            if not total % (4 * MB):
                time.sleep(0.05)
        conn.answer(b"%d" % total)

    serve(script, origin={"receive_buffer": 16384})
    before = rss(gateway)
    with Client(gateway.port) as client:
        client.send(get("/", f"Content-Length: {size}", method="POST"))
        highest = 0
        for _ in range(20):
            client.sock.sendall(b"a" * MB)
            highest = max(highest, rss(gateway))
        assert client.response().body == b"%d" % size
    assert highest - before < 16 * MB


def test_an_upload_before_the_connection(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Content that comes while the request waits in the queue is held up to a bound, and then all of it passes."""
    go: list[bool] = []

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            if request.target == "/first":
                conn.origin.wait(lambda _: go)
            conn.answer(b"%d" % len(request.body))

    serve(script, instance={"slots": 1}, queue_timeout=20.0)
    before = rss(gateway)
    with Client(gateway.port) as first, Client(gateway.port) as second:
        first.send(get("/first"))
        until(lambda: inflight(gateway) == 1)
        second.send(get("/second", f"Content-Length: {20 * MB}", method="POST"))
        second.sock.setblocking(False)
        data, sent = b"a" * (20 * MB), 0
        stuck_since = time.monotonic()
        while time.monotonic() - stuck_since < 0.3:
            try:
                sent += second.sock.send(data[sent : sent + MB])
                stuck_since = time.monotonic()
            except BlockingIOError:
                continue
        assert sent < 16 * MB, "nothing held it back"
        assert rss(gateway) - before < 16 * MB
        go.append(True)
        second.sock.settimeout(DEADLINE)
        second.sock.sendall(data[sent:])
        assert first.response().status == 200
        assert second.response().body == b"%d" % (20 * MB)


# --- clients that leave ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_leaves_while_waiting(gateway: WorkerUnderTest, serve: Serve, how: str) -> None:
    """Before the answer began: client-left, the instance's connection is closed, the slot is free."""
    origin = serve(never)
    client = Client(gateway.port)
    client.send(get(f"/left-{how}"))
    origin.wait(lambda origin: origin.requests)
    assert inflight(gateway) == 1
    client.reset() if how == "RST" else client.close()
    origin.wait(lambda origin: origin.connections[0].finished.is_set())
    until(lambda: inflight(gateway) == 0)
    assert fault_of(gateway, f"/left-{how}") == "client-left"


def test_leaves_within_its_content(gateway: WorkerUnderTest, serve: Serve) -> None:
    """What is half sent never looks whole to the instance."""
    whole: list[bytes] = []
    for framed in ("length", "chunked"):

        def script(conn: Conn) -> None:
            whole.append(conn.request().raw)

        origin = serve(script)
        client = Client(gateway.port)
        if framed == "length":
            client.send(post(b"a" * 1000, target="/half")[:-1])
        else:
            client.send(get("/half", "Transfer-Encoding: chunked", method="POST") + chunked([b"abc"])[:-2])
        origin.wait(lambda origin: origin.requests)
        client.close()
        origin.wait(lambda origin: origin.connections[0].finished.is_set())
        assert not whole
        assert fault_of(gateway, "/half") == "client-left"
        until(lambda: inflight(gateway) == 0)


def test_leaves_within_the_answer(gateway: WorkerUnderTest, serve: Serve) -> None:
    """The instance is not left to send on into nothing."""
    cut: list[bool] = []

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"3e8\r\n" + b"a" * 1000 + b"\r\n"
        try:
            while True:
                conn.send(piece)
        except OSError:
            cut.append(True)

    origin = serve(script)
    client = Client(gateway.port)
    client.send(get("/mid"))
    assert client.response_head().status == 200
    client.chunk()
    client.close()
    origin.wait(lambda _: cut)
    until(lambda: inflight(gateway) == 0)
    assert fault_of(gateway, "/mid") == "client-left"


def test_leaves_while_its_upload_is_paused(gateway: WorkerUnderTest, serve: Serve) -> None:
    """The gateway reads nothing from it, and sees it leave all the same."""
    origin = serve(never_read, origin={"receive_buffer": 16384})
    client = Client(gateway.port)
    client.send(get("/paused", f"Content-Length: {50 * MB}", method="POST"))
    client.sock.settimeout(0.5)
    try:
        while True:
            client.sock.sendall(b"a" * MB)
    except TimeoutError:
        pass
    client.reset()
    until(lambda: inflight(gateway) == 0)
    assert fault_of(gateway, "/paused") == "client-left"
    assert len(origin.connections) == 1


def test_leaves_in_the_queue(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Who left the queue is not served, and takes no place in it."""
    go: list[bool] = []

    def script(conn: Conn) -> None:
        while True:
            conn.request()
            conn.origin.wait(lambda _: go)
            conn.answer()

    origin = serve(script, instance={"slots": 1}, queue_timeout=20.0)
    with Client(gateway.port) as first:
        first.send(get("/first"))
        origin.wait(lambda origin: origin.requests)
        second = Client(gateway.port)
        second.send(get("/queued"))
        until(lambda: gateway.board.counts[0] == 1)
        second.close()
        until(lambda: gateway.board.counts[0] == 0)
        assert fault_of(gateway, "/queued") == "client-left"
        go.append(True)
        assert first.response().status == 200
    assert [each.target for each in origin.requests] == ["/first"]
    until(lambda: inflight(gateway) == 0)


def test_idle_connections_end(gateway: WorkerUnderTest, serve: Serve) -> None:
    """A kept connection ends without a word when nothing more is asked."""
    serve(settings={"idle_timeout": 0.3})
    with Client(gateway.port) as client:
        assert client.ask(get()).status == 200
        assert client.is_closed() == "FIN"


def test_nothing_leaks(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Fifty of each ending: as many descriptors as before, and no connection counted."""
    origin = serve(serve_ok)
    process = psutil.Process(gateway.process.pid)
    works(gateway, origin)

    def cycle() -> None:
        for number in range(50):
            client = Client(gateway.port)
            if number % 5 == 0:
                client.send(get("/", "Connection: close"))
                client.response()
            elif number % 5 == 1:
                client.send(get())
            elif number % 5 == 2:
                client.send(b"garbage\r\n\r\n")
                client.response()
            elif number % 5 == 3:
                client.send(post(b"abc")[:-1])
            else:
                client.send(get()[:-3])
            client.reset() if number % 2 else client.close()

    cycle()
    until(lambda: inflight(gateway) == 0)
    before = process.num_fds()
    for _ in range(3):
        cycle()
    until(lambda: inflight(gateway) == 0)
    until(lambda: process.num_fds() <= before + 5, f"{before} descriptors became {process.num_fds()}")
    at = len(gateway.received)
    until(lambda: any(isinstance(each, Stats) and not each.connections for each in gateway.received[at:]))


def test_instances_that_end_idle_connections(gateway: WorkerUnderTest, serve: Serve) -> None:
    """A FIN on an idle pooled connection hurts no request, whether it was seen before the next or not."""
    origin: Origin = serve(lambda conn: (conn.request(), conn.answer()))
    with Client(gateway.port) as client:
        for _ in range(20):
            answer = client.ask(get())
            assert (answer.status, gateway.record(answer.id).fault) == (200, "")
    assert len(origin.connections) == 20
