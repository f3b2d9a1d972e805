"""Which requests a rule wants, how many are told, and how they are masked: pure."""

from __future__ import annotations

import orjson
import pytest

from proxy.config import parse
from proxy.control import routing
from proxy.control.store import stories
from proxy.dataplane.story import PER_SECOND, WAITING, Stories, _Rule
from proxy.link.messages import Attempt, Story, Whole


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (Whole(0), True),
        (Whole(0, path="/api/*"), True),
        (Whole(0, path="/api"), False),
        (Whole(0, codes=((500, 599),)), True),
        (Whole(0, codes=((200, 299), (502, 502))), True),
        (Whole(0, codes=((200, 299),)), False),
        (Whole(0, fault="head-timeout"), True),
        (Whole(0, fault="connect-refused"), False),
        (Whole(0, slower=2.0), True),
        (Whole(0, slower=4.0), False),
        (Whole(0, path="/api/*", fault="connect-refused"), False),
    ],
)
def test_all_that_a_rule_says_must_hold(rule: Whole, wanted: bool) -> None:
    assert _Rule(rule).wants(b"/api/x", 502, "head-timeout", 3.0) is wanted


def test_so_many_in_a_second_and_in_waiting() -> None:
    told = Stories()
    assert sum(told.has_room(10.0 + number / 1000) for number in range(50)) == PER_SECOND
    assert told.dropped == 50 - PER_SECOND
    assert told.has_room(11.0)
    told.waiting = [story()] * WAITING
    assert not told.has_room(12.0)
    assert len(told.take()) == WAITING
    assert told.has_room(12.0)


def story(**more: object) -> Story:
    fields = {"id": "7f3a91016957e2dd", "time": 1.0, "app": "web", "rule": 0, "phases": [("end", 1500, "")]}
    return Story(**{**fields, **more})  # type: ignore[arg-type]


def test_masking_of_a_head() -> None:
    found = stories.head(
        b"GET /a?x=1&flag&token=abc HTTP/1.1\r\nCookie: a=1\r\nX-Session-Token: t\r\nVia: 1.1 p\r\n"
        b"X-Note: password=hunter2hunter2\r\nX-Next: https://u:pw@example.com/?code=77#top\r\n\r\n"
    )
    assert found is not None
    assert found["line"] == "GET /a?x=***&flag&token=*** HTTP/1.1"
    assert dict(found["fields"]) == {
        "Cookie": "***", "X-Session-Token": "***", "Via": "1.1 p", "X-Note": "password=***",
        "X-Next": "https://u:***@example.com/?code=***#top",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("GET /a?b=c;d=e=f HTTP/1.1", "GET /a?b=***&d=*** HTTP/1.1"),
        ('GET /a?token=ab"cd<ef HTTP/1.1', "GET /a?token=*** HTTP/1.1"),
        ("GET /reset?0123456789 HTTP/1.1", "GET /reset?*** HTTP/1.1"),
        ("GET /a? HTTP/1.0", "GET /a? HTTP/1.0"),
        ("GET /a?b=cut within", "GET /a?b=***"),
        ("GET /a HTTP/1.1", "GET /a HTTP/1.1"),
        ("HTTP/1.1 404 What?", "HTTP/1.1 404 What?"),
    ],
)
def test_a_query_in_the_first_line(line: str, shown: str) -> None:
    found = stories.head(f"{line}\r\nReferer: https://u/reset?0123456789\r\n".encode())
    assert found is not None and found["line"] == shown
    assert found["fields"] == [["Referer", "https://u/reset?***"]]


def test_one_that_is_too_large_is_cut() -> None:
    head = b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"v" * 90) for n in range(200))
    attempts = [Attempt(f"web-{n}", "connect-refused", "d" * 3000) for n in range(20)]
    for one in (story(request=head, response=head), story(attempts=attempts, request=head)):
        data = stories.written(one)
        assert len(data) <= stories.SIZE
        assert orjson.loads(data)["cut"] is True
        assert orjson.loads(data)["phases"] == [{"phase": "end", "at_ms": 1.5, "note": ""}]


def test_a_rule_of_one_app_is_not_another_s() -> None:
    config = parse(
        """
[apps.web]
addresses = ["http://127.0.0.1:9"]
[apps.other]
paths = ["/other"]
addresses = ["http://127.0.0.1:9"]
[keep]
whole = [{ app = "web", path = "/api/*", status = ">=500", slower = "2s", headers = true }, { fault = "head-timeout" }]
""",
        "config.toml",
    )
    assert routing.stories(config, "web") == (
        Whole(0, "/api/*", ((500, 599),), "", 2.0, True), Whole(1, fault="head-timeout"),
    )  # fmt: skip
    assert routing.stories(config, "other") == (Whole(1, fault="head-timeout"),)
