"""Instances hang, crash and leak, and no hand is lifted: how soon is the app served again, and what is known then."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e.client import Answer, Load, ask
from tests.e2e.mending import NODE, UNWELL, config, events, needs_node, operations, pids, seconds, well
from tests.e2e.support import LONG, Triage, until

pytestmark = pytest.mark.slow
FIRST_BYTE = 1.0
HEALED = FIRST_BYTE + 15.0  # promised; a busy machine gets twice as long
DETECTED = 0.05  # promised

Start = Callable[..., Triage]


def in_background(port: int, target: str) -> tuple[threading.Thread, list[Answer]]:
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(ask(port, target)))
    thread.start()
    return thread, answers


@pytest.mark.parametrize(
    ("command", "hang", "frame"),
    [
        pytest.param(UNWELL, "/deadlock", "take_it_again", id="python"),
        pytest.param(NODE, "/block", "", id="node", marks=needs_node),
    ],
)
def test_a_lone_hung_app_serves_again(gateway: Start, command: str, hang: str, frame: str) -> None:
    """No health path, one instance, everything else a default: stacks first, then a fresh instance."""
    running = gateway(config(command, app=f'timeouts = {{ first_byte = "{FIRST_BYTE:g}s" }}'))
    (before,) = pids(running)
    began = time.monotonic()
    thread, answers = in_background(running.port, hang)
    until(lambda: ask(running.port, "/").status == 200 and before not in pids(running), "it serves again")
    took = time.monotonic() - began
    thread.join(LONG)
    assert took < 2 * HEALED, f"served again after {took:.1f} s"
    assert answers[0].status in (502, 504)
    well(running, 1)
    (recycle,) = operations(running, "recycle")
    assert recycle["rule"] == "hung" and recycle["value"], "what was seen is written down"
    taken = recycle["evidence"] + "".join(one["evidence"] for one in operations(running, "collect"))
    assert "diagnostics/" in taken, "evidence first"
    if frame:
        found = [path for path in running.data.rglob("*") if path.is_file() and frame in read(path)]
        assert found, "stacks were taken before it was ended, and show where it hung"
    until(lambda: not psutil.pid_exists(before), "the hung process is gone")


def read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def exited_at(running: Triage, name: str) -> float:
    """Unix seconds at which the end of an instance was noticed."""
    found = (event for event in events(running) if event["instance"] == name and "exit" in event["kind"])
    return seconds(next(found)["time"])


@pytest.mark.parametrize("command", [UNWELL, pytest.param(NODE, marks=needs_node)], ids=["python", "node"])
def test_one_of_two_killed_leaves_no_gap(gateway: Start, command: str) -> None:
    running = gateway(config(command, instances=2))
    well(running, 2)
    noticed = []
    with Load(running.port, "/", clients=4) as load:
        for _ in range(3):
            victim = running.ready("web")[0]
            at = time.time()
            os.kill(victim["pid"], signal.SIGKILL)
            until(lambda: victim["id"] not in {one["id"] for one in running.instances("web")}, "it left")  # noqa: B023
            noticed.append(exited_at(running, victim["id"]) - at)
            well(running, 2)
    assert not load.failed, load.summary()
    assert min(noticed) < 10 * DETECTED, f"exits were noticed after {noticed}"


def test_a_lone_one_that_crashed_is_back_after_its_start_and_requests_wait(gateway: Start) -> None:
    running = gateway(config(env='START = "0.5"', app='queue = { timeout = "30s" }'))
    started = next(event for event in events(running, "starting", "started"))
    took = seconds(events(running, "ready")[0]["time"]) - seconds(started["time"])
    (before,) = pids(running)
    os.kill(before, signal.SIGKILL)
    began = time.monotonic()
    waiting = [in_background(running.port, "/") for _ in range(8)]
    for thread, _ in waiting:
        thread.join(LONG)
    gap = time.monotonic() - began
    assert [answers[0].status for _, answers in waiting] == [200] * 8, "requests waited"
    assert gap < 2 * (took + 0.5), f"back after {gap:.2f} s; its start takes {took:.2f} s"


def test_one_request_that_ends_its_instance_ends_no_other(gateway: Start) -> None:
    running = gateway(config(instances=2))
    well(running, 2)
    before = pids(running)
    answer = ask(running.port, "/exit")
    assert (answer.status, "instance-exited" in answer.fields["proxy-status"]) == (502, True)
    assert ask(running.port, "/").status == 200
    well(running, 2)
    assert len(before & pids(running)) == 1, running.story()


def test_a_leak_is_recycled_before_its_limit_and_nothing_is_lost(gateway: Start) -> None:
    """The built-in rule `memory` waits for 30 s; a rule for the same thing wins over it."""
    rule = """
[[apps.web.autoheal]]
name = "leak"
when = { memory = { above = "120MB", for = "1s" } }
then = ["collect", "recycle"]
min_age = "0s"
cooldown = "1s"
"""
    running = gateway(config(instances=2, more=rule))
    well(running, 2)
    victim = running.ready("web")[0]
    with Load(running.port, "/", clients=4) as load:
        while victim["id"] in {one["id"] for one in running.ready("web")}:
            # Asked one after the other: each instance grows until one is over.
            assert ask(running.port, "/leak?mb=20").status == 200
            if operations(running, "recycle"):
                break
            time.sleep(0.1)  # memory is looked at once a second
        until(lambda: any(one["state"] == "done" for one in operations(running, "recycle")), "a recycle")
    assert not load.failed, load.summary()
    done = operations(running, "recycle")[-1]
    assert done["rule"] == "leak" and "MB" in done["value"].upper()
