"""Upgrades: byte tunnels with backpressure, refusals, and what is no upgrade at all."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection
from websockets.sync.server import serve as websocket_server

from proxy.link.messages import App, Stats
from tests.dataplane.client import DEADLINE, Client, get
from tests.dataplane.conftest import ROWS, Serve
from tests.dataplane.harness import WorkerUnderTest, instance
from tests.dataplane.origins import Conn, each_time, response

MB = 1 << 20
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: y\r\n\r\n"


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def inflight(gateway: WorkerUnderTest) -> int:
    return sum(gateway.board.inflight)


def raw_echo(conn: Conn) -> None:
    """Switch, then give back each byte."""
    conn.request()
    conn.send(SWITCHED)
    while data := conn.more():
        conn.send(data)


# --- WebSocket, with a real client and a real server ----------------------------------------------


@pytest.fixture
def chat(gateway: WorkerUnderTest) -> Iterator[Server]:
    def each(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    server = websocket_server(each, "127.0.0.1", 0, max_size=None)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    port = server.socket.getsockname()[1]
    gateway.table(App("web", 0, instances=(instance(port, row=next(ROWS)),), attempts=0))
    yield server
    server.shutdown()
    thread.join(DEADLINE)


def talk(gateway: WorkerUnderTest) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{gateway.port}/chat", max_size=None, open_timeout=DEADLINE, close_timeout=DEADLINE)


def test_websocket(gateway: WorkerUnderTest, chat: Server) -> None:
    """Text, bytes, large frames both ways, ping, and an orderly close with its code."""
    with talk(gateway) as client:
        for message in ("hello", "é", b"\0\xff", "", b"a" * 65535, os.urandom(3 * MB)):
            client.send(message)
            assert client.recv(DEADLINE) == message
        assert client.ping().wait(DEADLINE)
        assert inflight(gateway) == 1
        client.close(4001, "done")
        assert client.close_code == 4001
    until(lambda: inflight(gateway) == 0)
    record = gateway.find("", 1)[0]
    assert (record.status, record.fault, record.tunnel, record.target) == (101, "", True, "/chat")
    assert record.bytes_in > 3 * MB and record.bytes_out > 3 * MB


def test_many_websockets(gateway: WorkerUnderTest, chat: Server) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(talk(gateway)) for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(f"{number}")
        assert [client.recv(DEADLINE) for client in clients] == [f"{number}" for number in range(20)]
        gateway.wait(Stats, lambda stats: stats.tunnels == 20)
    until(lambda: inflight(gateway) == 0)


def test_a_new_table(gateway: WorkerUnderTest, chat: Server) -> None:
    """Tunnels survive a reload, even one without their instance."""
    with talk(gateway) as client:
        client.send("before")
        assert client.recv(DEADLINE) == "before"
        gateway.table(App("web", 0, instances=gateway.apps[0].instances, attempts=1, first_byte=5.0))
        client.send("same instance")
        assert client.recv(DEADLINE) == "same instance"
        gateway.table(App("web", 0))
        client.send("without it")
        assert client.recv(DEADLINE) == "without it"


def test_the_server_closes(gateway: WorkerUnderTest, chat: Server) -> None:
    """The instance's end reaches the client."""
    with talk(gateway) as client:
        until(lambda: inflight(gateway) == 1)
        chat.shutdown()
        with pytest.raises(ConnectionClosed):
            client.recv(DEADLINE)
    until(lambda: inflight(gateway) == 0)


# --- raw ------------------------------------------------------------------------------------------


