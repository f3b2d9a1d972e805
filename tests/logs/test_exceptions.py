"""Tracebacks and panics: found in what runtimes print, grouped by what they are, counted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.control.logs.entries import MOST, Entry, Scanner, marked
from proxy.control.logs.exceptions import OTHER, Exceptions, News
from proxy.control.logs.lines import Batch, weigh

HERE = Path(__file__).parent
PREFIXES = ("", "web-1  | ", "Jan 05 03:07:35 host app[12]: ", "2026-01-05T03:07:35.412Z ")


def batch(lines: list[bytes], id: int = 1, at: float = 1000.0, **more: Any) -> Batch:
    given: dict[str, Any] = {"app": "web", "instance": "web-1", "stream": "err", "version": "one", **more}
    return Batch(id, at, lines=lines, log="web-1", size=weigh(lines), **given)


def found(text: str, prefix: str = "", at_once: int = 7) -> list[Entry]:
    """Every entry of what was printed, in parts of some lines."""
    scanner, entries = Scanner(), []
    lines = [f"{prefix}{line}".encode() for line in text.rstrip("\n").split("\n")]
    for at in range(0, len(lines), at_once):
        entries += scanner.feed(batch(lines[at : at + at_once], 1 + at))
    return [*entries, *scanner.end()]


def run(program: str, code: str, name: str, folder: Path, *arguments: str) -> str:
    """What a real runtime prints of this."""
    (folder / name).write_text(code)
    done = subprocess.run([program, *arguments, str(folder / name)], capture_output=True, text=True, timeout=60)
    return done.stderr


CHAIN = """
def inner():
    return {}["price"]
def outer():
    try:
        inner()
    except KeyError as error:
        raise ValueError("bad cart 17") from error
outer()
"""
PYTHON = {
    "chained": (CHAIN, "ValueError", "bad cart 17", "outer in {}/a.py:8"),
    "plain": ("def f():\n    raise RuntimeError('x')\nf()", "RuntimeError", "x", "f in {}/a.py:2"),
    "no message": ("def f():\n    assert 0\nf()", "AssertionError", "", "f in {}/a.py:2"),
    "own class": ("class Oh(Exception): pass\ndef f(): raise Oh('no')\nf()", "Oh", "no", "f in {}/a.py:2"),
    "syntax": ("def f(:", "SyntaxError", None, "{}/a.py:1"),
    "group": (
        "def f(): raise ExceptionGroup('both', [ValueError(1), TypeError(2)])\nf()",
        "ExceptionGroup", "both (2 sub-exceptions)", "f in {}/a.py:1",
    ),
    "logged": (
        "import logging\nlogging.basicConfig(format='%(asctime)s %(levelname)s %(message)s')\ndef f(): 1/0\n"
        "try: f()\nexcept Exception: logging.exception('it\\nfailed')\nlogging.error('later')",
        "ZeroDivisionError", "division by zero", "f in {}/a.py:3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_of_a_real_python(name: str, tmp_path: Path) -> None:
    code, kind, message, where = PYTHON[name]
    text = run(sys.executable, code, "a.py", tmp_path)
    for prefix in PREFIXES:
        for at_once in (1, 1000):
            (entry,) = found(f"before\n{text}after", prefix, at_once)
            assert entry.found.runtime == "python"
            assert entry.found.type == kind
            assert message is None or entry.found.message == message
            assert entry.found.where == where.format(tmp_path.name)
            assert "before" not in entry.lines and "after" not in entry.lines


NODE = {
    "uncaught": ("function f() { throw new TypeError('no 12') }\nf()", "TypeError", "no 12", "f in {}/a.js:1"),
    "with fields": (
        "function f() { const e = new Error('gone'); e.code = 'E'; throw e }\nf()", "Error", "gone", "f in {}/a.js:1",
    ),
    "rejected": ("async function f() { await null; null.x }\nf()", "TypeError", None, "f in {}/a.js:1"),
    "cause": (
        "function f() { throw new Error('outer', { cause: new Error('inner') }) }\nf()", "Error", "outer",
        "f in {}/a.js:1",
    ),
}  # fmt: skip


@pytest.mark.skipif(not shutil.which("node"), reason="no node here")
@pytest.mark.slow
@pytest.mark.parametrize("name", NODE)
def test_of_a_real_node(name: str, tmp_path: Path) -> None:
    code, kind, message, where = NODE[name]
    text = run("node", code, "a.js", tmp_path)
    for prefix in PREFIXES:
        (entry,) = found(f"before\n{text}after", prefix)
        assert entry.found.runtime == "node"
        assert entry.found.type == kind
        assert message is None or entry.found.message == message
        assert entry.found.where == where.format(tmp_path.name)


GO = """\
panic: runtime error: index out of range [7] with length 3

