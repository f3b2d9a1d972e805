"""What somebody who means harm would try, and what must not be left behind by it."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from proxy.link.messages import App, Drain
from tests.dataplane.client import DEADLINE, Client, Ended, get
from tests.dataplane.conftest import ROWS, Serve, of
from tests.dataplane.harness import WorkerUnderTest, instance, worker
from tests.dataplane.origins import Conn, Origin

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_known_head_obeys_the_head_limit(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Field lines that are known by their bytes make no longer head pass than unknown ones do."""
    origin = serve(settings={"head_limit": 1024, "target_limit": 1024})
    lines = "X-Long: " + "x" * 700
    with Client(gateway.port) as client:
        assert client.ask(get("/short", lines)).status == 200
        answer = client.ask(get("/" + "y" * 500, lines))
        assert (answer.status, answer.keeps) == (431, False)
    assert [each.target for each in origin.requests] == ["/short"]


def test_a_client_that_resets_a_tunnel_nobody_reads(gateway: WorkerUnderTest, serve: Serve) -> None:
    """While reading is paused nothing tells of the reset but the look each second: the slot must come free then."""

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(SWITCHED)
        while not conn.origin._closing:
            time.sleep(0.02)

    origin = serve(script, origin={"receive_buffer": 4096}, settings={"body_timeout": 1.0})
    with Client(gateway.port) as client:
        client.send(get("/", *UPGRADE))
        assert client.response_head().status == 101
        client.sock.settimeout(2.0)
        try:
            while True:
                client.sock.send(b"x" * 65536)
        except TimeoutError:
            pass
        assert sum(gateway.board.inflight) == 1
        client.reset()
    until(lambda: sum(gateway.board.inflight) == 0)
    until(lambda: connections(gateway, origin.port) == 0)


def test_no_client_writes_the_combined_log(gateway: WorkerUnderTest, serve: Serve, tmp_path: Path) -> None:
    """What stands in the place of a method reaches the log's line only escaped."""
    log = tmp_path / "access.log"
    serve(settings={"access_log": str(log), "access_log_format": "combined"})
    with Client(gateway.port) as client:
        client.send(b'G"\x1b[2J\x9b\xff / HTTP/1.1\r\nHost: a.example\r\n\r\n')
        assert client.response().status == 400
    until(lambda: log.exists() and log.read_bytes().endswith(b"\n"))
    line = log.read_bytes()
    assert all(32 <= byte < 127 for byte in line[:-1]), line
    assert b'"G\\x22\\x1b[2J' in line


def test_a_drain_does_not_wait_for_an_idle_client() -> None:
    """An answer whose head had gone out before the drain leaves a connection that would otherwise stay."""

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        with conn.origin.changed:
            conn.origin.changed.wait_for(lambda: conn.origin.requests[-1].target == "/go", DEADLINE)
        conn.send(b"0\r\n\r\n")

    def second(conn: Conn) -> None:
        if conn.number == 0:
            script(conn)
        else:
            conn.request()
            conn.answer()

    with Origin(second) as origin, worker() as gateway:
        gateway.table(App("web", 0, instances=(of(origin),), attempts=0), idle_timeout=1000.0)
        with Client(gateway.port) as client, Client(gateway.port) as other:
            client.send(get("/stream"))
            assert client.response_head().status == 200
            assert client.chunk() == b"ab"
            other.send(get("/go")[:-2])
            until(lambda: connections(gateway, gateway.port) == 2)
            gateway.tell(Drain(limit=1000.0, idle=0.2))
            other.send(b"\r\n")
            assert not other.response().keeps
            assert client.chunk() == b""
            client.fields()
            assert client.is_closed() == "FIN"
        gateway.process.wait(DEADLINE)


def connections(gateway: WorkerUnderTest, port: int) -> int:
    """The worker's connections from or to this port."""
    found = psutil.Process(gateway.process.pid).net_connections("tcp")
    return sum(port in (each.laddr.port, each.raddr.port) for each in found if each.raddr)


def test_one_that_refused_is_tried_again_without_a_new_table(gateway: WorkerUnderTest) -> None:
    """While one instance is left alone there seems to be just one; it must not stay so."""
    with socket.socket() as late, Origin() as origin:
        late.bind(("127.0.0.1", 0))  # until it listens the kernel refuses
        refusing = instance(late.getsockname()[1], "late", row=next(ROWS))
        gateway.table(App("web", 0, instances=(of(origin), refusing), attempts=2, balance="round-robin"))
        with Client(gateway.port) as client:
            for number in range(8):
                assert client.ask(get(f"/{number}")).status == 200
            late.listen()

            def reached() -> bool:
                """Whether a request came to it, rather than to the other one, which answers."""
                with Client(gateway.port) as other:
                    other.send(get("/again"))
                    return late in select.select([late, other.sock], [], [], DEADLINE)[0]

            until(reached)


def test_who_comes_through_a_proxy_on_this_machine_is_no_developer(gateway: WorkerUnderTest) -> None:
    """Details are for who sits at the machine. A proxy there says whom it speaks for, trusted or not."""
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        gateway.table(App("web", 0, instances=(instance(refusing.getsockname()[1], "inner-name", row=next(ROWS)),)))
        with Client(gateway.port) as client:
            assert b"triage why" in client.ask(get()).body
            for line in ("X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7", "Via: 1.1 front"):
                told = client.ask(get("/", line)).body
                assert b"triage why" not in told and b"connect" not in told, told


def test_a_refused_upload_says_nothing_of_idle_connections(gateway: WorkerUnderTest, serve: Serve) -> None:
    """An answer that is read after writing failed ends a connection in use; it had not been closed for being idle."""

    def script(conn: Conn) -> None:
        while True:
            request = conn.head_only()
            if request.method == "POST":
                conn.send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
                conn.reset()
                return
            conn.answer()

    origin = serve(script)
    for _ in range(5):
        with Client(gateway.port) as client:
            assert client.ask(get("/first")).status == 200
            time.sleep(0.6)  # what is shorter is never learned
            client.send(get("/upload", "Content-Length: 8000000", method="POST"))
            with contextlib.suppress(OSError):
                for _ in range(80):
                    client.sock.sendall(b"x" * 100_000)
            with contextlib.suppress(Ended, OSError):
                client.response()
    with Client(gateway.port) as client:
        assert client.ask(get("/before")).status == 200
        time.sleep(1.0)  # beyond 0.8 of 0.6 s
        assert client.ask(get("/after")).status == 200
    assert [each.target for each in origin.connections[-1].requests] == ["/before", "/after"]
