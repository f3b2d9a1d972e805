"""The launcher becomes newer code in place: what it held is held, what ran runs, and no signal is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.launcher import handover
from proxy.link.spawn import HANDOVER
from tests.launcher.conftest import ENV, PYTHON, ROOT
from tests.launcher.test_children import UNSHARE, may_unshare

SLEEP = "import time; time.sleep(600)"
PARENT = """
import subprocess, sys, time
orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(orphan.pid, flush=True)
sys.stdin.read()
time.sleep(600)
"""


def address(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "kind": "tcp", "host": "127.0.0.1", "port": 0, **fields}


def descriptors(triage: Any, control: Any) -> int:
    """After a round trip: it does one thing after the other, so what came with earlier ones has been let go of."""
    assert control.do("handover")["result"]
    return len(os.listdir(f"/proc/{triage.pid}/fd"))


@pytest.mark.slow
def test_all_is_as_before_and_goes_on(triage: Any, tmp_path: Path) -> None:
    listen = [address("main"), address("unix", kind="unix", path=str(tmp_path / "main.sock"))]
    control = triage.start(listen=listen)
    web = control.python("web-1", "import sys; print('first', flush=True); " + SLEEP, stdout="pipe", note={"port": 1})
    ended = control.python("web-2", "raise SystemExit(7)", stdout="pipe")
    unacknowledged = control.exit_of("web-2")
    control.do("file", name="board", path=str(tmp_path / "board"))
    control.do("hold", name="board", fd="board")
    control.do("ledger", text="what I knew")
    port = control.state["listeners"][0]["port"]
    control.do("steer", args=[1])
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    before = descriptors(triage, control)
    started = Path(f"/proc/{triage.pid}/stat").read_text().rpartition(")")[2].split()[19]

    assert control.do("exec")["result"]
    assert control.do("handover")["result"]["steered"] == 1
    state = triage.logged("resumed")[0]
    assert state["pid"] == triage.pid and triage.alive(web["pid"])
    assert Path(f"/proc/{triage.pid}/stat").read_text().rpartition(")")[2].split()[19] == started
    assert Path(f"/proc/{triage.pid}/comm").read_text() == "triage\n"
    assert descriptors(triage, control) == before
    assert control.do("ledger")["text"] == "what I knew"
    assert control.do("fetch", name="board") == {} and control.do("fetch", name="web-1.pidfd") == {}
    assert control.do("read", name="web-1.stdout", least=6)["text"] == "first\n"
    count = 0
    for slot in range(2):
        control.do("fetch", name=f"main/{slot}")
        count += control.do("accept", name=f"main/{slot}")["count"]
    assert count == len(waiting) and [sock.recv(5) for sock in waiting] == [b"hello"] * 4
    for sock in waiting:
        sock.close()

    # Control dies: the next one is told the same as without all this, and an exit that nobody acknowledged.
    control.die()
    after = triage.control()
    assert after.state["execs"] == 1 and after.state["deaths"] == 1
    assert {row["name"]: row["pid"] for row in after.state["children"]} == {"web-1": web["pid"]}
    assert after.state["children"][0]["note"] == {"port": 1} and after.state["children"][0]["start"] == web["start"]
    assert [row["exit"] for row in after.state["exits"]] == [unacknowledged["exit"]]
    assert after.state["exits"][0]["pid"] == ended["pid"] and after.state["exits"][0]["code"] == 7
    assert after.state["listeners"] == control.state["listeners"]
    os.kill(web["pid"], signal.SIGKILL)
    assert after.exit_of("web-1")["signal"] == signal.SIGKILL
    after.bye(5)
    assert triage.wait() == 5
    assert not (tmp_path / "main.sock").exists()


@pytest.mark.slow
def test_children_still_die_with_it_and_orphans_come_to_it(triage: Any) -> None:
    control = triage.start()
    web = control.python("web-1", PARENT, stdout="pipe")
    orphan = int(control.do("read", name="web-1.stdout", least=2)["text"])
    other = control.python("web-2", SLEEP)
    control.do("exec")
    os.kill(web["pid"], signal.SIGKILL)
    control.exit_of("web-1")
    triage.gone(orphan)
    assert triage.alive(other["pid"])
    triage.kill()
    triage.gone(other["pid"], control.pid)


@pytest.mark.slow
def test_again_and_again_nothing_is_left_open_and_nothing_half_done_is_lost(triage: Any) -> None:
    """Starts and ends of children lie across each exec."""
    control = triage.start()
    web = control.python("web-0", SLEEP)
    for number in range(1, 11):
        name = f"web-{number}"
        child = {"name": name, "argv": [PYTHON, "-c", f"raise SystemExit({number})"], "env": ENV}
        answers = control.do("together", rows=[{"do": "spawn", "child": child}, {"do": "exec"}])
        assert answers["all"][0]["pid"]
        how = control.exit_of(name)
        assert how["code"] == number
        control.do("ack", exits=[how["exit"]])
        if number == 1:
            before = descriptors(triage, control)
    assert descriptors(triage, control) == before
    assert len(triage.logged("resumed")) == 10 and triage.alive(web["pid"])


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.004, 0.02, 0.06])
def test_a_signal_meanwhile_is_not_lost(triage: Any, delay: float) -> None:
    control = triage.start()
    web = control.python("web-1", SLEEP)
    control.file.write(json.dumps({"do": "exec"}).encode() + b"\n")
    control.file.flush()
    if delay:
        time.sleep(delay)  # the moment is what is varied; what is waited for are conditions
    os.kill(web["pid"], signal.SIGKILL)
    os.kill(triage.pid, signal.SIGTERM)
    rows: list[dict[str, Any]] = []
    while not {"terminate", "exit", "answer"} <= {row.get("event", "answer") for row in rows}:
        rows.append(control._line())  # the answer to exec is among them: done, or refused because it stops
    assert [row["how"]["signal"] for row in rows if row.get("event") == "exit"] == [signal.SIGKILL]
    assert len(triage.logged("stopping")) == 1
    control.bye(0)
    assert triage.wait() == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_unshare(), reason="no pid namespace may be made")
def test_as_pid_1_it_is_the_same(triage: Any) -> None:
    triage.launch(UNSHARE)
    control = triage.control()
    assert control.state["pid"] == 1
    control.python("web-1", SLEEP)
    control.python("web-2", PARENT, stdout="pipe")
    control.do("read", name="web-2.stdout", least=2)
    assert control.do("exec")["result"]
    for name in ("web-1", "web-2"):
        control.do("signal", args=[name, signal.SIGTERM])
        assert control.exit_of(name)["signal"] == signal.SIGTERM
    control.die()
    after = triage.control()
    assert after.state["execs"] == 1 and after.state["pid"] == 1 and not after.state["children"]
    after.bye(3)
    assert triage.wait() == 3


@pytest.mark.slow
def test_without_an_interpreter_it_goes_on_as_it_was(triage: Any, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.symlink_to(os.path.realpath(PYTHON))
    triage.launch(python=str(python))
    control = triage.control()
    web = control.python("web-1", SLEEP)
    python.unlink()
    refused = control.do("exec")
    assert "goes on with its code as it was" in refused["refused"] and "No such file" in refused["refused"]
    assert control.do("fetch", name="web-1.pidfd") == {}
    os.kill(web["pid"], signal.SIGTERM)
    assert control.exit_of("web-1")["signal"] == signal.SIGTERM
    python.symlink_to(os.path.realpath(PYTHON))
    assert control.do("exec")["result"]


@pytest.mark.slow
def test_a_control_that_asks_to_be_replaced_has_not_died(triage: Any) -> None:
    control = triage.start()
    web = control.python("web-1", SLEEP)
    for _ in range(4):  # three deaths as quick as these would make the next one fresh
        control.do("again")
        control.die()
        control = triage.control()
        assert control.state["deaths"] == 0 and not control.state["fresh"]
        assert [row["pid"] for row in control.state["children"]] == [web["pid"]]
    assert len(triage.logged("control-replaced")) == 4 and not triage.logged("control-ended")


@pytest.mark.slow
def test_a_control_of_another_version_has_the_launcher_become_its_code(triage: Any, tmp_path: Path) -> None:
    """The launcher runs from a copy; then that copy is of a newer version, and so is the next control."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "proxy", copy / "proxy", ignore=shutil.ignore_patterns("*.pyc.*"))
    triage.launch(root=copy)
    control = triage.control()
    web = control.python("web-1", SLEEP)
    spawn = copy / "proxy" / "link" / "spawn.py"
    spawn.write_text(spawn.read_text().replace("\nVERSION: Final = 1\n", "\nVERSION: Final = 1002\n"))
    control.die()
    after = triage.control()
    assert after.state["version"] == 1002 and after.state["execs"] == 1
    assert [row["pid"] for row in after.state["children"]] == [web["pid"]]
    assert after.do("fetch", name="web-1.pidfd") == {}


@pytest.mark.slow
def test_a_handover_that_is_not_understood_is_refused_beforehand(triage: Any) -> None:
    control = triage.start(listen=[address("main")])
    control.python("web-1", SLEEP)
    good = control.do("handover")["result"]
    handover.rehearse(good)
    assert good["handover"] == HANDOVER
    nameless = {**good["children"], "children": [{"pid": 1}]}
    lockless = {key: value for key, value in good["launcher"].items() if key != "lock"}
    wrong: list[Any] = [{}, [], *({**good, part: {}} for part in ("plan", "launcher", "children", "control"))]
    wrong += [{**good, "handover": 999}, {**good, "listening": [{}]}]
    wrong += [{**good, "children": nameless}, {**good, "launcher": lockless}]
    for bad in wrong:
        with pytest.raises(ValueError, match="handover"):
            handover.rehearse(bad)
