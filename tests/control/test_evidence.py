"""Evidence before an instance ends: taken from real processes, and never in the way of what is to be done."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.config import Keep
from proxy.config.schema import KeepSessions
from proxy.control.evidence import LIMIT, NoRoom, prepare, prune
from proxy.diagnostics.artifacts import FlightRecorder, LogTail, ProcReport, Stacks
from proxy.diagnostics.collectors import COLLECTORS
from proxy.diagnostics.subject import read

from .conftest import APP, Triage, app, until

SECRET = """
[apps.web.process.env]
DB_PASSWORD = "hunter2"
GREETING = "hello"
"""


def recycled(triage: Triage, instance: str = "web-1", deadline: float = 60.0) -> dict[str, Any]:
    """Recycle it; the operation when it has ended."""
    id = triage.ask("act", act="recycle", app="web", instance=instance, reason="a test")["id"]

    def over() -> Any:
        one = triage.state()["operations"][id]
        return one if one["state"] != "running" else None

    found: dict[str, Any] = until(over, f"{id} ends", deadline)
    assert found["state"] == "done", found
    return found


def folders(triage: Triage) -> list[Path]:
    return sorted((triage.data_dir / "diagnostics").glob("ev-*"))


def artifact(folder: Path, kind: Any) -> Any:
    name = next(one.name for one in COLLECTORS if one.artifact is kind)
    return msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=kind)


def sessions() -> set[int]:
    found = set()
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and b"proxy.diagnostics.collect" in (path / "cmdline").read_bytes():
                if (path / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.add(int(path.name))
        except OSError:
            continue
    return found


def of(triage: Triage) -> set[int]:
    """Session processes of this Triage."""
    mine = str(triage.folder).encode()
    return {pid for pid in sessions() if mine in Path(f"/proc/{pid}/cmdline").read_bytes()}


@pytest.mark.slow
def test_a_recycle_takes_requests_stacks_processes_and_output_first(triage: Callable[..., Triage]) -> None:
    one = triage(app(SECRET) + "[keep.sessions]\ncount = 1\n")
    (one.data_dir / "diagnostics" / "ev-earlier").mkdir(parents=True)
    (name,) = one.ready(1)
    for number in range(3):
        assert one.get(f"/n{number}?token=abc")[0] == 200
    pid = one.instances()[name]["pid"]
    done = recycled(one, name)
    (folder,) = folders(one)
    assert done["evidence"] == f"4 of 4 artifacts in diagnostics/{folder.name}"
    told = one.event("evidence")
    assert told["details"]["operation"] == done["id"] and done["evidence"] in told["text"]
    subject = read(folder)
    assert (subject.app, subject.instance, subject.pid, subject.act) == ("web", name, pid, "recycle")
    assert subject.asked["reason"] == "a test"
    recorder = artifact(folder, FlightRecorder)
    assert [record.target for record in recorder.records][:3] == ["/n2?…", "/n1?…", "/n0?…"], "newest first"
    assert {record.instance for record in recorder.records} == {name}
    stacks = artifact(folder, Stacks)
    assert stacks.processes[0].pid == pid
    frames = [frame.function for thread in stacks.processes[0].threads for frame in thread.frames]
    assert any("serve_forever" in each or "select" in each for each in frames)
    report = artifact(folder, ProcReport)
    process = report.processes[0]
    assert process.pid == pid and process.threads and process.limits["max open files"]
    assert process.environment["DB_PASSWORD"] == "***" and process.environment["GREETING"] == "hello"
    listening = [each for each in process.sockets if each.state == "LISTEN"]
    assert [each.local for each in listening] == [subject.address]
    assert artifact(folder, LogTail).files[0].path == subject.logs[0]
    assert "hunter2" not in "".join(path.read_text() for path in folder.iterdir())
    assert not of(one)


@pytest.mark.slow
def test_a_collector_that_hangs_costs_itself_and_some_seconds(triage: Callable[..., Triage]) -> None:
    one, name = with_a_log_that_hangs(triage)
    done = recycled(one, name)
    (folder,) = folders(one)
    assert done["evidence"].startswith(f"3 of 4 artifacts in diagnostics/{folder.name}: log tail hung (killed after")
    assert artifact(folder, Stacks).processes[0].threads, "the others have what they came for"
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


@pytest.mark.slow
def test_a_session_that_hangs_as_a_whole_is_killed(triage: Callable[..., Triage]) -> None:
    one, name = with_a_log_that_hangs(triage)
    id = one.ask("act", act="recycle", app="web", instance=name)["id"]
    until(lambda: folders(one) and (folders(one)[0] / "outcome.json").exists(), "it has begun")
    for pid in of(one):
        os.kill(pid, signal.SIGSTOP)
    done = until(lambda: (found := one.state()["operations"][id])["state"] != "running" and found, "it ends", 60)
    assert done["state"] == "done" and "log tail not finished in time" in done["evidence"]
    until(lambda: not of(one), "nothing of it is left")


@pytest.mark.slow
def test_a_control_that_dies_meanwhile_leaves_no_session(triage: Callable[..., Triage]) -> None:
    one, name = with_a_log_that_hangs(triage)
    id = one.ask("act", act="recycle", app="web", instance=name)["id"]
    (before, *_) = until(lambda: of(one), "it runs")
    os.kill(one.state()["pid"], signal.SIGKILL)
    done = until(lambda: (found := one.state()["operations"][id])["state"] != "running" and found, "it ends", 60)
    assert done["state"] == "done", done
    assert before not in sessions()
    until(lambda: not of(one), "nothing of it is left")


def test_the_oldest_the_too_old_and_those_too_large_go(tmp_path: Path) -> None:
    def make(number: int, size: int = 10) -> Path:
        folder = tmp_path / f"ev-{number}"
        folder.mkdir()
        (folder / "stacks.json").write_bytes(bytes(size))
        os.utime(folder, (2e9 + number, 2e9 + number))
        return folder

    def left() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    for number in range(6):
        make(number)
    prune(tmp_path, Keep(sessions=KeepSessions(count=4, age=1e12)), {"ev-0"})
    assert left() == ["ev-0", "ev-3", "ev-4", "ev-5"], "one more is on its way, and one still runs"
    os.utime(tmp_path / "ev-4", (1e9, 1e9))
    prune(tmp_path, Keep(sessions=KeepSessions(age=86400.0)), set())
    assert "ev-4" not in left()
    make(9, 2_000_000)
    prune(tmp_path, Keep(sessions=KeepSessions(size=2_000_005, age=1e12)), set())
    assert left() == ["ev-9"]


@pytest.mark.slow
def test_nothing_is_begun_where_the_disk_is_nearly_full(tmp_path: Path) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)], capture_output=True)
    if mount.returncode:
        pytest.skip("a file system can't be mounted here")
    try:
        with pytest.raises(NoRoom, match="free on the disk"):
            prepare(tmp_path / "diagnostics" / "ev-1", Keep(), set())
        assert not (tmp_path / "diagnostics" / "ev-1").exists()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


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
