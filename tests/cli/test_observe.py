"""The verbs that observe: what they ask for, what they print, and how they follow."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import logs, show
from proxy.cli.metrics import step_of
from proxy.cli.opening import page
from proxy.cli.top import natural
from tests.cli.api import Api, message
from tests.cli.conftest import Run
from tests.cli.test_acts import Terminal

pytestmark = pytest.mark.slow

STREAM = "GET /api/v1/metrics/stream"


def answer(api: Api, call: str) -> Any:
    """The answer to one call, to be changed."""
    status, value = api.answers[call]
    api.answers[call] = status, copy.deepcopy(value)
    return api.answers[call][1]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*args: str) -> Terminal:
        started.append(Terminal(tmp_path, *args))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.end()


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


# --- top ---------------------------------------------------------------------------------------------


@pytest.fixture
def live(api: Api) -> dict[str, Any]:
    """The whole, as `metrics/stream` has it; one app with two instances."""
    found: dict[str, Any] = answer(api, STREAM)
    found |= {"state": "degraded", "is_it": "app", "is_it_words": "web's requests fail", "verdict": "web is degraded"}
    found["incidents"][0]["cause"] = "web-7 ended by itself"
    other = {**found["instances"][0], "id": "web-10", "admission": "ejected", "why": "probe", "memory_limit": 83886080}
    found["instances"].append(other)
    return found


def test_top_is_printed_once_where_there_is_no_terminal(run: Run, api: Api, live: dict[str, Any]) -> None:
    api.streams[STREAM] = [[message("whole", live)]]
    said = lines(run("top", "--url", api.address))
    assert said[0] == "web is degraded"
    assert said[1] == "04:07:41 +01:00 41.2 requests/s 0.0 faults/s 3 in flight 12 connections".replace(
        "04:07:41", show_day(live["time"])
    )
    assert said[2].startswith("gateway adds 0.1 ms, lag 0.4 ms, CPU 0.02, memory 184 MB, the gateway answers itself")
    assert said[3] == "it is the app: web's requests fail"
    assert re.fullmatch(r"INC-31 web degraded since .*, 21 % of requests hit: web-7 ended by itself", said[4])
    assert said[6] == "app state ready req/s in flight p50 p99 verdict"
    assert said[7].startswith("web up 2/2 41.2 3/200 3.1 ms 41 ms web is up")
    assert said[11] == "web-7 ready 18 min 20.6 3/100 3.1 ms 41 ms 0.02 42 MB"
    assert said[10] == "web-10 ejected 18 min 20.6 3/100 3.1 ms 41 ms 0.02 42 MB (50 %) probe"


def show_day(text: str) -> str:
    """Another day than today is named."""
    return f"{text[5:10]} 04:07:41"


def test_top_json_is_the_whole_each_second_also_over_a_connection_that_ends(
    run: Run, api: Api, live: dict[str, Any]
) -> None:
    changed = {**live["instances"][0], "requests_per_s": 99.0}
    tick = {**live, "instances": [changed], "gone": ["web-10"], "verdict": "all is well"}
    api.streams[STREAM] = [[b": hello\n\n", message("whole", live), message("tick", tick)], [message("whole", live)]]
    api.answers[STREAM] = 403, {"title": "Over", "status": 403}  # what ends this test
    done = run("top", "--json", "--url", api.address)
    assert done.returncode == 1
    first, second, third = map(json.loads, done.stdout.splitlines()[:3])
    assert len(first["instances"]) == 2 and first["verdict"] == "web is degraded" and first == third
    assert second["instances"] == [changed] and second["verdict"] == "all is well"


def test_top_shows_each_second_on_a_terminal_and_that_nobody_answers(
    api: Api, live: dict[str, Any], terminal: Callable[..., Terminal]
) -> None:
    tick = {**live, "instances": [], "verdict": "all is well", "state": "up"}
    api.streams[STREAM] = [[message("whole", live)], [message("whole", live), message("tick", tick)]]
    api.answers[STREAM] = 403, {"title": "No more", "status": 403}
    one = terminal("top", "--url", api.address)
    one.expect("web is degraded")
    one.expect("no news since")
    one.expect("all is well")
    one.expect("No more")
    assert one.end() == 1


def test_instances_stand_in_the_order_of_their_numbers() -> None:
    assert sorted(["web-10", "web-9", "10.0.0.5:80", "b"], key=natural) == ["10.0.0.5:80", "b", "web-9", "web-10"]


# --- logs --------------------------------------------------------------------------------------------


def line(id: int, text: str, instance: str = "web-1", exception: str = "", stream: str = "out") -> dict[str, Any]:
    return {
        "id": id, "time": "2026-01-05T03:07:35.412Z", "app": "web", "instance": instance, "stream": stream,
        "line": text, "exception": exception,
    }  # fmt: skip


TRACE = [
    line(7, "fine", "web-10"),
    line(6, "KeyError: 'x'", exception="v1"),
    line(5, "log\x1b[2J", "web-10", stream="file:log/app.log"),
    line(4, '  File "a.py"', exception="v1"),
    line(3, "also fine", "web-10"),
    line(2, "Traceback", exception="v1"),
]


def test_logs_have_a_traceback_together_and_are_cleaned(run: Run, api: Api) -> None:
    api.answers["GET /api/v1/logs"] = 200, {"items": TRACE, "next": None}
    done = run("logs", "web", "--grep", "a b", "--since", "5m", "--url", api.address)
    assert done.returncode == 0, done.stderr
    said = [("web-1", "Traceback"), ("web-1", '  File "a.py"'), ("web-1", "KeyError: 'x'"), ("web-10", "also fine")]
    said += [("web-10 log/app.log", "log?[2J"), ("web-10", "fine")]
    assert done.stdout.splitlines() == [f"{name:<18} | {text}" for name, text in said]
    assert api.lines[-1] == "GET /api/v1/logs?limit=100&grep=a+b&since=5m&app=web"


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("web/web-7", "app=web&instance=web-7"),
        ("web", "app=web"),
        ("web-7", "instance=web-7"),
        ("10.0.0.5:80/x", "instance=10.0.0.5%3A80%2Fx"),
    ],
)
def test_whose_logs(run: Run, api: Api, what: str, asked: str) -> None:
    run("logs", what, "--limit", "3", "--url", api.address)
    assert api.lines[-1] == f"GET /api/v1/logs?limit=3&{asked}"


def test_logs_are_followed_from_where_the_list_ended_and_say_what_was_dropped(run: Run, api: Api) -> None:
    api.answers["GET /api/v1/logs"] = 200, {"items": TRACE[:1], "next": None}
    api.streams["GET /api/v1/logs"] = [
        [message("line", line(8, "first"), 8), b": still here\nid: 20\n\n"],
        [message("dropped", {"dropped": 12, "instance": "web-1", "words": "12 lines were lost"}, 21)],
        [message("line", line(30, "second\nand more"), 30)],
    ]
    api.coming["GET /api/v1/logs"] = [(200, api.answers["GET /api/v1/logs"][1])] * 2
    api.answers["GET /api/v1/logs"] = 403, {"title": "Over", "status": 403}
    done = run("logs", "-f", "--stream", "out", "--since", "1h", "--url", api.address)
    assert done.stdout.splitlines() == ["web-10 | fine", "web-1  | first", "web-1  | second", "web-1  | and more"]
    assert done.stderr.splitlines() == ["… web-1: 12 lines were lost", "Over"]
    assert done.returncode == 1
    assert api.asked == ["7", "20", "21"], "it goes on by id"
    followed = [one for one in api.lines if "follow" in one]
    assert followed[0] == "GET /api/v1/logs?follow=true&stream=out", "the past is not asked for again"


def test_tracebacks_of_two_instances_are_untangled() -> None:
    mixed = [
        line(1, "a1", "a", "v1"), line(2, "b1", "b", "v1"), line(3, "a2", "a", "v1"), line(4, "b2", "b", "v1"),
        line(5, "a3", "a"), line(6, "a4", "a", "v1"), line(7, "b3", "b", "v1"),
    ]  # fmt: skip
    assert [one["line"] for one in logs.together(mixed)] == ["a1", "a2", "b1", "b2", "b3", "a3", "a4"]


# --- incidents, exceptions, alerts -------------------------------------------------------------------


def test_incidents_are_a_table_and_one_is_a_timeline(run: Run, api: Api) -> None:
    said = lines(run("incidents", "--open", "--app", "web", "--since", "24h", "--url", api.address))
    assert said[0] == "id state severity who began lasted hit told cause"
    assert said[1].startswith("INC-31 open degraded web 01-05 04:07:41 31 s 0.2 % ops web-7 ended by itself")
    assert api.lines[-1] == "GET /api/v1/incidents?app=web&open=true&since=24h&limit=20"
    api.answers["GET /api/v1/incidents/INC-31"] = api.answers["GET /api/v1/incidents/{id}"]
    one = lines(run("incidents", "INC-31", "--url", api.address))
    assert one[0].startswith("INC-31: web degraded: web-7 ended by itself")
    assert "hit 5 of 2,750 requests (0.2 %): 5 instance-exited" in one
    assert any(text.startswith("01-05 04:07:42 +01:00 opened web-7") for text in one)
    assert any(text.endswith("ops sent") for text in one)
    assert one[-1] == "why triage why INC-31"
    api.answers["GET /api/v1/incidents"] = 200, {"items": [], "next": None}
    assert lines(run("incidents", "--open", "--url", api.address)) == ["No incident is open."]


def test_exceptions_are_a_table_and_one_is_its_text(run: Run, api: Api) -> None:
    found = api.answers["GET /api/v1/exceptions/{id}"][1]
    api.answers["GET /api/v1/exceptions"] = 200, {"items": [found], "next": None}
    said = lines(run("exceptions", "--app", "web", "--url", api.address))
    assert said[0] == "id app seen count last hour last type where message"
    assert said[1] == f"{found['id']} web printed 41 41 01-05 04:07:35 KeyError price in shop/cart.py:12 'price'"
    api.answers[f"GET /api/v1/exceptions/{found['id']}"] = 200, found
    one = lines(run("exceptions", found["id"], "--url", api.address))
    assert one[0] == "KeyError: 'price'" and one[-1] == "KeyError: 'price'"
    assert "app web (python)" in one and "versions 5b1c0de" in one


def test_alerts_say_who_is_told_and_a_test_says_what_came_of_it(run: Run, api: Api) -> None:
    said = lines(run("alerts", "--url", api.address))
    assert "errors web met 31 of 100 requests failed in the last 1m ops" in said
    assert "down (built in) watching ops" in said
    assert "ops webhook https://example.com/*** failing 1 status 500: oops" in said
    assert "01-05 04:07:50 INC-31 ops waiting 3 status 500: oops" in said
    assert lines(run("alerts", "test", "ops", "--url", api.address))[0].startswith(
        "ops (https://example.com/***) took it after 31 ms: status 200"
    )
    assert json.loads(api.calls[-1][2]) == {"notifier": "ops"}
    answer(api, "POST /api/v1/alerts/test").update(ok=False, error="status 500: oops")
    done = run("alerts", "test", "ops", "--url", api.address)
    assert done.returncode == 1 and "did not take it" in done.stderr and not done.stdout
    assert run("alerts", "try", "--url", api.address).returncode == 2


def test_mute_is_an_act_that_lasts_or_ends(run: Run, api: Api) -> None:
    operation = {**api.answers["POST /api/v1/apps/web/restart"][1], "act": "mute"}
    api.answers["POST /api/v1/apps/web/mute"] = 202, operation
    for args, sent in (
        (["--for", "1h", "--note", "a sale"], {"for": "1h", "reason": "a sale"}),
        (["--end"], {"unmute": True}),
    ):
        done = run("mute", "web", *args, "--no-wait", "--url", api.address)
        assert done.returncode == 0 and done.stdout.startswith("op-"), done.stderr
        assert json.loads(api.calls[-1][2]) == sent
    for args in ([], ["--for", "1h", "--end"], ["--for", "soon"]):
        assert run("mute", "web", *args, "--url", api.address).returncode == 2


# --- metrics -----------------------------------------------------------------------------------------


def series(name: str, unit: str, stat: str, points: list[list[float | None]], **whose: str) -> dict[str, Any]:
    return {"name": name, "unit": unit, "stat": stat, "app": "web", "instance": "", "points": points, **whose}


def test_metrics_are_listed_and_one_is_a_table(run: Run, api: Api) -> None:
    said = lines(run("metrics", "--url", api.address))
    assert said[0] == "metric unit of stats meaning"
    assert "response_time seconds app instance p50 p90 *p99 p999 mean max count heatmap Whole requests" in said[1]
    api.answers["GET /api/v1/metrics/query"] = 200, {
        "from": "2026-01-05T03:00:00.000Z", "to": "2026-01-05T03:01:00.000Z", "step_s": 20, "source": "10 s",
        "series": [
            series("response_time", "seconds", "p99", [[1767582000, None], [1767582020, 0.04], [1767582040, 0.25]]),
            series("requests", "requests", "rate", [[1767582000, None], [1767582020, 41.2], [1767582040, 1234.0]]),
            series("memory", "bytes", "last", [[1767582000, None], [1767582020, 52e6], [1767582040, None]]),
        ],
    }  # fmt: skip
    asked = run("metrics", "response_time,requests,memory", "--app", "web", "--since", "1h", "--url", api.address)
    said = lines(asked)
    assert said[0] == "of metric now mean min max"
    assert said[1] == "web response_time p99 250 ms 40 ms 250 ms", "percentiles have no mean"
    assert said[2] == "web requests rate 1,234/s 638/s 41/s 1,234/s"
    assert said[3] == "web memory last 52 MB 52 MB 52 MB 52 MB"
    assert said[5] == "time +01:00 response_time requests memory"
    assert said[6:8] == ["04:00:20 40 ms 41/s 52 MB", "04:00:40 250 ms 1,234/s"]
    assert said[8] == "each of 20 s, from points of 10 s"
    assert api.lines[-1] == (
        "GET /api/v1/metrics/query?app=web&name=response_time%2Crequests%2Cmemory&from=1h&step=300s"
    )
    done = run("metrics", "cpu", "--instance", "each", "--app", "web", "--step", "1m", "--json", "--url", api.address)
    assert json.loads(done.stdout)["step_s"] == 20
    query = set(api.lines[-1].partition("?")[2].split("&"))
    assert query == {"app=web", "instance=each", "name=cpu", "from=15m", "step=1m"}
    assert run("metrics", "response_time", "--stat", "heatmap", "--url", api.address).returncode == 2


def test_a_step_makes_a_screenful() -> None:
    assert (step_of("15m"), step_of("1m"), step_of("7d"), step_of("90d")) == ("60s", "5s", "43200s", "604800s")
    assert step_of("nonsense") is None
    assert step_of("2026-01-05T03:00:00Z") is not None


def test_a_sparkline_fits_and_shows_gaps() -> None:
    assert show.sparkline([0, 1, None, 4.5, 8]) == "▁▂ ▅█"
    assert show.sparkline([]) == "" and show.sparkline([0, 0]) == "▁▁" and show.sparkline([None]) == " "
    wide = show.sparkline([*range(999), None], 40)
    assert len(wide) == 40 and wide[0] == "▁" and wide[-1] == "█"


# --- open --------------------------------------------------------------------------------------------


def test_open_prints_the_address_where_there_is_no_browser(run: Run, api: Api) -> None:
    api.answers["POST /api/v1/login-links"] = 200, {"url": "http://127.0.0.1:9900/login?code=x", "expires_s": 60}
    for args in (["inc-31", "--print"], ["inc-31"]):
        done = run("open", *args, "--url", api.address, DISPLAY="", WAYLAND_DISPLAY="")
        assert lines(done) == ["http://127.0.0.1:9900/login?code=x"]
        assert json.loads(api.calls[-1][2]) == {"to": "#/incidents/INC-31"}
    assert json.loads(run("open", "--json", "--url", api.address).stdout)["expires_s"] == 60


def test_open_starts_the_browser_that_there_is(run: Run, api: Api, tmp_path: Path) -> None:
    api.answers["POST /api/v1/login-links"] = 200, {"url": "http://127.0.0.1:9900/login?code=x", "expires_s": 60}
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    done = run("open", "web", "--url", api.address, DISPLAY=":9", BROWSER=f"{browser} %s")
    assert done.returncode == 0 and done.stdout == "", done
    assert (tmp_path / "opened").read_text() == "http://127.0.0.1:9900/login?code=x\n"


@pytest.mark.parametrize(
    ("what", "to"),
    [
        ("", "#/"), ("metrics", "#/metrics"), ("web", "#/apps/web"), ("web/10.0.0.5:80", "#/apps/web/10.0.0.5%3A80"),
        ("INC-31", "#/incidents/INC-31"), ("op-3", "#/operations/op-3"),
        ("7f3a91016957e2dd", "#/requests/7f3a91016957e2dd"), ("#/logs?app=web", "#/logs?app=web"),
    ],
)  # fmt: skip
def test_what_is_opened(what: str, to: str) -> None:
    assert page(what) == to


# --- all of them -------------------------------------------------------------------------------------

VERBS = ("top", "logs", "incidents", "exceptions", "metrics", "alerts", "mute web --end", "open")


@pytest.mark.parametrize("verb", VERBS)
def test_where_no_gateway_is_it_is_said_and_the_code_is_three(run: Run, verb: str, tmp_path: Path) -> None:
    done = run(*verb.split(), "--json", "--url", f"unix:{tmp_path}/nothing.sock")
    assert done.returncode == 3 and json.loads(done.stdout)["title"] == "No gateway answers"


def test_off_a_terminal_rich_is_not_imported(run: Run, api: Api, live: dict[str, Any]) -> None:
    """Nor by the start of the command anything that only one verb needs."""
    api.streams[STREAM] = [[message("whole", live)]]
    done = run("top", "--url", api.address, python=("-X", "importtime"))
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "proxy.cli.following" in loaded  # what the verb itself is imported by is not listed
    assert not loaded & {"asyncio", "rich", "webbrowser", "msgspec", "proxy.control", "proxy.config"}


def test_status_of_an_app_asks_for_it_alone(run: Run, api: Api) -> None:
    assert run("status", "web", "--url", api.address).returncode == 0
    assert api.lines == ["GET /api/v1/apps/web"]
