"""One request after another: keep-alive, pipelining, HTTP/1.0, HEAD, statuses without content, interim responses."""

from __future__ import annotations

import select

import pytest

from tests.dataplane.client import Client, chunked, get, post, splits
from tests.dataplane.conftest import Serve, works
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Conn, each_time, once, response


def test_keep_alive(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Many requests on one connection, and one connection to the instance."""
    origin = serve()
    for number in range(5):
        answer = client.ask(get(f"/{number}"))
        assert (answer.status, answer.body, answer.keeps) == (200, f"/{number}".encode(), True)
        record = gateway.record(answer.id)
        assert (record.status, record.fault, record.app, record.target, record.tries) == (
            200,
            "",
            "web",
            f"/{number}",
            1,
        )
        assert record.reused == (number > 0) and record.bytes_out == 2
    assert len(origin.connections) == 1


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "x-y, close"])
def test_connection_close(serve: Serve, client: Client, value: str) -> None:
    """The answer says so too, and the connection ends after it; towards the instance it stays."""
    origin = serve()
    answer = client.ask(get("/", f"Connection: {value}"))
    assert answer.status == 200 and answer["Connection"] == "close"
    assert client.is_closed() == "FIN"
    assert "Connection" not in origin.requests[0]
    assert not origin.connections[0].finished.is_set()


def test_instance_closes(serve: Serve, client: Client) -> None:
    """`Connection: close` of the instance ends its connection only."""
    origin = serve(each_time(response(b"hello", "Connection: close")))
    for number in range(3):
        answer = client.ask(get())
        assert answer.body == b"hello" and answer.keeps and "Connection" not in answer
        assert len(origin.connections) == number + 1


def test_http_1_0(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Closed after the answer, unless keep-alive was asked for; towards the instance always 1.1."""
    origin = serve()
    with Client(gateway.port) as client:
        answer = client.ask(get(version="1.0"))
        assert answer.status == 200 and not answer.keeps
        assert client.is_closed() == "FIN"
    with Client(gateway.port) as client:
        for _ in range(3):
            answer = client.ask(get("/", "Connection: keep-alive", version="1.0"))
            assert answer["Connection"] == "keep-alive"
        assert client.ask(get(version="1.0")).status == 200
        assert client.is_closed() == "FIN"
    with Client(gateway.port) as client:
        assert client.ask(b"GET /bare HTTP/1.0\r\n\r\n").body == b"/bare"
        assert client.is_closed() == "FIN"
    assert all(each.start.endswith(b"HTTP/1.1") for each in origin.requests)
    assert origin.requests[-1]["Host"] == f"127.0.0.1:{gateway.port}"
    assert len(origin.connections) == 1


def test_chunked_to_http_1_0(gateway: WorkerUnderTest, serve: Serve) -> None:
    """A client of 1.0 never gets chunks: the content ends with the connection, whatever it asked for."""
    for data in (b"Transfer-Encoding: chunked\r\n\r\n" + chunked([b"hel", b"lo"], b"X: y\r\n"), b"\r\nhello"):
        serve(once(b"HTTP/1.1 200 OK\r\n" + data))
        for line in ("Connection: keep-alive", "X: y"):
            with Client(gateway.port) as client:
                answer = client.ask(get("/", line, version="1.0"))
                assert answer.body == b"hello" and "Transfer-Encoding" not in answer and not answer.keeps
                assert client.ended == "FIN"


def test_a_cut_body_to_http_1_0(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Where only the end tells that it is whole, a cut must not look like one."""
    serve(once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"))
    with Client(gateway.port) as client:
        client.send(get(version="1.0"))
        head = client.response_head()
        client.rest()
        assert client.ended == "RST"
    assert gateway.record(head.id).fault == "body-truncated"


def test_pipelining(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Twenty at once: answered in order, each once; however they are cut."""
    origin = serve()
    data = b"".join(get(f"/{number}") for number in range(20))
    for how, pieces in splits(data):
        with Client(gateway.port) as client:
            client.send(*pieces)
            assert [client.response().body for _ in range(20)] == [f"/{number}".encode() for number in range(20)], how
    assert len(origin.requests) == 40
    works(gateway, origin)


def test_pipelining_many_kinds(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Local answers among proxied ones, contents of both framings, HEAD: in order."""

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            conn.answer(b"" if request.method == "HEAD" else request.target.encode() + request.body)

    serve(script, hosts=("a.example",))
    requests = [
        get("/1"),
        get("/2", host="nobody.example"),
        post(b"abc", target="/3"),
        get("/4", method="HEAD"),
        get("/5", "Transfer-Encoding: chunked", method="POST") + chunked([b"d", b"ef"]),
        get("/6", host="nobody.example"),
        post(b"", target="/7"),
        get("/8"),
    ]
    for how, pieces in splits(b"".join(requests)):
        with Client(gateway.port) as client:
            client.send(*pieces)
            found = [client.response("HEAD" if number == 3 else "GET") for number in range(8)]
        assert [each.status for each in found] == [200, 404, 200, 200, 200, 404, 200, 200], how
        bodies = [each.body for each in found if each.status == 200]
        assert bodies == [b"/1", b"/3abc", b"", b"/5def", b"/7", b"/8"], how


@pytest.mark.parametrize(
    "bad", [b"GET  / HTTP/1.1\r\n\r\n", get("/", "Content-Length: x"), b"\0\r\n\r\n", get("/", "A : b")]
)
def test_pipelining_with_an_error(gateway: WorkerUnderTest, serve: Serve, bad: bytes) -> None:
    """The third of four is malformed: two answers, then 400, then the end; the fourth reaches nobody."""
    origin = serve()
    for how, pieces in splits(get("/1") + get("/2") + bad + get("/4")):
        with Client(gateway.port) as client:
            client.send(*pieces)
            assert [client.response().body for _ in range(2)] == [b"/1", b"/2"], how
            assert client.response().status == 400, how
            assert client.is_closed() == "FIN"
    assert [each.target for each in origin.requests] == ["/1", "/2"] * 2
    works(gateway, origin)


def test_pipelining_behind_close(gateway: WorkerUnderTest, serve: Serve) -> None:
    """What stands behind `Connection: close` is not served."""
    origin = serve()
    with Client(gateway.port) as client:
        client.send(get("/1", "Connection: close") + get("/2"))
        assert client.response().body == b"/1"
        client.is_closed()
    works(gateway, origin)
    assert [each.target for each in origin.requests] == ["/1", "/works"]


def test_much_pipelined(gateway: WorkerUnderTest, serve: Serve) -> None:
    """More than is held: reading pauses, and goes on; nothing is lost."""
    go: list[bool] = []

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            if request.target == "/0":
                conn.origin.wait(lambda _: go)
            conn.answer(request.target.encode())

    serve(script)
    with Client(gateway.port) as client:
        client.send(b"".join(get(f"/{number}", "X: " + "a" * 2000) for number in range(300)))
        go.append(True)
        for number in range(300):
            assert client.response().body == b"/%d" % number


def test_head(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """With either framing named: no content follows, and the next answer is read rightly."""
    for line in ("Content-Length: 1000", "Transfer-Encoding: chunked", "X: neither"):

        def script(conn: Conn, line: str = line) -> None:
            while True:
                request = conn.request()
                if request.method == "HEAD":
                    conn.send(f"HTTP/1.1 200 OK\r\n{line}\r\n\r\n".encode())
                else:
                    conn.answer(b"content")

        origin = serve(script)
        answer = client.ask(get(method="HEAD"))
        assert answer.status == 200 and answer.keeps, line
        if line.startswith("Content"):
            assert answer.length == 1000
        assert client.ask(get()).body == b"content", line
        assert len(origin.connections) == 1, line
        assert gateway.record(answer.id).bytes_out == 0
    answer = client.ask(get("/", host="b.example", method="HEAD"))
    assert answer.status == 200
    serve(hosts=("a.example",))
    answer = client.ask(get("/", host="b.example", method="HEAD"))  # Triage's own answer
    assert answer.status == 404 and answer.length
    assert client.ask(get("/x")).body == b"/x"


def test_204_and_304(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """No content whatever the head claims, no length on 204, and 304 keeps what it says of the length."""
    origin = serve(each_time(b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"))
    for _ in range(2):
        answer = client.ask(get())
        assert (answer.status, answer["X"], "Content-Length" in answer, answer.chunked) == (204, "y", False, False)
    assert len(origin.connections) == 1
    serve(each_time(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"))
    for _ in range(2):
        answer = client.ask(get())
        assert answer.status == 204 and "Content-Length" not in answer  # RFC 9110 section 8.6
    origin = serve(each_time(b'HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: "a"\r\n\r\n'))
    for _ in range(2):
        answer = client.ask(get())
        assert (answer.status, answer["ETag"]) == (304, '"a"') and answer["Content-Length"] in ("", "100")
    assert len(origin.connections) == 1
    serve(each_time(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"))
    assert client.ask(get()).status == 304
    assert client.ask(get()).status == 304


# --- interim responses ----------------------------------------------------------------------------


def test_100_continue(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """The client waits for 100; it is the instance that gives it."""

    def script(conn: Conn) -> None:
        while True:
            request = conn.head_only()
            assert request["Expect"] == "100-continue"
            conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            conn.content(request)
            conn.answer(request.body)

    serve(script)
    for framed in (("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", chunked([b"hello"]))):
        client.send(get("/", framed[0], "Expect: 100-continue", method="POST"))
        interim = client.response_head()
        assert interim.status == 100 and "Content-Length" not in interim
        client.send(framed[1])
        answer = client.response()
        assert (answer.status, answer.body, answer.keeps) == (200, b"hello", True)
        record = gateway.record(answer.id)
        assert (record.fault, record.bytes_in) == ("", 5)


def test_100_continue_unheeded(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """An instance that never says 100: a client that sends after a while is served."""
    serve(lambda conn: conn.answer(conn.request().body))
    client.send(get("/", "Content-Length: 5", "Expect: 100-continue", method="POST"), b"hello")
    answer = client.response_head()
    if answer.status == 100:
        answer = client.response_head()
    client.content(answer)
    assert answer.body == b"hello"


def test_100_continue_refused(gateway: WorkerUnderTest, serve: Serve) -> None:
    """The instance answers instead of saying 100: passed on, and the connection is not used again."""

    def script(conn: Conn) -> None:
        conn.head_only()
        conn.answer(b"no", status="417 Expectation Failed")
        conn.until_closed()

    origin = serve(script)
    with Client(gateway.port) as client:
        client.send(get("/", "Content-Length: 5", "Expect: 100-continue", method="POST"))
        answer = client.response()
        assert (answer.status, answer.body, answer.keeps) == (417, b"no", False)
        assert client.is_closed() == "FIN"
    origin.wait(lambda origin: origin.connections[0].finished.is_set())
    assert gateway.record(answer.id).fault == ""


def test_100_unasked(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """100 goes to nobody who did not ask; the final answer does."""
    serve(each_time(b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"hello")))
    assert client.ask(post(b"abc")).body == b"hello"
    assert client.ask(get()).body == b"hello"


@pytest.mark.parametrize("value", ["200-ok", "100-continue, x", "x=y"])
def test_another_expect(gateway: WorkerUnderTest, serve: Serve, value: str) -> None:
    origin = serve()
    with Client(gateway.port) as client:
        client.send(get("/", f"Expect: {value}", "Content-Length: 3", method="POST"))
        assert client.response().status == 417
    assert origin.received == b""


def test_103(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """103 is passed on, whole, before the final response; not to HTTP/1.0; in any cut."""
    data = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\nConnection: x\r\n\r\n"
    for how, pieces in splits(data * 2 + response(b"hello")):
        serve(each_time(*pieces))
        client.send(get())
        for _ in range(2):
            hints = client.response_head()
            assert (hints.status, hints["Link"]) == (103, "</s.css>; rel=preload"), how
            assert "Connection" not in hints
        assert client.response().body == b"hello", how
        with Client(gateway.port) as old:
            assert old.ask(get(version="1.0")).body == b"hello"


def test_103_before_the_rest(serve: Serve, client: Client) -> None:
    """It arrives before the final response was sent."""
    got: list[bool] = []

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n")
        conn.origin.wait(lambda _: got)
        conn.answer()

    serve(script)
    client.send(get())
    assert client.response_head().status == 103
    got.append(True)
    assert client.response().status == 200


def test_other_interim_responses(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """102 and unknown ones are dropped or passed on, and never end the waiting."""
    serve(each_time(b"HTTP/1.1 199 Odd\r\nX: y\r\n\r\n" + b"HTTP/1.1 150 Odd\r\n\r\n" + response(b"hello")))
    for _ in range(2):
        assert client.ask(get()).body == b"hello"


@pytest.mark.slow
def test_interim_and_never_more(serve: Serve, client: Client) -> None:
    """1xx do not end `first_byte`: a 504 in time."""

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n")
        conn.until_closed()

    serve(script, first_byte=0.3)
    client.send(get())
    assert client.response_head().status == 103
    answer = client.response()
    assert (answer.status, answer.fault) == (504, "head-timeout")


# --- early answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("framed", ["length", "chunked"])
def test_an_early_answer(gateway: WorkerUnderTest, serve: Serve, reset: bool, framed: str) -> None:
    """413 before the content was read: it arrives whole although the client sends on; then the connection ends."""

    def script(conn: Conn) -> None:
        conn.head_only()
        conn.answer(b"too much" * 1000, status="413 Content Too Large")
        if reset:
            conn.reset()
        else:
            conn.until_closed()

    origin = serve(script)
    with Client(gateway.port) as client:
        size = 700_000
        if framed == "length":
            client.send(get("/", f"Content-Length: {size}", method="POST"))
            pieces = [b"a" * 10_000] * (size // 10_000)
        else:
            client.send(get("/", "Transfer-Encoding: chunked", method="POST"))
            pieces = [b"2710\r\n" + b"a" * 10_000 + b"\r\n"] * (size // 10_000)
        client.send(pieces[0])
        assert select.select([client.sock], [], [], 30)[0]
        for piece in pieces[1:]:
            try:
                client.sock.sendall(piece)
            except OSError:
                break
        answer = client.response()
        assert (answer.status, answer.body, answer.keeps) == (413, b"too much" * 1000, False)
    record = gateway.record(answer.id)
    assert (record.status, record.fault, record.bytes_out) == (413, "", 8000)
    origin.wait(lambda origin: all(each.finished.is_set() for each in origin.connections))


@pytest.mark.slow
def test_an_early_answer_while_the_upload_waits(gateway: WorkerUnderTest, serve: Serve) -> None:
    """The instance reads nothing and answers, while the gateway's reading is paused: the answer comes through."""

    def script(conn: Conn) -> None:
        conn.head_only()
        conn.origin.wait(lambda _: stuck)
        conn.answer(b"no", status="403 Forbidden")
        conn.until_closed()

    stuck: list[bool] = []
    serve(script)
    with Client(gateway.port) as client:
        client.send(get("/", "Content-Length: 100000000", method="POST"))
        client.sock.settimeout(0.5)
        try:
            while True:
                client.sock.sendall(b"a" * 100_000)
        except TimeoutError:
            pass
        client.sock.settimeout(30)
        stuck.append(True)
        answer = client.response()
        assert (answer.status, answer.body, answer.keeps) == (403, b"no", False)
        assert client.rest() == b""


def test_an_early_answer_and_the_rest_of_the_request(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """What was the content of a request is never read as the next one."""
    origin = serve(lambda conn: (conn.head_only(), conn.answer(b"early"), conn.until_closed()))
    smuggled = get("/smuggled")
    client.send(get("/", f"Content-Length: {2 * len(smuggled)}", method="POST"))
    assert client.response().body == b"early"
    client.send(smuggled, smuggled)
    client.rest()
    assert all("smuggled" not in each.target for each in origin.requests)
