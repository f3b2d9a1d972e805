"""The one line that says most."""

from __future__ import annotations

import pytest

from proxy.diagnostics.reading import at_rest, frames, last_words, traceback_line
from proxy.diagnostics.text import clean, target, wrapped


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["starting", "Traceback (most recent call last):", "ValueError: bad", "bye"], "ValueError: bad"),
        (["sqlalchemy.exc.OperationalError: gone away"], "sqlalchemy.exc.OperationalError: gone away"),
        (["panic: runtime error: index out of range"], "panic: runtime error: index out of range"),
        (["2026-01-05 ERROR cannot open"], "2026-01-05 ERROR cannot open"),
        (["SystemExit: 3"], "SystemExit: 3"),
        (['INFO "GET /error HTTP/1.1" 200', "all is well"], ""),
        ([], ""),
    ],
)  # fmt: skip
def test_the_line_that_names_an_error(lines: list[str], found: str) -> None:
    assert traceback_line(lines) == found


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["LookupError: no price", "CRITICAL fatal: no list"], "CRITICAL fatal: no list"),  # it survived the first
        (["CRITICAL starting badly", "ValueError: x", "ERROR it ends"], "ValueError: x"),
        (["ERROR one", "quiet"], "ERROR one"),
        ([], ""),
    ],
)
def test_last_words_are_those_of_the_end(lines: list[str], found: str) -> None:
    assert last_words(lines) == found


def test_frames_put_what_works_before_what_waits() -> None:
    stacks = (
        'Process 1: x\n\nThread 1 (idle): "MainThread"\n    select (selectors.py:468)\n    main (app.py:1)\n'
        'Thread 2 (active): "w"\n    parse (a.py:2)\n    view (b.py:3)\n'
        'Thread 3 (idle): "w"\n    recv (db.py:9)\nThread 4 (idle): "w"\n    recv (db.py:9)\n'
    )
    assert frames(stacks) == [
        "parse (a.py:2) < view (b.py:3)   (1 of 4 threads)",
        "recv (db.py:9)   (2 of 4 threads)",
        "select (selectors.py:468) < main (app.py:1)   (1 of 4 threads)",
    ]
    assert not at_rest(stacks)
    assert at_rest('Thread 1 (idle): "MainThread"\n    select (selectors.py:468)\n    main (app.py:1)\n')
    assert at_rest('Thread 1 (idle): "MainThread"\n    EpollSelector.select (selectors.py:468)\n')
    assert frames("no stacks in here") == [] and not at_rest("")


def test_text_from_outside_is_harmless() -> None:
    assert clean("a\x1b[2J\r\nb\u202ec") == "a?[2J??b?c"
    assert len(clean("x" * 1000)) == 400
    assert target("/a?token=1") == "/a?…"
    assert clean('GET "/a?token=s3cr3t&x=y" 200') == 'GET "/a?token=…&x=…" 200'
    assert all(len(line) <= 20 for line in wrapped("word " * 20 + "y" * 90, 20))
