"""Strict framing of requests: what is ambiguous or malformed is refused, and no byte of it reaches an instance.

Each row is sent whole, byte by byte, and with another request already behind it.
"""

from __future__ import annotations

import pytest

from tests.dataplane.client import Client, Ended, get, splits
from tests.dataplane.conftest import Serve, works
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Conn

HOST = b"Host: a.example\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"


def line(text: bytes) -> bytes:
    return text + b"\r\n" + HOST + b"\r\n"


def fields(*lines: bytes, method: bytes = b"POST", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([method + b" / HTTP/" + version, HOST[:-2], *lines, b"", b""])


def host(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])


LINES: dict[str, tuple[bytes, int]] = {
    "two spaces before the target": (line(b"GET  / HTTP/1.1"), 400),
    "two spaces before the version": (line(b"GET /  HTTP/1.1"), 400),
    "a space first": (line(b" GET / HTTP/1.1"), 400),
    "a space last": (line(b"GET / HTTP/1.1 "), 400),
    "tabs": (line(b"GET\t/\tHTTP/1.1"), 400),
    "a tab before the version": (line(b"GET /\tHTTP/1.1"), 400),
    "a space within the target": (line(b"GET /a b HTTP/1.1"), 400),
    "a tab within the target": (line(b"GET /a\tb HTTP/1.1"), 400),
    "a form feed": (line(b"GET\x0c/ HTTP/1.1"), 400),
    "CR twice": (line(b"GET / HTTP/1.1\r"), 400),
    "a CR within": (line(b"GET /\r HTTP/1.1"), 400),
    "NUL in the target": (line(b"GET /\0 HTTP/1.1"), 400),
    "NUL first": (line(b"\0GET / HTTP/1.1"), 400),
    "DEL in the target": (line(b"GET /\x7f HTTP/1.1"), 400),
    "no method": (line(b"/ HTTP/1.1"), 400),
    "no target": (line(b"GET HTTP/1.1"), 400),
    "an empty target": (line(b"GET  HTTP/1.1"), 400),
    "a target without slash": (line(b"GET foo HTTP/1.1"), 400),
    "a query only": (line(b"GET ?a=b HTTP/1.1"), 400),
    "a fragment": (line(b"GET /a#b HTTP/1.1"), 400),
    "a fragment in absolute form": (line(b"GET http://a.example/#b HTTP/1.1"), 400),
    "UTF-8 in the target": (line("GET /é HTTP/1.1".encode()), 400),
    "Latin-1 in the target": (line(b"GET /\xe9 HTTP/1.1"), 400),
    "asterisk with GET": (line(b"GET * HTTP/1.1"), 400),
    "asterisk and more": (line(b"OPTIONS *a HTTP/1.1"), 400),
    "another scheme": (line(b"GET ftp://a.example/ HTTP/1.1"), 400),
    "user information": (line(b"GET http://user@a.example/ HTTP/1.1"), 400),
    "user and password": (line(b"GET http://user:pw@a.example/ HTTP/1.1"), 400),
    "an empty authority": (line(b"GET http:/// HTTP/1.1"), 400),
    "a port that is none": (line(b"GET http://a.example:x/ HTTP/1.1"), 400),
    "authority form": (line(b"GET a.example:80 HTTP/1.1"), 400),
    "HTTP/0.9 without a version": (b"GET /\r\n", 400),
    "HTTP/0.9 and fields": (line(b"GET /"), 400),
    "HTTP/0.9": (line(b"GET / HTTP/0.9"), 505),
    "HTTP/1.2": (line(b"GET / HTTP/1.2"), 505),
    "HTTP/2.0": (line(b"GET / HTTP/2.0"), 505),
    "HTTP/3.0": (line(b"GET / HTTP/3.0"), 505),
    "HTTP/1.10": (line(b"GET / HTTP/1.10"), 400),
    "HTTP/01.1": (line(b"GET / HTTP/01.1"), 400),
    "HTTP/1": (line(b"GET / HTTP/1"), 400),
    "http/1.1": (line(b"GET / http/1.1"), 400),
    "HTTP/1,1": (line(b"GET / HTTP/1,1"), 400),
    "HTTPS/1.1": (line(b"GET / HTTPS/1.1"), 400),
    "words behind the version": (line(b"GET / HTTP/1.1 HTTP/1.1"), 400),
    "the HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 501),
    "a lower-case method": (line(b"get / HTTP/1.1"), 501),
    "a mixed-case method": (line(b"Get / HTTP/1.1"), 501),
    "an unknown method": (line(b"FROB / HTTP/1.1"), 501),
    "a longer known method": (line(b"GETS / HTTP/1.1"), 501),
    "a method with a digit": (line(b"GET2 / HTTP/1.1"), 501),
    "a method that is no token": (line(b"G@T / HTTP/1.1"), 400),
    "a method with a colon": (line(b"GET: / HTTP/1.1"), 400),
    "CONNECT": (line(b"CONNECT a.example:443 HTTP/1.1"), 501),
    "CONNECT to a path": (line(b"CONNECT / HTTP/1.1"), 501),
    "a response": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", 400),
    "garbage": (b"\xff\xfe\xfd\r\n\r\n", 400),
    "a bare LF first": (b"\n" + line(b"GET / HTTP/1.1"), 400),
    "a bare CR first": (b"\r" + line(b"GET / HTTP/1.1"), 400),
}