def test_the_heads(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """What goes on of the request and of the 101; bytes right behind either are the first of the tunnel."""

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(SWITCHED + b"first")
        while data := conn.more():
            conn.send(data)

    origin = serve(script)
    client.send(get("/", "connection: keep-alive, UPGRADE", "Upgrade: WebSocket", "Sec-WebSocket-Key: abc") + b"early")
    head = client.response_head()
    assert (head.status, head["Connection"].lower(), head["Upgrade"].lower(), head["X"]) == (
        101,
        "upgrade",
        "websocket",
        "y",
    )
    assert client.exactly(10) in (b"firstearly", b"earlyfirst")
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert client.exactly(18) == b"GET / HTTP/1.1\r\n\r\n"
    request = origin.requests[0]
    assert (request["Connection"].lower(), request["Upgrade"].lower(), request["Sec-WebSocket-Key"]) == (
        "upgrade",
        "websocket",
        "abc",
    )
    client.close()
    origin.wait(lambda origin: origin.connections[0].finished.is_set())
    until(lambda: inflight(gateway) == 0)
    record = gateway.record(head.id)
    assert (record.status, record.tunnel, record.fault, record.bytes_in, record.bytes_out) == (101, True, "", 23, 28)


def test_bytes_before_the_answer(serve: Serve, client: Client) -> None:
    """What the client sends before the 101 waits for it."""
    go: list[bool] = []

    def script(conn: Conn) -> None:
        conn.request()
        conn.origin.wait(lambda _: go)
        assert conn.buffer == b""
        conn.send(SWITCHED)
        conn.send(conn.exactly(200_000))

    serve(script)
    client.send(get("/", *UPGRADE))
    data = os.urandom(200_000)
    sending = threading.Thread(target=lambda: client.sock.sendall(data))
    sending.start()
    go.append(True)
    assert client.response_head().status == 101
    assert client.exactly(200_000) == data
    sending.join(DEADLINE)


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "426 Upgrade Required", "500 Oops"])
def test_refused(gateway: WorkerUnderTest, serve: Serve, client: Client, status: str) -> None:
    """The instance's no is passed on, and the connection goes on as HTTP."""
    serve(each_time(response(b"no", status=status)))
    for _ in range(2):
        answer = client.ask(get("/", *UPGRADE))
        assert (answer.status, answer.body, answer.keeps) == (int(status[:3]), b"no", True)
    record = gateway.record(answer.id)
    assert not record.tunnel and record.fault == ("app-error" if status[0] == "5" else "")
    assert client.ask(get()).body == b"no"


def test_bytes_behind_a_refused_upgrade(serve: Serve, client: Client) -> None:
    """They are the next request, as on any other connection."""
    origin = serve()
    client.send(get("/1", *UPGRADE) + get("/2"))
    assert [client.response().body for _ in range(2)] == [b"/1", b"/2"]
    assert len(origin.requests) == 2


