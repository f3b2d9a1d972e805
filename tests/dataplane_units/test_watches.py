"""Path patterns of watches, against the standard library's."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dataplane.watches import Path


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("/", ("/",), ("", "/a")),
        ("*", ("", "/", "/a/b"), ()),
        ("/api/*", ("/api/", "/api/a/b"), ("/api", "/Api/a", "/x/api/")),
        ("*.php", (".php", "/a/b.php"), ("/a.php/", "/a.phpx")),
        ("/a*a", ("/aa", "/aba"), ("/a",)),
        ("/*/edit/*", ("/x/edit/", "/x/y/edit/z"), ("/edit/", "/x/edit")),
        ("/a**b", ("/ab", "/axb"), ("/a",)),
        ("/a?b[c]", ("/a?b[c]",), ("/axb[c]", "/a?bc")),
    ],
)
def test_star_is_any_letters_and_all_else_is_itself(pattern: str, yes: tuple[str, ...], no: tuple[str, ...]) -> None:
    path = Path(pattern)
    assert all(path.matches(each.encode()) for each in yes)
    assert not any(path.matches(each.encode()) for each in no)


@given(st.text("ab/*", max_size=8), st.text("ab/", max_size=12))
def test_as_a_regular_expression_has_it(pattern: str, path: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), path) is not None
    assert Path(pattern).matches(path.encode()) == expected


def test_a_hostile_path_costs_no_more_than_its_length() -> None:
    """As a regular expression with eight stars it would be tried in more ways than there is time for."""
    pattern, path = Path("*a*a*a*a*a*a*a*b"), b"a" * 8000
    began = time.thread_time()
    assert not pattern.matches(path) and not pattern.matches(path + b"c")
    assert time.thread_time() - began < 5.0
