"""Control dies, is killed, falls silent: what the launcher holds is there for the next one."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from proxy.launcher.restarts import Restarts

SLEEP = "import time; time.sleep(600)"


@pytest.mark.slow
def test_a_new_control_gets_the_same_children_and_descriptors(triage: Any, tmp_path: Any) -> None:
    control = triage.start()
    web = control.python("web-1", SLEEP, note={"app": "web", "port": 8000})
    worker = control.python("worker-1", SLEEP, kind="worker")
    control.do("file", name="board", path=str(tmp_path / "board"))
    control.do("hold", name="board", fd="board")
    control.do("ledger", text="what I knew")
    os.kill(control.pid, signal.SIGKILL)
    after = triage.control()
    assert after.pid != control.pid
    children = {row["name"]: row for row in after.state["children"]}
    assert children["web-1"]["pid"] == web["pid"] and children["web-1"]["start"] == web["start"]
    assert children["web-1"]["note"] == {"app": "web", "port": 8000} and children["web-1"]["lasted"] > 0
    assert children["worker-1"]["pid"] == worker["pid"] and children["worker-1"]["kind"] == "worker"
    assert {"ledger", "board", "web-1.pidfd", "worker-1.pidfd"} <= set(after.state["held"])
    assert after.do("ledger")["text"] == "what I knew"
    assert after.do("fetch", name="board") == {} and after.do("fetch", name="web-1.pidfd") == {}
    assert after.state["deaths"] == 1 and not after.state["fresh"] and not after.state["stopping"]
    assert after.state["plan"]["config_text"] == "[apps.web]"
    assert triage.alive(web["pid"]) and triage.alive(worker["pid"])


@pytest.mark.slow
def test_exits_are_told_until_acknowledged_and_output_survives(triage: Any) -> None:
    control = triage.start()
    code = "import sys; sys.stdin.read(); print('x' * 30000)"
    control.python("web-1", code + "; raise SystemExit(4)", stdout="pipe")
    first = control.exit_of("web-1")
    control.die()
    after = triage.control()
    assert [row["exit"] for row in after.state["exits"]] == [first["exit"]]
    assert after.state["exits"][0]["code"] == 4 and "web-1.stdout" in after.state["held"]
    after.do("fetch", name="web-1.stdout")
    assert after.do("read", name="web-1.stdout", least=1 << 20)["text"] == "x" * 30000 + "\n"
    after.do("ack", exits=[first["exit"]])
    refused = after.do("fetch", name="web-1.stdout")
    assert refused["refused"] == "nothing is held by the name web-1.stdout"
    after.die()
    assert triage.control().state["exits"] == []


@pytest.mark.slow
def test_an_app_may_write_while_no_control_is_there(triage: Any) -> None:
    control = triage.start()
    code = "import time\nfor i in range(10**9): print('line', i, flush=True); time.sleep(0.005)"
    web = control.python("web-1", code, stdout="pipe")
    for _ in range(2):
        os.kill(control.pid, signal.SIGKILL)
        control = triage.control()
        control.do("fetch", name="web-1.stdout")
        assert "line" in control.do("read", name="web-1.stdout", least=200)["text"]
    assert triage.alive(web["pid"])


@pytest.mark.slow
def test_three_quick_deaths_make_the_next_fresh(triage: Any) -> None:
    control = triage.start()
    web = control.python("web-1", SLEEP)
    for _ in range(3):
        assert not control.state["fresh"]
        control.die()
        control = triage.control()
    assert control.state["fresh"] and control.state["deaths"] == 3
    assert [row["pid"] for row in control.state["children"]] == [web["pid"]]
    assert triage.logged("control-fresh")


def test_restart_delays_and_freshness() -> None:
    restarts, now, delays = Restarts(), 0.0, []
    for _ in range(10):
        delays.append(restarts.died(now, 0.1))
        now += delays[-1] + 0.1
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert restarts.fresh and restarts.deaths == 10
    assert restarts.died(now + 31, 31.0) == 0.1 and not restarts.fresh
    slow = Restarts()
    assert [slow.died(now, 6.0) and slow.fresh for now in (0.0, 6.0, 12.0, 18.0)] == [False] * 4


@pytest.mark.slow
def test_a_silent_control_is_killed_and_its_children_stay(triage: Any) -> None:
    control = triage.start()
    web = control.python("web-1", SLEEP)
    control.do("silent")
    after = triage.control()
    assert triage.logged("control-silent")[0]["pid"] == control.pid
    triage.gone(control.pid)
    assert [row["pid"] for row in after.state["children"]] == [web["pid"]]


@pytest.mark.slow
def test_a_stopped_control_is_killed_too(triage: Any) -> None:
    control = triage.start()
    control.do("ledger")  # one that never spoke has longer
    os.kill(control.pid, signal.SIGSTOP)
    assert triage.control().pid != control.pid


def test_reload_reaches_control_also_when_it_was_dead(triage: Any) -> None:
    control = triage.start()
    os.kill(triage.pid, signal.SIGHUP)
    control.event("reload")
    control.die()
    triage.gone(control.pid)
    triage.until(lambda: triage.logged("control-ended"))
    os.kill(triage.pid, signal.SIGHUP)
    after = triage.control()
    if not after.state["reload"]:  # it was started before the signal came
        after.event("reload")


@pytest.mark.slow
def test_a_thousand_children_in_one_state(triage: Any) -> None:
    control = triage.start(config_text="#" * 3_000_000)
    for number in range(1000):
        control.spawn(f"web-{number}", "sleep", "600", note={"text": "n" * 2000})
    control.die()
    after = triage.control()
    assert len(after.state["children"]) == 1000
    assert len(after.state["plan"]["config_text"]) == 3_000_000
