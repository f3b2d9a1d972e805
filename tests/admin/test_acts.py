"""Acts at the admin API of a real gateway: begun, foreseen, refused, followed, told in the events."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from proxy.admin import streams
from proxy.admin.examples import FORESEEN
from proxy.admin.routes import ROUTES

pytestmark = pytest.mark.slow
ACTS = [route for route in ROUTES if route.method == "POST" and "preview" in route.body]


async def begun(api, path: str, **body: Any) -> Any:
    """The operation of an act that must begin."""
    status, value = await api.call("POST", path, body=body)
    assert status == 202, value
    return value


async def ended(api, operation: Any) -> Any:
    """It, as it ended; every look waits for news."""
    while operation["state"] == "running":
        operation = await api.get(f"operations/{operation['id']}", wait="30s", seen=operation["told"])
    return operation


async def done(api, path: str, **body: Any) -> Any:
    found = await ended(api, await begun(api, path, **body))
    assert found["state"] == "done", found
    return found


async def refused(api, path: str, **body: Any) -> Any:
    status, problem = await api.call("POST", path, body=body)
    assert status == 409, problem
    assert problem["title"] and problem["detail"]
    return problem


async def names(api) -> list[str]:
    return [one["id"] for one in (await api.get("apps/web"))["instances"] if one["lifecycle"] == "ready"]


async def test_a_recycle_is_followed_to_its_end_and_told_with_who_asked(api) -> None:
    old = (await names(api))[0]
    status, operation = await api.call(
        "POST", f"apps/web/instances/{old}/recycle", body={"reason": "it leaks", "collect": False}
    )
    assert status == 202
    assert operation["act"] == "recycle" and operation["target"] == f"web/{old}" and operation["reason"] == "it leaks"
    shown = await api.get("apps/web")
    assert [one["id"] for one in shown["operations"]] == [operation["id"]]
    assert operation["id"] in [one["id"] for one in (await api.get("operations", running="true"))["items"]]

    over = await ended(api, operation)
    assert over["state"] == "done", over
    assert over["steps"] and over["told"] == len(over["steps"]) and over["took_s"] > 0
    assert old not in await names(api)
    assert (await api.get("operations"))["items"][0]["id"] == operation["id"]
    gone = await api.get(f"apps/web/instances/{old}")
    assert [one["lifecycle"] for one in gone["path"]][-3:] == ["draining", "stopping", "stopped"]

    told = (await api.get("events", kind="recycle"))["items"][0]
    assert told["instance"] == old and "it leaks" in told["words"]
    assert told["data"]["by"] == "by hand" and told["data"]["operation"] == operation["id"]
    assert told["data"]["way"].startswith("socket, uid ")
    problem = await refused(api, f"apps/web/instances/{old}/recycle")
    assert problem["type"] == "urn:triage:ended"
    await api.both_ready()


async def test_location_leads_to_the_operation_and_the_token_s_peer_is_told(api) -> None:
    url = f"{api.triage.admin}/api/v1/apps/web/autoheal"
    headers = {"Authorization": f"Bearer {api.triage.token}"}
    async with api.tcp.post(url, json={"enabled": False, "for": "10m"}, headers=headers) as answer:
        assert answer.status == 202
        where = answer.headers["Location"]
        operation = orjson.loads(await answer.read())
    assert where == f"/api/v1/operations/{operation['id']}"
    assert (await ended(api, await api.get(where)))["way"] == "token, from 127.0.0.1"
    setting = (await api.get("apps/web"))["by_hand"]["autoheal"]
    assert setting["value"] == "off" and setting["by"] == "by hand" and setting["until"] > setting["time"]
    await done(api, "apps/web/autoheal", enabled=True)
    assert (await api.get("apps/web"))["by_hand"] == {}


async def test_preview_says_what_will_happen_and_does_nothing(api) -> None:
    one = (await names(api))[0]
    before = (await api.get("events", limit=1))["items"][0]["id"]
    for path, body in (
        ("apps/web/restart", {}), ("apps/web/stop", {}), ("apps/web/hold", {}), ("apps/web/scale", {"instances": 4}),
        ("apps/web/autoheal", {"enabled": False}), (f"apps/web/instances/{one}/recycle", {}),
        (f"apps/web/instances/{one}/eject", {}),
    ):  # fmt: skip
        status, seen = await api.call("POST", path, body={**body, "preview": True})
        assert status == 200, seen
        assert seen["will"] and isinstance(seen["at_stake"], bool) and set(seen) == set(FORESEEN)
        assert seen["at_stake"] is True or not path.endswith(("stop", "hold"))
    after = [event for event in (await api.get("events", limit=20))["items"] if int(event["id"]) > int(before)]
    assert not [event for event in after if "operation" in event["data"]]
    status, problem = await api.call("POST", "apps/web/release", body={"preview": True})
    assert status == 409 and problem["type"] == "urn:triage:not-held"  # what is not possible is not foreseen either


async def test_two_at_once_on_one_instance_are_one(api) -> None:
    one = (await names(api))[0]
    answers = await asyncio.gather(
        *[api.call("POST", f"apps/web/instances/{one}/recycle", body={"collect": False}) for _ in range(4)]
    )
    assert sorted(status for status, _ in answers) == [202, 409, 409, 409]
    operation = next(value for status, value in answers if status == 202)
    for problem in (value for status, value in answers if status == 409):
        assert problem["type"] == "urn:triage:already" and operation["id"] in problem["hint"]
    assert (await ended(api, operation))["state"] == "done"
    await api.both_ready()


async def test_an_ejected_instance_is_shown_and_admitted_again(api) -> None:
    one, other = await names(api)
    await done(api, f"apps/web/instances/{one}/eject", reason="looks odd")
    shown = await api.get(f"apps/web/instances/{one}")
    assert shown["admission"] == "ejected" and shown["ejected_by"] == "hand"
    assert shown["by_hand"]["ejected"]["why"] == "looks odd"
    problem = await refused(api, f"apps/web/instances/{other}/eject")
    assert problem["type"] == "urn:triage:last-one" and "force" in problem["hint"]
    await done(api, f"apps/web/instances/{one}/admit")
    assert (await api.get(f"apps/web/instances/{one}"))["admission"] == "admitting"
    assert (await api.get("apps/web"))["by_hand"] == {}


async def test_a_held_app_s_requests_wait_until_it_is_released(api) -> None:
    await done(api, "apps/web/hold", reason="a migration")
    shown = await api.get("apps/web")
    assert shown["state"] == "held" and shown["by_hand"]["state"]["value"] == "held"
    assert (await refused(api, "apps/web/start"))["type"] == "urn:triage:held"
    waiting = asyncio.ensure_future(api.app("/"))

    async def waits() -> bool:
        return bool((await api.get("apps/web"))["waiting"])

    await api.until(waits, "the request waits")
    assert not waiting.done()
    await done(api, "apps/web/release")
    assert (await waiting)[0] == 200


async def test_stop_and_start_and_scale(api) -> None:
    await done(api, "apps/web/scale", instances=1)
    shown = await api.get("apps/web")
    assert shown["wanted"] == 1 and shown["by_hand"]["count"]["value"] == 1
    await done(api, "apps/web/stop")
    assert (await api.app("/"))[0] == 503
    assert (await refused(api, "apps/web/restart"))["hint"] == "`triage start web`"
    await done(api, "apps/web/start")
    assert (await api.app("/"))[0] == 200
    await done(api, "apps/web/scale", auto=True)
    await api.both_ready()
    assert (await api.get("apps/web"))["by_hand"] == {}


@pytest.mark.parametrize(
    ("path", "body", "kind", "words"),
    [
        ("apps/web/restart", {"colect": False}, "unknown-field", "'collect'"),
        ("apps/web/restart", {"collect": "no"}, "bad-field", "true or false"),
        ("apps/web/restart", {"reason": 5}, "bad-field", "text"),
        ("apps/web/restart", {"reason": "x" * 501}, "bad-field", "500"),
        ("apps/web/scale", {}, "nothing-asked", "instances"),
        ("apps/web/scale", {"instances": 1, "auto": True}, "contradiction", "Both"),
        ("apps/web/scale", {"instances": -1}, "bad-field", "1,000"),
        ("apps/web/scale", {"instances": True}, "bad-field", "number"),
        ("apps/web/scale", {"instances": 1e9}, "bad-field", "number"),
        ("apps/web/scale", {"memory": "lots"}, "bad-field", "512MB"),
        ("apps/web/scale", {"memory": 2**63}, "bad-field", "512MB"),
        ("apps/web/scale", {"cpus": -1}, "bad-field", "1.5"),
        ("apps/web/stop", {"for": 0}, "bad-field", "more than 0"),
        ("apps/web/stop", {"for": "5"}, "bad-field", "10m"),
        ("apps/web/autoheal", {}, "nothing-asked", "enabled"),
        ("apps/web/autoheal", {"enabled": True, "for": "1h"}, "contradiction", "off"),
    ],
)
async def test_content_that_is_wrong(api, path: str, body: Any, kind: str, words: str) -> None:
    status, problem = await api.call("POST", path, body=body)
    assert status == 400 and problem["type"] == f"urn:triage:{kind}", problem
    assert words in f"{problem['detail']} {problem['hint']}"


async def test_a_reason_is_one_line_without_control_characters(api) -> None:
    operation = await begun(api, "apps/web/autoheal", enabled=False, reason="a\r\nSet-Cookie: x\x1b[2J\u202e b")
    assert operation["reason"] == "a Set-Cookie: x [2J b"
    await done(api, "apps/web/autoheal", enabled=True)


@pytest.mark.parametrize("route", ACTS, ids=lambda route: route.path)
async def test_acts_are_for_those_who_may(api, route) -> None:
    """Without the token, from a page of another place, as a form: refused before anything is looked at."""
    path = route.path.replace("{app}", "web").replace("{instance}", "web-1").replace("{pid}", "1")
    token = {"Authorization": f"Bearer {api.triage.token}"}
    before = (await api.get("operations", limit=1))["items"]
    for status, headers in (
        (401, {}),
        (401, {"Authorization": "Bearer wrong"}),
        (403, {**token, "Origin": "https://evil.example.com"}),
        (403, {**token, "Sec-Fetch-Site": "cross-site"}),
        (403, {**token, "Host": "evil.example.com"}),
        (415, {**token, "Content-Type": "text/plain"}),
        (415, {**token, "Content-Type": "application/x-www-form-urlencoded"}),
    ):
        async with api.tcp.post(f"{api.triage.admin}{path}", data=b"{}", headers=headers) as answer:
            assert answer.status == status, (headers, await answer.text())
    if not any(one.path == route.path and one.method == "GET" for one in ROUTES):
        status, problem = await api.call("GET", path)
        assert status == 405 and "POST" in problem["detail"]
    assert (await api.get("operations", limit=1))["items"] == before


async def test_an_act_on_what_is_not_there(api) -> None:
    for path in ("apps/wep/restart", "apps/web/instances/web-999/recycle"):
        status, problem = await api.call("POST", path, body={})
        assert status == 404 and problem["hint"]


# --- operations --------------------------------------------------------------------------------------


async def test_waiting_ends_with_the_time_or_with_news(api) -> None:
    one = (await names(api))[0]
    operation = await begun(api, f"apps/web/instances/{one}/recycle", collect=False)
    began = time.monotonic()
    early = await api.get(f"operations/{operation['id']}", wait="30s", seen=operation["told"])
    assert early["told"] > operation["told"] or early["state"] != "running"
    assert time.monotonic() - began < 25
    same = await api.get(f"operations/{operation['id']}", wait="10ms")  # nothing new meanwhile: as it is
    assert same["told"] >= early["told"]
    over = await ended(api, same)
    assert (await api.get(f"operations/{operation['id']}", wait="30s"))["ended"] == over["ended"]  # at once
    for wait in ("0s", "soon", "-1s"):
        status, problem = await api.call("GET", f"operations/{operation['id']}", wait=wait)
        assert status == 400 and ("30s" in problem["detail"] or "more than 0" in problem["detail"])
    await api.both_ready()


async def test_operations_are_in_pages(api) -> None:
    for _ in range(3):
        await done(api, "apps/web/autoheal", enabled=False)
        await done(api, "apps/web/autoheal", enabled=True)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await api.get("operations", limit=2, **cursor)
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    numbers = [int(id.removeprefix("op-")) for id in seen]
    assert len(numbers) >= 6 and numbers == sorted(set(numbers), reverse=True)
    assert not (await api.get("operations", app="away"))["items"]


# --- events as they come -----------------------------------------------------------------------------


class Following:
    """A stream of events, read line by line."""

    def __init__(self, api, **headers: str) -> None:
        self.api = api
        self.headers = headers

    async def __aenter__(self) -> Following:
        url = "http://localhost/api/v1/events?follow=true&app=web"
        self.answer = await self.api.unix.get(url, headers=self.headers)
        assert self.answer.status == 200, self.api.triage.said()
        assert self.answer.content_type == "text/event-stream" and self.answer.headers["Cache-Control"] == "no-store"
        assert (await self.answer.content.readline()).startswith(b": ")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.answer.close()

    async def next(self) -> tuple[str, Any]:
        """Name and data of the next message."""
        name, data = "", None
        while True:
            line = (await self.answer.content.readline()).rstrip(b"\n")
            kind, _, value = line.partition(b": ")
            if kind == b"event":
                name = value.decode()
            elif kind == b"data":
                data = orjson.loads(value)
            elif not line and data is not None:
                return name, data


async def test_events_are_followed_and_resumed_where_one_left_off(api) -> None:
    async with Following(api) as following:
        await done(api, "apps/web/autoheal", enabled=False, reason="to be seen")
        name, first = await following.next()
        assert name == "event" and first["kind"] == "autoheal" and "to be seen" in first["words"]
    await done(api, "apps/web/autoheal", enabled=True)
    listed = [event for event in (await api.get("events", app="web"))["items"] if int(event["id"]) > int(first["id"])]
    async with Following(api, **{"Last-Event-ID": first["id"]}) as following:
        again = [(await following.next())[1] for _ in listed]
    assert again == list(reversed(listed))


async def test_following_is_bounded_and_takes_no_pages(api) -> None:
    status, problem = await api.call("GET", "events", follow="true", limit=5)
    assert status == 400 and "follow" in problem["detail"]
    status, problem = await api.call("GET", "events", follow="yes")
    assert status == 400
    async with api.unix.get(
        "http://localhost/api/v1/events?follow=true", headers={"Last-Event-ID": "x"}
    ) as answer:
        assert answer.status == 400
    async with asyncio.timeout(40):
        many = [await Following(api).__aenter__() for _ in range(streams.MOST_OF_ONE)]
        try:
            status, problem = await api.call("GET", "events", follow="true")
            assert status == 429 and problem["type"] == "urn:triage:too-many-of-yours"
        finally:
            for one in many:
                await one.__aexit__()

        async def free() -> bool:
            async with api.unix.get("http://localhost/api/v1/events?follow=true") as answer:
                return answer.status == 200

        await api.until(free, "those that left make room")


async def test_events_of_one_instance(api) -> None:
    one = (await names(api))[0]
    found = (await api.get("events", instance=one))["items"]
    assert found and {event["instance"] for event in found} == {one}


# --- rules -------------------------------------------------------------------------------------------


async def test_rules_are_shown_with_how_far_they_are_from_a_firing(api) -> None:
    async def looked_at() -> Any:
        found = await api.get("apps/web/autoheal")
        return found if any(one["nearest"] for one in found["rules"]) else None

    found = await api.until(looked_at, "rules have seen something")
    hung = next(one for one in found["rules"] if one["id"] == "builtin hung")
    assert found["enabled"] is True and hung["builtin"] is True and hung["state"] in ("watching", "met", "suppressed")
    assert hung["then"] and hung["when"] and hung["guards"]["max_per_hour"]
    for rule in found["rules"]:
        assert all(0.0 <= one["share"] <= 1.0 and one["distance"] for one in rule["targets"])
    every = {one["id"]: one for one in (await api.get("autoheal"))["items"]}
    assert set(every) == {"web", "away"}
    await done(api, "apps/web/autoheal", enabled=False)
    off = await api.get("apps/web/autoheal")
    assert off["enabled"] is False and off["by_hand"]["value"] == "off"
    assert (await api.get("apps/web"))["autoheal"]["enabled"] is False
    await done(api, "apps/web/autoheal", enabled=True)


async def test_a_rule_is_replayed_over_what_was_recorded(api) -> None:
    async def recorded() -> Any:
        status, found = await api.call("POST", "autoheal/replay", body={"app": "web", "rule": "hung", "since": "1h"})
        assert status == 200, found
        return found if found["points"] else None

    found = await api.until(recorded, "there are points")
    assert found["rule"] == "hung" and not found["fired"] and "would not have fired" in found["verdict"]
    rule = {"when": {"requests": {"above": 10000, "within": "1m"}}}
    status, found = await api.call("POST", "autoheal/replay", body={"app": "web", "rule": rule})
    assert status == 200 and found["when"].startswith("requests above") and not found["fired"]


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"app": "web"}, 400, "nothing-asked", "hung"),
        ({"rule": "hung"}, 404, "no-such-app", "web"),
        ({"app": "web", "rule": "hum"}, 404, "no-such-rule", "hung"),
        ({"app": "web", "rule": 5}, 400, "bad-field", "object"),
        ({"app": "web", "rule": {"when": {"requests": {"abov": 1}}}}, 400, "bad-rule", "above"),
        ({"app": "web", "rule": {"when": {"memory": {"above": "${SOME_API_TOKEN}"}}}}, 400, "bad-rule", "memory"),
        ({"app": "web", "rule": "= = ["}, 400, "bad-rule", "line 1"),
        ({"app": "web", "rule": "hung", "since": "yesterday"}, 400, "bad-parameter", "5m"),
    ],
)
async def test_what_cannot_be_replayed(api, body: Any, status: int, kind: str, words: str) -> None:
    found, problem = await api.call("POST", "autoheal/replay", body=body)
    assert found == status and problem["type"] == f"urn:triage:{kind}", problem
    assert words in f"{problem['detail']} {problem['hint']}" and "geheim" not in str(problem)
