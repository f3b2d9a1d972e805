"""What is done to processes by hand, over the API: exactly the one that is meant, and said what came of it."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.inside.conftest import until

pytestmark = pytest.mark.slow


def pid_of(triage, name: str) -> int:
    return next(one["pid"] for one in triage.items("@/processes") if one["name"] == name)


def events(triage, operation: str) -> list[str]:
    return [one["kind"] for one in triage.items("events") if one["data"].get("operation") == operation]


def test_a_child_is_ended_and_that_is_told(triage) -> None:
    pid = pid_of(triage, "worker one")
    will = triage.call("POST", f"@/processes/{pid}/kill", {"preview": True})
    assert will[0] == 200 and "SIGTERM goes to" in will[1]["will"][0]
    assert Path(f"/proc/{pid}").exists()
    status, begun = triage.call("POST", f"@/processes/{pid}/kill", {"reason": "it is in the way"})
    assert status == 202 and begun["act"] == "kill" and begun["reason"] == "it is in the way"
    done = triage.over(begun)
    assert done["state"] == "done" and "ended within" in done["why"]
    assert any("SIGTERM was sent to pid" in step["text"] for step in done["steps"])
    assert set(events(triage, begun["id"])) == {"kill", "kill-done"}
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "Z", "its parent does not wait for it"
    status, problem = triage.call("POST", f"@/processes/{pid}/kill", {})
    assert (status, problem["type"]) == (409, "urn:triage:ended") and "has not waited for it" in problem["detail"]


def test_one_that_ignores_it_is_told_and_ended_by_kill(triage) -> None:
    pid = pid_of(triage, "?[31mred\\xff")
    told = triage.over(triage.call("POST", f"@/processes/{pid}/kill", {"signal": "USR1"})[1])
    assert told["state"] == "done" and "runs on" in told["why"]
    began = time.monotonic()
    failed = triage.over(triage.call("POST", f"@/processes/{pid}/kill", {})[1])
    assert failed["state"] == "failed" and "still runs" in failed["why"] and "KILL ends it" in failed["why"]
    assert time.monotonic() - began > 4
    assert triage.over(triage.call("POST", f"@/processes/{pid}/kill", {"signal": "SIGKILL"})[1])["state"] == "done"


def test_what_left_the_tree_can_be_ended(triage) -> None:
    pid = pid_of(triage, "stray")
    assert triage.over(triage.call("POST", f"@/processes/{pid}/kill", {"signal": "INT"})[1])["state"] == "done"
    assert not Path(f"/proc/{pid}").exists()


def test_nothing_else_is_ended(triage) -> None:
    root = triage.get("@")["pid"]
    for pid in (1, 2, os.getpid(), triage.process.pid, triage.get("status")["gateway"]["control"]["pid"]):
        status, problem = triage.call("POST", f"@/processes/{pid}/kill", {})
        assert status == 404 and problem["type"] in ("urn:triage:not-of-this-instance", "urn:triage:no-such-process")
    status, problem = triage.call("POST", f"@/processes/{root}/kill", {"start": 12345})
    assert (status, problem["type"]) == (409, "urn:triage:another-process")
    status, problem = triage.call("POST", f"@/processes/{root}/kill", {"signal": "STOP"})
    assert status == 400 and "TERM, KILL" in problem["detail"]
    assert triage.get("@")["pid"] == root and triage.process.poll() is None


def test_the_main_process_is_an_exit_of_the_instance(triage) -> None:
    found = triage.get("@")
    status, will = triage.call("POST", f"@/processes/{found['pid']}/kill", {"preview": True})
    assert status == 200 and will["at_stake"] and "better: recycle" in " ".join(will["will"])
    begun = triage.call("POST", f"@/processes/{found['pid']}/kill", {"reason": "to see", "signal": "KILL"})[1]
    done = triage.over(begun)
    assert done["state"] == "done" and any("exit of the instance" in step["text"] for step in done["steps"])

    def replaced() -> bool:
        now = triage.items("apps/web/instances")
        return any(one["lifecycle"] == "ready" and one["pid"] not in (0, None, found["pid"]) for one in now)

    until(replaced, "another process serves")
    last = next(one for one in triage.items("events", kind="exited"))
    assert last["data"]["ours"] and last["data"]["signal"] == signal.SIGKILL


def test_a_profile_and_a_memory_dump_are_sessions(triage) -> None:
    name = next(one["id"] for one in triage.items("apps/web/instances") if one["lifecycle"] == "ready")
    triage.name = name
    status, problem = triage.call("POST", "@/profile", {"seconds": 3600})
    assert status == 400 and "2s to 1m" in problem["detail"]
    status, session = triage.call("POST", "@/profile", {"seconds": 2, "reason": "slow"})
    assert status == 202 and session["collectors"] == ["profile"] and session["instance"] == name
    status, refused = triage.call("POST", "@/memory-dump", {})
    assert status == 409 and refused["type"] == "urn:triage:session-active" and session["id"] in refused["detail"]

    def over() -> dict | None:
        now = triage.get(f"sessions/{session['id']}")
        return now if now["ended"] else None

    done = until(over, "the profile is taken")
    step = next(one for one in done["steps"] if one["name"] == "profile")
    assert step["state"] == "done" or step["why"], step
    if step["state"] == "done":
        assert any(one["name"].endswith("profile.speedscope.json") for one in done["files"])
