"""Which server runs an app, and its settings, as command line and environment show them. Pure: nothing is run or read.

A default is given where the command leaves it, with its word "default": what a server without that option does. What a
config file sets is not seen here, save the plain values of a gunicorn.conf.py that the caller hands in.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Server:
    """`options`: how a setting may be written; `defaults`: as the server's own documentation has them."""

    name: str
    package: str = ""  # Python distribution or npm package
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()  # after python -m
    variable: str = ""  # that holds more arguments


SERVERS: Final[tuple[Server, ...]] = (
    Server(
        "gunicorn", "gunicorn",
        {
            "workers": ("-w", "--workers"), "threads": ("--threads",), "worker class": ("-k", "--worker-class"),
            "timeout": ("-t", "--timeout"), "graceful timeout": ("--graceful-timeout",),
            "keep-alive": ("--keep-alive",), "backlog": ("--backlog",), "max requests": ("--max-requests",),
            "max requests jitter": ("--max-requests-jitter",), "worker connections": ("--worker-connections",),
            "bind": ("-b", "--bind"), "config": ("-c", "--config"),
        },
        {
            "workers": "1", "threads": "1", "worker class": "sync", "timeout": "30", "graceful timeout": "30",
            "keep-alive": "2", "backlog": "2048", "max requests": "0", "worker connections": "1000",
        },
        ("gunicorn", "gunicorn.app.wsgiapp"), "GUNICORN_CMD_ARGS",
    ),
    Server(
        "uvicorn", "uvicorn",
        {
            "workers": ("--workers",), "keep-alive": ("--timeout-keep-alive",), "backlog": ("--backlog",),
            "limit concurrency": ("--limit-concurrency",), "max requests": ("--limit-max-requests",),
            "graceful timeout": ("--timeout-graceful-shutdown",), "loop": ("--loop",), "http": ("--http",),
            "bind": ("--host",), "port": ("--port",), "uds": ("--uds",), "fd": ("--fd",),
        },
        {"workers": "1", "keep-alive": "5", "backlog": "2048", "bind": "127.0.0.1"},
        ("uvicorn",),
    ),
    Server(
        "hypercorn", "hypercorn",
        {
            "workers": ("-w", "--workers"), "worker class": ("-k", "--worker-class"), "backlog": ("--backlog",),
            "keep-alive": ("--keep-alive",), "graceful timeout": ("--graceful-timeout",), "bind": ("-b", "--bind"),
            "config": ("-c", "--config"),
        },
        {"workers": "1", "worker class": "asyncio", "backlog": "100", "keep-alive": "5"},
        ("hypercorn",),
    ),
    Server(
        "waitress", "waitress",
        {
            "threads": ("--threads",), "backlog": ("--backlog",), "timeout": ("--channel-timeout",),
            "worker connections": ("--connection-limit",), "bind": ("--listen",), "port": ("--port",),
        },
        {"threads": "4", "backlog": "1024", "timeout": "120", "worker connections": "100"},
        ("waitress",),
    ),
    Server(
        "uwsgi", "uWSGI",
        {
            "workers": ("-p", "--processes", "--workers"), "threads": ("--threads",), "backlog": ("-l", "--listen"),
            "timeout": ("-t", "--harakiri"), "max requests": ("-R", "--max-requests"), "config": ("--ini",),
        },
        {"workers": "1", "threads": "1", "backlog": "100"},
    ),
    Server(
        "daphne", "daphne",
        {"timeout": ("-t", "--http-timeout"), "bind": ("-b", "--bind"), "port": ("-p", "--port")},
        {}, ("daphne",),
    ),
    Server(
        "granian", "granian",
        {
            "workers": ("--workers",), "threads": ("--runtime-threads", "--threads"), "backlog": ("--backlog",),
            "backpressure": ("--backpressure",), "bind": ("--host",), "port": ("--port",),
        },
        {"workers": "1", "backlog": "1024"}, ("granian",),
    ),
    Server("flask run", "flask", {"bind": ("-h", "--host"), "port": ("-p", "--port")}, {}, ("flask",)),
    Server("http.server", "", {"bind": ("-b", "--bind")}, {}, ("http.server",)),
    Server(
        "puma", "puma",
        {"workers": ("-w", "--workers"), "threads": ("-t", "--threads"), "bind": ("-b", "--bind"),
         "config": ("-C", "--config")},
        {"threads": "0:5", "backlog": "1024"},
    ),
    Server("unicorn", "unicorn", {"config": ("-c", "--config-file")}, {"timeout": "60", "backlog": "1024"}),
    Server("next", "next", {"keep-alive": ("--keepAliveTimeout",), "port": ("-p", "--port")}),
    Server("pm2", "pm2"),
)  # fmt: skip
BEFORE: Final = re.compile(
    r"(?:python|pypy|ruby)[0-9.]*|node|bundle|exec|env|sh|bash|dash|tini|dumb-init|gosu|su-exec|sudo|nice|poetry|pipenv"
    r"|uv|run|npx|npm|yarn|pnpm|\w+=.*|[0-9]+"
)
"""Words that may stand before a server: interpreters, and programs that run another."""
VARIABLES: Final = (
    "WEB_CONCURRENCY", "UV_THREADPOOL_SIZE", "NODE_OPTIONS", "GOMAXPROCS", "GOMEMLIMIT", "GOGC", "JAVA_TOOL_OPTIONS",
    "JAVA_OPTS", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONMALLOC", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS",
    "RAILS_MAX_THREADS", "PUMA_MAX_THREADS",
)  # fmt: skip
"""Of the environment: what changes how many requests a runtime takes at once, or the memory that it takes."""
IN_FILE: Final = {
    "workers": "workers", "threads": "threads", "worker_class": "worker class", "timeout": "timeout",
    "graceful_timeout": "graceful timeout", "keepalive": "keep-alive", "backlog": "backlog",
    "max_requests": "max requests", "max_requests_jitter": "max requests jitter",
    "worker_connections": "worker connections", "bind": "bind", "preload_app": "preload",
}  # fmt: skip


