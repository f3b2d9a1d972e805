"""--watch: again and again, over what was there; and what a terminal is left like."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import show, watching
from proxy.cli.client import NotThere
from proxy.cli.show import Column
from tests.cli.api import Api
from tests.cli.conftest import ROOT, Run
from tests.cli.terminal import LONG, Terminal

STATUS = "GET /api/v1/status"


def verdicts(api: Api, *words: str) -> None:
    """The verdicts of the next looks."""
    whole = api.answers[STATUS][1]
    api.coming[STATUS] = [(200, {**whole, "verdict": word}) for word in words]


@pytest.mark.slow
def test_on_a_terminal_each_look_stands_where_the_one_before_was(api: Api, tmp_path: Path) -> None:
    verdicts(api, "first look", "second look")
    one = Terminal(tmp_path, "status", "--watch", "--every", "200ms", "--url", api.address, size=(120, 40))
    one.expect("first look")
    one.expect("second look")
    one.expect("web is degraded")
    assert one.shown.startswith(b"\x1b[?1049h") and one.shown.count(b"\x1b[H") >= 3
    one.process.send_signal(signal.SIGINT)
    assert one.end() == 130
    assert one.shown.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")


@pytest.mark.slow
def test_what_does_not_fit_is_counted(api: Api, tmp_path: Path) -> None:
    one = Terminal(tmp_path, "status", "-w", "--url", api.address, size=(120, 6))
    one.expect("lines more: a taller window shows them")
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 128 + signal.SIGTERM
    assert one.shown.rstrip().endswith(b"\x1b[?1049l")


@pytest.mark.slow
def test_with_json_each_look_is_a_line(api: Api) -> None:
    verdicts(api, "first look", "second look")
    argv = [sys.executable, "-m", "proxy.main", "status", "--json", "--every", "200ms", "--url", api.address]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        found = [json.loads(asking.stdout.readline())["verdict"] for _ in range(3)]
        asking.send_signal(signal.SIGINT)
        assert asking.wait(LONG) == 130
    assert found[:2] == ["first look", "second look"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["sessions", "S-1", "--cancel", "--watch"], "--cancel is done once"),
        (["autoheal", "off", "web", "--watch"], "off, on and replay are done once"),
        (["alerts", "test", "--watch"], "a test is sent once"),
        (["events", "-f", "--watch"], "-f goes on by itself"),
        (["status", "--watch", "--every", "soon"], "expected a duration"),
    ],
)
def test_what_cannot_be_watched(run: Run, api: Api, argv: list[str], said: str) -> None:
    done = run(*argv, "--url", api.address)
    assert done.returncode == 2 and said in done.stderr
    assert not api.calls


def test_a_gateway_that_is_away_is_waited_for_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is the clock's that is given here; nothing is slept."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    looks: list[Any] = ["one", NotThere("restarting"), "two", *[NotThere("gone")] * 100]

    def look() -> None:
        found = looks.pop(0)
        if isinstance(found, Exception):
            raise found
        print(found)

    found = watching.again(look, 1.0)
    assert [next(found), next(found)] == ["one\n", "two\n"]
    with pytest.raises(NotThere):
        next(found)
    assert watching.PATIENCE <= now - 3 <= watching.PATIENCE + 2


# --- tables and terminals ------------------------------------------------------------------------------------


def test_what_does_not_fit_gives_way_from_the_right() -> None:
    columns = [Column("name"), Column("figure", right=True), Column("words", flexible=True), Column("last")]
    rows = [["a" * 10, "1234", "b" * 100, "c" * 10]]
    assert show.narrowed(columns, rows, 200)[2] == []
    assert show.narrowed(columns, rows, 50)[2] == []  # the words are cut
    assert show.narrowed(columns, rows, 40)[2] == ["last"]
    assert show.narrowed(columns, rows, 25)[2] == ["figure", "last"]
    assert [one.title for one in show.narrowed(columns, rows, 1)[0]] == ["name", "words"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\x1b[2Jb", "a?[2Jb"), ("a\x9b31mb", "a?31mb"), ("a\nb", "a?b"), ("a\tb", "a b"), ("a\u202eb", "a?b"),
        ("a\u2066b", "a?b"), ("a\u2028b", "a?b"), ("a\ud800b", "a?b"), ("zoë 日本", "zoë 日本"),
    ],
)  # fmt: skip
def test_a_name_stays_one_line_and_cannot_act(given: str, shown: str) -> None:
    assert show.word(given) == shown
    told = show.told([Column("name")], [[given]])
    assert told[1] == [[shown]]


@pytest.mark.slow
@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color(api: Api, tmp_path: Path, env: dict[str, str], coloured: bool) -> None:
    one = Terminal(tmp_path, "status", "--url", api.address, **env)
    one.expect("gateway")
    assert one.end() == 0
    assert (b"\x1b[3" in one.shown or b"\x1b[1;3" in one.shown) is coloured


@pytest.mark.slow
def test_a_narrow_terminal_has_no_broken_table(api: Api, tmp_path: Path) -> None:
    one = Terminal(tmp_path, "status", "web", "--url", api.address, size=(44, 24))
    one.expect("a wider window shows")
    assert one.end() == 0
    table = one.said[one.said.index("instance") :].splitlines()
    assert len(table[0]) <= 44 and len(table[1]) <= 44


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_failure_to_tell_of(api: Api, run: Run) -> None:
    """`triage events | true`"""
    api.answers["GET /api/v1/events"][1]["items"] *= 5000
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "proxy.main", "events", "--url", api.address]
    done = subprocess.run(argv, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=LONG, check=False)
    os.close(write)
    assert done.returncode == 141 and done.stderr == b""


# --- completion ----------------------------------------------------------------------------------------------

TRY = """
eval "$(triage completion bash)"
try() { COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _triage_completion triage; \
echo "${COMPREPLY[*]}"; }
try triage rec; try triage restart w; try triage recycle ""; try triage why INC; try triage scale web --mem
export TRIAGE_URL=unix:/nowhere/at/all; try triage restart w
"""


@pytest.mark.slow
def test_bash_completes_from_the_running_gateway(api: Api, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "triage"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m proxy.main "$@"\n')
    command.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "TRIAGE_URL": api.address}
    done = subprocess.run(
        ["bash", "-c", TRY], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=LONG, check=True
    )
    assert done.stdout.splitlines() == ["recycle", "web", "web/web-7", "INC-31", "--memory", ""]
    assert done.stderr == ""


def escapes() -> Callable[[bytes], bytes]:
    from proxy.cli.terminal import Escape

    return Escape().passed


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        (b"ls ~.\r", b"ls ~.\r"), (b"~.", b""), (b"\r~.more", b"\r"), (b"~~.\r", b"~.\r"), (b"~x\r~.", b"~x\r"),
        (b"\n~.", b"\n"), (b"~\r", b"~\r"), (b"a\x03\r~.", b"a\x03\r"),
    ],
)  # fmt: skip
def test_the_escape_however_the_keys_come(keys: bytes, sent: bytes) -> None:
    assert escapes()(keys) == sent
    one = escapes()
    assert b"".join(one(keys[at : at + 1]) for at in range(len(keys))).startswith(sent)
