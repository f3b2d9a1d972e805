"""What others try: guessing, foreign pages, other names, floods. Over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from proxy.admin import audit, logins
from proxy.admin.callers import Denied
from proxy.admin.tries import MOST_WRONG, source_of
from tests.e2e.support import LONG, until

pytestmark = pytest.mark.slow

WHOAMI = "/api/v1/whoami"
RELOAD = "/api/v1/config/reload"
UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


def raw(triage, *lines: bytes, source: str = "127.0.0.1") -> bytes:
    """The answer to bytes that no client would send."""
    with socket.create_connection(("127.0.0.1", triage.port), timeout=LONG, source_address=(source, 0)) as sock:
        sock.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
        data = b""
        while part := sock.recv(65536):
            data += part
    return data


@pytest.fixture(scope="module")
def cookie(triage) -> str:
    answer = triage.call("POST", "/login", None, {"token": triage.token})
    assert answer.status == 204
    return answer.headers["Set-Cookie"].partition(";")[0]


# --- guessing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bearer", "login", "code"])
def test_guessing_is_slowed_down_and_locks_nobody_out(triage, cookie: str, kind: str) -> None:
    attacker, known = triage.elsewhere(), "triage_00000000_" + "x" * 43

    def guess(text: str):
        if kind == "bearer":
            return triage.call("GET", WHOAMI, text, source=attacker)
        if kind == "login":
            return triage.call("POST", "/login", None, {"token": text}, source=attacker)
        return triage.call("GET", f"/login?code={text}", source=attacker)

    statuses = [guess(known).status for _ in range(MOST_WRONG + 3)]
    assert set(statuses[:MOST_WRONG]) == {{"bearer": 401, "login": 403, "code": 303}[kind]}
    assert set(statuses[MOST_WRONG:]) == {429}
    refused = guess(known)
    assert refused.kind == "too-many-tries" and 0 < int(refused.headers["Retry-After"]) <= 61
    # All three kinds count together, for this address alone; who has a right token goes on, there too.
    assert triage.call("GET", WHOAMI, known, source=attacker).status == 429
    assert triage.call("GET", WHOAMI, known, source=triage.elsewhere()).status == 401
    assert triage.call("GET", WHOAMI, triage.token, source=triage.elsewhere()).status == 200
    assert triage.call("GET", WHOAMI, triage.token, source=attacker).status == 200
    assert triage.call("GET", WHOAMI, source=attacker, Cookie=cookie).status == 200
    assert triage.local("GET", WHOAMI).status == 200
    assert triage.call("GET", "/healthz", source=attacker).status == 200


def test_an_address_counts_as_what_one_can_have() -> None:
    assert source_of("10.0.0.1") == "10.0.0.1" and source_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert source_of("2001:db8:1:2:3::4") == source_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert source_of("fe80::1%eth0") == "fe80::/64" and source_of("::1") == "::1"


def test_a_flood_of_denied_calls_is_counted(triage) -> None:
    attacker = triage.elsewhere()
    for _ in range(40):
        assert triage.call("GET", "/api/v1/status?token=hunter2", source=attacker).status == 401
    own = [one for one in triage.audit(outcome="denied", reason="no-token") if attacker in one["data"]["way"]]
    assert len(own) == audit.SHOWN
    first = own[0]
    assert first["data"]["path"] == "/api/v1/status" and "hunter2" not in str(own)
    assert first["words"] == f"denied, no-token: from {attacker}: GET /api/v1/status (401)"


# --- pages of others ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com", "null", "http://127.0.0.1:1", "http://localhost", "https://ops.example.com",
        "http://ops.example.com:8443", "https://ops.example.com:8443.evil.com", "https://evil.com#@127.0.0.1",
        "file://", "", "http://127.0.0.1",
    ],
)  # fmt: skip
def test_another_origin_gets_nothing_with_a_cookie(triage, cookie: str, origin: str) -> None:
    """Another port of this very host is another place too: an app's pages come from there."""
    for method, path in (("POST", RELOAD), ("GET", WHOAMI), ("DELETE", "/api/v1/sessions/1"), ("POST", "/login")):
        body = {} if method == "POST" else None
        answer = triage.call(method, path, None, body, Cookie=cookie, Origin=origin)
        assert (answer.status, answer.kind) == (403, "foreign-origin"), (method, origin)


def test_our_own_pages_may(triage, cookie: str) -> None:
    for origin, host in (
        (triage.admin, ""), ("https://ops.example.com:8443", ""), (f"http://localhost:{triage.port}",
        f"localhost:{triage.port}"), ("https://ops.example.com", "ops.example.com"),
    ):  # fmt: skip
        headers = {"Host": host} if host else {}
        answer = triage.call("POST", "/api/v1/config/check", None, {}, Cookie=cookie, Origin=origin, **headers)
        assert answer.status == 200, (origin, answer)


