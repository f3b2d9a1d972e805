"""Which gateway the command talks to, and what it says when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.cli.client import Gateway, problem
from proxy.cli.find import reachable
from proxy.cli.wording import here
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


def test_an_address_that_is_listened_on_is_one_to_ask() -> None:
    assert reachable("127.0.0.1:9900") == "http://127.0.0.1:9900"
    assert reachable("https://0.0.0.0:9900") == "https://127.0.0.1:9900"
    assert reachable("http://[::]:9900") == "http://[::1]:9900"


@pytest.mark.parametrize(
    ("content", "said"), [("", "holds no token"), ("one two\n", "holds no token"), (None, "No such file")]
)
def test_a_token_file_that_has_none_is_a_usage_error(
    run: Run, tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    for argv, env in (["--token-file", "token"], {}), ([], {"TRIAGE_TOKEN_FILE": "token"}):
        done = run("status", "--url", "http://127.0.0.1:1", *argv, **env)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr


def test_a_token_cannot_smuggle_a_field() -> None:
    with pytest.raises(ValueError, match="characters that no token"):
        Gateway("http://127.0.0.1:1", "secret\r\nX: y")


def test_a_ca_that_is_none_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing\n")
    for file in ("ca.pem", "none.pem"):
        done = run("status", "--url", "https://127.0.0.1:1", "--ca", file)
        assert done.returncode == 2 and f"{file}: expected certificates in PEM" in done.stderr


def test_what_is_refused_says_when_and_what_to_type() -> None:
    limited = problem(429, {"title": "Too many calls", "detail": "200 in 10 s"}, "there", "7")
    assert limited.lines() == ["Too many calls", "200 in 10 s", "Try again in 7 s."]
    assert here("GET /api/v1/tokens lists those there are.") == "triage token list lists those there are."
    assert here("GET apps/web/instances/web-1/processes lists them.") == "triage processes web/web-1 lists them."
    assert here('Send {"for": "1h"}, or {"unmute": true}.') == ""
    assert here("POST /upload was refused") == "POST /upload was refused"


@pytest.mark.parametrize(
    ("address", "so"),
    [("http://10.0.0.5:9900", True), ("http://localhost:9900", False), ("http://127.0.0.1:9900", False),
     ("https://10.0.0.5:9900", False), ("unix:/run/x.sock", False)],
)  # fmt: skip
def test_whether_a_token_would_go_out_unencrypted(address: str, so: bool) -> None:
    assert Gateway(address, "token").in_the_open is so
