"""One error shape over all answers, also those to what is no request at all."""

from __future__ import annotations

import pytest

from tests.api.gateway import Gateway
from tests.api.raw import exchange

CLOSE = b"Connection: close\r\n\r\n"
LOCAL = b"Host: localhost\r\nConnection: close\r\n"
CHECK = b"POST /api/v1/config/check HTTP/1.1\r\nContent-Type: application/json\r\n"

CASES = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x00\r\n\r\n", 400, "bad-request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad-request"),
    "HTTP/3": (b"GET /healthz HTTP/3.0\r\n" + LOCAL + b"\r\n", 400, "bad-request"),
    "no Host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "bad-request"),
    "two Hosts": (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + LOCAL + b"\r\n", 400, "bad-request"),
    "a long target": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + LOCAL + b"\r\n", 431, "head-too-large"),
    "a long field": (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431, "head-too-large"),
    "many fields": (b"GET /healthz HTTP/1.1\r\n" + b"X: 1\r\n" * 500 + LOCAL + b"\r\n", 431, "head-too-large"),
    "a name with a space": (b"GET /healthz HTTP/1.1\r\nBad Name: 1\r\n" + LOCAL + b"\r\n", 400, "bad-request"),
    "a NUL in a field": (b"GET /healthz HTTP/1.1\r\nX: a\0b\r\n" + LOCAL + b"\r\n", 400, "bad-request"),
    "a folded field": (b"GET /healthz HTTP/1.1\r\nX: a\r\n b\r\n" + LOCAL + b"\r\n", 400, "bad-request"),
    "bare line feeds": (b"GET /healthz HTTP/1.1\nHost: localhost\n\n", 400, "bad-request"),
    "two framings": (CHECK + LOCAL + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""),
    "a negative length": (CHECK + LOCAL + b"Content-Length: -5\r\n\r\n", 400, "bad-request"),
    "two lengths": (CHECK + LOCAL + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}    ", 400, "bad-request"),
    "an unknown method": (b"FROB /healthz HTTP/1.1\r\n" + LOCAL + b"\r\n", 400, "bad-request"),
    "bytes in the target": (b"GET /api/v1/apps/\xff HTTP/1.1\r\n" + LOCAL + b"\r\n", 400, "bad-target"),
    "a star": (b"GET * HTTP/1.1\r\n" + LOCAL + b"\r\n", 400, "bad-target"),
    "an expectation": (b"GET /healthz HTTP/1.1\r\nExpect: tea\r\n" + LOCAL + b"\r\n", 417, "expectation"),
    "one at no path": (b"GET /nothing HTTP/1.1\r\nExpect: tea\r\n" + LOCAL + b"\r\n", 417, "expectation"),
    "a foreign Host": (b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n" + CLOSE, 403, "foreign-host"),
    "bytes as Host": (b"GET /healthz HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n", 403, "foreign-host"),
    "half an address": (b"GET /healthz HTTP/1.1\r\nHost: [::\r\nConnection: close\r\n\r\n", 403, "foreign-host"),
    "half an Origin": (b"GET /healthz HTTP/1.1\r\nOrigin: http://[\r\n" + LOCAL + b"\r\n", 403, "foreign-origin"),
    "bytes as a token": (b"GET /api/v1/status HTTP/1.1\r\nAuthorization: Bearer \xff\r\n" + LOCAL + b"\r\n", 401, ""),
    "bytes as a cookie": (b"GET /api/v1/status HTTP/1.1\r\nCookie: \xff=\xff; a\r\n" + LOCAL + b"\r\n", 401, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_call_is_told_in_the_one_shape(gateway: Gateway, name: str) -> None:
    data, status, kind = CASES[name]
    *_, answer = exchange(gateway, data)
    problem = answer.problem
    assert answer.status == problem["status"] == status, problem
    assert problem["type"].startswith(f"urn:triage:{kind}") and problem["title"]
    assert set(problem) >= {"type", "title", "status", "detail", "hint"}
    assert answer.fields["x-content-type-options"] == "nosniff" and answer.fields["server"].startswith("triage/")


def told(gateway: Gateway, head: str, content: bytes = b"", *more: bytes) -> tuple[int, str]:
    """Status and kind of a call with a token."""
    first = f"{head}\r\nAuthorization: Bearer {gateway.token}\r\n".encode() + LOCAL
    if content or "Content-Length" in head:
        first += f"Content-Length: {len(content)}\r\n".encode() if "Content-Length" not in head else b""
    *_, answer = exchange(gateway, first + b"\r\n" + content, *more)
    return answer.status, answer.problem["type"].removeprefix("urn:triage:") if answer.status >= 400 else ""


POST = "POST /api/v1/config/check HTTP/1.1\r\nContent-Type: application/json"


def test_content_that_cannot_be_read(gateway: Gateway) -> None:
    assert told(gateway, POST, b"{}") == (200, "")
    assert told(gateway, POST, b"{\xff}") == (400, "bad-json")
    assert told(gateway, POST, b'{"text": "\\ud800"}') == (400, "bad-json")
    assert told(gateway, POST, b"[" * 200_000) == (400, "bad-json")
    assert told(gateway, POST, b"x" * 1_100_000) == (413, "too-large")
    assert told(gateway, f"{POST}\r\nContent-Encoding: gzip", b"{}") == (415, "encoded")
    assert told(gateway, POST.replace("application/json", "text/plain"), b"{}") == (415, "not-json")
    assert told(gateway, POST.replace("application/json", "a; ;;="), b"{}") == (415, "not-json")
    deep = b'{"app": "web", "rule": ' + b'{"when": ' * 900 + b"1" + b"}" * 901
    assert told(gateway, POST.replace("config/check", "autoheal/replay"), deep) == (400, "bad-rule")


def test_chunks_that_break_after_the_head_was_taken(gateway: Gateway) -> None:
    broken = told(gateway, f"{POST}\r\nTransfer-Encoding: chunked", b"", b"2\r\n{}\r\n", b"zz\r\n")
    assert broken in ((400, "bad-content"), (400, "bad-request"))  # as it came in one piece or in several
    assert told(gateway, f"{POST}\r\nTransfer-Encoding: chunked", b"", b"2\r\n{}\r\n", b"0\r\n\r\n") == (200, "")


@pytest.mark.parametrize(
    ("target", "status", "kind"),
    [
        ("apps/%zz", 404, "no-such-app"),
        ("apps/%00", 404, "no-such-app"),
        ("apps/%ff%fe", 404, "no-such-app"),
        ("apps/%0d%0aSet-Cookie:%20x=y", 404, "no-such-app"),
        ("requests?path=%ff&app=%00&method=%ed%a0%80", 200, ""),
        ("requests?since=%ff", 400, "bad-parameter"),
        ("requests?app=a&app=b", 400, "bad-parameter"),
        ("requests?%ff=1", 400, "unknown-parameter"),
        ("../../etc/passwd", 404, "no-such-path"),
        ("..%2f..%2fstatus", 404, "no-such-path"),
        ("sessions/S-1/artifacts/..%2f..%2fadmin.token", 404, "no-such-session"),
    ],
)
def test_targets_that_are_odd(gateway: Gateway, target: str, status: int, kind: str) -> None:
    assert told(gateway, f"GET /api/v1/{target} HTTP/1.1") == (status, kind)


def test_what_a_caller_sends_never_makes_a_field_of_the_answer(gateway: Gateway) -> None:
    odd = "a%0d%0aX-Evil:%20yes"
    for target in (f"apps/{odd}", f"requests/{odd}", f"sessions/{odd}/report", f"events?app={odd}", f"nothing/{odd}"):
        head = f"GET /api/v1/{target} HTTP/1.1\r\nAuthorization: Bearer {gateway.token}\r\n".encode() + LOCAL
        (answer,) = exchange(gateway, head + b"\r\n")
        assert "x-evil" not in answer.fields


def test_methods_that_do_not_go_there(gateway: Gateway) -> None:
    for method in ("OPTIONS", "TRACE", "PATCH", "DELETE"):
        assert told(gateway, f"{method} /api/v1/status HTTP/1.1") == (405, "method-not-allowed")
    assert told(gateway, "OPTIONS * HTTP/1.1") == (404, "no-such-path")
    assert told(gateway, "CONNECT example.com:443 HTTP/1.1") == (404, "no-such-path")


def test_head_is_answered_without_content(gateway: Gateway) -> None:
    token = f"Authorization: Bearer {gateway.token}\r\n".encode()
    for path, status in ((b"status", 200), (b"nothing", 404), (b"events?follow=true", 200)):
        (answer,) = exchange(gateway, b"HEAD /api/v1/" + path + b" HTTP/1.1\r\n" + token + LOCAL + b"\r\n")
        assert (answer.status, answer.body) == (status, b"")


def test_pipelined_calls_are_answered_in_order_and_garbage_behind_them_too(gateway: Gateway) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = exchange(gateway, one * 3 + b"GET /nothing HTTP/1.1\r\n" + LOCAL + b"\r\n")
    assert [answer.status for answer in answers] == [200, 200, 200, 401]
    *_, last = exchange(gateway, one, b"\x00\x01garbage\r\n\r\n")
    assert last.status == 400 and last.problem["type"] == "urn:triage:bad-request"


def test_nothing_of_all_this_is_an_error_of_ours(gateway: Gateway) -> None:
    assert '"level":"error"' not in (gateway.folder / "log").read_text()
