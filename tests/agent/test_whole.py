"""The agent in the instances of a whole Triage."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import MARKER, Triage, serve, until

pytestmark = pytest.mark.slow

APP = Path(__file__).parent / "app.py"
USER = 'user = "root"' if os.geteuid() == 0 else ""


def app(name: str, more: str = "", diagnose: str = "") -> str:
    return f"""
[apps.{name}]
paths = ["/{name}"]
strip_prefix = true
[apps.{name}.process]
command = "{sys.executable} {APP} {{port}} {more}"
instances = 1
stop = {{ timeout = "1s" }}
inherit_env = ["PATH", "HOME", "{MARKER}"]
{USER}
[apps.{name}.diagnose]
on = []
{diagnose}
"""


CONFIG = f"""
[gateway]
listen = ["127.0.0.1:0"]
workers = 1
data_dir = "var"
[admin]
listen = "127.0.0.1:0"
{app("one", "", 'agent = true' + chr(10) + 'dump_on = ["MemoryError"]' + chr(10) + 'seconds = "2s"')}
{app("forked", "fork", "agent = true")}
{app("off")}
"""


@pytest.fixture(scope="module")
def triage() -> Iterator[Triage]:
    folder = Path(tempfile.mkdtemp(prefix="triage-"))
    running = serve(folder, CONFIG)
    try:
        yield running.await_ready()
    finally:
        running.end()
        shutil.rmtree(folder, ignore_errors=True)


def ask(triage: Triage, path: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{triage.url}{path}", timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except urllib.error.HTTPError as error:
        error.close()
        return {}


def raised(triage: Triage, app: str, where: str) -> dict[str, Any] | None:
    return next(
        (one for one in triage.api("exceptions", app=app)["items"] if one["raised"] and where in one["where"]), None
    )


def test_what_is_caught_is_listed_and_marked(triage: Triage) -> None:
    for _ in range(5):
        assert ask(triage, "/one/tolerated")["TRIAGE_AGENT"]

    def whole() -> dict[str, Any] | None:
        found = raised(triage, "one", "tolerated")
        return found if found and found["count"] == found["caught"] == 5 else None

    found = until(whole, "five that were caught")
    assert found["id"].startswith("r1-")
    assert found["type"] == "Refused"
    assert found["message"] == "token=***"
    assert found["instances"] == ["one-1"]
    assert "topsecret" not in str(found)
    shown = triage.cli("exceptions", "--app", "one")
    assert "raised, caught" in shown.stdout
    assert "tolerated" in triage.cli("exceptions", found["id"]).stdout


def test_what_leaves_the_app_is_printed_and_raised(triage: Triage) -> None:
    ask(triage, "/one/breaks")

    def both() -> bool:
        items = triage.api("exceptions", app="one")["items"]
        return {one["raised"] for one in items if one["message"] == "it breaks"} == {True, False}

    until(both, "the one that is printed, and the one that was raised")
    found = raised(triage, "one", "do_GET")
    assert found is not None
    assert found["caught"] == 0


def test_forked_processes_are_of_the_instance(triage: Triage) -> None:
    pids = {ask(triage, "/forked/tolerated")["pid"] for _ in range(20)}

    def all_of_them() -> bool:
        found = raised(triage, "forked", "tolerated")
        return found is not None and found["count"] == 20

    until(all_of_them, f"twenty, of {len(pids)} processes")


def test_nothing_is_changed_where_it_is_off(triage: Triage) -> None:
    found = ask(triage, "/off/tolerated")
    assert (found["PYTHONPATH"], found["TRIAGE_AGENT"]) == (None, None)
    assert not [one for one in triage.api("exceptions", app="off")["items"] if one["raised"]]


def test_a_chosen_type_starts_a_session_with_a_memory_dump(triage: Triage) -> None:
    ask(triage, "/one/memory")

    def ended() -> dict[str, Any] | None:
        items = triage.api("sessions", app="one")["items"]
        return next((one for one in items if one["trigger"]["kind"] == "agent" and one["ended"]), None)

    found = until(ended, "a session", within=90)
    assert found["trigger"]["rule"] == "MemoryError"
    whole = triage.api(f"sessions/{found['id']}")
    steps = {step["name"]: step for step in whole["steps"]}
    assert "memory_dump" in steps
    if "types" in steps:
        assert steps["types"]["state"] == "done", steps["types"]
