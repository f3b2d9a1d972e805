"""Sessions that nobody asked for: crashes, incidents, conditions; and what is left when everything ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.support import marked, until

from .conftest import Sessions, config

pytestmark = pytest.mark.slow


def events(one: Sessions, what: str) -> list[dict[str, Any]]:
    found = one.triage.api("events", kind="session", limit=100)["items"]
    return [event for event in found if event["data"]["what"] == what]


def test_a_crash_starts_one_and_a_storm_of_them_no_more(gateway: Callable[..., Sessions]) -> None:
    shop = gateway(config('on = ["crash"]\nseconds = "2s"'))
    victim = shop.triage.ready()[0]
    name = victim["id"]
    os.kill(victim["pid"], signal.SIGKILL)
    (begun,) = until(lambda: events(shop, "begun"), "a session begins")
    one = shop.over(begun["data"]["session"])
    assert one["state"] == "done" and one["targets"][0] == name and one["seconds"] == 2.0, one
    assert one["trigger"]["kind"] == "crash" and "SIGKILL" in one["trigger"]["reason"]
    steps = {(step["name"], step["instance"]): step["state"] for step in one["steps"]}
    assert steps["log_tail", name] == "done", "what was left of it"
    assert steps["stacks", name] != "done" and steps["stacks", one["targets"][1]] == "done"
    until(lambda: len(shop.triage.ready()) == 2, "another one is ready")
    os.kill(shop.triage.ready()[0]["pid"], signal.SIGKILL)
    (refused,) = until(lambda: events(shop, "refused"), "it is said that none begins")
    assert refused["data"]["why"] == "cooldown" and "again in" in refused["data"]["hint"]
    assert len(shop.listed()) == 1
    by_hand = shop.begin(2.0, collectors=["log_tail"])
    assert shop.over(by_hand)["state"] == "done", "a person may"


def test_an_incident_and_a_condition_start_one(gateway: Callable[..., Sessions]) -> None:
    diagnose = 'on = ["incident"]\nseconds = "2s"\nwhen = [{ requests = { above = 3, within = "30s" } }]'
    shop = gateway(config(diagnose, instances=1), ready=1)
    rules = shop.triage.api("apps/shop/autoheal")["rules"]
    assert "diagnose requests" in [rule["name"] for rule in rules]

    def asked() -> Any:
        assert shop.get("/healthz") == 200
        return events(shop, "begun")

    (begun,) = until(asked, "a session begins by its rule")
    one = shop.over(begun["data"]["session"])
    assert one["state"] == "done" and one["trigger"]["rule"] == "diagnose requests", one
    assert one["trigger"]["kind"] == "rule" and "request" in one["trigger"]["saw"]
    os.kill(shop.triage.ready()[0]["pid"], signal.SIGKILL)
    until(lambda: shop.triage.api("incidents", app="shop")["items"], "an incident opens")
    until(lambda: [each for each in events(shop, "refused") if each["data"]["trigger"]["kind"] == "incident"],
          "it would have started one, but one began not long ago")  # fmt: skip


RULE = """
[[apps.shop.autoheal]]
name = "many"
when = { requests = { above = 3, within = "30s" } }
then = ["diagnose", "recycle"]
min_age = "1s"
"""


def test_a_rule_diagnoses_and_then_recycles_without_evidence_of_its_own(gateway: Callable[..., Sessions]) -> None:
    shop = gateway(config('on = []\nseconds = "2s"', RULE, instances=1), ready=1)
    name = shop.triage.ready()[0]["id"]

    def asked() -> Any:
        assert shop.get("/healthz") == 200
        return events(shop, "begun")

    (begun,) = until(asked, "a session begins by the rule")
    assert begun["data"]["trigger"]["by"] == "rule many" and begun["data"]["trigger"]["kind"] == "rule"
    id = begun["data"]["session"]
    shop.over(id)
    until(lambda: name not in {one["id"] for one in shop.triage.instances()}, f"{name} is recycled then")
    (operation,) = [one for one in shop.triage.api("operations")["items"] if one["act"] in ("recycle", "restart")]
    assert f"diagnostics/{id}" in operation["evidence"], "what the session gathered is the act's evidence"
    assert [one["id"] for one in shop.listed()] == [id]


def test_what_ran_is_lost_when_everything_ends(gateway: Callable[..., Sessions]) -> None:
    shop = gateway(config(instances=1), ready=1, name="one")
    first = shop.begin(2.0, collectors=["log_tail"])
    shop.over(first)
    killed = shop.begin(60.0)
    shop.in_state(killed, "collecting")
    record = shop.data / killed / "session.json"
    until(lambda: json.loads(record.read_bytes())["state"] == "collecting", "it is on the disk")
    os.kill(shop.triage.pid, signal.SIGKILL)
    shop.triage.process.wait()
    until(lambda: not marked(shop.triage.marker), "all ends")
    again = gateway(config(instances=1), ready=1, name="one")
    listed = {one["id"]: (one["state"], one["why"]) for one in again.listed()}
    assert listed[first] == ("done", "")
    assert listed[killed][0] == "lost" and "Triage ended while it was collecting" in listed[killed][1]
    assert again.one(first)["verdict"] and again.one(first)["steps"], "the finished one is there, whole"
    stopped = again.begin(60.0)
    assert stopped == "S-3", "and no number is used again"
    again.in_state(stopped, "collecting")
    again.triage.end()
    kept = json.loads((again.data / stopped / "session.json").read_bytes())
    assert (kept["state"], kept["why"]) == ("lost", "Triage was stopped while it was collecting")
