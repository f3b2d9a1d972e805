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
    for unit in ("token", "a-", "password =", "x://y", "://:"):
        assert len(masking.text(unit * (1_000_000 // len(unit)))) > 100


def test_arguments() -> None:
    given = ["app", "--token", "abc", "--db=postgres://u:p@h/x", "--api-key=1", "API_KEY=2", "-v"]
    shown = ["app", "--token", "***", "--db=postgres://u:***@h/x", "--api-key=***", "API_KEY=***", "-v"]
    assert masking.arguments(given) == shown