FIELDS: dict[str, tuple[bytes, int]] = {
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: a.example\n\n", 400),
    "bare LF behind the request line": (b"GET / HTTP/1.1\nHost: a.example\r\n\r\n", 400),
    "bare LF behind a field": (b"GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n", 400),
    "bare LF before the end": (b"GET / HTTP/1.1\r\nHost: a.example\n\r\n", 400),
    "bare LF at the end": (b"GET / HTTP/1.1\r\nHost: a.example\r\n\n", 400),
    "bare CR in a value": (fields(b"X: a\rb"), 400),
    "bare CR behind a field": (b"GET / HTTP/1.1\r\nHost: a.example\rX: y\r\n\r\n", 400),
    "CR CR LF": (b"GET / HTTP/1.1\r\nHost: a.example\r\r\n\r\n", 400),
    "folded": (fields(b"X: a", b" b"), 400),
    "folded by a tab": (fields(b"X: a", b"\tb"), 400),
    "the first line folded": (b"GET / HTTP/1.1\r\n Host: a.example\r\n\r\n", 400),
    "a folded Host": (host(b"Host:", b" a.example"), 400),
    "a space before the colon": (fields(b"X : a"), 400),
    "a tab before the colon": (fields(b"X\t: a"), 400),
    "a space within a name": (fields(b"X Y: a"), 400),
    "no name": (fields(b": a"), 400),
    "no colon": (fields(b"X"), 400),
    "NUL in a name": (fields(b"X\0: a"), 400),
    "NUL in a value": (fields(b"X: a\0b"), 400),
    "a control in a name": (fields(b"X\x01: a"), 400),
    "a control in a value": (fields(b"X: a\x01b"), 400),
    "DEL in a value": (fields(b"X: a\x7fb"), 400),
    "UTF-8 in a name": (fields("É: a".encode()), 400),
    "brackets in a name": (fields(b"X[1]: a"), 400),
    "a quoted name": (fields(b'"X": a'), 400),
    "no Host": (b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400),
    "no field at all": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (host(b"Host: a.example", b"Host: b.example"), 400),
    "the same Host twice": (host(b"Host: a.example", b"host: a.example"), 400),
    "two Hosts on HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "an empty Host": (host(b"Host:"), 400),
    "two names in Host": (host(b"Host: a.example, b.example"), 400),
    "a space in Host": (host(b"Host: a example"), 400),
    "a path in Host": (host(b"Host: a.example/x"), 400),
    "a user in Host": (host(b"Host: user@a.example"), 400),
    "a port too large": (host(b"Host: a.example:65536"), 400),
    "a port that is none": (host(b"Host: a.example:http"), 400),
    "half an IPv6 address": (host(b"Host: [::1"), 400),
    "an IPv6 address without brackets": (host(b"Host: ::1"), 400),
    "not an IPv6 address": (host(b"Host: [1::2::3]"), 400),
    "UTF-8 in Host": (host("Host: é.example".encode()), 400),
    "Host with two colons": (host(b"Host: a.example:80:80"), 400),
    "an absolute target and no Host": (b"GET http://a.example/ HTTP/1.1\r\n\r\n", 400),
    "Connection is no list": (fields(b"Connection: close x"), 400),
    "Connection with a control": (fields(b'Connection: "close"'), 400),
    "another Expect": (fields(b"Expect: 200-ok"), 417),
    "Expect twice": (fields(b"Expect: 100-continue", b"Expect: other"), 417),
}

