"""What becomes of the fields, the target and the choice of an instance."""

from __future__ import annotations

import re

import pytest

from proxy.link.messages import App
from tests.dataplane.client import Client, get, post
from tests.dataplane.conftest import Serve, of
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Origin, each_time, response

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_hop_by_hop_up(serve: Serve, client: Client) -> None:
    """Fields of one hop are taken out, those named in Connection too; what the message needs is not."""
    origin = serve()
    client.send(
        get(
            "/",
            "Connection: X-One, keep-alive, X-Two, Content-Length, Host, Authorization, Cookie",
            "X-One: 1",
            "x-two: 2",
            "X-TWO: again",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy: http://evil/",
            "X-Three: 3",
            "Authorization: Basic x",
            "Cookie: a=b",
            "Content-Length: 3",
            method="POST",
        )
        + b"abc"
    )
    assert client.response().status == 200
    request = origin.requests[0]
    for name in ("X-One", "X-Two", "Keep-Alive", "Proxy-Connection", "Proxy", "Connection", "Upgrade"):
        assert name not in request, name
    assert (request["X-Three"], request["Authorization"], request["Cookie"]) == ("3", "Basic x", "a=b")
    assert (request["Host"], request.body) == ("a.example", b"abc")


def test_hop_by_hop_down(serve: Serve, client: Client) -> None:
    serve(
        each_time(
            response(
                b"hello",
                "Connection: X-One, Content-Type",
                "X-One: 1",
                "x-one: 2",
                "Keep-Alive: timeout=5",
                "Proxy-Connection: x",
                "Content-Type: text/plain",
                "Upgrade: h2c",
                "X-Two: 2",
                "Set-Cookie: a=1",
                "Set-Cookie: b=2",
            )
        )
    )
    for _ in range(2):
        answer = client.ask(get())
        for name in ("X-One", "Keep-Alive", "Proxy-Connection", "Connection", "Upgrade"):
            assert name not in answer, name
        assert (answer["Content-Type"], answer["X-Two"]) == ("text/plain", "2")
        assert answer.all("Set-Cookie") == ["a=1", "b=2"]


def test_order_and_case_stay(serve: Serve, client: Client) -> None:
    origin = serve()
    client.ask(get("/", "x-B: 1", "X-a: 2", "x-b: 3", "ACCEPT: */*"))
    names = [name for name, _ in origin.requests[0].fields if name.lower() in (b"x-b", b"x-a", b"accept")]
    assert names == [b"x-B", b"X-a", b"x-b", b"ACCEPT"]
    assert origin.requests[0].all("X-B") == ["1", "3"]


@pytest.mark.parametrize(
    "name",
    [
        "Content_Length",
        "Transfer_Encoding",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "x_forwarded_proto",
        "X_Real_IP",
        "X_Request_ID",
        "content_length",
        "Proxy",
    ],
)
def test_shadow_names(serve: Serve, client: Client, name: str) -> None:
    """Names that an app behind CGI variables would take for framing or forwarding ones."""
    origin = serve()
    assert client.ask(get("/", f"{name}: 9.9.9.9")).status == 200
    assert name.encode() not in origin.received and b"9.9.9.9" not in origin.received


def test_underscores_stay_otherwise(serve: Serve, client: Client) -> None:
    origin = serve()
    client.ask(get("/", "My_Field: 1"))
    assert origin.requests[0]["My_Field"] == "1"


CLAIMS = [
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 444",
    "Forwarded: for=203.0.113.9;proto=https",
    "X-Real-IP: 203.0.113.9",
]


