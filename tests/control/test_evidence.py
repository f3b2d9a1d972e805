"""Evidence before an instance ends: taken from real processes, and never in the way of what is to be done."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.diagnostics.artifacts import LogTail, ProcReport, Stacks
from proxy.diagnostics.collectors import COLLECTORS
from proxy.link.session import INPUT, Input

from .conftest import APP, Triage, app, until

SECRET = """
[apps.web.process.env]
DB_PASSWORD = "hunter2"
GREETING = "hello"
"""


def recycled(triage: Triage, instance: str = "web-1", deadline: float = 60.0) -> dict[str, Any]:
    """Recycle it; the operation when it has ended."""
    begun = triage.ask("act", act="recycle", app="web", instance=instance, reason="a test")
    return ended(triage, begun["id"], deadline)


def ended(triage: Triage, id: str, deadline: float = 60.0) -> dict[str, Any]:
    def over() -> Any:
        one = triage.state()["operations"][id]
        return one if one["state"] != "running" else None

    found: dict[str, Any] = until(over, f"{id} ends", deadline)
    assert found["state"] == "done", found
    return found


def folders(triage: Triage) -> list[Path]:
    return sorted((triage.data_dir / "diagnostics").glob("S-*"))


def artifact(folder: Path, instance: str, kind: Any) -> Any:
    name = next(one.name for one in COLLECTORS if one.artifact is kind)
    return msgspec.json.decode((folder / instance / f"{name}.json").read_bytes(), type=kind)


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "session.json").read_bytes())
    return found


def sessions() -> set[int]:
    found = set()
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and b"proxy.diagnostics.session" in (path / "cmdline").read_bytes():
                if (path / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.add(int(path.name))
        except OSError:
            continue
    return found


def of(triage: Triage) -> set[int]:
    """Session processes of this Triage."""
    mine, found = str(triage.folder).encode(), set()
    for pid in sessions():
        try:
            if mine in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_recycle_takes_requests_stacks_processes_and_output_first(triage: Callable[..., Triage]) -> None:
    one = triage(app(SECRET) + "[keep.sessions]\ncount = 1\n")
    (one.data_dir / "diagnostics" / "ev-earlier").mkdir(parents=True)
    (name,) = one.ready(1)
    for number in range(3):
        assert one.get(f"/n{number}?token=abc")[0] == 200
    pid = one.instances()[name]["pid"]
    done = recycled(one, name)
    until(lambda: not of(one), "it is analyzed")
    (folder,) = folders(one)
    assert not (one.data_dir / "diagnostics" / "ev-earlier").exists(), "one is kept"
    assert f"artifacts in diagnostics/{folder.name} (triage report {folder.name})" in done["evidence"]
    assert done["evidence"].split()[0] == done["evidence"].split()[2], done["evidence"]
    told = one.event("evidence")
    assert told["details"]["operation"] == done["id"] and done["evidence"] in told["text"]
    given = msgspec.json.decode((folder / INPUT).read_bytes(), type=Input)
    assert (given.app, given.targets, given.seconds, given.asked["act"]) == ("web", [name], 0.0, "recycle")
    assert given.asked["reason"] == "a test" and given.asked["operation"] == done["id"]
    (known,) = [each for each in given.known.instances if each.name == name]
    assert known.pid == pid and known.lifecycle == "ready"
    assert [each.target for each in given.known.records][:3] == ["/n2?…", "/n1?…", "/n0?…"], "newest first"
    stacks = artifact(folder, name, Stacks)
    assert stacks.rounds[0].processes[0].pid == pid
    frames = [frame.function for thread in stacks.rounds[0].processes[0].threads for frame in thread.frames]
    assert any("serve_forever" in each or "select" in each for each in frames)
    report = artifact(folder, name, ProcReport)
    process = report.processes[0]
    assert process.pid == pid and process.threads and process.limits["max open files"]
    assert process.environment["DB_PASSWORD"] == "***" and process.environment["GREETING"] == "hello"
    assert artifact(folder, name, LogTail).files[0].path == known.logs[0]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert "hunter2" not in "".join(path.read_text(errors="replace") for path in files)
    until(lambda: record(folder)["state"] == "done", "its record says so")
    assert (folder / "report.html").exists(), "and analyzed, while the act went on"


@pytest.mark.slow
def test_the_past_is_there_after_everything_was_started_anew(folder: Path) -> None:
    one = Triage(folder, app(command=f"{APP} {{port}}"))
    try:
        (name,) = one.ready(1)
        done = recycled(one, name)
        os.kill(one.state()["pid"], signal.SIGKILL)  # control alone, with what it had not written yet
        one.event("control-restarted")
        first = one.ask("past", of="events", fields={"limit": 1000})
    finally:
        one.stop()
    ids = [event["id"] for event in first]
    assert ids == list(range(ids[0], 0, -1)), "each once, without a gap"
    again = Triage(folder, app(command=f"{APP} {{port}}"))
    try:
        again.ready(1)
        events = again.ask("past", of="events", fields={"limit": 1000})
        kept = again.ask("past", of="operations")
        next_id = again.ask("act", act="hold", app="web")["id"]
    finally:
        again.stop()
    ids = [event["id"] for event in events]
    assert ids == list(range(ids[0], 0, -1)) and ids[0] > len(first)
    assert [event for event in events if event["id"] <= first[0]["id"]] == first
    assert {"stopping", "starting"} <= {event["kind"] for event in events}
    assert done["id"] in json.dumps(kept) and next_id != done["id"]
