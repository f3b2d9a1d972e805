"""`triage run -- COMMAND`: one's own app, without a config."""

from __future__ import annotations

import os
import re
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.client import ask
from tests.e2e.support import ROOT, SHOP, Triage, environment, triage, until

pytestmark = pytest.mark.slow

# It serves on the port of its first argument, whatever it was asked to; prints a line first.
DEAF = """\
import http.server, sys
print("the app opens", flush=True)
address = "127.0.0.1", int(sys.argv[1])
http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
"""

Run = Callable[..., Triage]


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    """`triage run … -- COMMAND` in an app's folder; state and runtime folder are elsewhere."""
    (folder / "app").mkdir()
    (folder / "rt").mkdir()
    started: list[Triage] = []

    def start(*command: str) -> Triage:
        env = environment(
            uuid.uuid4().hex, XDG_STATE_HOME=str(folder / "state"), XDG_RUNTIME_DIR=str(folder / "rt")
        )
        argv = ["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--", *command]
        running = Triage(
            folder / "app", argv, env, f"unix:{folder}/rt/triage/app.sock", folder / "state/triage/app"
        )
        started.append(running)
        return running

    try:
        yield start
    finally:
        for running in started:
            running.end()


def test_an_app_that_reads_port(run: Run) -> None:
    """Its output, its address, what to type next; nothing in its folder; Ctrl-C ends all of it."""
    running = run(sys.executable, str(SHOP)).await_ready()
    address = re.search(r"clients\s+(http://127\.0\.0\.1:(\d+))", running.output)
    assert address, running.output
    assert ask(int(address[2]), "/products").status == 200
    until(lambda: "web-1 | " in running.output and "the shop opens" in running.output, "the app's output")
    assert f"curl {address[1]}/" in running.output
    assert "triage why" in running.output
    assert list((running.folder).iterdir()) == []
    found = triage("status", "--json", cwd=running.folder, env=running.env)
    assert found.returncode == 0, found.stderr
    os.kill(running.pid, signal.SIGINT)
    assert running.await_exit() == 0, running.output
    assert not [line for line in running.lines if line.startswith("{")], "a log for machines, on a person's terminal"
    running.nothing_left()


def test_an_app_that_takes_port_as_an_argument(run: Run) -> None:
    running = run(sys.executable, str(SHOP), "--port", "{port}").await_ready()
    assert ask(running.port, "/products").status == 200


def test_an_app_that_listens_elsewhere_is_told(run: Run, folder: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "deaf.py").write_text(DEAF)
    running = run(sys.executable, str(folder / "deaf.py"), str(port))
    said = until(
        lambda: re.search(r"web-1 runs but listens on .*?(\d+), not (\d+)", running.output),
        f"it is told where the app listens\n{running.output}",
    )
    assert said[1] == str(port)
    assert "{port}" in running.output
    assert "$PORT" in running.output


def test_an_app_that_ends_at_once_is_told(run: Run) -> None:
    program = "print('no database at 10.0.0.1', flush=True); raise SystemExit(7)"
    running = run(sys.executable, "-c", program)
    until(
        lambda: re.search(r"exited after [\d.]+ m?s, code 7", running.output),
        f"it is told how the app ended\n{running.output}",
    )
    assert "no database at 10.0.0.1" in running.output


def test_the_example_of_one_s_own_app(run: Run) -> None:
    folder = str(ROOT / "examples" / "own-app" / "python")
    running = run(sys.executable, "-m", "uvicorn", "--app-dir", folder, "app:app", "--port", "{port}")
    assert ask(running.await_ready().port, "/tea").body == "Hello from /tea\n"
