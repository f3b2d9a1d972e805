"""Rules that would do harm: the guards hold, and what was done or not done is written down."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.client import Load, ask
from tests.e2e.mending import act, config, events, operations, pids, well
from tests.e2e.support import Triage, marked, name_of, until

pytestmark = pytest.mark.slow

Start = Callable[..., Triage]
QUICK = 'min_age = "0s"\ncooldown = "1s"\n'


def rule(name: str, when: str, then: str, more: str = QUICK) -> str:
    return f'[[apps.web.autoheal]]\nname = "{name}"\nwhen = {when}\nthen = {then}\n{more}\n'


def shown(running: Triage, name: str) -> dict[str, Any]:
    """A rule as it stands."""
    rules = running.api("apps/web/autoheal")["rules"]
    return dict(next(one for one in rules if one["name"] == name))


def done(running: Triage, act: str) -> list[dict[str, Any]]:
    return [one for one in operations(running, act) if one["state"] == "done"]


def test_a_rule_that_is_met_by_all_at_once_does_not_take_the_app_down(gateway: Start) -> None:
    """Every instance is older than a second, for ever: one after the other is replaced, ever more slowly."""
    always = rule("always", '{ age = { above = "1s" } }', '["recycle"]', 'min_age = "0s"\ncooldown = "0s"\n')
    running = gateway(config(instances=3, more=always))
    well_enough = []
    with Load(running.port, "/", clients=4) as load:
        until(lambda: len(running.ready("web")) == 3, "three instances")
        while len(done(running, "recycle")) < 2:
            well_enough.append(len(running.ready("web")))
            time.sleep(0.05)
        rule_ = until(lambda: (one := shown(running, "always"))["state"] == "suppressed" and one, "it holds back")
    assert not load.failed, load.summary()
    assert min(well_enough) >= 3, "the fresh one was ready first"
    assert rule_["why"] and rule_["fired_last_hour"] == len(operations(running, "recycle"))
    spans = sorted((one["time"], one["ended"] or "9") for one in operations(running, "recycle"))
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans)), "one at a time"


def test_two_rules_that_fight_do_not_swing(gateway: Start) -> None:
    """One ejects what the other recycles: never both at once on one instance, and none of the load is lost."""
    fight = rule("out", '{ status = { codes = "500-599", count = 3, within = "10s" } }', '["eject"]')
    fight += rule("new", '{ status = { codes = "500-599", count = 3, within = "10s" } }', '["recycle"]')
    running = gateway(config(instances=3, more=fight))
    well(running, 3)
    with Load(running.port, "/", clients=4) as load:
        for _ in range(30):
            ask(running.port, "/error")
        until(lambda: operations(running), "one of them acts")
        until(lambda: not [one for one in operations(running) if one["state"] == "running"], "it is over")
        until(lambda: len(running.ready("web")) >= 3, "three again")
    assert not load.failed, load.summary()
    acts = [one for one in operations(running) if one["act"] in ("eject", "recycle")]
    spans = [(one["targets"], one["time"], one["ended"]) for one in acts]
    for number, (targets, began, ended) in enumerate(spans):
        for others, other_began, other_ended in spans[number + 1 :]:
            if set(targets) & set(others):
                assert ended <= other_began or other_ended <= began, spans


def test_an_action_that_fails_or_hangs_keeps_nobody_from_acting(gateway: Start) -> None:
    """What fails is written down and the next step is done; what hangs delays neither a person nor the end."""
    met = '{{ status = {{ codes = "500", count = 3, path = "{}" }} }}'
    fails = rule("fails", met.format("/error"), '[{ run = ["false"] }, "recycle"]', QUICK + "max_per_hour = 1\n")
    hangs = rule("hangs", met.format("/error/2"), '[{ run = ["sleep", "99"] }]')
    running = gateway(config(instances=2, more=fails + hangs))
    well(running, 2)
    for _ in range(20):
        ask(running.port, "/error")
    assert until(lambda: done(running, "recycle"), "a recycle")[0]["rule"] == "fails"
    said = until(lambda: [one for one in events(running) if "run failed" in one["words"]], "what failed")[0]["words"]
    assert "exit code 1" in said, said

    def sleeping() -> list[str]:
        return [name for process in marked(running.marker) if (name := name_of(process)) == "sleep"]

    well(running, 2)
    for _ in range(20):
        ask(running.port, "/error/2")
    until(sleeping, "the action that hangs")
    first = running.ready("web")[0]
    act(running, f"apps/web/instances/{first['id']}/recycle")
    began = time.monotonic()
    running.end()
    assert time.monotonic() - began < 20, "it does not wait for the action's 30 s"


def test_dry_run_says_what_it_would_do_and_does_nothing(gateway: Start) -> None:
    dry = rule("dry", '{ status = { codes = "500", count = 3 } }', '["recycle"]', QUICK + "dry_run = true\n")
    running = gateway(config(instances=2, more=dry))
    well(running, 2)
    before = pids(running)
    for _ in range(20):
        ask(running.port, "/error")
    until(lambda: any("would" in event["words"] for event in events(running)), "what it would do")
    assert pids(running) == before
    assert not operations(running, "recycle")
