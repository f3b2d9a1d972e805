"""What a connection remembers of the head before it must not change what the next head means."""

from __future__ import annotations

import pytest

from tests.dataplane.client import Client, get, splits
from tests.dataplane.conftest import Serve
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Conn, each_time, response

FIELDS = "Host: a.example\r\nX: y\r\n\r\n"


def asked(line: str, fields: str = FIELDS) -> bytes:
    return f"{line}\r\n{fields}".encode("latin-1")


LINES = {
    "GET /a HTTP/1.1": 200,
    "GET /b?c=d HTTP/1.1": 200,
    "HEAD /a HTTP/1.1": 200,
    "POST /a HTTP/1.1": 200,
    "PROPFIND /a HTTP/1.1": 200,
    "OPTIONS * HTTP/1.1": 200,
    "GET http://a.example/x HTTP/1.1": 200,
    "GET http://b.example/x HTTP/1.1": 404,
    "GET /a HTTP/1.0": 200,
    "GET * HTTP/1.1": 400,
    "GET /a HTTP/1.2": 505,
    "GET /a HTTP/2.0": 505,
    "GET /" + "a" * 8191 + " HTTP/1.1": 200,
    "GET /" + "a" * 8192 + " HTTP/1.1": 414,
    "FROB /a HTTP/1.1": 501,
    "get /a HTTP/1.1": 501,
    "CONNECT /a HTTP/1.1": 501,
    "CONNECT a.example:443 HTTP/1.1": 501,
    "PRI /a HTTP/1.1": 501,
    "GET /a#b HTTP/1.1": 400,
    "GET /\xe9 HTTP/1.1": 400,
    "GET  /a HTTP/1.1": 400,
    "GET /a  HTTP/1.1": 400,
    "GET /a b HTTP/1.1": 400,
    "GET /a\0 HTTP/1.1": 400,
    "GET /\x7f HTTP/1.1": 400,
    "GET a HTTP/1.1": 400,
    " GET /a HTTP/1.1": 400,
    "GET /a HTTP/1.1 ": 400,
    "GET /a http/1.1": 400,
    "GET /a": 400,
    "-- /a HTTP/1.1": 501,
}


@pytest.mark.parametrize("line", LINES, ids=[line[:30] for line in LINES])
def test_another_request_line(gateway: WorkerUnderTest, serve: Serve, line: str) -> None:
    """The same fields as the request before, another request line: judged as if it were the first."""
    status = LINES[line]
    method = line.split()[0]
    origin = serve(hosts=("a.example",))
    seen = []
    for before in (0, 1, 3):  # on a new connection, behind one, behind several
        for _, pieces in splits(asked(line)):
            if len(line) > 4000 and len(pieces) > 1:
                continue
            with Client(gateway.port) as client:
                for _ in range(before):
                    assert client.ask(asked("GET /before HTTP/1.1")).body == b"/before"
                client.send(*pieces)
                answer = client.response("HEAD" if method == "HEAD" else "GET")
                assert answer.status == status, (before, answer.raw)
                last = origin.requests[-1] if status == 200 else None
                fields = (
                    [each for each in last.fields if each[0] not in (b"X-Request-ID", b"traceparent")] if last else []
                )
                seen.append((last.start if last else b"", fields, answer.fault, answer.keeps))
                record = gateway.record(answer.id)
                assert (record.status, record.fault) == (status, answer.fault)
                if answer.keeps:
                    assert client.ask(asked("GET /after HTTP/1.1")).body == b"/after"
                else:
                    assert client.is_closed() == "FIN"
    assert all(each == seen[0] for each in seen), seen
    assert {each.target for each in origin.requests} <= {"/before", "/after", "/x", "*"} | {
        line.split()[1] if status == 200 else ""
    }