def server(command: Sequence[str]) -> tuple[Server, list[str]] | None:
    """Which one a command runs, and its arguments: "gunicorn …", "python -m uvicorn …", "/venv/bin/python /venv/bin/…".

    A process may have rewritten its command: "gunicorn: worker [app:app]" is a gunicorn, too.
    """
    words = list(command)
    for at, word in enumerate(words[:6]):
        if at and words[at - 1] == "-m":
            for one in SERVERS:
                if word in one.modules:
                    return one, words[at + 1 :]
            return None
        name = Path(word.partition(" ")[0].rstrip(":")).name.removesuffix(".exe")
        for one in SERVERS:
            if name in (one.name, f"{one.name}-serve") or (one.name == "flask run" and words[at : at + 2][1:] == ["run"]
                                                           and name == "flask"):
                return one, words[at + 1 :]
        if word == "runserver" and at and Path(words[at - 1]).name == "manage.py":
            return Server("django runserver", "django"), words[at + 1 :]
        if at and not word.startswith("-") and not BEFORE.fullmatch(name) and words[at - 1] != "-X":
            if Path(word).name != "manage.py":
                return None
    return None


def settings(one: Server, arguments: Sequence[str], environment: Mapping[str, str], file: str = "") -> dict[str, str]:
    """What it is set to. `file`: text of its gunicorn.conf.py; the command line is stronger, then GUNICORN_CMD_ARGS."""
    found: dict[str, str] = {name: f"{value} (default)" for name, value in one.defaults.items()}
    if environment.get("WEB_CONCURRENCY") and "workers" in found:
        found["workers"] = f"{environment['WEB_CONCURRENCY']} (WEB_CONCURRENCY)"
    if file:
        found.update(_in_file(file))
    more = environment.get(one.variable, "") if one.variable else ""
    try:
        found.update(_given(one, shlex.split(more)))
    except ValueError:
        pass
    found.update(_given(one, arguments))
    if one.name == "gunicorn" and found["worker class"].startswith("sync") and found["threads"].split()[0] != "1":
        found["worker class"] = "gthread (sync, with threads)"
    return found


def _given(one: Server, arguments: Sequence[str]) -> dict[str, str]:
    """`--threads 8`, `--threads=8`, `-w4`."""
    found: dict[str, str] = {}
    for at, word in enumerate(arguments):
        for name, options in one.options.items():
            for option in options:
                if word == option and at + 1 < len(arguments):
                    found[name] = arguments[at + 1]
                elif option.startswith("--") and word.startswith(f"{option}="):
                    found[name] = word[len(option) + 1 :]
                elif not option.startswith("--") and word.startswith(option) and word[2:].isdigit():
                    found[name] = word[2:]
        if word in ("--preload", "--reload", "--without-threads", "--enable-threads", "--debug"):
            found[word[2:]] = "yes"
    return found


def _in_file(text: str) -> dict[str, str]:
    """Plain values of a gunicorn.conf.py; the file is parsed, never run."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = IN_FILE.get(node.targets[0].id)
            if name is not None:
                value = node.value.value if isinstance(node.value, ast.Constant) else None
                plain = isinstance(value, str | int | float)
                found[name] = f"{value!s} (gunicorn.conf.py)" if plain else "computed in gunicorn.conf.py"
    return found


def taking(values: Mapping[str, str]) -> int | None:
    """How many processes and threads take requests, by its settings; None: they do not say."""
    numbers = [values.get(name, "").partition(" ")[0] for name in ("workers", "threads")]
    numbers = [number.rpartition(":")[2] for number in numbers if number]
    if not numbers or not all(number.isdigit() for number in numbers):
        return None
    product = 1
    for number in numbers:
        product *= max(1, int(number))
    return product
