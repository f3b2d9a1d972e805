"""The session's process, with real processes to look at: what it finds, and what becomes of what goes wrong in it."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.diagnostics import proc
from proxy.diagnostics.analyzers.contract import Analysis
from proxy.diagnostics.artifacts import LogTail, ProcReport, Stacks
from proxy.diagnostics.collectors import COLLECTORS
from proxy.link.session import AFTER, Known, Outcome
from proxy.link.session import Event as Happened
from tests.diagnostics.sessions import (
    again,
    alive,
    artifact,
    begin,
    instance,
    known,
    log,
    outcome,
    python,
    run,
    running,
    step,
    until,
)

TARGET = """
import os, socket, subprocess, sys, threading, time

def wait_for_it():
    time.sleep(1000)

server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(16)
waiting = [socket.create_connection(server.getsockname()) for _ in range(3)]
threading.Thread(target=wait_for_it, name="sleeper", daemon=True).start()
child = subprocess.Popen(["sleep", "1000"])
print("ready", server.getsockname()[1], flush=True)
time.sleep(1000)
"""
FEW = ["stacks", "proc_report", "log_tail"]
"""What the tests of the process itself take."""


@pytest.fixture(scope="module")
def target() -> Iterator[tuple[int, int]]:
    """A Python program with a thread, a child and a listening socket that nobody accepts from: pid, port."""
    env = {"DB_PASSWORD": "hunter2", "GREETING": "hello", "DB": "postgres://app:hunter2@db/main"}
    with running(*python(TARGET), "--token=hunter2", env=env) as (process, words):
        yield process.pid, int(words[0])


def states(found: Outcome) -> dict[str, str]:
    return {one.name: one.state for one in found.steps}


@pytest.mark.slow
def test_all_that_can_be_seen_of_a_process_and_its_child(tmp_path: Path, target: tuple[int, int]) -> None:
    pid, port = target
    path = tmp_path / "web-1.log"
    path.write_text("".join(f"line {number}\n" for number in range(500)) + "password=hunter2 given\nunfinished")
    found = run(tmp_path, instance("web-1", pid, logs=[str(path), str(tmp_path / "not-there.log")]), collectors=FEW)
    assert states(found) == dict.fromkeys(FEW, "done"), found
    assert found.state == "done"
    assert step(found, "stacks").files == ["web-1/stacks.json", "web-1/stacks.txt"]
    stacks = artifact(tmp_path, Stacks)
    assert stacks.runtime == "python" and len(stacks.rounds) == 3
    assert 1.8 < stacks.rounds[2].at - stacks.rounds[0].at < 4
    for one in stacks.rounds:
        first, child = one.processes
        assert (first.pid, first.how, child.name, child.how) == (pid, "py-spy", "sleep", "kernel")
        functions = {frame.function for thread in first.threads for frame in thread.frames}
        assert {"wait_for_it", "<module>"} <= functions
        (sleeper,) = [thread for thread in first.threads if thread.name == "sleeper"]
        assert sleeper.wchan is not None and "sleep" in sleeper.wchan and not sleeper.active
    assert "wait_for_it" in (tmp_path / "web-1/stacks.txt").read_text()
    report = artifact(tmp_path, ProcReport)
    process, below = report.processes
    assert (process.pid, below.parent, below.command) == (pid, pid, ["sleep", "1000"])
    (listening,) = [one for one in process.sockets if one.state == "LISTEN"]
    assert (listening.local, listening.receive) == (f"127.0.0.1:{port}", 3), "three wait to be accepted"
    assert process.environment is not None and process.environment["GREETING"] == "hello"
    assert process.environment["DB_PASSWORD"] == "***"
    assert process.environment["DB"] == "postgres://app:***@db/main"
    assert process.command[-1] == "--token=***"
    tail = artifact(tmp_path, LogTail).files[0]
    assert tail.lines[-3:] == ["line 499", "password=*** given", "unfinished"]
    assert len(tail.lines) == 200 and tail.cut and tail.size == path.stat().st_size
    files = [one for one in tmp_path.rglob("*") if one.is_file() and one != path]
    assert "hunter2" not in "".join(one.read_text() for one in files)


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["ended", "another", "none"])
def test_an_instance_that_does_not_run_any_more(tmp_path: Path, target: tuple[int, int], gone: str) -> None:
    if gone == "ended":
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
        which = {"pid": ended.pid}
    else:
        which = {"pid": target[0], "started": 1} if gone == "another" else {"pid": 0}
    path = tmp_path / "web-1.log"
    path.write_text("its last words\n")
    found = run(tmp_path, instance("web-1", logs=[str(path)], **which), collectors=FEW)
    assert states(found) == {"stacks": "not there", "proc_report": "not there", "log_tail": "done"}
    said = "no process of it can be seen" if gone == "none" else f"process {which['pid']} does not run any more"
    assert step(found, "stacks").why == said
    assert artifact(tmp_path, LogTail).files[0].lines == ["its last words"]


@pytest.mark.slow
def test_an_instance_that_dies_in_the_middle_leaves_what_was_seen(tmp_path: Path) -> None:
    code = "import time; print('ready', flush=True); time.sleep(1000)"
    with running(*python(code)) as (process, _):
        with begin(tmp_path, instance("web-1", process.pid), collectors=FEW, seconds=10.0) as session:
            until(lambda: (tmp_path / "web-1/stacks.json").exists(), "the first round is there")
            process.kill()
            process.wait()
            assert session.wait(60) == 0
    found = outcome(tmp_path)
    assert found.state == "done" and step(found, "stacks").state == "done"
    stacks = artifact(tmp_path, Stacks)
    assert 1 <= len(stacks.rounds) < 9 and stacks.rounds[0].processes[0].threads
    assert "it ended within" in stacks.note and stacks.note == step(found, "stacks").why


def without_tracing() -> None:
    """As root in a container without CAP_SYS_PTRACE and CAP_SYS_ADMIN."""
    for capability in (19, 21):
        assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a capability to lose")
def test_who_may_not_trace_says_so_and_has_the_rest(tmp_path: Path, target: tuple[int, int]) -> None:
    chosen = [*FEW, "memory_dump", "profile"]
    found = run(tmp_path, instance("web-1", target[0]), before=without_tracing, collectors=chosen, seconds=2.0)
    assert step(found, "stacks").state == "not permitted"
    assert "py-spy: Permission denied" in step(found, "stacks").why
    assert step(found, "memory_dump").state == "not permitted"
    assert step(found, "profile").state in ("not permitted", "skipped"), step(found, "profile")
    assert step(found, "proc_report").state == "done"
    process = artifact(tmp_path, ProcReport).processes[0]
    assert process.descriptors is None, "not known is not none"
    assert process.threads and process.command


@pytest.mark.slow
def test_without_py_spy_it_is_said_and_the_kernel_is_asked(tmp_path: Path, target: tuple[int, int]) -> None:
    """Run by a Python that has none beside it."""
    packages = Path(msgspec.__file__).parents[1]
    env = {"PYTHONPATH": f"{Path(__file__).parents[2]}:{packages}", "PATH": "/nowhere"}
    bare = (str(Path(sys._base_executable).resolve()), "-P", "-B")  # type: ignore[attr-defined]
    found = run(
        tmp_path, instance("web-1", target[0]), program=bare, env=env, collectors=["stacks", "profile"], seconds=1.0
    )
    assert step(found, "profile").state == "not there" and step(found, "profile").why == "py-spy is not installed"
    assert "py-spy is not installed" in step(found, "stacks").why
    process = artifact(tmp_path, Stacks).rounds[0].processes[0]
    assert process.how in ("kernel", "") and all("sleep" in thread.note for thread in process.threads)


@pytest.mark.slow
def test_what_hangs_is_killed_and_the_outcome_is_whole_at_every_moment(
    tmp_path: Path, target: tuple[int, int]
) -> None:
    fifo = tmp_path / "web-1.log"
    os.mkfifo(fifo)
    seen = set()
    one = instance("web-1", target[0], logs=[str(fifo)])
    with begin(tmp_path, one, collectors=FEW[1:], budget=4.0) as process:
        gone = os.pidfd_open(process.pid)
        while not select.select([gone], [], [], 0.01)[0]:
            if (tmp_path / "outcome.json").exists():
                seen.add(tuple(states(outcome(tmp_path)).values()))
        os.close(gone)
        assert process.wait() == 0
    assert ("running", "waiting") in seen and ("done", "running") in seen, seen
    found = outcome(tmp_path)
    assert found.state == "done" and states(found)["proc_report"] == "done"
    hung = step(found, "log_tail")
    assert hung.state == "hung" and "killed after" in hung.why and hung.took < 30 and hung.files == []


@pytest.mark.slow
def test_a_killed_session_leaves_what_was_there(tmp_path: Path, target: tuple[int, int]) -> None:
    fifo = tmp_path / "web-1.log"
    os.mkfifo(fifo)
    with begin(tmp_path, instance("web-1", target[0], logs=[str(fifo)]), collectors=FEW[1:]) as process:
        until(lambda: _running(tmp_path, "log_tail"), "the last one runs")
        below = [pid for pid in proc.tree(process.pid) if pid != process.pid]
        assert below
        process.kill()
        process.wait()
    until(lambda: not any(alive(pid) for pid in below), "what it started ends with it")
    assert outcome(tmp_path).state == "collecting"
    assert artifact(tmp_path, ProcReport).processes
    found = again(tmp_path, "analyze")
    assert found.state == "done" and step(found, "analyze").state == "done", log(tmp_path)
    assert (step(found, "log_tail").state, step(found, "log_tail").why) == (
        "failed", "the session's process ended before it did"
    )  # fmt: skip
    assert msgspec.json.decode((tmp_path / "known.json").read_bytes(), type=Known).app.name == "web"


def _running(folder: Path, name: str) -> bool:
    try:
        return step(outcome(folder), name).state == "running"
    except (OSError, ValueError):
        return False


def sampling(session: int) -> bool:
    """Both of py-spy's processes below it have a handler of SIGINT."""
    caught = []
    for pid in proc.tree(session):
        try:
            status = (proc.PROC / str(pid) / "status").read_text()
        except OSError:
            continue
        if status.startswith("Name:\tpy-spy\n"):
            caught.append(int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGINT - 1) & 1)
    return caught == [1, 1]