ORDINARY = {
    "h2c": ("GET", ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"], b""),
    "h2c and websocket": ("GET", ["Connection: Upgrade", "Upgrade: h2c, websocket"], b""),
    "not listed": ("GET", ["Connection: Upgrade", "Upgrade: TLS/1.0"], b""),
    "not named in Connection": ("GET", ["Upgrade: websocket"], b""),
    "POST": ("POST", list(UPGRADE), b""),
    "with content": ("GET", [*UPGRADE, "Content-Length: 3"], b"abc"),
    "chunked": ("GET", [*UPGRADE, "Transfer-Encoding: chunked"], b"3\r\nabc\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary(serve: Serve, client: Client, name: str) -> None:
    """Not an upgrade that goes on: the request is served without those fields, and what follows is HTTP."""
    method, lines, content = ORDINARY[name]
    origin = serve()
    for _ in range(2):
        client.send(get("/1", *lines, method=method) + content + get("/2"))
        assert client.response().body == b"/1"
        assert client.response().body == b"/2"
    for field in ("Upgrade", "Connection", "HTTP2-Settings"):
        assert field not in origin.requests[0], field
    assert origin.requests[0].body == (b"abc" if content else b"")


def test_http_1_0(gateway: WorkerUnderTest, serve: Serve) -> None:
    origin = serve()
    with Client(gateway.port) as client:
        assert client.ask(get("/", *UPGRADE, version="1.0")).status == 200
    assert "Upgrade" not in origin.requests[0]


@pytest.mark.parametrize(
    ("lines", "head"),
    [
        ((), SWITCHED),
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (("Connection: Upgrade", "Upgrade: h2c"), SWITCHED),
    ],
    ids=["unasked", "another", "not in Connection", "nothing named", "h2c"],
)
def test_a_wrong_101(
    gateway: WorkerUnderTest, serve: Serve, client: Client, lines: tuple[str, ...], head: bytes
) -> None:
    """502 upgrade-failed; no byte passes in the raw."""

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(head + b"raw")
        conn.until_closed()

    origin = serve(script)
    answer = client.ask(get("/", *lines))
    assert (answer.status, answer.fault, answer.keeps) == (502, "upgrade-failed", True)
    origin.wait(lambda origin: origin.connections[0].finished.is_set())
    assert gateway.record(answer.id).fault == "upgrade-failed"
    assert b"raw" not in client.taken


def test_half_closed(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """A tunnel ends with either side; what was on its way arrives."""

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(SWITCHED, b"a" * 1_000_000)

    serve(script)
    client.send(get("/", *UPGRADE))
    assert client.response_head().status == 101
    assert len(client.rest()) == 1_000_000 and client.ended == "FIN"
    until(lambda: inflight(gateway) == 0)


@pytest.mark.parametrize("who", ["client", "instance"])
@pytest.mark.slow
def test_backpressure(gateway: WorkerUnderTest, serve: Serve, who: str) -> None:
    """One side sends 30 MB, the other reads none of it for a while: memory is bounded, nothing is lost."""
    size = 30 * MB
    go: list[bool] = []
    got: list[int] = []

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(SWITCHED)
        if who == "instance":
            conn.origin.wait(lambda _: go)
            got.append(len(conn.exactly(size)))
            conn.send(b"!")
        else:
            piece = b"a" * MB
            for _ in range(size // MB):
                conn.send(piece)
        conn.until_closed()

    origin = serve(script, origin={"receive_buffer": 16384})
    process = psutil.Process(gateway.process.pid)
    before = process.memory_info().rss
    with Client(gateway.port, receive_buffer=16384) as client:
        client.send(get("/", *UPGRADE))
        assert client.response_head().status == 101
        if who == "instance":
            data, sent = b"a" * size, 0
            client.sock.setblocking(False)
            stuck_since = time.monotonic()
            while time.monotonic() - stuck_since < 0.3 and sent < size:
                try:
                    sent += client.sock.send(data[sent : sent + MB])
                    stuck_since = time.monotonic()
                except BlockingIOError:
                    continue
            assert sent < size, "nothing held it back"
            assert process.memory_info().rss - before < 16 * MB
            go.append(True)
            client.sock.settimeout(DEADLINE)
            client.sock.sendall(data[sent:])
            assert client.exactly(1) == b"!"
            assert got == [size]
        else:
            highest = 0
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                highest = max(highest, process.memory_info().rss)
            assert highest - before < 16 * MB
            assert not origin.connections[0].finished.is_set()
            assert len(client.exactly(size)) == size
    until(lambda: inflight(gateway) == 0)


@pytest.mark.slow
def test_idle(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """An idle tunnel ends after its limit; traffic either way counts."""
    serve(raw_echo, tunnel_idle=0.5)
    client.send(get("/", *UPGRADE))
    head = client.response_head()
    assert client.is_closed() == "FIN"
    record = gateway.record(head.id)
    assert record.tunnel and record.status == 101 and "idle" in record.detail


def test_a_client_that_vanishes(gateway: WorkerUnderTest, serve: Serve) -> None:
    """RST: the instance's side is closed too, and the slot is free."""
    origin = serve(raw_echo)
    client = Client(gateway.port)
    client.send(get("/", *UPGRADE))
    assert client.response_head().status == 101
    client.reset()
    origin.wait(lambda origin: origin.connections[0].finished.is_set())
    until(lambda: inflight(gateway) == 0)


def test_tunnels_take_no_slot(gateway: WorkerUnderTest, serve: Serve) -> None:
    """An instance with one slot and an open tunnel still serves requests."""

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            if "Upgrade" in request:
                conn.send(SWITCHED)
                conn.until_closed()
                return
            conn.answer(b"served")

    serve(script, instance={"slots": 1})
    with Client(gateway.port) as tunnel, Client(gateway.port) as client:
        tunnel.send(get("/", *UPGRADE))
        assert tunnel.response_head().status == 101
        assert client.ask(get()).body == b"served"
        tunnel.sock.shutdown(socket.SHUT_WR)
    until(lambda: inflight(gateway) == 0)