goroutine 18 [running]:
main.price({0xc000012345, 0x3, 0x3})
\t/srv/shop/cart.go:12 +0x1d
net/http.HandlerFunc.ServeHTTP(0xc0000b2000?, {0x7f1, 0xc00})
\t/usr/local/go/src/net/http/server.go:2136 +0x29
created by net/http.(*Server).Serve in goroutine 1
\t/usr/local/go/src/net/http/server.go:3086 +0x5cb
exit status 2
"""
RUBY = """\
shop/cart.rb:3:in `price': no tea (KeyError)
\tfrom shop/cart.rb:7:in `total'
\tfrom /usr/lib/ruby/gems/3.1.0/gems/rack-2.2/lib/rack.rb:12:in `call'
\tfrom cart.rb:9:in `<main>'
"""
RAILS = """\
RuntimeError (no tea left):
app/models/cart.rb:12:in `price'
app/controllers/carts_controller.rb:5:in `show'
/usr/lib/ruby/gems/3.1.0/gems/actionpack-7.0/lib/abstract.rb:6:in `send_action'
"""
PHP = """\
PHP Fatal error:  Uncaught RuntimeException: no tea in /srv/shop/cart.php:3
Stack trace:
#0 /srv/shop/cart.php(7): Cart->price('tea')
#1 /srv/shop/vendor/slim/App.php(70): Cart->total()
#2 {main}
  thrown in /srv/shop/cart.php on line 3
"""
MONOLOG = """\
[2026-01-05 03:07:35] production.ERROR: no tea {"exception":"[object] (RuntimeException(code: 0): no tea at /srv/shop/cart.php:3)
[stacktrace]
#0 /srv/shop/cart.php(7): Cart->price()
#1 {main}
"}
"""  # noqa: E501
DOTNET = """\
Unhandled exception. System.InvalidOperationException: no tea
 ---> System.ArgumentException: inner
   at Shop.Cart.Inner() in /srv/shop/Cart.cs:line 4
   --- End of inner exception stack trace ---
   at Shop.Cart.Price(String item) in /srv/shop/Cart.cs:line 12
   at System.Linq.Enumerable.Sum()
   at Program.Main(String[] args) in /srv/shop/Program.cs:line 3
"""
SPRING = """\
2026-01-05 03:07:35.412 ERROR 12 --- [nio-8080-exec-1] c.e.Cart : failed
java.lang.IllegalStateException: no tea
second line of it
\tat com.example.Cart.price(Cart.java:12)
\tat org.springframework.web.Servlet.service(Servlet.java:897) ~[spring-web.jar:6.0]
\tSuppressed: java.io.IOException: close
\t\tat com.example.Cart.close(Cart.java:20)
Caused by: java.sql.SQLException: gone
\tat com.example.Db.get(Db.java:3)
\t... 12 more
"""
TEXTS = {
    "go": (GO, "go", "panic: runtime error", "index out of range [7] with length 3", "main.price in shop/cart.go:12"),
    "go served": (
        GO.replace("panic: ", "2026/01/05 03:07:35 http: panic serving 127.0.0.1:5: ", 1), "go",
        "panic: runtime error", "index out of range [7] with length 3", "main.price in shop/cart.go:12",
    ),
    "go fatal": (
        "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:\nmain.main()\n"
        "\t/srv/shop/main.go:4 +0x1\n", "go", "fatal error", "all goroutines are asleep - deadlock!",
        "main.main in shop/main.go:4",
    ),
    "ruby": (RUBY, "ruby", "KeyError", "no tea", "price in shop/cart.rb:3"),
    "ruby 3.4": (RUBY.replace("`", "'"), "ruby", "KeyError", "no tea", "price in shop/cart.rb:3"),
    "rails": (RAILS, "ruby", "RuntimeError", "no tea left", "price in models/cart.rb:12"),
    "php": (PHP, "php", "RuntimeException", "no tea", "shop/cart.php:3"),
    "php with time": (
        f"[05-Jan-2026 03:07:35 UTC] {PHP}", "php", "RuntimeException", "no tea", "shop/cart.php:3",
    ),
    "monolog": (MONOLOG, "php", "RuntimeException", "no tea", "shop/cart.php:3"),
    "dotnet": (
        DOTNET, "dotnet", "System.InvalidOperationException", "no tea", "Shop.Cart.Inner in shop/Cart.cs:4",
    ),
    "spring": (
        SPRING, "java", "java.lang.IllegalStateException", "no tea second line of it", "price in com.example.Cart:12",
    ),
    "java": (
        (HERE / "printed" / "java.txt").read_text(), "java", "java.lang.IllegalStateException", "outer 5",
        "a in Boom:1",
    ),
    "rust": (
        (HERE / "printed" / "rust.txt").read_text(), "rust", "panic",
        "index out of bounds: the len is 0 but the index is 7", "m::f in ./m.rs:1",
    ),
    "rust without a backtrace": (
        "thread 'main' panicked at src/cart.rs:2:5:\nno tea\nnote: run with `RUST_BACKTRACE=1` environment variable\n",
        "rust", "panic", "no tea", "src/cart.rs:2",
    ),
    "rust of before": (
        "thread 'main' panicked at 'no tea', src/cart.rs:2:5\nnote: run with `RUST_BACKTRACE=1`\n",
        "rust", "panic", "no tea", "src/cart.rs:2",
    ),
    "a segfault of python": (
        'Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f (most recent call first):\n'
        '  File "/srv/shop/cart.py", line 3 in price\n  File "/srv/shop/app.py", line 9 in main\n',
        "python", "Fatal Python error", "Segmentation fault", "price in shop/cart.py:3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_of_what_runtimes_print(name: str) -> None:
    text, runtime, kind, message, where = TEXTS[name]
    for prefix in PREFIXES:
        (entry,) = found(f"before\n{text}\nafter, something else", prefix)
        assert (entry.found.runtime, entry.found.type) == (runtime, kind)
        assert entry.found.message == message
        assert entry.found.where == where
        assert "after, something else" not in entry.lines


@pytest.mark.parametrize("field", ["exc_info", "traceback", "stack", "error"])
def test_in_a_line_of_a_json_logger(field: str) -> None:
    text = 'Traceback (most recent call last):\n  File "/srv/cart.py", line 3, in price\n    x\nKeyError: 1'
    if field == "stack":
        text = "Error: no tea\n    at price (/srv/cart.js:3:7)\n    at node:internal/main:1:1"
    value: Any = {"stack_trace": text} if field == "error" else text
    line = json.dumps({"level": "error", "msg": "it failed", field: value})
    (entry,) = found(f"before\n{line}\nafter")
    assert entry.found.where in ("price in srv/cart.py:3", "price in srv/cart.js:3")
    assert entry.first == entry.last == 2


@pytest.mark.parametrize(
    "text",
    [
        "don't panic: all is well\nnext\n",
        "lunch is    at noon\n    at the table\n",
        'INFO the "stack" was full\n{"stack": "redis"}\n{"stack": "a\\nb"}\n',
        "Traceback (most recent call last):\nsomething else\n",
        'see   File "x.py", line 3\nok\n',
        "Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n  File \"x\", line 3 in f\n",
    ],
)
def test_what_is_none(text: str) -> None:
    assert found(text) == []


def test_two_in_a_row_and_what_lies_between() -> None:
    one = 'Traceback (most recent call last):\n  File "/a.py", line 1, in f\n    x\nKeyError: 1\n'
    assert len(found(one + one)) == 2
    assert len(found(one + "\n\nbetween\n" + one)) == 2


def test_silence_ends_it_and_so_do_five_hundred_lines() -> None:
    scanner = Scanner()
    head = [b"Traceback (most recent call last):", b'  File "/a.py", line 1, in f', b"    x"]
    assert list(scanner.feed(batch([*head, b"KeyError: 1"], at=1000.0))) == []
    assert list(scanner.expire(1000.1)) == []
    (entry,) = scanner.expire(1000.3)
    assert entry.found.type == "KeyError"
    frames = [b'  File "/a.py", line 1, in f', b"    x"] * MOST
    (entry,) = list(scanner.feed(batch([*head, *frames, b"RecursionError: deep", b"next"], at=1001.0)))
    assert len(entry.lines) == MOST


def test_streams_do_not_mix() -> None:
    book = Exceptions()
    book.take(batch([b"Traceback (most recent call last):", b'  File "/a.py", line 1, in f'], 1))
    book.take(batch([b"GET / 200"], 3, stream="out"))
    book.take(batch([b"GET / 200"], 4, instance="web-2"))
    book.take(batch([b"    x", b"KeyError: 1"], 5))
    assert book.flush()
    (group,) = book.groups()
    assert group.sample[1:] == ['  File "/a.py", line 1, in f', "    x", "KeyError: 1"]
    book.close()


def test_an_ordinary_batch_costs_next_to_nothing() -> None:
    lines = [b'10.0.0.5 - - [05/Jan/2026] "GET /products/%d HTTP/1.1" 200 512 "-" "curl"' % n for n in range(700)]
    assert not marked(b"\n".join(lines))
    scanner, one = Scanner(), batch(lines)
    began = time.thread_time()
    for _ in range(200):
        assert list(scanner.feed(one)) == []
    assert (time.thread_time() - began) / 200 < 0.005  # 50 KB; 0.3 ms on an ordinary machine


# --- fingerprints ------------------------------------------------------------------------------------


def print_of(text: str) -> str:
    (entry,) = found(text)
    return entry.found.fingerprint


def test_the_fingerprint_stays_over_what_does_not_matter() -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/srv/app/releases/20260105/shop/app.py", line 10, in main\n    go()\n'
        '  File "/usr/lib/python3.11/json/__init__.py", line 3, in loads\n    x\nKeyError: \'tea 17\'\n'
    )
    first = print_of(text)
    assert first.startswith("v1-") and len(first) == 11
    assert first == "v1-" + first[3:].lower()
    assert print_of(text.replace("20260105", "20260209")) == first  # another release
    assert print_of(text.replace("line 10", "line 99")) == first  # an edit above
    assert print_of(text.replace("tea 17", "coffee")) == first  # another message
    assert print_of(text.replace("in loads", "in dumps")) == first  # within a library
    assert print_of(text.replace("in main", "in other")) != first
    assert print_of(text.replace("KeyError", "IndexError")) != first
    assert print_of(text.replace("/srv/app/releases/20260105/shop", "/usr/lib/python3.11/x")) != first


