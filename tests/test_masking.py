"""What looks like a secret is not shown; what does not stays readable."""

import pytest

from proxy import masking


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("connecting to postgres://app:s3cret@db/main", "connecting to postgres://app:***@db/main"),
        ("Authorization: Bearer eyJhbGciOi.abc-_x", "Authorization: Bearer ***"),
        ("login password=hunter2 user=anna", "login password=*** user=anna"),
        ('{"api_key": "abcdef", "n": 1}', '{"api_key": "***", "n": 1}'),
        ("AWS_SECRET_ACCESS_KEY='abcd1234'", "AWS_SECRET_ACCESS_KEY='***'"),
        ("X-Access-Token: 0123456", "X-Access-Token: ***"),
        ("GET /a?token=abc&x=1 200", "GET /a?token=***&x=1 200"),
        ("Authorization: Token 0123456789", "Authorization: Token ***"),
        ("{'HTTP_AUTHORIZATION': 'Hmac 0123456789'}", "{'HTTP_AUTHORIZATION': 'Hmac ***'}"),
        ("Cookie: sid=abcdef; theme=dark", "Cookie: ***"),
        ('set-cookie: sid="abcdef"; HttpOnly', "set-cookie: ***"),
        ("{'Cookie': 'sid=abcdef; a=b', 'Host': 'x'}", "{'Cookie': '***', 'Host': 'x'}"),
        ("<td>Cookie: sid=abcdef</td>", "<td>Cookie: ***</td>"),
        ("no cookie: the client is new", "no cookie: the client is new"),
        ("12 cookies=many", "12 cookies=many"),
        (f"curl x triage_0123abcd_{'aB_-' * 10}xyz now", "curl x triage_0123abcd_*** now"),
        ("triage_instances 3", "triage_instances 3"),
        ("KeyError: 'user'", "KeyError: 'user'"),
        ("token expired after 3 s", "token expired after 3 s"),
        ("no password given", "no password given"),
        ("Traceback (most recent call last):", "Traceback (most recent call last):"),
    ],
)
def test_lines_that_an_app_prints(line: str, shown: str) -> None:
    assert masking.text(line) == shown


def test_a_long_line_takes_no_long_time() -> None:
    """No backtracking: a megabyte of what nearly fits is through within seconds on any machine."""
    for unit in ("token", "a-", "password =", "x://y", "://:", "cookie:", "cookie = ", "authorization: a "):
        assert len(masking.text(unit * (1_000_000 // len(unit)))) > 100


def test_arguments() -> None:
    given = ["app", "--token", "abc", "--db=postgres://u:p@h/x", "--api-key=1", "API_KEY=2", "-v"]
    shown = ["app", "--token", "***", "--db=postgres://u:***@h/x", "--api-key=***", "API_KEY=***", "-v"]
    assert masking.arguments(given) == shown


def test_a_variable_for_its_name_or_what_is_in_it() -> None:
    assert masking.masked("API_TOKEN", "abc") == "***"
    assert masking.masked("OPTIONS", "password=hunter2 retries=3") == "password=*** retries=3"
    assert masking.masked("DATABASE", "postgres://u:p@h/x") == "postgres://u:***@h/x"


def test_bytes_keep_their_places() -> None:
    data = b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=abcdef\r\nX-To: redis://:pw@h\r\nbad\xff header\x01: x\r\n"
    shown = masking.raw(data)
    assert shown == data.replace(b"sid=abcdef", b"**********").replace(b"pw@h", b"**@h")
    assert len(shown) == len(data) and masking.raw(bytes(range(256))) == bytes(range(256))
