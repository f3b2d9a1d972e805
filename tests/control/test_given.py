"""Given addresses: recycled by the operator's own command, and only if there is one."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.control.ports import free_port

from .conftest import HERE, Triage, until

pytestmark = pytest.mark.slow
Start = Callable[..., Triage]


class Outside:
    """Two apps that somebody else runs, each restarted by a script that is given its address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port(()), free_port(())]
        self.script = folder / "restart.py"
        self.script.write_text(
            "import os, subprocess, sys, time\n"
            "port = sys.argv[2].rpartition(':')[2]\n"
            f"pids = {str(folder)!r} + '/pid.' + port\n"
            "print('restarts', sys.argv[1], os.environ['TRIAGE_REASON'], flush=True)\n"
            f"if os.path.exists({str(folder / 'fail')!r}): sys.exit(7)\n"
            f"if os.path.exists({str(folder / 'wait')!r}): time.sleep(1000)\n"
            "os.kill(int(open(pids).read()), 9)\n"
            "env = {k: v for k, v in os.environ.items() if not k.startswith('TRIAGE')}\n"
            f"child = subprocess.Popen([sys.executable, {str(HERE / 'apps' / 'app.py')!r}, port], env=env, \n"
            "    start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
            "open(pids, 'w').write(str(child.pid))\n"
        )
        self.first = [
            subprocess.Popen([sys.executable, str(HERE / "apps" / "app.py"), str(port)], start_new_session=True)
            for port in self.ports
        ]
        for port, child in zip(self.ports, self.first, strict=True):
            self.pid_file(port).write_text(str(child.pid))

    def pid_file(self, port: int) -> Path:
        return self.folder / f"pid.{port}"

    def pid(self, index: int) -> int:
        return int(self.pid_file(self.ports[index]).read_text())

    def config(self, count: int = 2, recycle: bool = True) -> str:
        addresses = ", ".join(f'"http://127.0.0.1:{port}"' for port in self.ports[:count])
        command = f'[apps.web.recycle]\ncommand = ["{sys.executable}", "{self.script}", "{{name}}", "{{address}}"]\n'
        health = '[apps.web.health]\npath = "/healthz"\ninterval = "200ms"\n'
        return f'[apps.web]\naddresses = [{addresses}]\n{command if recycle else ""}{health}'

    def end(self) -> None:
        for child in self.first:
            child.kill()
            child.wait()
        for index in range(2):
            try:
                os.kill(self.pid(index), signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture
def outside(folder: Path) -> Iterator[Outside]:
    one = Outside(folder)
    yield one
    one.end()


def name(outside: Outside, index: int = 0) -> str:
    return f"127.0.0.1:{outside.ports[index]}"


def test_without_a_command_it_is_refused_with_the_key(triage: Start, outside: Outside) -> None:
    gateway = triage(outside.config(recycle=False))
    gateway.ready(2)
    for refused in (gateway.act("recycle", name(outside)), gateway.act("restart")):
        assert refused["refused"] == "no-recycle"
        assert "apps.web.recycle.command" in refused["hint"]
    assert gateway.act("scale", instances=3)["refused"] == "given-addresses"


def test_a_restart_takes_one_after_the_other_and_loses_nothing(triage: Start, outside: Outside) -> None:
    gateway = triage(outside.config())
    gateway.ready(2)
    port, before = gateway.port(), [outside.pid(0), outside.pid(1)]
    statuses: set[int] = set()
    done = threading.Event()

    def load(method: str) -> None:
        while not done.is_set():
            statuses.add(gateway.get("/slow?0.01", port, method)[0])

    threads = [threading.Thread(target=load, args=(method,)) for method in ("GET", "POST")]
    for one in threads:
        one.start()
    ended = gateway.over(gateway.act("restart", reason="a test"))
    done.set()
    for one in threads:
        one.join()
    assert ended["state"] == "done", ended
    assert statuses == {200}
    assert not {outside.pid(0), outside.pid(1)} & set(before)
    assert any(f"its last lines: restarts {name(outside)} a test" in step for step in ended["steps"])


def test_a_lone_one_is_recycled_while_requests_wait(triage: Start, outside: Outside) -> None:
    gateway = triage(outside.config(1).replace("[apps.web]", '[apps.web]\nqueue = { timeout = "100ms" }'))
    gateway.ready(1)
    port, before = gateway.port(), outside.pid(0)
    begun = gateway.act("recycle", name(outside))
    until(lambda: gateway.instances()[name(outside)]["admission"] == "ejected", "it is ejected")
    assert gateway.get("/", port, "POST")[0] == 200
    assert gateway.over(begun)["state"] == "done"
    assert outside.pid(0) != before


def test_a_command_that_fails_is_told_and_the_address_comes_back(triage: Start, outside: Outside) -> None:
    (outside.folder / "fail").touch()
    gateway = triage(outside.config())
    gateway.ready(2)
    ended = gateway.over(gateway.act("recycle", name(outside)))
    assert ended["state"] == "failed"
    assert "exit code 7; its last lines: restarts" in ended["why"]
    until(lambda: gateway.instances()[name(outside)]["admission"] == "admitting", "its probes pass")


def test_control_killed_while_the_command_runs_does_not_run_it_again(triage: Start, outside: Outside) -> None:
    (outside.folder / "wait").touch()
    gateway = triage(outside.config())
    gateway.ready(2)
    begun, before = gateway.act("recycle", name(outside)), outside.pid(0)
    until(lambda: any("runs " in step for step in gateway.operation(begun["id"])["steps"]), "the command runs")
    os.kill(gateway.state()["pid"], signal.SIGKILL)
    ended = gateway.over(begun)
    assert ended["state"] == "failed"
    assert "it is not run again" in ended["why"]
    assert outside.pid(0) == before
    until(lambda: gateway.instances()[name(outside)]["admission"] == "admitting", "its probes pass")


def test_ejected_by_hand_survives_a_restart_of_everything(triage: Start, outside: Outside) -> None:
    gateway = triage(outside.config())
    gateway.ready(2)
    assert gateway.over(gateway.act("eject", name(outside)))["state"] == "done"
    gateway.stop()
    again = triage(outside.config())
    until(lambda: again.instances().get(name(outside), {}).get("admission") == "ejected", "it is out again")
    assert again.over(again.act("admit", name(outside)))["state"] == "done"
    assert again.instances()[name(outside)]["admission"] == "admitting"
