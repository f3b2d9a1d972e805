"""The admin API of a real gateway: every route, every shape, every refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.admin.routes import ROUTES
from proxy.control.metrics.families import FAMILIES
from proxy.control.metrics.table import METRICS

OPEN = ("classes", "faults", "recent_faults", "packages", "environment", "data", "by_hand", "config.config",
        "variables", "by_kind", "by_state", "memory_by_kind", "counts", "io", "figures", "values", "pressure",
        "settings")
"""Objects whose keys are not those of the example."""


def missing(example: Any, found: Any, at: str = "") -> list[str]:
    """What the table's example has and the answer has not."""
    lacks = []
    if isinstance(example, dict) and isinstance(found, dict):
        for key, value in example.items():
            if at.endswith(OPEN):
                continue
            if key not in found:
                lacks.append(f"{at}.{key}")
            else:
                lacks += missing(value, found[key], f"{at}.{key}")
    elif isinstance(example, list) and isinstance(found, list) and example and found:
        lacks += missing(example[0], found[0], f"{at}[0]")
    return lacks


async def test_every_route_answers_in_the_shape_of_the_table(api) -> None:
    _, id = await api.app("/raise")
    await api.kept(id)

    async def told() -> bool:
        return (await api.call("GET", f"requests/{id}/story"))[0] == 200

    await api.until(told, "its story is kept")
    first = (await api.get("apps/web"))["instances"][0]
    status, operation = await api.call("POST", "config/reload", body={"reason": "a test"})
    assert status == 202
    for route in ROUTES:
        if route.method != "GET" or route.content != "application/json":
            continue
        if route.path.startswith(("/api/v1/vfs/", "/api/v1/console")):
            continue  # closed here
        if "{id}" in route.path and not any(part in route.path for part in ("/requests/", "/operations/")):
            continue  # these have ids of their own, and there may be none: the tests of each look at them
        which = operation["id"] if "operations" in route.path else id
        named = {"app": "web", "instance": first["id"], "pid": first["pid"], "id": which}
        path = route.path.format(**named)
        asked = {"name": "response_time", "app": "web"} if path.endswith("metrics/query") else {}
        answer = await api.get(path, **asked)
        absent = ("timings.", ".idle_ms", "attempts[0].")  # what has no value is left out there
        lacks = [name for name in missing(route.example, answer) if not any(part in name for part in absent)]
        assert not lacks, path


async def test_the_verdict_comes_first(api) -> None:
    answer = await api.get("status")
    assert next(iter(answer)) == "verdict"
    assert answer["state"] in ("up", "degraded", "down")
    gateway = answer["gateway"]
    assert len(gateway["listen"]) == 1 and gateway["listen"][0].startswith("http://127.0.0.1:")
    assert gateway["config"]["path"] == str(api.triage.config)
    assert [app["id"] for app in answer["apps"]] == ["web", "away"]
    web = answer["apps"][0]
    assert web["ready"] == web["wanted"] == 2
    assert all(one["lifecycle"] == "ready" and one["pid"] for one in web["instances"])
    assert gateway["workers"][0]["state"] == "alive"


async def test_secrets_are_masked(api) -> None:
    for path in ("config", "environment", "status"):
        async with api.unix.get(f"http://localhost/api/v1/{path}") as answer:
            text = await answer.text()
        assert "very-secret" not in text
        assert api.triage.token not in text


async def test_readyz_speaks_for_one_app(api) -> None:
    assert (await api.call("GET", "/readyz", app="web")) == (200, {"ready": True, "reasons": []})
    status, problem = await api.call("GET", "/readyz", app="nobody")
    assert status == 404 and "web" not in problem["hint"]  # told without a token


