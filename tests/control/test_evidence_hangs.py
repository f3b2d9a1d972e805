"""Evidence that can't be had in time, or by this control: the act goes on."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.control.sessions.evidence import LIMIT
from proxy.diagnostics.artifacts import Stacks

from .conftest import Triage, app, until
from .test_evidence import artifact, ended, folders, of, record, recycled

pytestmark = pytest.mark.slow


def test_a_collector_that_hangs_costs_itself_and_some_seconds(triage: Callable[..., Triage]) -> None:
    one, name = with_a_log_that_hangs(triage)
    done = recycled(one, name)
    (folder,) = folders(one)
    assert "log tail hung (killed after" in done["evidence"], done
    assert artifact(folder, name, Stacks).rounds[0].processes[0].threads, "the others have what they came for"
    assert done["took"] < LIMIT + 10
    until(lambda: not of(one), "nothing of it is left")
    assert one.get("/")[0] == 200


def with_a_log_that_hangs(triage: Callable[..., Triage]) -> tuple[Triage, str]:
    """And the name of its instance: who opens the log to read it waits for a writer that never comes."""
    one = triage(app())
    (name,) = one.ready(1)
    log = Path(one.instances()[name]["log_paths"][0])
    log.unlink(missing_ok=True)
    os.mkfifo(log)
    return one, name


def test_a_session_that_hangs_as_a_whole_does_not_keep_the_act(triage: Callable[..., Triage]) -> None:
    one, name = with_a_log_that_hangs(triage)
    id = one.ask("act", act="recycle", app="web", instance=name)["id"]
    until(lambda: folders(one) and (folders(one)[0] / "outcome.json").exists(), "it has begun")
    (folder,) = folders(one)
    for pid in of(one):
        os.kill(pid, signal.SIGSTOP)
    done = ended(one, id)
    assert done["took"] < LIMIT + 10 and folder.name in done["evidence"] + str(done["steps"])
    until(lambda: not of(one), "nothing of it is left", 40)
    until(lambda: record(folder)["state"] == "failed", "and it says so")
    assert "killed" in record(folder)["why"]


def test_a_control_that_dies_meanwhile_is_followed_by_one_that_goes_on(triage: Callable[..., Triage]) -> None:
    one, name = with_a_log_that_hangs(triage)
    id = one.ask("act", act="recycle", app="web", instance=name)["id"]
    until(lambda: of(one), "it runs")
    os.kill(one.state()["pid"], signal.SIGKILL)
    done = ended(one, id)
    assert "artifacts in diagnostics/S-1" in done["evidence"], "the session of before stands for it"
    until(lambda: not of(one), "nothing of it is left")
    until(lambda: record(folders(one)[0])["state"] == "done", "its end was seen")
    assert [folder.name for folder in folders(one)] == ["S-1"]