def test_a_recursion_is_one_whatever_its_depth() -> None:
    frame = '  File "/srv/a.py", line 3, in f\n    f()\n'
    head, end = "Traceback (most recent call last):\n", "RecursionError: maximum recursion depth exceeded\n"
    assert print_of(head + frame * 30 + end) == print_of(head + frame * 90 + end)


def test_without_frames_the_message_counts_but_for_numbers_and_ids() -> None:
    def of(message: str) -> str:
        return print_of(f"Traceback (most recent call last):\n  (no frames)\nTimeoutError: {message}\n")

    assert of("after 75s at 0x7f00aa") == of("after 30s at 0x8888")
    assert of("order 9f1c2d3e-0000-4000-8000-0123456789ab") == of("order 00000000-1111-4000-8000-0123456789ab")
    assert of("after 75s") != of("before 75s")


# --- counting ----------------------------------------------------------------------------------------


def traceback(name: str, kind: str = "KeyError") -> list[bytes]:
    frame = f'  File "/a.py", line 1, in {name}'.encode()
    return [b"Traceback (most recent call last):", frame, kind.encode() + b": 1"]


def test_counts_are_exact_and_new_ones_are_news_once() -> None:
    book = Exceptions()
    now = time.time()
    for number in range(500):
        book.take(batch(traceback("f"), 1 + 10 * number, now, instance=f"web-{number % 30}"))
    book.take(batch(traceback("g"), 9000, now, version="two"))
    assert book.flush()
    assert {group.count for group in book.groups("web")} == {500, 1}
    assert book.counts("web") == 501 and book.counts("other") == 0
    assert [news.kind for news in book.news()] == ["new", "new"] and book.news() == []
    group = next(one for one in book.groups() if one.count == 500)
    assert len(group.instances) == 20 and group.instances[-1] == "web-29"
    assert sum(group.last_hour(now)) == 500
    book.close()