@pytest.mark.parametrize(
    ("path", "status", "kind", "words"),
    [
        ("nothing", 404, "no-such-path", "openapi.json"),
        ("/nothing.html", 404, "no-such-path", ""),
        ("apps/wep", 404, "no-such-app", "web"),
        ("apps/web/instances/web-99", 404, "no-such-instance", "web-"),
        ("requests?stauts=5xx", 400, "unknown-parameter", "'status'"),
        ("requests?status=5x", 400, "bad-parameter", "5xx"),
        ("requests?slower=fast", 400, "bad-parameter", "1s"),
        ("requests?fault=conect-refused", 400, "bad-parameter", "'connect-refused'"),
        ("requests?limit=0", 400, "bad-parameter", "1 to 1000"),
        ("requests?limit=1001", 400, "bad-parameter", "1 to 1000"),
        ("requests?cursor=x", 400, "bad-parameter", "next"),
        ("requests?since=yesterday", 400, "bad-parameter", "5m"),
        ("requests?app=a&app=b", 400, "bad-parameter", "twice"),
        ("status?x=1", 400, "unknown-parameter", "none"),
        ("requests/zz", 400, "too-short", ""),
        ("requests/not-an-id-of-ours", 404, "unknown-request", "X-Request-ID"),
        ("requests/ffffffffffffffff/why", 404, "unknown-request", "triage requests"),
        ("operations/op-999", 404, "no-such-operation", ""),
    ],
)
async def test_what_is_wrong_is_told_and_what_would_be_right(
    api, path: str, status: int, kind: str, words: str
) -> None:
    url = path if path.startswith("/") else f"/api/v1/{path}"
    async with api.unix.get(f"http://localhost{url}") as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert answer.status == status
    assert problem["type"] == f"urn:triage:{kind}" and problem["status"] == status and problem["title"]
    assert words in " ".join((problem["detail"], problem["hint"]))


async def test_a_method_that_does_not_go_here(api) -> None:
    status, problem = await api.call("DELETE", "status")
    assert status == 405 and problem["type"] == "urn:triage:method-not-allowed" and "GET" in problem["detail"]
    status, _ = await api.call("POST", "apps/web")
    assert status == 405


@pytest.mark.parametrize("body", [[], "text", 5])
async def test_content_must_be_an_object(api, body: Any) -> None:
    status, problem = await api.call("POST", "config/reload", body=body)
    assert status == 400 and problem["type"] == "urn:triage:bad-json"


async def test_unknown_fields_are_refused(api) -> None:
    status, problem = await api.call("POST", "config/reload", body={"reson": "x"})
    assert status == 400 and "reason" in problem["detail"]
    status, problem = await api.call("POST", "config/reload", body={"reason": 5})
    assert status == 400 and problem["type"] == "urn:triage:bad-field"


async def test_a_config_is_checked_without_being_used(api) -> None:
    status, answer = await api.call("POST", "config/check", body={"text": "[apps.web.process]\ncomand = 1\n"})
    assert status == 200 and answer["ok"] is False
    assert any("comand" in problem and "command" in problem for problem in answer["problems"])
    status, answer = await api.call("POST", "config/check", body={})
    assert status == 200 and answer["ok"] is True, answer


async def test_a_bad_config_changes_nothing_and_says_so(api) -> None:
    api.triage.config.write_text(api.triage.text + "\n[apps.web.healt]\npath = 5\n")
    try:
        status, problem = await api.call("POST", "config/reload", body={})
        assert status == 422 and problem["problems"] and "nothing was changed" in problem["title"]
        assert (await api.get("status"))["gateway"]["config"]["error"]
        assert (await api.get(f"operations/{problem['operation']}"))["state"] == "failed"
        assert (await api.app("/"))[0] == 200
    finally:
        api.triage.config.write_text(api.triage.text)
    status, answer = await api.call("POST", "config/reload", body={})
    assert status == 202 and answer["state"] == "done"
    assert (await api.get("status"))["gateway"]["config"]["error"] == ""
    # the admin API's own sockets survive a reload
    assert (await api.over_tcp("/healthz"))[0] == 200
    kinds = [event["kind"] for event in (await api.get("events", kind="reload"))["items"]]
    assert kinds and set(kinds) == {"reload"}


