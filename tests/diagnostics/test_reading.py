"""The one line that says most."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.diagnostics.reading import as_text, at_rest, frames, last_words, traceback_line
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


def test_saved_stacks_are_read_like_taken_ones() -> None:
    """The thread that waits for its connection's next request is not what hangs."""
    threads = [
        _thread(1, ("SocketIO.readinto", "socket.py", 706), ("H.handle_one_request", "server.py", 404)),
        _thread(2, ("H.do_GET", "app.py", 9), ("H.handle_one_request", "server.py", 424)),
        _thread(3, ("select", "selectors.py", 415), ("serve_forever", "socketserver.py", 233)),
    ]
    text = as_text({"at": 1.0, "rounds": [{"at": 1.0, "processes": [{"threads": threads}]}]})
    assert frames(text)[0] == "H.do_GET (app.py:9) < H.handle_one_request (server.py:424)   (1 of 3 threads)"
    assert not at_rest(text)
    del threads[1]
    assert at_rest(as_text({"at": 1.0, "rounds": [{"at": 1.0, "processes": [{"threads": threads}]}]}))


def _thread(number: int, *calls: tuple[str, str, int]) -> dict[str, Any]:
    frames_ = [{"function": name, "file": file, "line": line} for name, file, line in calls]
    return {"id": number, "name": f"Thread-{number}", "active": False, "frames": frames_}