def test_a_cookie_without_an_origin_only_reads(triage, cookie: str) -> None:
    assert triage.call("GET", WHOAMI, Cookie=cookie).status == 200
    assert triage.call("HEAD", WHOAMI, Cookie=cookie).status == 200
    for method, path in (("POST", RELOAD), ("DELETE", "/api/v1/sessions/1"), ("PUT", "/api/v1/vfs/x")):
        body = {} if method == "POST" else None
        assert triage.call(method, path, None, body, Cookie=cookie).status == 401, method
    answer = triage.call("GET", WHOAMI, Cookie=cookie, Sec_Fetch_Site="same-site")
    assert answer.kind == "foreign-origin"


def test_a_websocket_with_a_cookie_says_where_it_comes_from(triage, cookie: str) -> None:
    """Browsers open WebSockets to any place, cookies and all, without asking first."""
    for path in ("/api/v1/console", WHOAMI):
        assert triage.call("GET", path, None, None, Cookie=cookie, **UPGRADE).status == 401, path
        evil = triage.call("GET", path, None, None, Cookie=cookie, Origin="http://127.0.0.1:8080", **UPGRADE)
        assert (evil.status, evil.kind) == (403, "foreign-origin"), path
        bad = triage.call("GET", path, None, None, Cookie=cookie, Origin=triage.admin, Host="x.example.com", **UPGRADE)
        assert bad.kind == "foreign-host", path
    assert triage.call("GET", WHOAMI, None, None, Cookie=cookie, Origin=triage.admin, **UPGRADE).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example.com", "", "ops.example.com.evil.com", "127.0.0.1.evil.com", "127.1", "0x7f000001", "[::1"]
)
def test_another_name_is_refused_on_every_kind_of_path(triage, cookie: str, host: str) -> None:
    """DNS rebinding: a page whose own name leads here asks as if it were ours."""
    name = host.encode()
    for path in (b"/", b"/healthz", b"/api/v1/whoami", b"/login?code=x", b"/nothing"):
        lines = [b"GET " + path + b" HTTP/1.1", b"Host: " + name, b"Cookie: " + cookie.encode()]
        answer = raw(triage, *lines, b"Origin: http://" + name)
        assert answer.split(b" ")[1] in (b"403", b"400"), (path, answer)
        assert b"Set-Cookie" not in answer


def test_a_second_host_and_a_host_in_the_target_help_nobody(triage, cookie: str) -> None:
    good = f"Host: 127.0.0.1:{triage.port}".encode()
    for lines in (
        [b"GET /api/v1/whoami HTTP/1.1", b"Host: evil.example.com", good],
        [b"GET /api/v1/whoami HTTP/1.1", good, b"Host: evil.example.com"],
        [b"GET http://127.0.0.1/api/v1/whoami HTTP/1.1", b"Host: evil.example.com"],
        [b"GET /api/v1/whoami HTTP/1.0"],
    ):
        answer = raw(triage, *lines, b"Cookie: " + cookie.encode())
        assert answer.split(b" ")[1] in (b"403", b"400"), (lines, answer)


def test_a_cookie_ends(triage, cookie: str) -> None:
    assert triage.call("POST", "/logout", None, {}, Cookie=cookie.replace("=", "=x")).status == 204  # nobody's
    value = cookie.partition("=")[2]
    other = triage.call("POST", "/login", None, {"token": triage.token}).headers["Set-Cookie"]
    assert f"Max-Age={int(logins.LASTS)}" in other and "HttpOnly" in other and "SameSite=Strict" in other
    mine = other.partition(";")[0]
    assert triage.call("POST", "/logout", None, {}, Cookie=mine, Origin=triage.admin).status == 204
    assert triage.call("GET", WHOAMI, Cookie=mine).status == 401
    assert triage.call("GET", WHOAMI, Cookie=cookie).status == 200
    for wrong in (f"triage-00000000={value}", f"{cookie}x", cookie[:-1], "triage=" + value):
        assert triage.call("GET", WHOAMI, Cookie=wrong).status == 401, wrong


# --- what is written down -------------------------------------------------------------------------------


