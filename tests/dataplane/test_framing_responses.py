"""Strict framing of responses: a malformed one is 502 or a cut, surplus bytes never reach another request."""

from __future__ import annotations

import pytest

from proxy.link.messages import BadResponse
from tests.dataplane.client import Client, Reset, get, splits
from tests.dataplane.conftest import Serve
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Conn, each_time, once, response

BAD, FRAMING, LARGE = "bad-response", "response-framing", "response-head-too-large"


def with_fields(*lines: bytes, version: bytes = b"1.1", content: bytes = b"hello") -> bytes:
    return b"\r\n".join([b"HTTP/" + version + b" 200 OK", *lines, b"", b""]) + content


BAD_HEADS: dict[str, tuple[bytes, str]] = {
    "garbage": (b"\xff\xfe\xfd\xfc\r\n\r\n", BAD),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BAD),
    "HTTP/0.9": (b"<html>hello</html>\r\n\r\n", BAD),
    "a request": (get(), BAD),
    "a space first": (b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "http/1.1": (b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "ICY": (b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "no status": (b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "two digits": (b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "four digits": (b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "status 0": (b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "status 99": (b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "status 600": (b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "status 999": (b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "a negative status": (b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "a tab before the status": (b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "two spaces before the status": (b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", BAD),
    "bare LF behind the status line": (b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", BAD),
    "bare LF behind a field": (b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n", BAD),
    "NUL in the reason": (b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n", BAD),
    "bare CR in the reason": (b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n", BAD),
    "bare CR in a value": (with_fields(b"X: a\rb", b"Content-Length: 5"), BAD),
    "NUL in a value": (with_fields(b"X: a\0b", b"Content-Length: 5"), BAD),
    "NUL in a name": (with_fields(b"X\0: a", b"Content-Length: 5"), BAD),
    "a space before the colon": (with_fields(b"X : a", b"Content-Length: 5"), BAD),
    "a folded field": (with_fields(b"X: a", b" b", b"Content-Length: 5"), BAD),
    "no colon": (with_fields(b"X", b"Content-Length: 5"), BAD),
    "no name": (with_fields(b": a", b"Content-Length: 5"), BAD),
    "two lengths": (with_fields(b"Content-Length: 5", b"Content-Length: 6"), FRAMING),
    "the same length twice": (with_fields(b"Content-Length: 5", b"Content-Length: 5"), FRAMING),
    "a list of lengths": (with_fields(b"Content-Length: 5, 5"), FRAMING),
    "a negative length": (with_fields(b"Content-Length: -5"), FRAMING),
    "a length with plus": (with_fields(b"Content-Length: +5"), FRAMING),
    "an empty length": (with_fields(b"Content-Length:"), FRAMING),
    "a huge length": (with_fields(b"Content-Length: " + b"9" * 30), FRAMING),
    "a length in hex": (with_fields(b"Content-Length: 0x5"), FRAMING),
    "a length and chunked": (
        with_fields(b"Content-Length: 5", b"Transfer-Encoding: chunked", content=b"0\r\n\r\n"),
        FRAMING,
    ),
    "chunked and a length": (
        with_fields(b"Transfer-Encoding: chunked", b"Content-Length: 5", content=b"0\r\n\r\n"),
        FRAMING,
    ),
    "chunked twice": (
        with_fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", content=b"0\r\n\r\n"),
        FRAMING,
    ),
    "chunked, chunked": (with_fields(b"Transfer-Encoding: chunked, chunked", content=b"0\r\n\r\n"), FRAMING),
    "gzip, chunked": (with_fields(b"Transfer-Encoding: gzip, chunked", content=b"0\r\n\r\n"), FRAMING),
    "chunked, gzip": (with_fields(b"Transfer-Encoding: chunked, gzip", content=b"0\r\n\r\n"), FRAMING),
    "gzip": (with_fields(b"Transfer-Encoding: gzip"), FRAMING),
    "identity": (with_fields(b"Transfer-Encoding: identity", b"X: y"), FRAMING),
    "an empty coding": (with_fields(b"Transfer-Encoding:"), FRAMING),
    "xchunked": (with_fields(b"Transfer-Encoding: xchunked"), FRAMING),
    "chunked on HTTP/1.0": (with_fields(b"Transfer-Encoding: chunked", version=b"1.0", content=b"0\r\n\r\n"), FRAMING),
    "a large head": (with_fields(*(b"X-%d: %b" % (n, b"a" * 1000) for n in range(70)), b"Content-Length: 5"), LARGE),
    "a head without end": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 80_000, LARGE),
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_bad_heads(gateway: WorkerUnderTest, serve: Serve, name: str) -> None:
    """502 with the fault's name, nothing of it for the client, the instance's connection closed, the bytes kept."""
    data, fault = BAD_HEADS[name]
    for how, pieces in splits(data, response(b"smuggled")):
        if how == "byte by byte" and len(data) > 4000:
            pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
        ends: list[str] = []

        def script(conn: Conn, pieces: list[bytes] = pieces, ends: list[str] = ends) -> None:
            conn.request()
            try:
                conn.send(*pieces)
            except OSError:
                pass
            conn.until_closed()
            ends.append(conn.ended)

        origin = serve(script)
        with Client(gateway.port) as client:
            answer = client.ask(get(method="POST"))
            assert (answer.status, answer.fault) == (502, fault), (how, answer.raw, answer.body)
            assert answer.keeps and b"smuggled" not in answer.body
            origin.wait(lambda origin: origin.connections[0].finished.is_set())
            assert client.ask(get("/", method="POST")).fault == fault  # and not what else came
        assert ends, how
        record = gateway.record(answer.id)
        assert (record.fault, record.status, record.tries) == (fault, 502, 1), how
        kept = gateway.wait(BadResponse, lambda told, id=answer.id: told.id == id)  # type: ignore[misc]
        assert kept.data and kept.data in data + response(b"smuggled"), how


BAD_CHUNKS: dict[str, bytes] = {
    "a size that is none": b"5\r\nhello\r\nx\r\n",
    "more than the size": b"5\r\nhello!\r\n0\r\n\r\n",
    "bare LF": b"5\r\nhello\r\n0\n\n",
    "a negative size": b"5\r\nhello\r\n-1\r\n\r\n",
    "a space behind the size": b"5\r\nhello\r\n0 \r\n\r\n",
    "a length among the trailers": b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
    "a trailer without colon": b"5\r\nhello\r\n0\r\nfoo\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks(gateway: WorkerUnderTest, serve: Serve, name: str) -> None:
    """After the head the client is cut by RST, so that it can't take what it has for whole."""
    coded = BAD_CHUNKS[name]
    for how, pieces in splits(coded, response(b"smuggled")):

        def script(conn: Conn, pieces: list[bytes] = pieces) -> None:
            conn.request()
            conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces)
            conn.until_closed()

        serve(script)
        with Client(gateway.port) as client:
            client.send(get())
            head = client.response_head()
            with pytest.raises(Reset):
                client.content(head)
            assert b"0\r\n\r\n" not in client.taken
        record = gateway.record(head.id)
        assert (record.fault, record.status) == ("response-framing", 200), how


def test_a_body_cut_short(gateway: WorkerUnderTest, serve: Serve) -> None:
    """FIN or RST within the content: the client is cut too, whatever the framing."""
    for head in ("Content-Length: 10", "Transfer-Encoding: chunked"):
        for reset in (False, True):
            released: list[bool] = []

            def script(conn: Conn, head: str = head, reset: bool = reset, released: list[bool] = released) -> None:
                conn.request()
                content = b"5\r\nhello\r\n" if "chunked" in head else b"hello"
                conn.send(b"HTTP/1.1 200 OK\r\n" + head.encode() + b"\r\n\r\n", content)
                if reset:
                    conn.origin.wait(lambda _: released)
                    conn.reset()

            serve(script)
            with Client(gateway.port) as client:
                client.send(get())
                answer = client.response_head()
                assert client.chunk() == b"hello" if answer.chunked else client.exactly(5) == b"hello"
                released.append(True)
                assert client.is_closed() == "RST", (head, reset)
            record = gateway.record(answer.id)
            assert (record.fault, record.status, record.bytes_out) == ("body-truncated", 200, 5), (head, reset)


SURPLUS = {
    "bytes": b"surplus",
    "one byte": b"x",
    "an empty line": b"\r\n",
    "a second response": response(b"smuggled"),
    "half a response": b"HTTP/1.1 200 OK\r\nContent-Le",
    "an interim response": b"HTTP/1.1 100 Continue\r\n\r\n",
}
WHOLE = {
    "length": response(b"hello"),
    "no content": response(b""),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304": b'HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\nETag: "a"\r\n\r\n',
    "chunked": with_fields(b"Transfer-Encoding: chunked", content=b"5\r\nhello\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("surplus", SURPLUS)
@pytest.mark.parametrize("whole", WHOLE)
def test_surplus(gateway: WorkerUnderTest, serve: Serve, whole: str, surplus: str) -> None:
    """What follows in the same read: the response is whole, the rest reaches nobody, the connection is closed."""
    origin = serve(each_time(WHOLE[whole] + SURPLUS[surplus]))
    with Client(gateway.port) as client:
        for number in range(3):
            answer = client.ask(get())
            assert answer.status in (200, 204, 304) and answer.body in (b"hello", b"") and answer.keeps
            assert gateway.record(answer.id).fault == ""
            assert len(origin.connections) == number + 1, "the connection was used again"
    assert client.buffer == b""


@pytest.mark.parametrize("surplus", SURPLUS)
def test_unasked(gateway: WorkerUnderTest, serve: Serve, surplus: str) -> None:
    """Bytes on an idle pooled connection close it, and answer nobody."""
    go: list[bool] = []

    def script(conn: Conn) -> None:
        conn.request()
        conn.answer(b"hello")
        if conn.number == 0:
            conn.origin.wait(lambda _: go)
            conn.send(SURPLUS[surplus])
            conn.until_closed()
            return
        conn.request()
        conn.answer(b"again")

    origin = serve(script)
    with Client(gateway.port) as client:
        assert client.ask(get()).body == b"hello"
        go.append(True)
        origin.wait(lambda origin: origin.connections[0].finished.is_set())
        assert client.ask(get()).body == b"hello"
        assert len(origin.connections) == 2
        assert client.ask(get()).body == b"again"


def test_content_behind_an_answer_to_head(gateway: WorkerUnderTest, serve: Serve) -> None:
    """An instance that sends content to HEAD: it reaches nobody."""
    origin = serve(each_time(response(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")))
    with Client(gateway.port) as client:
        answer = client.ask(get(method="HEAD"))
        assert (answer.status, answer.length) == (200, 42)
        assert client.ask(get()).body.endswith(b"evil")
        assert client.buffer == b""
    assert len(origin.connections) == 2


def test_an_answer_before_the_request(gateway: WorkerUnderTest, serve: Serve) -> None:
    """An instance that talks first: what it said unasked is not an answer to what was not yet asked of it."""

    def script(conn: Conn) -> None:
        conn.send(b"220 mail.example ESMTP\r\n")
        conn.until_closed()

    serve(script)
    with Client(gateway.port) as client:
        answer = client.ask(get())
        assert (answer.status, answer.fault) == (502, "bad-response")


def test_half_a_head(gateway: WorkerUnderTest, serve: Serve) -> None:
    """FIN within the head, or before it."""
    for sent in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"):
        serve(once(sent) if sent else once())
        with Client(gateway.port) as client:
            answer = client.ask(get(method="POST"))
            assert (answer.status, answer.fault, answer.keeps) == (502, "closed-before-head", True)
        assert gateway.record(answer.id).tries == 1


GOOD: dict[str, tuple[bytes, bytes]] = {
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 200 "),
    "an empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 200 "),
    "Latin-1 in the reason": (b"HTTP/1.1 200 \xe9t\xe9\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 200 \xe9t\xe9"),
    "an odd status": (b"HTTP/1.1 599 Odd\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 599 Odd"),
    "status 299": (b"HTTP/1.1 299 Odd\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 299 Odd"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 200 OK"),
    "HTTP/1.0 until it closes": (b"HTTP/1.0 200 OK\r\n\r\nhello", b"HTTP/1.1 200 OK"),
    "HTTP/1.1 until it closes": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"HTTP/1.1 200 OK"),
    "Chunked in capitals": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK",
    ),
    "a large head": (
        with_fields(*(b"X-%d: %b" % (n, b"a" * 1000) for n in range(62)), b"Content-Length: 5"),
        b"HTTP/1.1 200 OK",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(gateway: WorkerUnderTest, serve: Serve, name: str) -> None:
    """What the rules allow passes, however it is cut."""
    data, start = GOOD[name]
    for how, pieces in splits(data):
        if how == "byte by byte" and len(data) > 4000:
            pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
        serve(once(*pieces))
        with Client(gateway.port) as client:
            for _ in range(2):
                answer = client.ask(get())
                assert (answer.start, answer.body, answer.keeps) == (start, b"hello", True), how
        record = gateway.record(answer.id)
        assert record.bytes_out == 5 and record.fault == ("app-error" if b"599" in start else "")
