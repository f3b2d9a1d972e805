"""Which gateway the command talks to, and what it says when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.api import Api, serving
from tests.cli.conftest import Run, examples

pytestmark = pytest.mark.slow


def test_lists_what_it_tried(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[gateway]\ndata_dir = "d"\n[admin]\nlisten = "127.0.0.1:1"\n')
    (tmp_path / "runtime").mkdir()
    done = run("status", XDG_RUNTIME_DIR=str(tmp_path / "runtime"))
    assert done.returncode == 3
    tried = [line.strip() for line in done.stderr.splitlines()[1:-1]]
    assert tried == [
        "unix:/run/triage/admin.sock: no such socket",
        f"unix:{tmp_path}/runtime/triage/*.sock: no such socket",
        f"unix:{tmp_path}/d/run/admin.sock (config.toml): no such socket",
        "http://127.0.0.1:1 (config.toml): connection refused",
    ]


def test_none_there_as_json(run: Run) -> None:
    done = run("status", "--json")
    assert done.returncode == 3
    assert {place["where"] for place in json.loads(done.stdout)["tried"]} >= {"config.toml"}


def test_a_socket_that_nobody_listens_on_is_none(run: Run, short: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(short / "left.sock"))
    done = run("status", "--url", f"unix:{short}/left.sock")
    assert done.returncode == 3
    assert "connection refused" in done.stderr


def test_a_named_one_is_the_only_one_tried(run: Run, short: Path) -> None:
    """The state folder's gateway would answer; the named one is down."""
    with serving(Api(examples()), short / "state/triage/web/run/admin.sock"):
        there = run("status", XDG_STATE_HOME=str(short / "state"))
        named = run("status", "--url", "http://127.0.0.1:1", XDG_STATE_HOME=str(short / "state"))
    assert there.returncode == 0, there.stderr
    assert named.returncode == 3


def test_environment_and_token(run: Run) -> None:
    with serving(Api(examples())) as api:
        done = run("status", TRIAGE_URL=api.address, TRIAGE_TOKEN="secret")
    assert done.returncode == 0, done.stderr
    assert api.calls == [("GET /api/v1/status", "Bearer secret", "")]


def test_a_config_names_its_address_and_token(run: Run, tmp_path: Path) -> None:
    with serving(Api(examples())) as api:
        listen = api.address.removeprefix("http://")
        (tmp_path / "other.toml").write_text(
            f'[gateway]\ndata_dir = "${{WHERE:-d}}"\n[admin]\nlisten = "{listen}"\n'
        )
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "admin.token").write_text("from-file\n")
        done = run("status", "-c", "other.toml")
    assert done.returncode == 0, done.stderr
    assert api.calls[0][1] == "Bearer from-file"


def test_a_config_s_socket_comes_before_its_address(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    with serving(Api(examples()), tmp_path / "var/run/admin.sock"):
        done = run("status")
    assert done.returncode == 0, done.stderr


def test_of_several_runs_that_of_this_folder(run: Run, tmp_path: Path, short: Path) -> None:
    runtime = short / "r"
    one, two = runtime / "triage" / "one.sock", runtime / "triage" / f"{tmp_path.name}.sock"
    with serving(Api(examples()), one) as other, serving(Api(examples()), two) as ours:
        done = run("status", XDG_RUNTIME_DIR=str(runtime))
        assert done.returncode == 0, done.stderr
    assert len(ours.calls) == 1
    assert not other.calls


def test_of_several_runs_elsewhere_one_must_be_named(run: Run, short: Path) -> None:
    runtime = short / "r"
    one, two = runtime / "triage" / "one.sock", runtime / "triage" / "two.sock"
    with serving(Api(examples()), one), serving(Api(examples()), two):
        done = run("status", XDG_RUNTIME_DIR=str(runtime))
    assert done.returncode == 1
    assert f"--url unix:{one}" in done.stderr
    assert f"--url unix:{two}" in done.stderr


def test_a_bad_url_is_a_usage_error(run: Run) -> None:
    done = run("status", "--url", "ftp://x")
    assert done.returncode == 2
    assert "expected http://HOST:PORT" in done.stderr


def test_what_is_not_triage_is_said_so(run: Run) -> None:
    with serving(Api({"GET /api/v1/status": (200, None)})) as api:
        api.answers["GET /api/v1/status"] = (502, "no problem document")
        done = run("status", "--url", api.address)
    assert done.returncode == 1
    assert "answered 502" in done.stderr
