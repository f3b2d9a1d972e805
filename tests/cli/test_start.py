"""`check`, and what `serve` and `run` refuse before anything is started."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

USER = 'user = "root"' if os.geteuid() == 0 else ""
GOOD = f"""\
[gateway]
listen = ["127.0.0.1:0"]
[apps.web.process]
command = "app {{port}}"
instances = 2
logs = ["log/*.log"]
{USER}
"""


def test_check_of_a_good_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"{GOOD}[admin]\nconsole = true\n")
    done = run("check")
    assert done.returncode == 0, done.stderr
    first, *more = done.stdout.splitlines()
    assert first == "config.toml: good. 1 app, 2 instances, listens on 127.0.0.1:0"
    assert any(line.startswith("apps.web.health.path: without one") for line in more)
    assert any(line.startswith("admin.console: true, so whoever") for line in more)


def test_check_prints_every_problem_with_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(GOOD + '[apps.web.health]\nintervall = "5s"\ntimeout = 5\n')
    done = run("check")
    assert done.returncode == 1
    assert 'config.toml:9: apps.web.health.intervall: unknown key - did you mean "interval"?' in done.stderr
    assert "config.toml:10: apps.web.health.timeout:" in done.stderr
    assert "2 problems; nothing was changed." in done.stderr


def test_check_as_json(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[gatewy]\n")
    done = run("check", "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    assert len(answer["problems"]) == 1


def test_serve_refuses_a_bad_one_and_makes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[gatewy]\n[apps.web]\n")
    done = run("serve")
    assert done.returncode == 1
    assert "config.toml:1: gatewy: unknown key" in done.stderr
    assert "config.toml:2: apps.web: " in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml"]


def test_run_names_who_holds_the_port(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("run", "--listen", f"127.0.0.1:{port}", "--", "python3", "app.py")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith(f"127.0.0.1:{port} is in use by ")
    assert f"(pid {os.getpid()})" in first
    assert "--listen 127.0.0.1:" in second


def test_run_prints_the_config_that_does_the_same(run: Run, tmp_path: Path) -> None:
    args = ("--instances", "3", "--name", "n", "--print-config", "python3", "app.py", "--port", "{port}")
    done = run("run", *args, XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f'data_dir = "{tmp_path}/home/.local/state/triage/n"' in done.stdout
    assert f'socket = "{tmp_path}/triage/n.sock"' in done.stdout
    (tmp_path / "config.toml").write_text(done.stdout)
    assert run("check").returncode == 0
    assert 'command = "python3 app.py --port {port}"' in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["run"], 2, "Missing argument"),
        (["run", "--", "no-such-command-here"], 1, "no such command"),
        (["run", "--listen", "nowhere", "--", "python3"], 2, "--listen"),
        (["run", "--name", "../x", "--", "python3"], 2, "--name"),
        (["serve", "-c", "missing.toml"], 1, "missing.toml: cannot be read: No such file or directory"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_what_is_refused(run: Run, args: list[str], code: int, said: str) -> None:
    done = run(*args)
    assert done.returncode == code
    assert said in done.stderr
