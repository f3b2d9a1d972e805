"""The launcher's own start and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.launcher import processes, record

SLEEP = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_orderly_end(triage: Any, signum: int) -> None:
    control = triage.start()
    web = control.python("web-1", SLEEP)
    os.kill(triage.pid, signum)
    control.event("terminate")
    control.do("signal", args=["web-1", signal.SIGTERM])
    assert control.exit_of("web-1")["signal"] == signal.SIGTERM
    control.bye()
    assert triage.wait() == 0
    triage.gone(web["pid"], control.pid)
    assert not (triage.folder / "var" / record.RECORD).exists()


def test_bye_carries_the_exit_code_and_ends_what_is_left(triage: Any) -> None:
    control = triage.start()
    web = control.python("web-1", STUBBORN, stdout="pipe")
    control.do("read", name="web-1.stdout", least=2)
    control.bye(5)
    assert triage.wait() == 5
    triage.gone(web["pid"], control.pid)


def test_a_second_signal_ends_all_now(triage: Any) -> None:
    control = triage.start(grace=600.0)
    web = control.python("web-1", STUBBORN, stdout="pipe")
    daemon = control.python("web-2", DAEMON, stdout="pipe")
    below = int(control.do("read", name="web-2.stdout", least=2)["text"])
    os.kill(triage.pid, signal.SIGTERM)
    control.event("terminate")
    os.kill(triage.pid, signal.SIGTERM)
    assert triage.wait() == 128 + signal.SIGTERM
    triage.gone(web["pid"], daemon["pid"], below, control.pid)


@pytest.mark.slow
def test_the_deadline_ends_all(triage: Any) -> None:
    control = triage.start(grace=-13.0)  # 2 s with the 15 beyond
    web = control.python("web-1", SLEEP)
    os.kill(triage.pid, signal.SIGTERM)
    assert triage.wait() == 1
    triage.gone(web["pid"])


def test_a_control_that_dies_while_stopping_is_replaced(triage: Any) -> None:
    control = triage.start()
    os.kill(triage.pid, signal.SIGTERM)
    control.event("terminate")
    control.die()
    after = triage.control()
    assert after.state["stopping"]
    after.bye()
    assert triage.wait() == 0


def test_the_terminal_going_away_ends_triage_run(triage: Any) -> None:
    control = triage.start(run=True)
    os.kill(triage.pid, signal.SIGHUP)
    control.event("terminate")
    control.bye()
    assert triage.wait() == 0


def test_children_die_with_a_killed_launcher(triage: Any) -> None:
    control = triage.start()
    web = control.python("web-1", STUBBORN)
    worker = control.python("worker-1", SLEEP, kind="worker")
    triage.kill()
    triage.gone(web["pid"], worker["pid"], control.pid)


def test_the_next_start_ends_what_a_killed_launcher_left(triage: Any) -> None:
    control = triage.start()
    control.python("web-1", DAEMON, stdout="pipe")
    below = int(control.do("read", name="web-1.stdout", least=2)["text"])
    triage.kill()
    triage.gone(control.pid)
    assert triage.alive(below)  # PDEATHSIG stops at the first generation
    triage.start()
    triage.gone(below)
    assert [row["pid"] for row in triage.logged("leftover-ended")] == [below]


def test_a_reused_pid_is_never_ended(triage: Any, tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    below = subprocess.Popen(["sleep", "600"], env={"TRIAGE_LAUNCHER": "1:1", "TRIAGE_INSTANCE": "web-1"})
    try:
        row = processes.stat(stranger.pid)
        assert row is not None
        child = {"name": "web-1", "pid": stranger.pid, "start": row.start - 1}
        (tmp_path / "var").mkdir()
        (tmp_path / "var" / record.RECORD).write_text(
            json.dumps({"version": 1, "pid": 4, "start": 4, "boot": processes.boot_id(), "children": [child]})
        )
        triage.start()
        assert stranger.poll() is None and below.poll() is None
        assert not triage.logged("leftover-ended")
    finally:
        for one in (stranger, below):
            one.kill()
            one.wait()


def test_another_boot_says_nothing_about_this_one(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        row = processes.stat(stranger.pid)
        assert row is not None
        child = {"name": "web-1", "pid": stranger.pid, "start": row.start}
        for boot, ended in (("another", 0), (processes.boot_id(), 1)):
            (tmp_path / record.RECORD).write_text(
                json.dumps({"version": 1, "pid": 4, "start": 4, "boot": boot, "children": [child]})
            )
            assert len(record.end_predecessor(str(tmp_path))) == ended
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "null"])
def test_a_broken_record_is_no_reason_not_to_start(tmp_path: Path, text: str) -> None:
    (tmp_path / record.RECORD).write_text(text)
    assert record.end_predecessor(str(tmp_path)) == []


def test_a_second_launcher_on_the_same_data_dir_is_refused(triage: Any) -> None:
    triage.start()
    first = triage.pid
    assert triage.launch().wait(30) == 1
    said = triage.log.read_text().splitlines()[-1]
    assert said == f"another Triage (pid {first}) uses data_dir {triage.folder / 'var'}"
    os.kill(first, 0)


def test_a_second_launcher_on_the_same_address_is_told_who_has_it(triage: Any) -> None:
    address = {"name": "http", "kind": "tcp", "host": "127.0.0.1", "port": 0}
    control = triage.start(listen=[address])
    first, port = triage.pid, control.state["listeners"][0]["port"]
    again = triage.launch(listen=[{**address, "port": port}], data_dir=str(triage.folder / "other"))
    assert again.wait(30) == 1
    assert triage.log.read_text().splitlines()[-1] == f"127.0.0.1:{port} is in use by triage (pid {first})"


def test_an_address_of_anyone_else_is_refused_and_named(triage: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = {"name": "http", "kind": "tcp", "host": "127.0.0.1", "port": port}
        assert triage.launch(listen=[address]).wait(30) == 1
    name = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    said = triage.log.read_text().splitlines()[-1]
    assert said == f"127.0.0.1:{port} is in use by {name} (pid {os.getpid()})"


def test_a_control_that_can_not_be_executed_is_said_at_once(triage: Any) -> None:
    assert triage.launch(control=["/no/such/python"]).wait(30) == 1
    assert "/no/such/python: no such file" in triage.log.read_text().splitlines()


def test_it_names_itself_and_stays_small(triage: Any) -> None:
    control = triage.start()
    assert Path(f"/proc/{triage.pid}/comm").read_text() == "triage\n"
    status = dict(line.split(":", 1) for line in Path(f"/proc/{triage.pid}/status").read_text().splitlines())
    assert int(status["Threads"]) == 1
    assert int(status["RssAnon"].split()[0]) < 12_000
    assert control.state["pid"] == triage.pid


def test_it_imports_only_the_small_part_of_the_standard_library() -> None:
    code = "import sys, proxy.launcher.launcher, proxy.launcher.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert not modules & {"asyncio", "subprocess", "ssl", "threading", "dataclasses", "inspect", "logging"}
    ours = {name for name in modules if name.startswith("proxy.") and not name.startswith("proxy.launcher")}
    assert ours <= {"proxy.link", "proxy.link.spawn", "proxy.units"}