CHANGES = {
    "another Host": ("Host: b.example\r\nX: y\r\n\r\n", 404),
    "no Host": ("X: y\r\n\r\n", 400),
    "one more field": ("Host: a.example\r\nX: y\r\nZ: 1\r\n\r\n", 200),
    "one less": ("Host: a.example\r\n\r\n", 200),
    "another case": ("host: a.example\r\nX: y\r\n\r\n", 200),
    "close": ("Host: a.example\r\nX: y\r\nConnection: close\r\n\r\n", 200),
    "content": ("Host: a.example\r\nX: y\r\nContent-Length: 3\r\n\r\nabc", 200),
    "chunks": ("Host: a.example\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200),
    "no content": ("Host: a.example\r\nContent-Length: 0\r\n\r\n", 200),
    "expecting": ("Host: a.example\r\nExpect: 100-continue\r\n\r\n", 200),
    "hop by hop": ("Host: a.example\r\nConnection: X\r\nX: y\r\n\r\n", 200),
    "te": ("Host: a.example\r\nConnection: TE\r\nTE: trailers\r\n\r\n", 200),
    "forwarded": ("Host: a.example\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", 200),
    "traced": ("Host: a.example\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n", 200),
    "an id": ("Host: a.example\r\nX-Request-ID: abc\r\n\r\n", 200),
    "an upgrade": ("Host: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
    "surplus": (FIELDS + "GET", 200),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_fields(gateway: WorkerUnderTest, serve: Serve, name: str) -> None:
    """Other fields, twice, between requests with the same ones: nothing of one is left in the next."""
    fields, status = CHANGES[name]
    origin = serve(hosts=("a.example",))
    plain = []
    with Client(gateway.port) as client:
        for _ in range(3):
            for _ in range(2):
                answer = client.ask(asked("GET /plain HTTP/1.1"))
                assert answer.body == b"/plain"
                plain.append(
                    [each for each in origin.requests[-1].fields if each[0] not in (b"X-Request-ID", b"traceparent")]
                )
            client.send(
                asked("POST /other HTTP/1.1" if "content" in name or "chunk" in name else "GET /other HTTP/1.1", fields)
            )
            answer = client.response()
            assert answer.status == status
            if status == 200:
                request = origin.requests[-1]
                assert (request.body == b"abc") == (name in ("content", "chunks"))
                assert request["X-Forwarded-For"] == "127.0.0.1"
                assert request.chunked == (name == "chunks")
                assert ("TE" in request) == (name == "te")
                assert ("Upgrade" in request) == (name == "an upgrade")
                if name == "traced":
                    assert request["traceparent"].split("-")[1].startswith("4bf9")
                elif "traceparent" in request:
                    assert not request["traceparent"].split("-")[1].startswith("4bf9")
            if not answer.keeps:
                assert client.is_closed() == "FIN"
                assert name in ("close", "no Host")
                break
            if name == "surplus":
                client.send(b" /rest HTTP/1.1\r\n" + FIELDS.encode())
                assert client.response().body == b"/rest"
    assert all(each == plain[0] for each in plain)


def test_another_id_each_time(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Ids and traces are never those of the request before."""
    origin = serve()
    ids = [client.ask(asked("GET / HTTP/1.1")).id for _ in range(10)]
    assert len(set(ids)) == 10
    assert [each["X-Request-ID"] for each in origin.requests] == ids
    assert len({each["traceparent"] for each in origin.requests}) == 10
    assert [gateway.record(each).id for each in ids] == ids


def test_a_new_table(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """What the table changes holds for the next request on a connection that stays."""
    first = serve()
    assert client.ask(asked("GET /1 HTTP/1.1")).body == b"/1"
    second = serve()
    assert client.ask(asked("GET /2 HTTP/1.1")).body == b"/2"
    assert (len(first.requests), len(second.requests)) == (1, 1)
    serve(settings={"target_limit": 10})
    answer = client.ask(asked("GET /aaaaaaaaaaaaaaaa HTTP/1.1"))
    assert answer.status == 414 and client.is_closed() == "FIN"


def test_the_same_response_head(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """The same head each time, to GET and to HEAD, with and without content."""

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"" if request.method == "HEAD" else b"hello")

    origin = serve(script)
    for method in ("GET", "HEAD", "GET", "GET", "HEAD", "HEAD", "GET", "POST"):
        answer = client.ask(get(method=method))
        assert (answer.length, answer.body) == (5, b"" if method == "HEAD" else b"hello"), method
        assert gateway.record(answer.id).bytes_out == len(answer.body)
    assert len(origin.connections) == 1
    with Client(gateway.port) as old:
        answer = old.ask(get(version="1.0"))
        assert answer.body == b"hello" and not answer.keeps
    assert client.ask(get()).keeps
    answer = client.ask(get("/", "Connection: close"))
    assert not answer.keeps


@pytest.mark.parametrize("head", ["Transfer-Encoding: chunked", "X: until the end", "Content-Length: 5"])
def test_the_same_response_head_in_other_framing(gateway: WorkerUnderTest, serve: Serve, head: str) -> None:
    """The same head to clients of 1.1 and 1.0, to GET and HEAD, in turn."""
    content = {"T": b"5\r\nhello\r\n0\r\n\r\n"}.get(head[0], b"hello")

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            conn.send(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + (b"" if request.method == "HEAD" else content))
            if head.startswith("X") and request.method != "HEAD":
                return

    serve(script)
    for version, method in [
        ("1.1", "GET"),
        ("1.0", "GET"),
        ("1.1", "HEAD"),
        ("1.1", "GET"),
        ("1.0", "GET"),
        ("1.1", "GET"),
    ]:
        with Client(gateway.port) as client:
            answer = client.ask(get(version=version, method=method))
            assert answer.body == (b"" if method == "HEAD" else b"hello")
            assert version == "1.1" or "Transfer-Encoding" not in answer


def test_a_head_that_begins_as_the_last_one(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """One byte more or less than the head before."""
    heads = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + b"hello" * 10,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 500 OK\r\nContent-Length: 5\r\n\r\nhello",
    ]

    def script(conn: Conn) -> None:
        for head in heads:
            conn.request()
            conn.send(head)
        conn.until_closed()

    serve(script)
    found = [client.ask(get()) for _ in heads]
    assert [each.status for each in found] == [200, 200, 200, 200, 500]
    assert [len(each.body) for each in found] == [5, 5, 50, 5, 5]
    assert [each["X"] for each in found] == ["", "y", "", "", ""]


def test_interim_between_the_same_heads(serve: Serve, client: Client) -> None:
    serve(each_time(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", response(b"hello")))
    for _ in range(4):
        client.send(get())
        assert client.response_head().status == 103
        assert client.response().body == b"hello"


@pytest.mark.parametrize("first", ["GET /a HTTP/1.1\r\n\r\n", "GET /a HTTP/1.1\r\nX: y\r\n\r\n"])
def test_a_host_is_not_borrowed(gateway: WorkerUnderTest, serve: Serve, first: str) -> None:
    """The head behind one without Host does not lend it its fields, known or not."""
    origin = serve()
    second = get("/b", "X: y")
    for _ in range(2):
        with Client(gateway.port) as client:
            client.send(first.encode() + second)
            assert client.response().status == 400
            client.rest()
        with Client(gateway.port) as client:
            assert client.ask(second).status == 200
    assert b"/a" not in origin.received
