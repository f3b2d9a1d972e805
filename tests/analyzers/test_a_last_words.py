"""What processes print last: recorded texts of runtimes, and texts that only look like them."""

import pytest

from proxy.diagnostics.analyzers.last_words import crash, heap_limit, start, uncaught

PYTHON = """Traceback (most recent call last):
  File "/srv/web/app.py", line 61, in <module>
    main()
  File "/srv/web/app.py", line 33, in work
    raise RuntimeError("queue is broken")
RuntimeError: queue is broken"""
LIBRARY = """Traceback (most recent call last):
  File "/srv/web/db.py", line 7, in load
    cursor.execute(sql)
  File "/usr/lib/python3.11/site-packages/driver/cursor.py", line 99, in execute
    raise self.error
driver.errors.OperationalError: gone"""
NODE = """/srv/web/app.js:12
    throw new TypeError("x is not a function");
    ^

TypeError: x is not a function
    at Server.<anonymous> (/srv/web/app.js:12:11)
    at Server.emit (node:events:517:28)

Node.js v18.19.0"""
GO = """panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x47e1c6]

goroutine 1 [running]:
main.main()
\t/srv/web/main.go:9 +0x46
exit status 2"""
RUST = """thread 'main' panicked at src/main.rs:4:5:
index out of bounds
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace"""
JAVA = """Exception in thread "main" java.lang.IllegalStateException: no
\tat com.example.Web.main(Web.java:14)"""
RUBY = "web.rb:3:in `call': undefined method `x' for nil:NilClass (NoMethodError)\n\tfrom web.rb:9:in `<main>'"
PHP = "PHP Fatal error:  Uncaught Exception: no in /srv/web/index.php:3"
DOTNET = "Unhandled exception. System.InvalidOperationException: no\n   at Web.Program.Main() in /srv/Program.cs:line 3"
CPP = "terminate called after throwing an instance of 'std::runtime_error'\n  what():  no"


@pytest.mark.parametrize(
    ("text", "runtime", "name", "message", "where"),
    [
        (PYTHON, "python", "RuntimeError", "queue is broken", "web/app.py:33 work"),
        (LIBRARY, "python", "driver.errors.OperationalError", "gone", "web/db.py:7 load"),
        (NODE, "node", "TypeError", "x is not a function", "web/app.js:12 Server.<anonymous>"),
        (GO, "go", "panic", "runtime error: invalid memory address or nil pointer dereference", "web/main.go:9"),
        (RUST, "rust", "panic", "index out of bounds", "src/main.rs:4"),
        (JAVA, "java", "java.lang.IllegalStateException", "no", "Web.java:14 com.example.Web.main"),
        (RUBY, "ruby", "NoMethodError", "undefined method `x' for nil:NilClass", "web.rb:3 call"),
        (PHP, "php", "Exception", "no", "web/index.php:3"),
        (DOTNET, "dotnet", "System.InvalidOperationException", "no", ""),
        (CPP, "native", "std::runtime_error", "no", ""),
    ],
)
def test_an_error_that_nobody_caught(text: str, runtime: str, name: str, message: str, where: str) -> None:
    found = uncaught(["listening on 9001", *text.splitlines()])
    assert found is not None
    assert (found.runtime, found.name, found.message, found.where) == (runtime, name, message, where)


def test_an_error_long_before_the_end_is_not_what_ended_it() -> None:
    after = [f"GET /{number} 200" for number in range(30)]
    assert uncaught([*PYTHON.splitlines(), *after]) is None


@pytest.mark.parametrize("text", ["ERROR: bad", "Traceback of the last call", "goodbye", "panic: no goroutine follows"])
def test_words_that_are_no_error(text: str) -> None:
    assert uncaught([text]) is None


def test_a_crash_names_its_line() -> None:
    lines = ["Fatal Python error: Segmentation fault", "", "Current thread 0x00007f (most recent call first):"]
    found = crash([*lines, '  File "/srv/web/app.py", line 20 in call'])
    assert found is not None and found.message == "Segmentation fault" and found.where == "web/app.py:20 call"
    assert crash(["double free or corruption (out)"]) is not None
    assert crash(["all is well"]) is None


def test_the_heap_of_a_runtime() -> None:
    assert "heap out of memory" in heap_limit(
        ["FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", " 1: 0xb02 node"]
    )
    assert not heap_limit(["heap 90 % used"])


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("OSError: [Errno 98] Address already in use", "port-in-use"),
        ("Error: listen EADDRINUSE: address already in use :::8000", "port-in-use"),
        ("ModuleNotFoundError: No module named 'flask'", "missing-module"),
        ("Error: Cannot find module 'express'", "missing-module"),
        ("python: can't open file '/srv/web/app.py': [Errno 2] No such file or directory", "missing-file"),
        ("sh: 1: gunicorn: not found", "missing-command"),
        ("PermissionError: [Errno 13] Permission denied: '/var/lib/x'", "permission"),

        ("SyntaxError: invalid syntax", "syntax"),
        ("ConnectionRefusedError: [Errno 111] Connection refused", "dependency"),
        ("Error: connect ECONNREFUSED 127.0.0.1:5432", "dependency"),
        ("OSError: [Errno 28] No space left on device", "disk"),
    ],
)
def test_why_it_could_not_start(line: str, kind: str) -> None:
    found = start(["Starting up", line])
    assert found is not None and found.kind == kind and found.line == line


def test_a_start_that_says_nothing() -> None:
    assert start(["Starting up", "KeyError: 'user'"]) is None
    assert start([]) is None


def test_a_key_of_the_environment_is_told_from_any_other() -> None:
    frames = ['  File "/usr/lib/python3.11/os.py", line 679, in __getitem__', '    url = os.environ["DATABASE_URL"]']
    found = start(["Traceback (most recent call last):", *frames, "KeyError: 'DATABASE_URL'"])
    assert found is not None and found.kind == "config"
    assert start(["KeyError: 'JPY'"]) is None


def test_a_promise_that_nobody_caught() -> None:
    lines = [
        "node:internal/process/promises:288",
        "            triggerUncaughtException(err, true /* fromPromise */);",
        "            ^", "",
        "[UnhandledPromiseRejection: This error originated either by throwing inside of an async function without a "
        'catch block, or by rejecting a promise which was not handled with .catch(). The promise rejected with the '
        'reason "no".] {', "  code: 'ERR_UNHANDLED_REJECTION'", "}", "", "Node.js v18.19.0",
    ]  # fmt: skip
    found = uncaught(lines)
    assert found is not None and found.words == "UnhandledPromiseRejection: no"