def test_every_act_is_written_down(triage, name: str) -> None:
    _, text = triage.make(name, "operator")
    source = triage.elsewhere()
    body = {"reason": "because\r\n \x1b[31m password=hunter2", "instances": 1}
    assert triage.call("POST", "/api/v1/apps/web/scale", text, body, source=source).status == 202
    (event,) = triage.audit(who=name, method="POST")
    data = event["data"]
    assert (data["role"], data["way"], data["path"]) == (
        "operator", f"token {name}, from {source}", "/api/v1/apps/web/scale"
    )  # fmt: skip
    assert (data["status"], data["outcome"], event["app"]) == (202, "done", "web")
    assert data["reason"].startswith("because [31m") and "hunter2" not in str(event) and text not in str(event)
    assert event["words"].startswith(f"{name} (operator, token {name}, from {source}): POST /api/v1/apps/web/scale: ")
    assert triage.call("POST", "/api/v1/apps/nope/stop", text, {}, source=source).status == 404
    assert triage.call("DELETE", "/api/v1/tokens/x", text, source=source).status == 403
    assert triage.call("GET", "/api/v1/apps/web/instances/web-99/stacks", text, source=source).status == 404
    found = {(one["data"]["path"], one["data"]["status"], one["data"]["outcome"]) for one in triage.audit(who=name)}
    assert found == {
        ("/api/v1/apps/web/scale", 202, "done"), ("/api/v1/apps/nope/stop", 404, "refused"),
        ("/api/v1/tokens/x", 403, "denied"), ("/api/v1/apps/web/instances/web-99/stacks", 404, "refused"),
    }  # fmt: skip
    assert triage.call("GET", "/api/v1/status", text, source=source).status == 200
    assert len(triage.audit(who=name)) == 4  # reading is not
    made = triage.audit(path="/api/v1/tokens", method="POST")[0]["data"]
    assert made["did"].endswith(f", {name}, operator") and made["status"] == 201
    assert made["who"].startswith("uid ") and made["way"].startswith("socket, uid ")


def test_nobody_fills_the_events(triage) -> None:
    """Open routes and wrong codes: what anybody may ask for is not written down each time."""
    source = triage.elsewhere()
    for number in range(15):
        assert triage.call("POST", "/logout", None, {}, source=source).status == 204
        assert triage.call("GET", "/login", source=source).status == 303
        assert triage.call("POST", "/login", None, {"nonsense": number}, source=source).status == 400
        assert triage.call("GET", f"/login?code={number}", source=source).status == 303
    told = [one for one in triage.audit() if source in str(one["data"].get("way"))]
    assert len(told) == audit.SHOWN and {one["data"]["reason"] for one in told} == {"wrong-code"}


def test_content_that_comes_after_its_token_went_is_not_taken(triage, name: str) -> None:
    """A call is checked when its head is there, and ended when its right ends: not carried out later."""
    id, text = triage.make(name, "operator")
    body = b'{"reason": "too late"}'
    with socket.create_connection(("127.0.0.1", triage.port), timeout=LONG) as sock:
        sock.sendall(
            f"POST /api/v1/apps/web/hold HTTP/1.1\r\nHost: 127.0.0.1:{triage.port}\r\nAuthorization: Bearer {text}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:-1]
        )
        until(lambda: used(triage, name), "the head has arrived")
        assert triage.local("DELETE", f"/api/v1/tokens/{id}").status == 204
        answer = b"?"
        try:
            sock.sendall(body[-1:])
            answer = sock.recv(4096)
        except ConnectionError:
            answer = b""
    assert answer == b""
    assert "hold" not in [one["act"] for one in triage.local("GET", "/api/v1/operations?app=web").value["items"]]
    assert [one["data"]["outcome"] for one in triage.audit(who=name)] == ["cut"]


def used(triage, name: str) -> bool:
    items = triage.local("GET", "/api/v1/tokens").value["items"]
    return any(one["name"] == name and one["last_used"] for one in items)


def test_a_path_that_acts_on_terminals_is_written_plainly(triage) -> None:
    source = triage.elsewhere()
    assert triage.call("GET", "/api/v1/%1b%5b2J%0d%0aevil/password=hunter2", source=source).status == 401
    event = until(lambda: [one for one in triage.audit() if source in one["words"]], "it is told")[0]
    assert event["words"].isprintable() and "hunter2" not in str(event)


def test_what_was_only_counted_is_told_later() -> None:
    """The minute is over: one event for all of them, whoever they were."""

    class Request(dict):  # of aiohttp's: what the trail reads of one
        method, path = "GET", "/x"

    told: list[tuple[str, dict[str, object]]] = []
    trail = audit.Audit(lambda kind, text, app="", instance="", **data: told.append((text, data)))

    async def flood() -> None:
        for number in range(3000):
            request = Request(source=f"10.0.{number % 1500 // 250}.{number % 250}", way="from there")
            trail.denied(request, Denied(401, "no-token", "No"))  # type: ignore[arg-type]
        trail.close()

    asyncio.run(flood())
    assert len(told) == audit.SHOWN_ALL + 1
    text, data = told[-1]
    assert data["count"] == 3000 - audit.SHOWN_ALL and data["reasons"] == {"no-token": 3000 - audit.SHOWN_ALL}
    assert len(data["sources"]) == audit.TOLD and audit.OTHERS in data["sources"] and "more calls" in text


def test_nothing_of_it_made_triage_fail(triage) -> None:
    """The last of this file."""
    assert "Traceback" not in triage.said(), triage.said()[triage.said().index("Traceback") - 300 :][:3000]
    assert "Traceback" not in triage.said() and "internal-error" not in triage.said()
    began = time.monotonic()
    assert triage.local("GET", "/healthz").status == 200 and time.monotonic() - began < LONG
