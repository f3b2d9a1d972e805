"""Reading one process: who ends meanwhile, who may not be looked at, whose name is no text."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from proxy.diagnostics import gather
from proxy.diagnostics.artifacts import ProcReport
from proxy.diagnostics.inside import around, files, process, processes, sockets, threads
from proxy.diagnostics.inside.opened import Opened, shown


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen]:
    child = subprocess.Popen(["sleep", "600"])
    yield child
    child.kill()
    child.wait()


def test_what_is_read_is_of_this_process_also_when_it_has_ended(sleeper) -> None:
    with Opened(sleeper.pid) as one:
        assert one.name() == "sleep" and one.command() == "sleep 600"
        sleeper.kill()
        sleeper.wait()
        left = processes.Left()
        for read in (one.command, one.fields, lambda: processes.line(one, left), lambda: process.whole(one)):
            with pytest.raises(ProcessLookupError):
                read()
    with pytest.raises(ProcessLookupError):
        Opened(sleeper.pid)


def test_another_with_its_number_is_refused(sleeper) -> None:
    with Opened(sleeper.pid) as one:
        start = one.started
    with Opened(sleeper.pid, start):
        pass
    with pytest.raises(ProcessLookupError, match="another one"):
        Opened(sleeper.pid, start + 1)
    found = processes.lines([(sleeper.pid, start), (sleeper.pid, start + 1)])
    assert found[sleeper.pid]["state"] == "ended" and found[sleeper.pid]["notes"]


def test_one_that_is_not_waited_for(sleeper) -> None:
    sleeper.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    with Opened(sleeper.pid) as one:
        found = process.whole(one)
        assert (found["state"], found["command"], found["memory"]) == ("zombie", "[sleep]", 0)
        assert found["modules"] == [] and files.page(one, -1, 10).items == []
        assert threads.page(one, 0, 10)[0][0]["state"] == "zombie"


AS_NOBODY = """
import os, json, sys
from proxy.diagnostics.inside import files, process, sockets, threads
from proxy.diagnostics.inside.opened import Opened
os.setgroups([]); os.setgid(65534); os.setuid(65534)  # after the imports: these files may be root's alone
pid = int(sys.argv[1])
with Opened(pid) as one:
    found = process.whole(one)
    try:
        files.page(one, -1, 10)
        denied = False
    except PermissionError:
        denied = True
    where = threads.page(one, 0, 10)[0]
held = sockets.page([(pid, 0)], 0, 10)
print(json.dumps([found, denied, where, held.notes]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_may_not_be_read_is_said(sleeper) -> None:
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(sleeper.pid)], capture_output=True, text=True, timeout=40,
        env={**os.environ, "PYTHONPATH": str(root)}, cwd="/", check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found, denied, where, notes = msgspec.json.decode(run.stdout)
    assert found["command"] == "sleep 600" and found["user"] == "root" and found["memory"] > 0
    assert found["environment"] == {} and found["exe"] is None and found["sockets"] is None and not found["modules"]
    assert found["files"] in (None, 3), "since Linux 6.2 their number may be seen by all"
    said = " ".join(found["notes"])
    for what in ("variables", "descriptors", "program", "mapped files", "I/O"):
        assert f"{what}: permission denied" in said or f"{what}: operation not permitted" in said, said
    assert denied and where[0]["name"] == "sleep" and where[0]["state"] == "sleeping"
    assert any("permission denied" in note for note in notes)


def test_a_kernel_thread_has_no_command_and_nothing_open() -> None:
    try:
        one = Opened(2)
    except ProcessLookupError:
        pytest.skip("in a container there are none to be seen")
    with one:
        found = process.whole(one)
        assert found["command"].startswith("[") and found["private"] is None


def test_a_title_written_over_the_arguments_is_masked() -> None:
    code = "import ctypes, sys, time; libc = ctypes.CDLL(None); print(flush=True); time.sleep(600)"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "--token", "geheim", "postgres://me:hush@db/x"], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        with Opened(child.pid) as one:
            assert one.command().endswith("--token *** postgres://me:***@db/x")
    finally:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


def test_what_comes_from_outside_is_made_harmless() -> None:
    assert shown(b"a\x1b[2Jb\r\n\xff\xe2\x80\xae") == "a?[2Jb??\\xff?"
    assert shown("n\udcffme") == "n\\xffme"
    assert shown("password=hunter22 x") == "password=*** x"
    assert len(shown("x" * 10_000)) == 2000


def test_many_descriptors_come_in_pages_and_are_all_counted(sleeper) -> None:
    code = "import os, time; [os.dup(0) for _ in range(900)]; print(flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        with Opened(child.pid) as one:
            seen, after = 0, -1
            while True:
                page = files.page(one, after, 100)
                seen += len(page.items)
                assert page.total == sum(page.kinds.values()) > 900
                if page.following is None:
                    break
                after = page.following
            assert seen == page.total
            left = processes.Left(links=100)
            found = processes.line(one, left)
            assert found["sockets"] is None and any("sockets are not counted" in note for note in found["notes"])
    finally:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


def test_numbers_of_cgroup_files() -> None:
    assert around.parsed("123") == 123 and around.parsed("max") == "max"
    assert around.parsed("9223372036854771712") == "max", "what version 1 writes for no limit"
    assert around.parsed("a 1\nb 2") == {"a": 1, "b": 2}
    stalls = around.parsed("some avg10=1.50 avg60=0.00 avg300=0.10 total=2500000")
    assert stalls == {"some": {"10s": 0.015, "60s": 0.0, "300s": 0.001, "total_s": 2.5}}


def test_of_another_network_namespace_sockets_are_read_from_proc() -> None:
    """No thread of ours goes there."""
    code = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0));"
        " c = socket.create_connection(s.getsockname()); print(flush=True); time.sleep(600)"
    )
    child = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", f'ip link set lo up 2>/dev/null || true; exec {sys.executable} -c "{code}"'],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        if not child.stdout.readline():
            pytest.skip("no network namespace can be made here, or it has no loopback")
        here = os.readlink("/proc/thread-self/ns/net")
        found = sockets.page([(child.pid, 0)], 0, 10)
        assert {item["state"] for item in found.items} == {"LISTEN", "ESTABLISHED"}
        assert any("another network namespace" in note for note in found.notes)
        assert os.readlink("/proc/thread-self/ns/net") == here
    finally:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


def test_an_artifact_with_names_that_are_no_text_is_saved() -> None:
    report = ProcReport(at=1.0, note="d\udcffr")
    assert msgspec.json.decode(gather.encoded(report), type=ProcReport).note == "d\\xffr"