async def test_a_failed_request_is_found_by_each_filter(api) -> None:
    status, id = await api.app("/raise?token=hidden", **{"X-Request-ID": "my-own-17"})
    assert status == 500
    record = await api.listed(id)
    assert record["fault"] == "app-error" and record["status"] == 500 and record["app"] == "web"
    assert record["timings"]["total_ms"] > 0
    for params in (
        {"app": "web"}, {"status": "500"}, {"status": "5xx"}, {"fault": "app-error"}, {"fault": "any"},
        {"method": "get"}, {"path": "/raise"}, {"path": "/ra*"}, {"since": "10m"}, {"instance": record["instance"]},
    ):  # fmt: skip
        assert id in [item["id"] for item in (await api.get("requests", **params))["items"]], params
    for params in ({"app": "away"}, {"status": "502"}, {"slower": "20s"}, {"path": "/x"}, {"method": "POST"}):
        assert id not in [item["id"] for item in (await api.get("requests", **params))["items"]], params
    why = await api.get(f"requests/{id}/why")
    assert "hidden" not in why["text"]


async def test_pages(api) -> None:
    ids = [(await api.app("/raise"))[1] for _ in range(5)]
    for id in ids:
        await api.listed(id)
    seen, cursor = [], None
    while True:
        page = await api.get("requests", limit=2, fault="app-error", **({"cursor": cursor} if cursor else {}))
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) and set(ids) <= set(seen)


async def test_why_of_a_crash(api) -> None:
    status, id = await api.app("/crash")
    assert status == 502
    record = await api.kept(id)

    async def explained() -> Any:
        found = await api.get(f"requests/{id}/why")
        wanted = ("exit code 3", "Certain: its exit status", "RuntimeError: the price list is gone")
        return found if all(words in " ".join(found["text"].split()) for words in wanted) else None

    why = await api.until(explained, "the exit is known")
    assert record["instance"] in why["why"][0]
    assert why["certainty"] == "very likely"
    assert why["request"]["fault"] == "instance-exited"
    lines = why["text"].splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 96
    gone = await api.get(f"apps/web/instances/{record['instance']}")
    assert gone["last_exit"]["code"] == 3 and gone["last_exit"]["certainty"] == "certain"
    assert any("price list" in line for line in gone["last_lines"])
    await api.both_ready()
    kinds = {event["kind"] for event in (await api.get("events", app="web"))["items"]}
    assert {"exited", "ready"} <= kinds


async def test_a_lost_post_says_that_it_may_not_be_repeated(api) -> None:
    status, id = await api.app("/crash", method="POST", data=b"x" * 100)
    assert status == 502
    await api.kept(id)
    why = await api.get(f"requests/{id}/why")
    assert "Look before anyone repeats it" in " ".join(why["lost"])
    await api.both_ready()


async def test_why_of_a_hang_has_its_stack(api) -> None:
    status, id = await api.app("/hang")
    assert status == 504
    await api.kept(id)
    why = await api.get(f"requests/{id}/why")
    assert why["request"]["fault"] == "head-timeout"
    assert "1 s (timeouts.first_byte)" in why["why"][0]
    instance = why["request"]["instance"]
    status, stacks = await api.call("GET", f"apps/web/instances/{instance}/stacks")
    if status == 200:  # py-spy may be forbidden here
        assert "hang_here" in stacks["stacks"]

        async def told() -> bool:
            return "hang_here" in (await api.get(f"requests/{id}/why"))["text"]

        await api.until(told, "a stack, which may come after the first answer, is told")
    else:
        assert stacks["type"] == "urn:triage:no-stacks"


async def test_why_of_malformed_bytes_shows_them(api) -> None:
    status, id = await api.app("/garbage")
    assert status == 502
    await api.kept(id)

    async def shown() -> Any:
        return "220 mail.example.com" in (await api.get(f"requests/{id}/why"))["text"]

    await api.until(shown, "the bytes are there")