LENGTHS: dict[str, tuple[bytes, int]] = {
    f"Content-Length: {value!r}": (fields(b"Content-Length: " + value) + SMUGGLED, 400)
    for value in (
        b"",
        b"+3",
        b"-1",
        b"-0",
        b"0x3",
        b"3 3",
        b"3,3",
        b"3, 4",
        b"1e1",
        b"3.0",
        b"3;",
        b"a",
        b"3a",
        b"9" * 30,
        b'"3"',
        b"18446744073709551616",
        b"99999999999999999999",
        b"0 , 3",
        b"\x0b3",
        b"3\x0b",
        b"\xd9\xa3",
        b"1_0",
        b",",
        b"3,",
    )
} | {
    "two lengths": (fields(b"Content-Length: 3", b"Content-Length: 4") + SMUGGLED, 400),
    "the same length twice": (fields(b"Content-Length: 3", b"Content-Length: 3") + b"abc", 400),
    "0 and another length": (fields(b"Content-Length: 0", b"content-length: 45") + SMUGGLED, 400),
    "a length and 0": (fields(b"Content-Length: 45", b"CONTENT-LENGTH: 0") + SMUGGLED, 400),
    "space before a length's colon": (fields(b"Content-Length : 45") + SMUGGLED, 400),
    "a folded length": (fields(b"Content-Length:", b" 45") + SMUGGLED, 400),
}

