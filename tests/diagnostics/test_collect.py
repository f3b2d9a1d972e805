"""The session's process, with real processes to look at: what it finds, and what becomes of what goes wrong in it."""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import LogTail, ProcReport, Stacks
from proxy.diagnostics.collectors import COLLECTORS

ROOT = Path(__file__).parents[2]
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


@pytest.fixture(scope="module")
def target() -> Iterator[tuple[int, int]]:
    """A Python program with a thread, a child and a listening socket that nobody accepts from: pid, port."""
    env = {**os.environ, "DB_PASSWORD": "hunter2", "GREETING": "hello", "DB": "postgres://app:hunter2@db/main"}
    with subprocess.Popen(
        [sys.executable, "-c", TARGET, "--token=hunter2"], stdout=subprocess.PIPE, text=True, env=env,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[1])
        yield process.pid, port
        os.killpg(process.pid, signal.SIGKILL)


def write(folder: Path, **subject: Any) -> None:
    given = {"app": "web", "instance": "web-1", "at": time.time(), **subject}
    (folder / "input.json").write_text(json.dumps(given))


def begin(folder: Path, before: Callable[[], None] | None = None, **subject: Any) -> subprocess.Popen[bytes]:
    write(folder, **subject)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "proxy.diagnostics.collect", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, preexec_fn=before,
    )  # fmt: skip


def collect(folder: Path, before: Callable[[], None] | None = None, **subject: Any) -> dict[str, dict[str, Any]]:
    """Run it; what came of each collector."""
    with begin(folder, before, **subject) as process:
        assert process.wait(60) == 0, (folder / "collect.log").read_text()
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["state"] == "over" and outcome["ended"] >= outcome["began"]
    assert [one["name"] for one in outcome["collectors"]] == [one.name for one in COLLECTORS]
    assert not list(folder.glob("*.part"))
    return {one["name"]: one for one in outcome["collectors"]}


def artifact(folder: Path, kind: Any) -> Any:
    name = next(one.name for one in COLLECTORS if one.artifact is kind)
    return msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=kind)


def alive(pid: int) -> bool:
    try:
        return proc.stat(proc.PROC / str(pid)).state not in "ZX"
    except OSError:
        return False


def states(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: one["state"] for name, one in found.items()}


@pytest.mark.slow
def test_all_that_can_be_seen_of_a_process_and_its_child(tmp_path: Path, target: tuple[int, int]) -> None:
    pid, port = target
    log = tmp_path / "web-1.log"
    log.write_text("".join(f"line {number}\n" for number in range(500)) + "password=hunter2 given\nunfinished")
    found = collect(tmp_path, pid=pid, logs=[str(log), str(tmp_path / "not-there.log")])
    assert set(states(found).values()) == {"done"}, found
    assert found["stacks"]["files"] == ["stacks.json", "stacks.txt"]
    first, child = artifact(tmp_path, Stacks).processes
    assert (first.how, child.name) == ("py-spy", "sleep")
    functions = {frame.function for thread in first.threads for frame in thread.frames}
    assert {"wait_for_it", "<module>"} <= functions
    assert any(thread.name == "sleeper" for thread in first.threads)
    assert "wait_for_it" in (tmp_path / "stacks.txt").read_text()
    report = artifact(tmp_path, ProcReport)
    process, below = report.processes
    assert (process.pid, below.parent, below.command) == (pid, pid, ["sleep", "1000"])
    assert process.thread_count == len(process.threads) == 2
    assert all(thread.state in "SRTt" for thread in process.threads)  # py-spy stops it for a moment
    (listening,) = [one for one in process.sockets if one.state == "LISTEN"]
    assert (listening.local, listening.receive) == (f"127.0.0.1:{port}", 3), "three wait to be accepted"
    assert process.socket_states == {"tcp LISTEN": 1, "tcp ESTABLISHED": 3}
    assert process.descriptors is not None and process.descriptors["socket"] == 4
    assert process.environment is not None and process.environment["GREETING"] == "hello"
    assert process.environment["DB_PASSWORD"] == "***"
    assert process.environment["DB"] == "postgres://app:***@db/main"
    assert process.command[-1] == "--token=***"
    assert process.status["Threads"] == "2" and process.limits["max open files"][0].isdigit()
    tail = artifact(tmp_path, LogTail).files[0]
    assert len(artifact(tmp_path, LogTail).files) == 1
    assert tail.lines[-3:] == ["line 499", "password=*** given", "unfinished"]
    assert len(tail.lines) == 200 and tail.cut and tail.size == log.stat().st_size
    files = [path for path in tmp_path.iterdir() if path != log]
    assert "hunter2" not in "".join(path.read_text() for path in files)


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["ended", "another", "none"])
def test_an_instance_that_does_not_run_any_more(tmp_path: Path, target: tuple[int, int], gone: str) -> None:
    if gone == "ended":
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
        which = {"pid": ended.pid}
    else:
        which = {"pid": target[0], "started": 1} if gone == "another" else {"pid": 0}
    log = tmp_path / "web-1.log"
    log.write_text("its last words\n")
    found = collect(tmp_path, logs=[str(log)], records=[{"id": "1", "time": 1.0, "worker": 0}], **which)
    assert states(found) == {
        "flight_recorder": "done", "stacks": "not there", "proc_report": "not there", "log_tail": "done"
    }  # fmt: skip
    said = "no process of it can be seen" if gone == "none" else f"process {which['pid']} does not run any more"
    assert found["stacks"]["why"] == said
    assert artifact(tmp_path, LogTail).files[0].lines == ["its last words"]