def test_one_that_is_back_after_a_day_or_in_another_version_is_news() -> None:
    book = Exceptions()
    now = time.time() - 3 * 86400

    def seen(at: float, version: str) -> list[News]:
        book.take(batch(traceback("f"), int(at * 1e6), at, version=version))
        assert book.flush()
        return book.news()

    assert [one.kind for one in seen(now, "one")] == ["new"]
    assert seen(now + 60, "one") == []
    assert [one.kind for one in seen(now + 120, "two")] == ["version"]
    assert seen(now + 180, "one") == []
    (news,) = seen(now + 180 + 90_000, "two")
    assert news.kind == "again" and news.gone == pytest.approx(90_000)
    book.close()


def test_of_many_kinds_those_beyond_are_counted_together() -> None:
    book = Exceptions(most=20)
    for number in range(60):
        book.take(batch(traceback(f"f{chr(97 + number % 26)}{chr(97 + number // 26)}"), 1 + 10 * number))
    assert book.flush()
    groups = book.groups()
    assert len(groups) == 21
    assert next(one.count for one in groups if one.fingerprint == OTHER) == 40
    assert book.counts("web") == 60
    book.close()


def test_what_the_store_has_is_known_again() -> None:
    book, now = Exceptions(), time.time()
    book.take(batch(traceback("f"), 1, now))
    assert book.flush()
    rows = book.changed()
    assert len(rows) == 1 and book.changed() == []
    book.close()
    again = Exceptions()
    again.take(batch(traceback("f"), 100, now + 1))
    assert again.flush()
    again.load(rows)
    (group,) = again.groups()
    assert group.count == 2 and group.first == pytest.approx(now) and again.counts("web") == 2
    again.close()


def test_a_long_one_is_kept_in_part() -> None:
    book = Exceptions()
    frames = [line for number in range(100) for line in (b'  File "/a.py", line 1, in f%d' % number, b"    x")]
    book.take(batch([b"Traceback (most recent call last):", *frames, b"KeyError: secret password=hunter22"]))
    assert book.flush()
    (group,) = book.groups()
    assert len(group.sample) == 50 and group.sample[-1] == "KeyError: secret password=***"
    assert any("lines …" in line for line in group.sample)
    book.close()
