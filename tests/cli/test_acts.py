"""The verbs that act: what they ask the gateway for, what they print while it happens, and how they end."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.admin.examples import OPERATION
from tests.cli.api import Api
from tests.cli.conftest import Run
from tests.cli.terminal import Terminal

pytestmark = pytest.mark.slow

RECYCLE = "POST /api/v1/apps/web/instances/web-7/recycle"
FOLLOW = "GET /api/v1/operations/op-41"


def operation(*steps: str, state: str = "running", why: str = "", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(OPERATION)
    told = [{"time": f"2026-01-05T03:07:4{number}.000Z", "text": text} for number, text in enumerate(steps, 1)]
    return made | {"state": state, "why": why, "steps": told, "told": len(told), "evidence": "", **more}


@pytest.fixture
def recycling(api: Api) -> Api:
    """An API where a recycle of web-7 takes three looks."""
    api.answers[RECYCLE] = 202, operation()
    api.coming[FOLLOW] = [(200, operation("web-9 starts")), (200, operation("web-9 starts", "web-9 is ready"))]
    api.answers[FOLLOW] = 200, operation("web-9 starts", "web-9 is ready", state="done", why="web-9 serves", took_s=3.1)
    return api


def test_an_act_prints_each_step_once_in_local_time(run: Run, recycling: Api) -> None:
    done = run("recycle", "web/web-7", "--note", "it leaks", "--url", recycling.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "01-05 04:07:41 +01:00  op-41: recycle of web/web-7, by hand",
        "01-05 04:07:41         web-9 starts",
        "01-05 04:07:42         web-9 is ready",
        "01-05 04:07:44         done after 3.1 s: web-9 serves",
    ]
    assert recycling.calls[0] == ("POST /api/v1/apps/web/instances/web-7/recycle", "", '{"reason":"it leaks"}')
    asked = [line.partition("?")[2] for line in recycling.lines[1:]]
    assert [sorted(one.split("&")) for one in asked] == [[f"seen={seen}", "wait=20s"] for seen in (0, 1, 2)]


def test_a_failed_one_exits_with_1_and_says_why_on_standard_error(run: Run, recycling: Api) -> None:
    recycling.answers[FOLLOW] = 200, operation("web-9 starts", state="failed", why="web-9 did not get ready")
    recycling.coming.clear()
    done = run("recycle", "web/web-7", "--url", recycling.address)
    assert done.returncode == 1
    assert "web-9 starts" in done.stdout
    assert "failed after 3.1 s: web-9 did not get ready" in done.stderr


def test_no_wait_returns_the_operation(run: Run, recycling: Api) -> None:
    done = run("recycle", "web/web-7", "--no-wait", "--url", recycling.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "op-41 began. To follow it: triage operations op-41 -f\n"
    assert len(recycling.calls) == 1


def test_json_is_the_operation_at_its_end(run: Run, recycling: Api) -> None:
    done = run("recycle", "web/web-7", "--json", "--url", recycling.address)
    assert json.loads(done.stdout) == recycling.answers[FOLLOW][1]
    begun = run("recycle", "web/web-7", "--json", "--no-wait", "--url", recycling.address)
    assert json.loads(begun.stdout)["state"] == "running"


@pytest.mark.parametrize(
    ("argv", "path", "body"),
    [
        (["restart", "web"], "apps/web/restart", {}),
        (["restart", "web", "--no-collect"], "apps/web/restart", {"collect": False}),
        (["start", "web"], "apps/web/start", {}),
        (["stop", "web", "--for", "1h"], "apps/web/stop", {"for": "1h"}),
        (["hold", "web"], "apps/web/hold", {}),
        (["release", "web"], "apps/web/release", {}),
        (["scale", "web", "3"], "apps/web/scale", {"instances": 3}),
        (["scale", "web", "8", "--for", "2h"], "apps/web/scale", {"instances": 8, "for": "2h"}),
        (["scale", "web", "auto"], "apps/web/scale", {"auto": True}),
        (["scale", "web", "--memory", "1GB", "--cpus", "1.5"], "apps/web/scale", {"memory": "1GB", "cpus": 1.5}),
        (["scale", "web", "--memory", "auto"], "apps/web/scale", {"memory": "auto"}),
        (["eject", "web/web-7", "--for", "10m"], "apps/web/instances/web-7/eject", {"for": "10m"}),
        (["eject", "web/10.0.0.5:8000"], "apps/web/instances/10.0.0.5%3A8000/eject", {}),
        (["admit", "web-7"], "apps/web/instances/web-7/admit", {}),  # in one app only, so that is it
    ],
)
def test_what_each_verb_asks_for(run: Run, api: Api, argv: list[str], path: str, body: dict[str, Any]) -> None:
    api.answers[f"POST /api/v1/{path}"] = 202, operation(state="done")
    done = run(*argv, "--url", api.address)
    assert done.returncode == 0, done.stderr
    assert api.calls[-1][0] == f"POST /api/v1/{path}"
    assert json.loads(api.calls[-1][2]) == body


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["recycle", "web-99"], 1, "There is no instance web-99"),
        (["recycle", "web"], 1, "web is an app"),
        (["scale", "web"], 2, "say how many instances"),
        (["scale", "web", "many"], 2, "neither a number nor"),
        (["scale", "web", "--memory", "lots"], 2, "512MB"),
        (["eject", "web-7", "--for", "ever"], 2, "10m"),
        (["restart"], 2, "Missing argument"),
    ],
)
def test_what_is_refused(run: Run, api: Api, argv: list[str], code: int, said: str) -> None:
    done = run(*argv, "--url", api.address)
    assert done.returncode == code, done.stdout
    assert said in done.stderr
    assert not [line for line in api.lines if line.startswith("POST")]


def test_an_instance_of_two_apps_must_be_named_in_full(run: Run, api: Api) -> None:
    status, apps = copy.deepcopy(api.answers["GET /api/v1/apps"])
    apps["items"].append(apps["items"][0] | {"id": "other"})
    api.answers["GET /api/v1/apps"] = status, apps
    done = run("recycle", "web-7", "--url", api.address)
    assert done.returncode == 1
    assert "Say web/web-7." in done.stderr


def test_what_is_not_possible_is_said_with_what_would_be(run: Run, api: Api) -> None:
    problem = {
        "title": "recycle of web/web-7 is not possible", "detail": "op-40 does that already",
        "hint": "triage operations op-40 -f", "status": 409,
    }  # fmt: skip
    api.answers[RECYCLE] = 409, problem
    done = run("recycle", "web/web-7", "--url", api.address)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [problem["title"], problem["detail"], problem["hint"]]


def test_steps_cannot_write_to_the_terminal(run: Run, recycling: Api) -> None:
    recycling.coming.clear()
    recycling.answers[FOLLOW] = 200, operation("web-9 said \x1b[2J", state="done", reason="\x1b]0;x\x07")
    done = run("recycle", "web/web-7", "--url", recycling.address)
    assert "\x1b" not in done.stdout and "web-9 said ?[2J" in done.stdout


def test_a_gateway_that_is_away_for_a_moment_is_waited_for(run: Run, recycling: Api) -> None:
    recycling.coming[FOLLOW].insert(1, (503, {"title": "64 calls wait for operations already", "status": 503}))
    done = run("recycle", "web/web-7", "--url", recycling.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("web-9 is ready") == 1


def test_operations_are_listed_and_shown(run: Run, api: Api) -> None:
    done = run("operations", "--url", api.address)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert " ".join(head.split()) == "id began act target state took by what came of it"
    assert row.startswith("op-41") and row.endswith("web-9 serves in its place")
    api.answers[FOLLOW] = 200, operation("web-9 starts", state="done")
    assert "web-9 starts" in run("operations", "op-41", "--url", api.address).stdout
    assert run("operations", "-f", "--url", api.address).returncode == 2


# --- on a terminal -----------------------------------------------------------------------------------


@pytest.fixture
def terminal(tmp_path: Path) -> Callable[..., Terminal]:
    return lambda *args: Terminal(tmp_path, *args)


def foreseen(*will: str, at_stake: bool) -> tuple[int, Any]:
    return 200, {"act": "recycle", "target": "web/web-7", "will": list(will), "at_stake": at_stake}


def test_a_person_is_told_first_and_asked_when_something_is_at_stake(
    recycling: Api, terminal: Callable[..., Terminal]
) -> None:
    recycling.coming[RECYCLE] = [foreseen("web-7 is the last one: requests wait", at_stake=True)]
    one = terminal("recycle", "web/web-7", "--url", recycling.address)
    one.expect("Go on? [y/N]")
    assert "web-7 is the last one: requests wait" in one.said
    assert [json.loads(body) for _, _, body in recycling.calls] == [{"preview": True}]
    one.type("y\n")
    one.expect("web-9 serves")
    assert one.end() == 0


def test_a_no_does_nothing(recycling: Api, terminal: Callable[..., Terminal]) -> None:
    recycling.coming[RECYCLE] = [foreseen("web-7 is the last one: requests wait", at_stake=True)]
    one = terminal("recycle", "web/web-7", "--url", recycling.address)
    one.expect("Go on? [y/N]")
    one.type("\n")
    one.expect("Nothing was done.")
    assert one.end() == 1
    assert len(recycling.calls) == 1


@pytest.mark.parametrize(("option", "calls"), [(None, 2), ("--yes", 1)])
def test_nobody_is_asked_when_nothing_is_at_stake_nor_with_yes(
    recycling: Api, terminal: Callable[..., Terminal], option: str | None, calls: int
) -> None:
    recycling.coming[RECYCLE] = [foreseen("web-9 starts beside web-7", at_stake=False)] if option is None else []
    one = terminal("recycle", "web/web-7", *([option] if option else []), "--url", recycling.address)
    one.expect("web-9 serves")
    assert one.end() == 0
    assert "Go on?" not in one.said
    assert len([line for line in recycling.lines if line.startswith("POST")]) == calls


def test_preview_only_says_it(run: Run, recycling: Api) -> None:
    recycling.coming[RECYCLE] = [foreseen("web-9 starts beside web-7", at_stake=False)]
    done = run("recycle", "web/web-7", "--preview", "--url", recycling.address)
    assert done.stdout.splitlines() == ["recycle of web/web-7. What will happen:", "  web-9 starts beside web-7"]
    assert len(recycling.calls) == 1


def test_an_interrupt_says_that_it_goes_on(recycling: Api, terminal: Callable[..., Terminal]) -> None:
    recycling.answers[FOLLOW] = 200, operation("web-9 starts")  # for ever
    recycling.coming.clear()
    one = terminal("recycle", "web/web-7", "--yes", "--url", recycling.address)
    one.expect("web-9 starts")
    one.process.send_signal(signal.SIGINT)
    one.expect("op-41 goes on. To follow it again: triage operations op-41 -f")
    assert one.end() == 130


# --- autoheal ----------------------------------------------------------------------------------------


def test_rules_are_a_table_with_their_distance_and_what_they_did(run: Run, api: Api) -> None:
    done = run("autoheal", "web", "--url", api.address)
    assert done.returncode == 0, done.stderr
    first, head, row, *rest = done.stdout.splitlines()
    assert first == "web  autoheal is on, 1 rule"
    assert " ".join(head.split()) == "rule on nearest distance state"
    assert row.split() == ["slow", "on", "web-7", "12", "of", "20", "watching"]
    assert "slow  slow above 5s, count 20, within 1m: collect, then recycle" in rest
    assert rest[-1].startswith("01-05 04:07:41 +01:00  slow on web/web-7: 24 of 20 requests waited")
    assert rest[-1].endswith("recycle done (replaced by web-9)  op-41")
    every = run("autoheal", "--url", api.address)
    assert every.stdout.splitlines()[:3] == [first, head, row]


def test_what_keeps_a_rule_from_acting_is_said(run: Run, api: Api) -> None:
    _, found = api.answers["GET /api/v1/apps/{app}/autoheal"]
    found = copy.deepcopy(found)
    rule = found["rules"][0]
    rule |= {"state": "suppressed", "suppressed_until": "2026-01-05T03:10:00.000Z", "why": "web-7: …; it cools down"}
    rule["nearest"] |= {"guard": "cooldown", "why": "it cools down"}
    found |= {"enabled": False, "by_hand": {
        "value": "off", "by": "by hand", "time": "2026-01-05T03:00:00.000Z", "why": "a test", "until": None,
    }}  # fmt: skip
    api.answers["GET /api/v1/apps/web/autoheal"] = 200, found
    said = run("autoheal", "web", "--url", api.address).stdout.splitlines()
    assert said[0] == "web  autoheal is off by hand, since 01-05 04:00:00 +01:00: a test, 1 rule"
    assert "suppressed until 01-05 04:10:00: it cools down" in said[2]


@pytest.mark.parametrize(
    ("argv", "body"),
    [
        (["off", "web", "--for", "1h"], {"enabled": False, "for": "1h"}),
        (["off", "web"], {"enabled": False}),
        (["on", "web"], {"enabled": True}),
    ],
)
def test_rules_are_switched(run: Run, api: Api, argv: list[str], body: dict[str, Any]) -> None:
    api.answers["POST /api/v1/apps/web/autoheal"] = 202, operation(state="done", act="autoheal")
    done = run("autoheal", *argv, "--url", api.address)
    assert done.returncode == 0, done.stderr
    assert json.loads(api.calls[0][2]) == body


def test_a_replay_says_first_whether_it_would_have_fired(run: Run, api: Api) -> None:
    done = run("autoheal", "replay", "web", "slow", "--since", "2h", "--url", api.address)
    assert done.returncode == 0, done.stderr
    assert json.loads(api.calls[0][2]) == {"app": "web", "rule": "slow", "since": "2h"}
    first, second, fired, kept = done.stdout.splitlines()
    assert first.startswith("slow of web: it would have fired once; first: 24 of 20")
    assert second.endswith("looked at 8,640 points of 10 s")
    assert fired == "01-05 04:00:00 +01:00  web-7: 24 of 20 requests …"
    assert kept == "kept from acting by cooldown: 3 times"


@pytest.mark.parametrize(
    "argv", [["off"], ["replay", "web"], ["a", "b"], ["on", "web", "--for", "1h"], ["--since", "1h"]]
)
def test_how_autoheal_is_not_typed(run: Run, api: Api, argv: list[str]) -> None:
    assert run("autoheal", *argv, "--url", api.address).returncode == 2
    assert not api.calls


def test_status_shows_what_is_set_by_hand_and_what_is_under_way(run: Run, api: Api) -> None:
    app = api.answers["GET /api/v1/status"][1]["apps"][0]
    near = {"rule": "memory", "builtin": True, "instance": "web-7", "share": 0.8, "distance": "86 % of 90 %",
            "why": "", "until": None}  # fmt: skip
    held = near | {"rule": "slow", "why": "web-7: 24 of 20; it cools down", "until": "2026-01-05T03:17:41.000Z"}
    app["autoheal"] = {"enabled": True, "rules": 3, "nearest": near, "suppressed": [held], "acting": []}
    app["scaler"] = {"count": 2, "min": 1, "max": 4, "words": "cpu 30 % of 70 %", "rules": []}
    app["instances"][0] |= {
        "lifecycle": "failed", "last_exit": {"words": "exit code 1", "last_lines": ["x", "KeyError: 'DB'"]},
    }  # fmt: skip
    said = run("status", "--url", api.address).stdout
    for line in (
        "  by hand    count 2, set 01-05 03:00:00 +01:00: a sale",
        "  under way  op-42 restart of web, by hand, since 01-05 04:07:41 +01:00: web-9 starts in web-7's place",
        "  autoheal   slow is suppressed until 01-05 04:17:41 +01:00: web-7: 24 of 20; it cools down",
        "  autoheal   memory is near: web-7: 86 % of 90 %",
        "  scaling    2 of 1 to 4: cpu 30 % of 70 %",
        "  limits     memory 537 MB, 1 core: cgroup v2",
        "  web-7 ended: exit code 1. It printed last:",
        "    KeyError: 'DB'",
    ):
        assert line in said.splitlines(), said
