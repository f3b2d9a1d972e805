"""Rules over a whole gateway: exact counts from the workers, what shows life, and a control that dies in between."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.client import Load, ask
from tests.e2e.mending import config, events, operations, pids, well
from tests.e2e.support import LONG, Triage, shop_config, until

pytestmark = pytest.mark.slow

Start = Callable[..., Triage]


def rule(name: str, when: str, then: str, more: str = 'min_age = "0s"\n') -> str:
    return f'[[apps.web.autoheal]]\nname = "{name}"\nwhen = {when}\nthen = {then}\n{more}\n'


def at_once(port: int, *targets: str) -> list[int]:
    """All of them at the same time; their statuses."""
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda one=one: statuses.append(ask(port, one).status)) for one in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    return statuses


def fired(running: Triage, name: str) -> list[dict[str, Any]]:
    return [event for event in events(running, "heal") if event["data"].get("rule") == name]


def test_a_slow_path_recycles_the_instance_and_nothing_is_lost(gateway: Start) -> None:
    """Waits are counted by path, exactly, by both workers together; quick requests do not hide them."""
    slow = rule("slow", '{ slow = { above = "200ms", count = 6, path = "/slow*" } }', '["recycle"]')
    other = rule("other", '{ slow = { above = "200ms", count = 1, path = "/other" } }', '["recycle"]')
    running = gateway(config(more=slow + other))
    (before,) = pids(running)
    with Load(running.port, "/") as load:
        assert at_once(running.port, *["/slow?ms=300"] * 5) == [200] * 5
        assert not fired(running, "slow"), "one too few"
        assert ask(running.port, "/slow?ms=300").status == 200
        (event,) = until(lambda: fired(running, "slow"), "it fires")
        until(lambda: [one for one in operations(running, "recycle") if one["state"] == "done"], "a recycle")
        until(lambda: before not in pids(running), "a fresh instance")
        aim = load.good + 50
        until(lambda: load.good >= aim, "it serves")
    assert not load.failed, load.summary()
    assert event["data"]["value"].startswith("6 requests of /slow* waited over 200 ms"), event
    (recycle,) = operations(running, "recycle")
    assert recycle["rule"] == "slow" and recycle["value"] == event["data"]["value"]
    assert not fired(running, "other")


def test_a_stream_shows_that_an_instance_lives(gateway: Start) -> None:
    """Requests that take too long beside a download that goes on: that is slow, and no hang; without it, it is."""
    lone = shop_config(instances=1, app='timeouts = { first_byte = "1s" }', name="web")
    running = gateway(lone.replace('path = "/healthz"', ""))
    until(lambda: len(running.ready("web")) == 1, "it is ready")
    (before,) = pids(running)
    download = threading.Thread(target=lambda: ask(running.port, "/stream?n=40&s=0.2"))
    download.start()
    for _ in range(3):
        assert at_once(running.port, *["/slow?s=30"] * 3) == [504] * 3
    assert download.is_alive(), "it outlasts them"
    assert pids(running) == {before} and not events(running, "heal")
    download.join(LONG)
    assert at_once(running.port, "/slow?s=30") == [504]
    until(lambda: fired(running, "hung"), "with nothing answered at all")


def test_a_chain_outlives_control(gateway: Start) -> None:
    """Control dies while an action runs: the next one goes on behind it, and nothing is done twice."""
    chain = rule("errors", '{ status = { codes = "500", count = 3 } }', '[{ run = ["sleep", "3"] }, "recycle"]')
    running = gateway(config(more=chain))
    well(running, 1)
    (before,) = pids(running)
    for _ in range(4):
        ask(running.port, "/error")
    until(lambda: fired(running, "errors"), "it fires")
    control = running.control()
    os.kill(control, signal.SIGKILL)
    until(lambda: running.control() not in (0, control) and running.try_api("/readyz"), "a new control")
    (healed,) = until(lambda: events(running, "heal-failed", "heal-done"), "the end of the chain")
    assert "control was replaced meanwhile" in healed["words"] and "recycle done" in healed["words"]
    until(lambda: len(running.ready("web")) == 1 and before not in pids(running), "a fresh instance")
    assert len(fired(running, "errors")) == 1
    assert [one["state"] for one in operations(running, "recycle")] == ["done"]
