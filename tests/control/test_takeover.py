"""Control or a worker dies: what runs goes on."""

import os
import signal
import threading
from collections.abc import Callable

import psutil
import pytest

from .conftest import Triage, app, until

pytestmark = pytest.mark.slow
Start = Callable[..., Triage]


def kill_control(gateway: Triage) -> int:
    pid: int = gateway.state()["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: gateway.state()["pid"] != pid, "another control")
    return pid


def pids(gateway: Triage) -> dict[str, int]:
    return {name: one["pid"] for name, one in gateway.instances().items()}


def test_control_killed_under_load_loses_nothing(triage: Start) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    before, port = pids(gateway), gateway.port()
    workers = [one["pid"] for one in gateway.state()["workers"]]
    statuses: list[int] = []
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            statuses.append(gateway.get("/", port)[0])

    thread = threading.Thread(target=load)
    thread.start()
    try:
        kill_control(gateway)
        until(lambda: gateway.state()["workers"][0]["state"] == "alive", "the worker was taken over")
        table = gateway.state()["table"]
        until(lambda: gateway.state()["workers"][0]["acked"] >= table, "and acknowledges")
    finally:
        done.set()
        thread.join()
    assert pids(gateway) == before
    assert [one["pid"] for one in gateway.state()["workers"]] == workers
    assert statuses
    assert set(statuses) == {200}
    assert gateway.event("control-restarted")
    assert gateway.event("ready", "web-1"), "events go along"
    gateway.get("/crash", port)
    assert "web-3" in gateway.ready(2), "what it took over it looks after"
    assert gateway.ask("last_lines", instance="web-3") == ["hello from web-3"]


def test_an_exit_while_control_is_away_is_told_to_the_next(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    control = psutil.Process(gateway.state()["pid"])
    control.suspend()
    os.kill(psutil.Process(gateway.process.pid).children()[0].pid, 0)
    instance = next(p for p in psutil.Process(gateway.process.pid).children() if "app.py" in " ".join(p.cmdline()))
    instance.kill()
    instance.wait(20)
    control.kill()
    event = gateway.event("exited", "web-1")
    assert event["details"]["signal"] == 9
    assert gateway.ready(1) == ["web-2"]


def test_a_hung_control_is_replaced(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    before, pid = pids(gateway), gateway.state()["pid"]
    with pytest.raises(OSError):
        gateway.ask("hang")
    until(lambda: gateway.state()["pid"] != pid, "another control", 60)
    assert pids(gateway) == before


def test_a_killed_worker_is_replaced_and_its_place_waits(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    port = gateway.port()
    assert gateway.get("/", port)[0] == 200
    pid = gateway.state()["workers"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert gateway.get("/", port)[0] == 200, "the backlog waits for the next worker"
    assert "signal 9 (SIGKILL)" in gateway.event("worker-died")["text"]
    worker = until(lambda: gateway.state()["workers"][0], "")
    assert worker["pid"] != pid
    assert worker["restarts"] == 1


def test_a_silent_worker_is_killed_with_its_stack_taken(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    until(lambda: gateway.state()["workers"][0]["state"] == "alive")
    pid = gateway.state()["workers"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        gateway.event("worker-silent", deadline=60)
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)
    until(lambda: gateway.state()["workers"][0]["pid"] not in (0, pid), "its successor")
    assert gateway.get("/")[0] == 200


def test_a_rolling_replacement_goes_on_under_the_next_control(triage: Start) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    gateway.reload(app('instances = 2\nenv = { GREETING = "new" }'))
    kill_control(gateway)

    def rolled() -> bool:
        found = gateway.instances()
        return len(found) == 2 and all(
            one["lifecycle"] == "ready" and int(name.rpartition("-")[2]) > 2 for name, one in found.items()
        )

    until(rolled, "both replaced")
    assert gateway.get("/")[1].split()[2] == "new", "the config in force is the reloaded one"


@pytest.mark.parametrize("moment", ["at once", "started", "ready"])
def test_a_restart_goes_on_under_the_next_control_and_replaces_nothing_twice(triage: Start, moment: str) -> None:
    gateway = triage(app("instances = 3"))
    gateway.ready(3)
    begun = gateway.act("restart", reason="a deploy")
    if moment != "at once":
        until(lambda: any(f" {moment}" in step for step in gateway.operation(begun["id"])["steps"]), moment)
    kill_control(gateway)
    ended = gateway.over(begun)
    assert (ended["state"], ended["why"]) == ("done", "replaced by web-4, web-5, web-6")
    assert gateway.ready(3) == ["web-4", "web-5", "web-6"]
    assert len([step for step in ended["steps"] if " started, pid" in step]) == 3


def test_after_three_deaths_children_and_config_are_enough(triage: Start) -> None:
    gateway = triage(app("instances = 1"))
    gateway.ready(1)
    assert gateway.reload(app("instances = 2"))["ok"]
    gateway.ready(2)
    before, port = pids(gateway), gateway.port()
    for _ in range(3):
        kill_control(gateway)
    assert gateway.event("control-restarted")["details"]["fresh"]
    assert gateway.ready(2) == ["web-1", "web-2"]
    assert pids(gateway) == before
    until(lambda: gateway.state()["ready"], "the worker has its table")
    assert gateway.get("/", port)[0] == 200
    gateway.get("/crash", port)
    assert "web-3" in gateway.ready(2)


def test_what_workers_and_instances_are_asked(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    assert gateway.get("/hello")[0] == 200
    found = gateway.ask("find", id="")
    assert [status for _, status, _ in found] == [200]
    assert gateway.ask("find", id=found[0][0][:8]) == found
    assert gateway.ask("find", id="nothing") == []
    assert "serve_forever" in gateway.ask("stacks", pid=gateway.instances()["web-1"]["pid"])


def test_names_of_processes(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    launcher = psutil.Process(gateway.process.pid)
    names = {process.name() for process in launcher.children()}
    assert {"triage-control", "triage-worker1"} <= names
    assert launcher.name() == "triage"