async def test_why_of_a_good_request(api) -> None:
    status, id = await api.app("/")
    assert status == 200
    record = await api.kept(id)  # out of the worker's flight recorder
    assert record["status"] == 200
    why = await api.get(f"requests/{id}/why")
    assert why["why"][0].startswith("Nothing failed: 200 in ")
    assert why["certainty"] == "certain"


async def test_no_id_of_ours_is_unknown(api) -> None:
    _, id = await api.app("/")
    never = f"{(int(id[:6], 16) ^ 0x5A5A5A):06x}{id[6:]}"  # of the same worker and second
    status, problem = await api.call("GET", f"requests/{never}")
    assert status == 404 and problem["type"] == "urn:triage:not-kept"
    why = await api.get(f"requests/{never}/why")
    assert "not kept" in why["title"] and why["certainty"] == "not known"
    assert "request" not in why


async def test_an_ambiguous_start_names_those_that_are_meant(api) -> None:
    for number in range(3):
        _, id = await api.app("/raise", **{"X-Request-ID": f"same-start-{number}"})
        await api.listed(id)
    status, problem = await api.call("GET", "requests/same-start/why")
    assert status == 409 and len(problem["matches"]) == 3
    assert (await api.get("requests/same-start-1"))["client_request_id"] == "same-start-1"


async def test_why_of_the_latest_and_of_an_app(api) -> None:
    _, id = await api.app("/raise")
    await api.kept(id)
    assert (await api.get("requests/latest/why"))["id"]
    why = await api.get("apps/web/why")
    assert why["subject"] == "app" and why["why"][0].startswith("web is ")
    away = await api.get("apps/away/why")
    assert away["text"] and "away" in away["title"]


async def test_an_address_that_refuses(api) -> None:
    status, id = await api.app("/", Host="away.example.com")
    assert status in (502, 503)
    await api.kept(id)
    why = await api.get(f"requests/{id}/why")
    assert "safe to repeat" in why["lost"][0]


async def test_logs_of_an_instance(api) -> None:
    await api.app("/seen-in-the-log")
    names = [one["id"] for one in (await api.get("apps/web"))["instances"]]

    async def printed() -> bool:
        found = [(await api.get(f"apps/web/instances/{name}/logs"))["items"] for name in names]
        return any("/seen-in-the-log" in line["line"] for lines in found for line in lines)

    await api.until(printed, "the line is there")


async def test_metrics_are_all_listed_and_all_there(api) -> None:
    await api.app("/")
    listed = {item["id"]: item for item in (await api.get("metrics"))["items"]}
    assert set(listed) == {metric.id for metric in METRICS}
    assert all(item["meaning"] and item["default_stat"] in item["stats"] for item in listed.values())

    async def counted() -> str:
        _, text = await api.over_tcp("/metrics", token=api.triage.token)
        return text if 'triage_requests_total{app="web",class="2xx"' in text else ""

    text = await api.until(counted, "requests are counted")
    for family in FAMILIES:
        assert f"# HELP {family.name} " in text and f"# TYPE {family.name} {family.type}" in text, family
    assert {item["prometheus"] for item in listed.values()} <= {family.name for family in FAMILIES}
    assert 'triage_instance_lifecycle{app="web",instance="web-1",lifecycle="ready"}' in text or "web-" in text
    assert 'le="120.0"' in text and 'le="+Inf"' in text
    assert "triage_loop_lag_seconds{" in text


async def test_openapi_is_the_table(api) -> None:
    document = await api.get("openapi.json")
    assert document["openapi"] == "3.1.0"
    table = {(route.path, route.method.lower()) for route in ROUTES}
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == table
    ids = [method["operationId"] for methods in document["paths"].values() for method in methods.values()]
    assert len(ids) == len(set(ids))
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert document["paths"]["/api/v1/status"]["get"]["security"] == [{"token": []}]


async def test_many_at_once(api) -> None:
    answers = await asyncio.gather(*[api.get("status") for _ in range(40)], *[api.get("requests") for _ in range(40)])
    assert all(answers)