@pytest.mark.slow
def test_term_ends_gathering_and_what_there_is_is_analyzed(tmp_path: Path, target: tuple[int, int]) -> None:
    chosen = ["stacks", "profile", "proc_report", "log_tail"]
    with begin(tmp_path, instance("web-1", target[0]), collectors=chosen, seconds=60.0, analyze=True) as process:
        until(lambda: (tmp_path / "web-1/stacks.json").exists(), "the first round is there")
        until(lambda: sampling(process.pid), "py-spy samples, and knows how to end")
        began = time.monotonic()
        process.terminate()
        assert process.wait(40) == 0
    assert time.monotonic() - began < 20
    found = outcome(tmp_path)
    assert found.state == "cancelled" and found.ended
    assert [step(found, name).state for name in chosen] == ["done"] * 4, found
    assert 1 <= len(artifact(tmp_path, Stacks).rounds) <= 3
    assert step(found, "analyze").state == "done", log(tmp_path)
    assert msgspec.json.decode((tmp_path / "findings.json").read_bytes(), type=Analysis).verdict == found.verdict


@pytest.mark.slow
def test_no_more_room_than_the_session_has(tmp_path: Path, target: tuple[int, int]) -> None:
    found = run(tmp_path, instance("web-1", target[0]), collectors=[*FEW[1:], "memory_dump"], room=300_000)
    assert step(found, "memory_dump").state == "no room"
    assert "the session has room for" in step(found, "memory_dump").why
    assert step(found, "proc_report").state == "done"
    size = sum(one.stat().st_size for one in tmp_path.rglob("*") if one.is_file())
    assert size < 300_000
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    found = run(tiny, instance("web-1", target[0]), collectors=FEW[1:], room=1000, analyze=True)
    assert set(states(found).values()) <= {"no room", "failed"} and found.state == "failed", found


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own is mounted")
def test_a_full_disk_is_said_and_the_outcome_is_whole(tmp_path: Path, target: tuple[int, int]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=52k", "none", str(disk)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        found = run(disk, instance("web-1", target[0]), collectors=FEW)
        assert {step(found, name).state for name in FEW} & {"no room", "failed"}, found
        assert found.state in ("done", "failed") and found.ended
        assert "disk is full" in " ".join(one.why for one in found.steps) or "No space" in str(found), found
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_only_those_asked_for_and_what_is_no_collector_is_said(tmp_path: Path) -> None:
    found = run(tmp_path, instance("web-1"), collectors=["log_tail", "tea_leaves"])
    assert states(found) == {"log_tail": "done", "tea_leaves": "not there"}


@pytest.mark.slow
def test_instances_share_no_folder_and_strange_names_do_no_harm(tmp_path: Path) -> None:
    names = ["10.0.0.5:8000", "10.0.0.5_8000", "..", "a/b"]
    found = run(tmp_path, *(instance(name) for name in names), collectors=["log_tail"])
    files = [file for one in found.steps for file in one.files if file.endswith(".json")]
    assert [one.instance for one in found.steps] == names and len(set(files)) == 4
    assert all((tmp_path / file).resolve().parent.parent == tmp_path.resolve() for file in files)


@pytest.mark.slow
def test_what_control_knows_at_the_end_is_waited_for_and_joined(tmp_path: Path) -> None:
    with begin(tmp_path, instance("web-1"), collectors=["log_tail"], after=True) as process:
        until(lambda: (tmp_path / "outcome.json").exists() and outcome(tmp_path).state == "wants after", "it waits")
        later = known(instance("web-2"))
        later.events = [Happened(id=7, at=1.0, kind="exit", text="web-1 ended")]
        (tmp_path / "after.part").write_bytes(msgspec.json.encode(later))
        (tmp_path / "after.part").rename(tmp_path / AFTER)
        assert process.wait(30) == 0
    joined = msgspec.json.decode((tmp_path / "known.json").read_bytes(), type=Known)
    assert {one.name: one.gone for one in joined.instances} == {"web-2": False, "web-1": True}
    assert [one.id for one in joined.events] == [7] and joined.notes == []


@pytest.mark.slow
def test_nobody_who_answers_is_not_waited_for_long(tmp_path: Path) -> None:
    began = time.monotonic()
    found = run(tmp_path, instance("web-1"), collectors=["log_tail"], after=True)
    assert found.state == "done" and time.monotonic() - began < 20
    joined = msgspec.json.decode((tmp_path / "known.json").read_bytes(), type=Known)
    assert "what control knew at the end is missing" in joined.notes[0]


@pytest.mark.slow
def test_analyzers_that_have_no_time_are_said_to_have_none(tmp_path: Path) -> None:
    found = run(tmp_path, instance("web-1"), collectors=["log_tail"], analyze=True, analyzing=0.0)
    assert step(found, "analyze").state == "done", log(tmp_path)
    analysis = msgspec.json.decode((tmp_path / "findings.json").read_bytes(), type=Analysis)
    assert {one.state for one in analysis.checks} == {"inconclusive"}
    assert analysis.checks[0].words == "The time for analyzing, 0 s, had passed."


@pytest.mark.slow
def test_later_stages_run_again_from_files_and_survive_damaged_ones(
    tmp_path: Path, target: tuple[int, int]
) -> None:
    found = run(tmp_path, instance("web-1", target[0]), collectors=FEW[1:], analyze=True)
    assert [step(found, name).state for name in ("analyze", "report")] == ["done", "done"], log(tmp_path)
    (tmp_path / "findings.json").unlink()
    (tmp_path / "web-1/proc_report.json").write_text('{"processes": [{"pid"')
    (tmp_path / "report.html").unlink()
    found = again(tmp_path, "analyze")
    assert found.state == "done" and step(found, "analyze").state == "done", log(tmp_path)
    assert "findings.json" in step(found, "analyze").files and (tmp_path / "report.html").exists()
    assert step(found, "proc_report").state == "done", "what came of gathering stays"
    (tmp_path / "findings.json").write_text("no JSON")
    (tmp_path / "known.json").write_text("{")
    found = again(tmp_path, "report")
    assert found.ended and step(found, "report").state in ("done", "failed")


@pytest.mark.slow
def test_an_input_that_cannot_be_read_fails_with_words(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('{"form": 2}')
    subprocess.run(
        [sys.executable, "-m", "proxy.diagnostics.session", str(tmp_path)], cwd=Path(__file__).parents[2],
        timeout=60, check=True,
    )  # fmt: skip
    found = outcome(tmp_path)
    assert found.state == "failed" and found.why.startswith("input.json could not be read: ")


@pytest.mark.parametrize("collector", COLLECTORS, ids=lambda one: one.name)
def test_a_collector_says_what_it_needs_and_costs(collector: Any) -> None:
    assert collector.title and collector.needs and collector.cost
    assert 0 < collector.limit <= 120 and collector.most > 0
    assert collector.collect.__module__.endswith(f".{collector.name}"), "one file, of its name"
    assert not (collector.quick and collector.limit > 10), "an act waits for it"