def without_tracing() -> None:
    """As root in a container without CAP_SYS_PTRACE and CAP_SYS_ADMIN."""
    for capability in (19, 21):
        assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a capability to lose")
def test_who_may_not_trace_says_so_and_has_the_rest(tmp_path: Path, target: tuple[int, int]) -> None:
    found = collect(tmp_path, before=without_tracing, pid=target[0])
    assert found["stacks"]["state"] == "not permitted"
    assert found["stacks"]["why"].startswith("py-spy: Permission denied")
    assert found["proc_report"]["state"] == "done"
    report = artifact(tmp_path, ProcReport)
    process = report.processes[0]
    assert process.descriptors is None, "not known is not none"
    assert "descriptors: permission denied" in report.note and found["proc_report"]["why"] == report.note
    assert process.threads and process.command


@pytest.mark.slow
def test_what_hangs_is_killed_and_the_outcome_is_whole_at_every_moment(
    tmp_path: Path, target: tuple[int, int]
) -> None:
    fifo = tmp_path / "web-1.log"
    os.mkfifo(fifo)
    seen = set()
    with begin(tmp_path, pid=target[0], logs=[str(fifo)], budget=3.0) as process:
        gone = os.pidfd_open(process.pid)
        while not select.select([gone], [], [], 0.01)[0]:
            if (tmp_path / "outcome.json").exists():
                outcome = json.loads((tmp_path / "outcome.json").read_text())
                seen.add((outcome["state"], *(one["state"] for one in outcome["collectors"])))
        os.close(gone)
        assert process.wait() == 0
    assert ("running", "done", "done", "done", "running") in seen, seen
    found = json.loads((tmp_path / "outcome.json").read_text())["collectors"][3]
    assert found["state"] == "hung" and found["took"] < 10 and found["files"] == []
    assert not (tmp_path / "log_tail.json").exists()


@pytest.mark.slow
def test_a_killed_session_leaves_what_was_there(tmp_path: Path, target: tuple[int, int]) -> None:
    fifo = tmp_path / "web-1.log"
    os.mkfifo(fifo)
    with begin(tmp_path, pid=target[0], logs=[str(fifo)]) as process:
        end = time.monotonic() + 30
        while not (tmp_path / "proc_report.json").exists() or not (tmp_path / "stacks.json").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        below = [pid for pid, one in proc.tree(process.pid).items() if pid != process.pid]
        process.kill()
        process.wait()
    while any(alive(pid) for pid in below):
        assert time.monotonic() < end, "what it started ends with it"
        time.sleep(0.01)
    assert json.loads((tmp_path / "outcome.json").read_text())["state"] == "running"
    assert artifact(tmp_path, Stacks).processes and artifact(tmp_path, ProcReport).processes


@pytest.mark.slow
def test_what_would_be_too_large_is_not_there_at_all(tmp_path: Path, target: tuple[int, int]) -> None:
    records = [{"id": f"{number:016x}", "time": 1.0, "worker": 0, "detail": "x" * 1000} for number in range(9000)]
    found = collect(tmp_path, pid=target[0], records=records)
    assert found["flight_recorder"]["state"] == "failed" and "too large" in found["flight_recorder"]["why"]
    assert not (tmp_path / "flight_recorder.json").exists()
    assert found["stacks"]["state"] == "done"


@pytest.mark.slow
def test_only_those_asked_for(tmp_path: Path) -> None:
    with begin(tmp_path, collectors=["flight_recorder"]) as process:
        assert process.wait(60) == 0
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert [(one["name"], one["state"]) for one in outcome["collectors"]] == [("flight_recorder", "done")]


@pytest.mark.parametrize("collector", COLLECTORS, ids=lambda one: one.name)
def test_a_collector_says_what_it_needs_and_costs(collector: Any) -> None:
    assert collector.title and collector.needs and collector.cost
    assert 0 < collector.limit <= 6.5 and 0 < collector.most <= 16 << 20
    assert collector.collect.__module__.endswith(f".{collector.name}"), "one file, of its name"
