"""Content both ways: sizes, framings, trailers, both directions at once, server-sent events."""

from __future__ import annotations

import hashlib
import random
import threading

import pytest

from tests.dataplane.client import Client, chunked, get, post, splits
from tests.dataplane.conftest import Serve
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Conn, each_time, echo, once, response

LARGE = random.Random(1).randbytes(10 << 20)
SIZES = {"0 B": 0, "1 B": 1, "64 KiB": 65536, "64 KiB + 1": 65537, "10 MiB": 10 << 20}


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def in_pieces(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


@pytest.mark.parametrize("framed", ["length", "chunked"])
@pytest.mark.parametrize("size", SIZES)
def test_up(gateway: WorkerUnderTest, serve: Serve, client: Client, size: str, framed: str) -> None:
    """The instance gets what the client sent, in the framing it was sent in, and the connection stays."""

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            assert request.chunked == (framed == "chunked")
            conn.answer(sha(request.body))

    origin = serve(script)
    content = LARGE[: SIZES[size]]
    for _ in range(2):
        if framed == "length":
            answer = client.ask(post(content))
        else:
            answer = client.ask(
                get("/", "Transfer-Encoding: chunked", method="POST") + chunked(in_pieces(content, 100_000))
            )
        assert (answer.status, answer.body, answer.keeps) == (200, sha(content), True)
        record = gateway.record(answer.id)
        assert (record.fault, record.bytes_in) == ("", len(content))
    assert len(origin.requests) == 2


@pytest.mark.parametrize("framed", ["length", "chunked", "until the end"])
@pytest.mark.parametrize("size", SIZES)
def test_down(gateway: WorkerUnderTest, serve: Serve, client: Client, size: str, framed: str) -> None:
    """The client gets what the instance sent; what ends by closing comes to 1.1 in chunks."""
    content = LARGE[: SIZES[size]]

    def script(conn: Conn) -> None:
        while True:
            conn.request()
            if framed == "length":
                conn.send(response(content))
            elif framed == "chunked":
                conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                conn.send(chunked(in_pieces(content, 100_000)))
            else:
                conn.send(b"HTTP/1.1 200 OK\r\n\r\n", content)
                return

    origin = serve(script)
    for number in range(2):
        answer = client.ask(get())
        assert (answer.status, answer.chunked, answer.keeps) == (200, framed != "length", True)
        assert sha(answer.body) == sha(content)
        record = gateway.record(answer.id)
        assert (record.fault, record.bytes_out) == ("", len(content))
        assert len(origin.connections) == (number + 1 if framed == "until the end" else 1)


@pytest.mark.parametrize("framed", ["length", "chunked"])
@pytest.mark.slow
def test_both_at_once(gateway: WorkerUnderTest, serve: Serve, client: Client, framed: str) -> None:
    """The instance answers while the content is still coming: 10 MiB up and down at the same time."""

    def script(conn: Conn) -> None:
        request = conn.head_only()
        if request.chunked:
            conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while data := conn.chunk():
                conn.send(b"%x\r\n%b\r\n" % (len(data), data))
            conn.fields()
            conn.send(b"0\r\n\r\n")
        else:
            left = request.length or 0
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
            while left:
                data = conn.exactly(min(left, 50_000))
                left -= len(data)
                conn.send(data)

    serve(script)

    def send() -> None:
        if framed == "length":
            client.sock.sendall(post(LARGE))
        else:
            head = get("/", "Transfer-Encoding: chunked", method="POST")
            client.sock.sendall(head + chunked(in_pieces(LARGE, 70_000)))

    sending = threading.Thread(target=send)
    sending.start()
    answer = client.response()
    sending.join(30)
    assert answer.status == 200 and sha(answer.body) == sha(LARGE)
    record = gateway.record(answer.id)
    assert (record.fault, record.bytes_in, record.bytes_out) == ("", len(LARGE), len(LARGE))


@pytest.mark.parametrize("framed", ["length", "chunked"])
def test_cuts(gateway: WorkerUnderTest, serve: Serve, framed: str) -> None:
    """Up and down, whole, byte by byte, with the next message behind it."""
    if framed == "length":
        data = post(b"hello", target="/a")
        back = response(b"hello", "X: y")
    else:
        coded = b"2;x=y\r\nhe\r\n003;a\r\nllo\r\n000;z\r\nT: u\r\n\r\n"
        data = get("/a", "Transfer-Encoding: chunked", method="POST") + coded
        back = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n" + coded
    for how, pieces in splits(data, post(b"next")):
        for back_how, back_pieces in splits(back):
            origin = serve(each_time(*back_pieces))
            with Client(gateway.port) as client:
                client.send(*pieces)
                for number in range(2 if "next" in how else 1):
                    answer = client.response()
                    assert (answer.body, answer["X"]) == (b"hello", "y"), (how, back_how)
                    assert (b"=" in b"".join(answer.chunks)) is False
                    if number:
                        assert origin.requests[1].body == b"next"
            assert origin.requests[0].body == b"hello"
            assert b"x=y" not in origin.received  # extensions concern one hop


def test_trailers(serve: Serve, client: Client) -> None:
    """Both ways; those that would change what the head said are dropped."""

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            assert request.trailers == [(b"X-Sum", b"1"), (b"X-Two", b"2")]
            assert request["TE"] == ("trailers" if request.target == "/te" else "")
            conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Down\r\n\r\n")
            conn.send(chunked([b"hello"], b"X-Down: 3\r\nSet-Cookie: a=b\r\nX_Down: 4\r\n"))

    serve(script)
    coded = chunked([b"abc"], b"X-Sum: 1\r\nHost: evil\r\nAuthorization: x\r\nX-Forwarded-For: 9.9.9.9\r\nX-Two: 2\r\n")
    for target, lines in (("/te", ["TE: trailers", "Connection: TE"]), ("/", [])):
        head = get(target, *lines, "Trailer: X-Sum", "Transfer-Encoding: chunked", method="POST")
        answer = client.ask(head + coded)
        assert answer.body == b"hello"
        assert (b"X-Down", b"3") in answer.trailers and not any(name == b"Set-Cookie" for name, _ in answer.trailers)


def test_te_is_for_one_hop(serve: Serve, client: Client) -> None:
    """Other codings named in TE do not go on: Triage would have to decode them."""
    origin = serve()
    client.ask(get("/", "TE: gzip, deflate;q=0.5", "Connection: TE"))
    assert "TE" not in origin.requests[0]
    client.ask(get("/", "TE: gzip, trailers", "Connection: TE"))
    assert origin.requests[1]["TE"] == "trailers"


@pytest.mark.slow
def test_server_sent_events(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Each event arrives before the next is sent, whatever the framing."""
    for framed in ("chunked", "until the end", "length"):
        got: list[int] = []

        def script(conn: Conn, framed: str = framed, got: list[int] = got) -> None:
            conn.request()
            line = {"chunked": b"Transfer-Encoding: chunked\r\n", "length": b"Content-Length: 240\r\n"}.get(framed, b"")
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + line + b"\r\n")
            for number in range(15):
                conn.origin.wait(lambda _, number=number: len(got) == number)  # type: ignore[misc]
                event = b"data: %08d\n\n" % number
                conn.send(b"%x\r\n%b\r\n" % (len(event), event) if framed == "chunked" else event)
            if framed == "chunked":
                conn.send(b"0\r\n\r\n")

        serve(script)
        client.send(get("/events"))
        head = client.response_head()
        assert head["Content-Type"] == "text/event-stream"
        for number in range(15):
            data = client.chunk() if head.chunked else client.exactly(16)
            assert data == b"data: %08d\n\n" % number
            got.append(number)
        if head.chunked:
            assert client.chunk() == b""
            assert client.fields() == []


def test_a_body_larger_than_allowed(gateway: WorkerUnderTest, serve: Serve) -> None:
    """413: at once where the length says so, else when the limit is passed; the instance never has it whole."""
    whole: list[bytes] = []

    def script(conn: Conn) -> None:
        while True:
            whole.append(conn.request().body)
            conn.answer()

    origin = serve(script, max_body=1000)
    with Client(gateway.port) as client:
        assert client.ask(post(b"a" * 1000)).status == 200
        client.send(post(b"a" * 1001)[:-1])
        answer = client.response()
        assert (answer.status, answer.fault, answer.keeps) == (413, "body-too-large", False)
        assert client.is_closed() == "FIN"
    with Client(gateway.port) as client:
        client.send(post(get("/smuggled") * 50))
        answer = client.response()
        assert (answer.status, answer.fault) == (413, "body-too-large")
        if answer.keeps:  # it was read whole, and dropped
            assert client.ask(post(b"a")).status == 200
        else:
            assert client.is_closed() == "FIN"
    assert b"smuggled" not in origin.received
    whole[1:] = []
    with Client(gateway.port) as client:
        client.send(get("/", "Transfer-Encoding: chunked", method="POST") + chunked([b"a" * 600, b"b" * 600]))
        answer = client.response()
        assert (answer.status, answer.fault, answer.keeps) == (413, "body-too-large", False)
        assert client.is_closed() == "FIN"
    assert gateway.record(answer.id).fault == "body-too-large"
    assert whole == [b"a" * 1000]


def test_content_of_a_refused_request(gateway: WorkerUnderTest, serve: Serve) -> None:
    """The content of a request that Triage answers itself is never read as the next request."""
    origin = serve(hosts=("a.example",), rate=1000.0)
    smuggled = get("/smuggled")
    for framed in ("length", "chunked"):
        if framed == "length":
            data = get("/", f"Content-Length: {len(smuggled)}", host="b.example", method="POST") + smuggled
        else:
            data = get("/", "Transfer-Encoding: chunked", host="b.example", method="POST") + chunked([smuggled])
        for how, pieces in splits(data):
            with Client(gateway.port) as client:
                client.send(*pieces)
                answer = client.response()
                assert (answer.status, answer.fault) == (404, "no-route"), how
                if not answer.keeps:
                    assert client.is_closed() == "FIN", how
                else:
                    assert client.ask(get("/next")).body == b"/next"
    assert b"smuggled" not in origin.received


def test_upload_begins_before_it_is_whole(serve: Serve, client: Client) -> None:
    """Content is passed on as it comes."""
    seen: list[bytes] = []

    def script(conn: Conn) -> None:
        conn.head_only()
        for _ in range(3):
            seen.append(conn.exactly(5))
        conn.answer()

    origin = serve(script)
    client.send(get("/", "Content-Length: 15", method="POST"))
    for number in range(3):
        client.send(b"part%d" % number)
        origin.wait(lambda _, number=number: len(seen) == number + 1)  # type: ignore[misc]
    assert client.response().status == 200


def test_echo_many(serve: Serve, client: Client) -> None:
    """Contents of growing sizes, one behind the other, on one connection."""
    origin = serve(echo)
    for size in [0, 1, 2, 100, 4095, 4096, 16383, 65535, 65536, 65537, 262144, 262145, 1_000_000]:
        answer = client.ask(post(LARGE[:size]))
        assert answer.body == LARGE[:size]
    assert len(origin.connections) == 1


def test_a_response_before_any_read(serve: Serve, client: Client) -> None:
    """The whole of head and content in one read, and head alone before the content."""
    serve(once(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"he", b"llo"))
    assert client.ask(get()).body == b"hello"