CODINGS: dict[str, tuple[bytes, int]] = {
    f"Transfer-Encoding: {value!r}": (fields(b"Transfer-Encoding: " + value) + b"0\r\n\r\n" + SMUGGLED, 400)
    for value in (
        b"",
        b"identity",
        b"xchunked",
        b"chunkedx",
        b"chunked, chunked",
        b"gzip, chunked",
        b"chunked, gzip",
        b"gzip",
        b"chunked, identity",
        b"identity, chunked",
        b"chunked;q=1",
        b"chunked,",
        b",chunked",
        b", chunked",
        b"\x0bchunked",
        b"chunked\x0b",
        b"chun\0ked",
        b"chunked\0",
        b'"chunked"',
        b"'chunked'",
        b"chunk",
        b"chu nked",
        b"x, chunked, x",
        b"cow",
        b"deflate\tchunked",
        b"[chunked]",
        b"\xa0chunked",
        b"chunked\xa0",
        b"\xc2\x85chunked",
        b"chunked chunked",
    )
} | {
    "CL.TE": (fields(b"Content-Length: 45", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED, 400),
    "TE.CL": (
        fields(b"Transfer-Encoding: chunked", b"Content-Length: 4") + b"2d\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
        400,
    ),
    "a length of 0 and chunked": (fields(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "chunked and a length of 0": (fields(b"Transfer-Encoding: chunked", b"Content-Length: 0") + b"0\r\n\r\n", 400),
    "chunked twice": (fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "chunked and identity": (fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") + b"0\r\n\r\n", 400),
    "identity and chunked": (fields(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "chunked, then a length and a bad coding": (
        fields(b"Content-Length: 5", b"Transfer-Encoding: xchunked") + b"hello" + SMUGGLED,
        400,
    ),
    "space before the colon": (fields(b"Transfer-Encoding : chunked") + b"0\r\n\r\n" + SMUGGLED, 400),
    "tab before the colon": (fields(b"Transfer-Encoding\t: chunked") + b"0\r\n\r\n" + SMUGGLED, 400),
    "folded": (fields(b"Transfer-Encoding:", b" chunked") + b"0\r\n\r\n" + SMUGGLED, 400),
    "folded by a bare LF": (fields(b"Transfer-Encoding:\n chunked") + b"0\r\n\r\n" + SMUGGLED, 400),
    "hidden behind a bare LF": (fields(b"X: x\nTransfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED, 400),
    "hidden behind a bare CR": (fields(b"X: x\rTransfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED, 400),
    "on HTTP/1.0": (fields(b"Transfer-Encoding: chunked", version=b"1.0") + b"0\r\n\r\n" + SMUGGLED, 400),
    "on HTTP/1.0 with a length": (
        fields(b"Transfer-Encoding: chunked", b"Content-Length: 5", version=b"1.0") + b"0\r\n\r\n" + SMUGGLED,
        400,
    ),
    "NUL before the name": (fields(b"\0Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED, 400),
}

LARGE: dict[str, tuple[bytes, int]] = {
    "a target too long": (get("/" + "a" * 8192), 414),
    "a target far too long": (get("/" + "a" * 60_000), 414),
    "a head too large": (get("/", *(f"X-{n}: {'a' * 1000}" for n in range(70))), 431),
    "one field too large": (get("/", "X: " + "a" * 70_000), 431),
    "a name too large": (get("/", "a" * 70_000), 431),
    "a head without end": (get("/", "X: " + "a" * 80_000)[:-4], 431),
    "too many fields": (get("/", *(f"X-{n}: a" for n in range(100))), 431),
}

REFUSED = LINES | FIELDS | {f"{key} ": row for key, row in (LENGTHS | CODINGS | LARGE).items()}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gateway: WorkerUnderTest, serve: Serve, name: str) -> None:
    """The right status, the connection closed, nothing for the instance, and a record that says so."""
    data, status = REFUSED[name]
    origin = serve()
    for how, pieces in splits(data, SMUGGLED):
        if how == "byte by byte" and len(data) > 4000:
            pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
        with Client(gateway.port) as client:
            client.send(*pieces)
            answer = client.response("HEAD" if data.startswith(b"HEAD") else "GET")
            assert answer.status == status, (how, answer.raw, answer.body)
            assert not answer.keeps, how
            assert client.is_closed() == "FIN", how
        assert answer.fault in {"bad-request", "bad-framing", "target-too-long", "head-too-large"}, (how, answer.fault)
        record = gateway.record(answer.id)
        assert (record.fault, record.status, record.app, record.tries) == (answer.fault, status, "", 0), how
        assert origin.received == b"", how
    if status == 400 and name.rstrip() in LENGTHS | CODINGS and "colon" not in name and "fold" not in name:
        assert answer.fault in ("bad-framing", "bad-request")
    works(gateway, origin)
    assert b"smuggled" not in origin.received


CHUNKS: dict[str, bytes] = {
    "a size that is none": b"g\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "an extension without size": b";a=b\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a plus": b"+3\r\nabc\r\n0\r\n\r\n",
    "0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a space first": b" 3\r\nabc\r\n0\r\n\r\n",
    "a space last": b"3 \r\nabc\r\n0\r\n\r\n",
    "a tab last": b"3\t\r\nabc\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
    "a huge size": b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n",
    "a size that wraps": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "many zeros": b"0" * 100 + b"3\r\nabc\r\n0\r\n\r\n",
    "bare LF behind the size": b"3\nabc\r\n0\r\n\r\n",
    "bare CR behind the size": b"3\rabc\r\n0\r\n\r\n",
    "CR CR LF": b"3\r\r\nabc\r\n0\r\n\r\n",
    "bare LF behind the content": b"3\r\nabc\n0\r\n\r\n",
    "nothing behind the content": b"3\r\nabc0\r\n\r\n",
    "more content than the size": b"3\r\nabcd\r\n0\r\n\r\n",
    "less content than the size": b"3\r\nab\r\n0\r\n\r\n",
    "bare LF in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "NUL in an extension": b"3;\0\r\nabc\r\n0\r\n\r\n",
    "a bare CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "an open quote": b'3;a="\r\nabc\r\n0\r\n\r\n',
    "bare LF behind the last chunk": b"0\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    "a length among the trailers": b"0\r\nContent-Length: 5\r\n\r\n",
    "a coding among the trailers": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a shadow length among the trailers": b"0\r\nContent_Length: 5\r\n\r\n",
    "a trailer without colon": b"0\r\nX\r\n\r\n",
    "a folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
    "a space before a trailer's colon": b"0\r\nX : a\r\n\r\n",
    "NUL in a trailer": b"0\r\nX: \0\r\n\r\n",
    "bare LF behind a trailer": b"0\r\nX: a\n\r\n",
    "trailers too large": b"0\r\n" + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
    "too many trailers": b"0\r\n" + b"X: a\r\n" * 101 + b"\r\n",
}


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("pooled", [False, True], ids=["fresh", "pooled"])
def test_bad_chunks(gateway: WorkerUnderTest, serve: Serve, name: str, pooled: bool) -> None:
    """A content that breaks its framing is never whole for the instance, and what follows it reaches nobody."""
    whole: list[bytes] = []

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            if request.method == "POST":
                whole.append(request.raw)
            conn.answer(request.target.encode())

    origin = serve(script)
    coded = CHUNKS[name]
    for how, pieces in splits(coded, SMUGGLED):
        if len(coded) > 4000 and how == "byte by byte":
            continue
        if pooled:
            works(gateway, origin)
        with Client(gateway.port) as client:
            head = fields(b"Transfer-Encoding: chunked")
            client.send(head + pieces[0], *pieces[1:])
            answer = client.response()
            assert (answer.status, answer.fault, answer.keeps) == (400, "bad-framing", False), (how, answer.raw)
            assert client.is_closed() == "FIN"
        record = gateway.record(answer.id)
        assert (record.fault, record.status, record.app) == ("bad-framing", 400, "web"), how
    works(gateway, origin)
    assert not whole
    assert b"smuggled" not in origin.received


VALID: dict[str, bytes] = {
    "an empty line first": b"\r\n" + get("/v"),
    "three empty lines first": b"\r\n" * 3 + get("/v"),
    "no space behind the colon": b"GET /v HTTP/1.1\r\nHost:a.example\r\n\r\n",
    "a tab behind the colon": b"GET /v HTTP/1.1\r\nHost:\ta.example\t\r\n\r\n",
    "spaces around a value": b"GET /v HTTP/1.1\r\nHost:   a.example  \r\n\r\n",
    "an empty value": get("/v", "X:"),
    "Latin-1 in a value": b"GET /v HTTP/1.1\r\nHost: a.example\r\nX: \xe9\xff\r\n\r\n",
    "a tab in a value": get("/v", "X: a\tb"),
    "odd names": get("/v", "!#$%&'*+-.^_`|~09azAZ: x"),
    "odd characters in the query": get("/v?a=\"<>[]{}|\\^`'%zz"),
    "two slashes": get("//v"),
    "a Host with a port": get("/v", host="a.example:8080"),
    "an IPv6 Host": get("/v", host="[::1]:8080"),
    "a Host with a final dot": get("/v", host="a.example."),
    "a length of 0": get("/v", "Content-Length: 0", method="POST"),
    "a length with zeros": get("/v", "Content-Length: 0000", method="POST"),
    "Chunked in capitals": get("/v", "Transfer-Encoding: CHUNKED", method="POST") + b"0\r\n\r\n",
    "a chunk extension": get("/v", "Transfer-Encoding: chunked", method="POST")
    + b'3;a=b;c="d;e"\r\nabc\r\n0;x\r\n\r\n',
    "a size with zeros": get("/v", "Transfer-Encoding: chunked", method="POST") + b"0003\r\nabc\r\n00\r\n\r\n",
    "an empty POST": get("/v", method="POST"),
    "GET with content": get("/v", "Content-Length: 3") + b"abc",
    "DELETE with content": get("/v", "Content-Length: 3", method="DELETE") + b"abc",
    "PROPFIND": get("/v", method="PROPFIND"),
    "M-SEARCH": get("/v", method="M-SEARCH"),
    "the longest target": get("/v" + "a" * 8190),
    "the most fields": get("/v", *(f"X-{n}: a" for n in range(99))),
    "a large head": get("/v", *(f"X-{n}: {'a' * 1000}" for n in range(62))),
}


@pytest.mark.parametrize("name", VALID)
def test_valid(gateway: WorkerUnderTest, serve: Serve, name: str) -> None:
    """What the rules allow is served, however it is cut, and the connection stays."""
    data = VALID[name]
    origin = serve()
    for how, pieces in splits(data, get("/next")):
        if how == "byte by byte" and len(data) > 4000:
            pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
        with Client(gateway.port) as client:
            client.send(*pieces)
            answer = client.response()
            assert answer.status == 200 and b"/v" in answer.body, (how, answer.raw, answer.body)
            assert answer.keeps
            if how == "with the next behind it":
                assert client.response().body == b"/next"
            else:
                assert client.ask(get("/next")).body == b"/next"
        assert gateway.record(answer.id).fault == ""
    assert len(origin.requests) == 6


@pytest.mark.slow
def test_head_timeout(gateway: WorkerUnderTest, serve: Serve) -> None:
    """No end of the head in time: 408; a connection that said nothing is closed without a word."""
    origin = serve(settings={"head_timeout": 0.3})
    with Client(gateway.port) as client, Client(gateway.port) as silent:
        client.send(b"GET / HTTP/1.1\r\nHost: a.exam")
        answer = client.response()
        assert (answer.status, answer.fault, answer.keeps) == (408, "client-timeout", False)
        assert client.is_closed() == "FIN"
        assert silent.is_closed() == "FIN"
    record = gateway.record(answer.id)
    assert (record.fault, record.status) == ("client-timeout", 408)
    assert record.head_us is not None and record.head_us >= 250_000
    assert origin.received == b""
    works(gateway, origin)


@pytest.mark.slow
def test_one_byte_at_a_time(gateway: WorkerUnderTest, serve: Serve) -> None:
    """The limit is for the whole head: a byte now and then does not prolong it."""
    origin = serve(settings={"head_timeout": 0.5})
    with Client(gateway.port) as client:
        client.sock.settimeout(0.05)
        sent = 0
        answered = False
        for byte in get("/", "X: " + "a" * 4000):
            try:
                client.sock.sendall(bytes([byte]))
                sent += 1
                if client.sock.recv(1, 2):  # MSG_PEEK
                    answered = True
                    break
            except TimeoutError:
                continue
        assert answered and sent < 100
        client.sock.settimeout(30)
        assert client.response().status == 408
    assert origin.received == b""


@pytest.mark.slow
def test_the_head_behind_a_request(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Half a head pipelined behind a whole request is not waited for longer than any other."""
    origin = serve(settings={"head_timeout": 0.3})
    with Client(gateway.port) as client:
        client.send(get("/1") + get("/2")[:-4])
        assert client.response().body == b"/1"
        answer = client.response()
        assert (answer.status, answer.fault) == (408, "client-timeout")
        assert client.is_closed() == "FIN"
    assert len(origin.requests) == 1


@pytest.mark.slow
def test_empty_lines_do_not_prolong(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Empty lines between requests are skipped, and buy no time."""
    serve(settings={"head_timeout": 0.3, "idle_timeout": 0.3})
    with Client(gateway.port) as client:
        assert client.ask(get("/1")).status == 200
        client.sock.settimeout(0.02)
        for _ in range(500):
            try:
                client.sock.sendall(b"\r\n")
                if client.sock.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            raise AssertionError("empty lines keep a connection open")


def test_a_client_that_ends_within_a_head(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Half a head, then FIN: closed, nothing forwarded."""
    origin = serve()
    with Client(gateway.port) as client:
        client.send(get()[:-5])
        client.fin()
        try:
            assert client.rest() == b""
        except Ended:
            pass
    works(gateway, origin)
    assert len(origin.requests) == 1
