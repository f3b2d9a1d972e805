"""What a person sets stays as it was set, whatever happens around it, until it is ended."""

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Triage, app, until

pytestmark = pytest.mark.slow
Start = Callable[..., Triage]


def by_hand(gateway: Triage) -> dict[str, Any]:
    found: dict[str, Any] = gateway.state()["apps"]["web"]["by_hand"]
    return {key: entry["value"] for key, entry in found.items()}


def kill_control(gateway: Triage) -> None:
    pid = gateway.state()["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: gateway.state()["pid"] != pid, "another control")


def test_it_survives_reload_the_death_of_control_and_a_restart_of_everything(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    assert gateway.over(gateway.act("scale", instances=3, reason="a sale"))["state"] == "done"
    assert gateway.over(gateway.act("autoheal", enabled=False, for_=3600.0))["state"] == "done"
    assert gateway.over(gateway.act("eject", "web-2"))["state"] == "done"
    what = {"count": 3, "autoheal": "off", "ejected web-2": True}
    assert by_hand(gateway) == what
    assert gateway.reload(app("instances = 2"))["ok"]
    assert len(gateway.ready(3)) == 3, "a config does not change what was set by hand"
    kill_control(gateway)
    assert by_hand(gateway) == what
    assert gateway.instances()["web-2"]["admission"] == "ejected"
    assert gateway.ready(3) == ["web-1", "web-2", "web-3"]
    assert {gateway.get("/")[1].split()[0] for _ in range(30)} == {"web-1", "web-3"}
    stored = json.loads((gateway.folder / "var/by_hand.json").read_text())
    assert stored["web"]["count"]["why"] == "a sale"
    assert gateway.stop() == 0
    again = triage(app())
    again.ready(3)
    assert by_hand(again) == {"count": 3, "autoheal": "off"}, "web-2 is gone, and what was said of it with it"
    refused = again.act("scale", instances=5, by="rule busy", rule="busy")
    assert refused["refused"] == "by-hand"
    assert "rule busy would set 5" in refused["text"]
    assert again.over(again.act("scale", auto=True))["state"] == "done"
    assert len(again.ready(1)) == 1
    assert by_hand(again) == {"autoheal": "off"}
    assert again.over(again.act("autoheal", enabled=True))["state"] == "done"
    assert by_hand(again) == {}


def test_one_ejected_by_hand_stays_out_until_it_is_admitted(triage: Start) -> None:
    """Neither passing probes, nor time, nor a rule brings it back; the cap of half does not bind a hand."""
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    assert gateway.over(gateway.act("eject", "web-1"))["steps"] == ["web-1 left routing, no requests on it"]
    last = gateway.act("eject", "web-2")
    assert last["refused"] == "last-one"
    assert gateway.act("eject", "web-2", by="rule slow", rule="slow")["refused"] == "cap"
    assert gateway.act("admit", "web-1", by="rule slow", rule="slow")["refused"] == "by-hand"
    probe = gateway.instances()["web-1"]["probe"]["at"]
    until(lambda: gateway.instances()["web-1"]["probe"]["at"] > probe + 1.0, "it is probed on, and passes")
    assert gateway.instances()["web-1"]["admission"] == "ejected"
    assert gateway.over(gateway.act("admit", "web-1"))["state"] == "done"
    assert gateway.instances()["web-1"]["admission"] == "admitting"
    assert by_hand(gateway) == {}
    assert gateway.over(gateway.act("eject", "web-2", for_=1.5))["state"] == "done"
    until(lambda: gateway.instances()["web-2"]["admission"] == "admitting", "its time is over")
    assert by_hand(gateway) == {}


def test_stop_and_start(triage: Start) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    port, statuses = gateway.port(), list[int]()
    slow = threading.Thread(target=lambda: statuses.append(gateway.get("/slow?1", port, "POST")[0]))
    slow.start()
    until(lambda: any(one["inflight"] for one in gateway.instances().values()), "a request is on one")
    begun = gateway.act("stop", reason="maintenance")
    until(lambda: gateway.get("/", port)[0] == 503, "new requests are turned away")
    ended = gateway.over(begun)
    slow.join()
    assert statuses == [200], "what was on it ended well"
    assert ended["state"] == "done"
    assert sorted(step for step in ended["steps"] if " ended: " in step) == [
        "web-1 ended: signal 15 (SIGTERM)",
        "web-2 ended: signal 15 (SIGTERM)",
    ]
    assert gateway.act("restart")["refused"] == "stopped"
    kill_control(gateway)
    assert gateway.state()["apps"]["web"]["state"] == "stopped"
    assert gateway.get("/", port)[0] == 503
    assert gateway.over(gateway.act("start"))["state"] == "done"
    assert gateway.ready(2) == ["web-3", "web-4"]
    assert gateway.get("/", port)[0] == 200


def test_hold_and_release(triage: Start) -> None:
    queue = 'queue = { timeout = "20s" }\n[apps.web.process]'
    gateway = triage(app().replace("[apps.web.process]", queue))
    gateway.ready(1)
    port, statuses = gateway.port(), list[int]()
    assert gateway.over(gateway.act("hold"))["state"] == "done"
    threads = [threading.Thread(target=lambda: statuses.append(gateway.get("/", port)[0])) for _ in range(3)]
    for one in threads:
        one.start()
    seen = lambda: gateway.ask("foresee", act="release", app="web")["lines"][0]  # noqa: E731
    until(lambda: seen().startswith("3 requests waiting"), "they wait")
    assert statuses == []
    assert gateway.over(gateway.act("release"))["state"] == "done"
    for one in threads:
        one.join()
    assert statuses == [200, 200, 200]


def test_limits_set_by_hand_come_by_a_rolling_recycle(triage: Start) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    ended = gateway.over(gateway.act("scale", memory=300 << 20))
    assert ended["state"] == "done"
    assert gateway.ready(2) == ["web-3", "web-4"]
    assert {one["memory_limit"] for one in gateway.instances().values()} == {300 << 20}
    assert gateway.over(gateway.act("scale", memory=0))["state"] == "done"
    assert gateway.ready(2) == ["web-5", "web-6"]
    assert {one["memory_limit"] for one in gateway.instances().values()} == {0}


def test_what_is_set_for_a_time_ends_with_it(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    assert gateway.over(gateway.act("stop", for_=2.0))["state"] == "done"
    assert gateway.event("by-hand-ended")["text"] == "web: state, set by hand, ended as it was set to"
    gateway.ready(1)
    assert gateway.get("/")[0] == 200
    assert by_hand(gateway) == {}