def test_forwarding_from_an_untrusted_client(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Made anew; nothing of what it claimed goes on."""
    origin = serve()
    answer = client.ask(get("/", *CLAIMS))
    request = origin.requests[0]
    assert request["X-Forwarded-For"] == "127.0.0.1"
    assert request["X-Forwarded-Proto"] == "http"
    assert request["X-Forwarded-Host"] == "a.example"
    assert request["X-Forwarded-Port"] == str(gateway.port)
    assert request["Forwarded"] == "for=127.0.0.1;host=a.example;proto=http"
    assert b"203.0.113.9" not in origin.received and "X-Real-IP" not in request
    assert request["Via"] == "1.1 triage-00000000"
    assert gateway.record(answer.id).client == "127.0.0.1"


def test_forwarding_from_a_trusted_proxy(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Kept, and the peer appended; the record names the client it speaks for."""
    origin = serve(settings={"trusted_proxies": ("127.0.0.0/8",)})
    answer = client.ask(get("/", *CLAIMS[:4], "Via: 1.1 front"))
    request = origin.requests[0]
    assert request["X-Forwarded-For"] == "203.0.113.9, 127.0.0.1"
    assert (request["X-Forwarded-Proto"], request["X-Forwarded-Port"]) == ("https", "444")
    assert request["X-Forwarded-Host"] == "evil.example"
    assert request["Forwarded"].startswith("for=203.0.113.9, for=127.0.0.1")
    assert ", ".join(request.all("Via")) == "1.1 front, 1.1 triage-00000000"
    assert gateway.record(answer.id).client == "203.0.113.9"


def test_request_id(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Ours is always made, and the same towards both sides; the client's own is kept in the record."""
    origin = serve()
    ids = set()
    for _ in range(3):
        answer = client.ask(get("/", "X-Request-ID: theirs-1"))
        request = origin.requests[-1]
        assert re.fullmatch(r"[0-9a-f]{16,32}", answer.id) and request["X-Request-ID"] == answer.id
        assert gateway.record(answer.id).client_request_id == "theirs-1"
        ids.add(answer.id)
    assert len(ids) == 3
    serve(each_time(response(b"", "X-Request-ID: the-apps-own")))
    answer = client.ask(get())
    assert re.fullmatch(r"[0-9a-f]{16,32}", answer.id)


def test_traceparent(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Passed on, or begun; what is not valid is replaced."""
    origin = serve()
    answer = client.ask(get("/", f"traceparent: {TRACE}", "tracestate: a=b"))
    assert origin.requests[-1]["traceparent"].split("-")[1] == TRACE.split("-")[1]
    assert origin.requests[-1]["tracestate"] == "a=b"
    assert gateway.record(answer.id).trace == TRACE.split("-")[1]
    for lines in ([], ["traceparent: 00-" + "0" * 32 + "-00f067aa0ba902b7-01"], ["traceparent: garbage"]):
        client.ask(get("/", *lines))
        made = origin.requests[-1]["traceparent"]
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", made) and made.split("-")[1] != "0" * 32, made


def test_nothing_twice(serve: Serve, client: Client) -> None:
    """Each field that Triage writes stands there once, with all of them coming in already."""
    origin = serve()
    client.ask(
        get("/", *CLAIMS, "X-Request-ID: a", "X-Request-ID: b", f"traceparent: {TRACE}", f"traceparent: {TRACE}")
    )
    for name in (
        "Host",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "Forwarded",
        "X-Request-ID",
        "traceparent",
    ):
        assert len(origin.requests[0].all(name)) == 1, name


# --- targets --------------------------------------------------------------------------------------


def test_absolute_form(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """The target's authority replaces Host, for routing and for the instance."""
    origin = serve(hosts=("b.example",))
    for target, then in (
        ("http://b.example/x?y", "/x?y"),
        ("http://b.example", "/"),
        ("http://b.example?a", "/?a"),
        ("HTTP://B.EXAMPLE:80/", "/"),
    ):
        answer = client.ask(get(target, host="a.example"))
        assert (answer.status, answer.body) == (200, then.encode())
        assert origin.requests[-1].all("Host")[0].lower().startswith("b.example")
        assert origin.requests[-1]["X-Forwarded-Host"].lower().startswith("b.example")
    assert client.ask(get("http://a.example/", host="b.example")).status == 404
    assert client.ask(get("/plain", host="b.example")).body == b"/plain"


def test_asterisk(serve: Serve, client: Client) -> None:
    origin = serve()
    assert client.ask(get("*", method="OPTIONS")).status == 200
    assert origin.requests[0].target == "*"
    assert client.ask(get("http://a.example", method="OPTIONS")).status == 200
    assert origin.requests[1].target == "*"


def test_strip_prefix(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """The prefix is cut, always leaving a path; the record has the target as it came."""
    origin = serve(paths=("/api",), strip_prefix=True)
    for target, then in (
        ("/api/x", "/x"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?a=b", "/?a=b"),
        ("/api//evil.example/", "/evil.example/"),
        ("/api/../x", "/../x"),
        ("/api/%2e", "/%2e"),
    ):
        answer = client.ask(get(target))
        assert (answer.status, origin.requests[-1].target) == (200, then), target
        assert gateway.record(answer.id).target == target
    for target in ("/apix", "/", "/API/x"):
        answer = client.ask(get(target))
        assert (answer.status, answer.fault, answer.keeps) == (404, "no-route", True), target


# --- which instance -------------------------------------------------------------------------------


def named(gateway: WorkerUnderTest, count: int, **app: object) -> list[Origin]:
    found = [Origin(each_time(response(f"i{number}".encode()))) for number in range(count)]
    instances = tuple(of(origin, f"i{number}") for number, origin in enumerate(found))
    gateway.table(App("web", 0, instances=instances, attempts=0, **app), secret="aa" * 32)  # type: ignore[arg-type]
    return found


def test_sticky(gateway: WorkerUnderTest, client: Client) -> None:
    """The cookie leads back to the instance that was chosen; a forged one, or one of another app, to any."""
    found = named(gateway, 4, sticky_cookie="triage", balance="round-robin")
    try:
        first = client.ask(get())
        cookie = first["Set-Cookie"]
        assert re.match(r"triage=i\d\.[0-9a-f]+; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax", cookie)
        value = cookie.split(";")[0]
        for _ in range(8):
            answer = client.ask(get("/", f"Cookie: other=1; {value}; x=y"))
            assert answer.body == first.body and "Set-Cookie" not in answer
        name = value.split("=")[1].split(".")[0]
        forged = {client.ask(get("/", f"Cookie: triage={name}.{'0' * 24}")).body for _ in range(8)}
        assert len(forged) == 4
        answer = client.ask(get("/", "Cookie: triage=\xff\xfe.x"))
        assert answer.status == 200 and "Set-Cookie" in answer
    finally:
        for each in found:
            each.close()


@pytest.mark.parametrize("key", ["header:X-User", "cookie:user"])
def test_hash(gateway: WorkerUnderTest, client: Client, key: str) -> None:
    """One value, one instance; many values, all instances."""
    found = named(gateway, 4, balance="hash", hash_key=key)
    try:

        def ask(user: int) -> bytes:
            line = f"X-User: u{user}" if key.startswith("header") else f"Cookie: a=b; user=u{user}"
            return client.ask(get("/", line)).body

        chosen = {user: ask(user) for user in range(40)}
        assert set(chosen.values()) == {b"i0", b"i1", b"i2", b"i3"}
        assert all(ask(user) == chosen[user] for user in range(40))
        with Client(gateway.port) as other:
            line = "X-User: u7" if key.startswith("header") else "Cookie: user=u7"
            assert other.ask(get("/", line)).body == chosen[7]
    finally:
        for each in found:
            each.close()


def test_post_keeps_its_fields(serve: Serve, client: Client) -> None:
    origin = serve()
    client.ask(post(b"a=b", "Content-Type: application/x-www-form-urlencoded", "Content-Encoding: identity"))
    request = origin.requests[0]
    assert (request["Content-Type"], request["Content-Length"]) == ("application/x-www-form-urlencoded", "3")


def test_loop(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """A request that went through this gateway again and again is refused; once is no loop."""
    origin = serve()
    ours = origin_via(client, origin)
    assert client.ask(get("/", f"Via: 1.1 other, {ours}")).status == 200
    answer = client.ask(get("/", "Via: " + ", ".join([ours] * 3)))
    assert (answer.status, answer.fault, answer.keeps) == (502, "loop-detected", True)
    assert gateway.record(answer.id).fault == "loop-detected"


def origin_via(client: Client, origin: Origin) -> str:
    client.ask(get())
    return origin.requests[-1]["Via"]
