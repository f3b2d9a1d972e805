"""Metrics over the admin API of a whole Triage: asked, scraped, followed, frozen."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from proxy.control.metrics.table import BY_ID

pytestmark = pytest.mark.slow
FOLLOWERS = 200


def known(found: Any, number: int = 0) -> list[Any]:
    return [value for _, value in found["series"][number]["points"] if value is not None]


async def test_requests_are_asked_for_second_by_second(api: Any) -> None:
    for _ in range(30):
        assert await api.app("/") == 200

    async def counted() -> Any:
        found = await api.get("metrics/query", name="requests", app="web", stat="sum", **{"from": "30s", "step": "1s"})
        return found if sum(known(found)) >= 30 else None

    found = await api.until(counted, "all are counted")
    points = found["series"][0]["points"]
    if found["source"] == "1 s":
        assert points[-1][0] > time.time() - 5 and found["step_s"] == 1
    assert [moment for moment, _ in points] == sorted({moment for moment, _ in points})


async def test_each_metric_can_be_asked_for(api: Any) -> None:
    async def sampled() -> bool:
        one = await api.get("metrics/query", name="memory", app="web", instance="each", **{"from": "5s"})
        return len(one["series"]) >= 2 and all(known(one, number) for number in range(2))

    await api.until(sampled, "memory of both was sampled")
    listed = (await api.get("metrics"))["items"]
    assert {one["id"] for one in listed} == set(BY_ID)
    for one in listed:
        for stat in one["stats"]:
            app = "web" if BY_ID[one["id"]].of_apps else ""
            found = await api.get("metrics/query", name=one["id"], app=app, stat=stat, **{"from": "10s"})
            assert found["series"] and found["series"][0]["unit"] == one["unit"], one
            assert found["series"][0]["stat"] == stat
    own = await api.get("metrics/query", name="gateway_memory,host_memory_available,disk_free,loop_lag,control_lag")
    assert [(one["name"], one["instance"]) for one in own["series"]] == [
        ("gateway_memory", ""), ("host_memory_available", "host"), ("disk_free", "host"), ("loop_lag", "worker1"),
        ("control_lag", "control"),
    ]  # fmt: skip
    assert all(known(own, number) for number in range(5)), own
    assert known(own, 0)[-1] > 30_000_000


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({}, "name"),
        ({"name": "request"}, "'requests'"),
        ({"name": "memory", "stat": "p99"}, "mean, max, last"),
        ({"name": "memory", "stat": "p98"}, "p98"),
        ({"name": "requests", "fault": "app-error"}, "faults"),
        ({"name": "faults", "fault": "app-eror"}, "'app-error'"),
        ({"name": "requests", "from": "1m", "to": "5m"}, "before"),
        ({"name": "requests", "from": "yesterday"}, "yesterday"),
        ({"name": "requests", "from": "23h", "step": "0.1"}, "second"),
        ({"name": ",".join(list(BY_ID)[:25]), "from": "20d", "step": "1h", "app": "web"}, ""),
        ({"name": "requests", "app": "wbe"}, "web"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_why(api: Any, query: dict[str, str], says: str) -> None:
    status, found = await api.call("metrics/query", **query)
    if says:
        assert status in (400, 404) and says in str(found), found
    else:
        assert status == 200 and len(found["series"]) == 25


async def test_a_scrape_in_both_formats(api: Any) -> None:
    assert await api.app("/slow") in (200, 504, 404)

    async def sampled() -> Any:
        text = await api.get("/metrics")
        return text if "triage_instance_memory_private_bytes{" in text and "triage_host_cpu_cores " in text else None

    plain = await api.until(sampled, "all that is sampled is there")
    text = await api.get("/metrics", "application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in openmetrics(text)}
    assert "triage_requests" in families and families["triage_process_memory_bytes"].samples
    names = {sample.labels["process"] for sample in families["triage_process_cpu_seconds"].samples}
    assert {"control", "launcher", "worker1"} <= names
    assert families["triage_control_lag_seconds"].samples[0].value < 5
    assert "# EOF" in text and "# EOF" not in plain


async def test_an_exit_freezes_what_was_before_it(api: Any) -> None:
    before = {one["id"] for one in (await api.get("frozen"))["items"]}
    for _ in range(5):
        await api.app("/frozen-here")

    async def two() -> Any:
        found = await api.get("apps/web/instances")
        ready = [one for one in found["items"] if one["lifecycle"] == "ready" and one["pid"]]
        return ready if len(ready) == 2 else None

    one = (await api.until(two, "two are ready"))[0]

    async def counted() -> Any:
        found = await api.get("metrics/query", name="requests", app="web", stat="sum", **{"from": "10s"})
        return sum(known(found)) >= 5

    await api.until(counted, "they are counted")
    os.kill(one["pid"], signal.SIGKILL)

    async def frozen() -> Any:
        items = (await api.get("frozen", app="web"))["items"]
        return [item for item in items if item["id"] not in before and item["instance"] == one["id"]]

    (item, *_) = await api.until(frozen, "it is frozen")
    assert item["why"].startswith("exit: ") and "SIGKILL" in item["why"]
    whole = await api.get(f"frozen/{item['id']}")
    series = {(each["app"], each["instance"]): each for each in whole["series"]}
    assert {("web", ""), ("web", one["id"]), ("", ""), ("", "host")} <= set(series)
    app = series["web", ""]
    requests = app["columns"].index("requests")
    assert sum(row[requests] or 0 for row in app["points"]) >= 5
    assert all(len(row) == len(app["columns"]) for row in app["points"])
    assert [record for record in whole["records"] if record["target"] == "/frozen-here"]
    assert (await api.call("frozen/999999"))[0] == 404

    async def told() -> bool:
        return sum(known(await api.get("metrics/query", name="exits", app="web", stat="sum", **{"from": "60s"}))) >= 1

    await api.until(told, "the exit is counted")
    await api.until(two, "its replacement is ready")


# --- followed ---------------------------------------------------------------------------------------------


async def messages(session: aiohttp.ClientSession) -> AsyncIterator[tuple[str, bytes]]:
    """(event, data) as they come."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
    async with session.get(
        "http://localhost/api/v1/metrics/stream", params={"follow": "true"}, timeout=timeout, read_bufsize=1 << 20
    ) as answer:
        assert answer.status == 200 and answer.content_type == "text/event-stream"
        event = ""
        async for line in answer.content:
            if line.startswith(b"event: "):
                event = line[7:].decode().strip()
            elif line.startswith(b"data: "):
                yield event, line[6:]


async def test_the_stream_begins_whole_and_goes_on_with_what_changes(api: Any) -> None:
    status, found = await api.call("metrics/stream")
    assert status == 400 and "follow=true" in found["hint"]
    shown: dict[str, Any] = {}
    ticks = 0
    asked = asyncio.gather(*(api.app("/") for _ in range(20)))
    async for event, data in messages(api.unix):
        value = orjson.loads(data)
        if not shown:
            assert event == "whole" and value["gone"] == []
        else:
            assert event == "tick"
            ticks += 1
        for gone in value["gone"]:
            del shown[gone]
        shown |= {one["id"]: one for one in value["instances"]}
        assert value["apps"][0]["id"] == "web" and value["self_check"]["words"] and value["verdict"]
        assert value["is_it"] in ("", "app", "gateway", "host")
        if ticks >= 2 and value["apps"][0]["requests_per_s"] > 0:
            break
        assert ticks < 20
    await asked
    assert value["apps"][0]["p99_ms"] > 0 and value["gateway"]["memory"] > 0
    assert sum(one["requests_per_s"] for one in shown.values()) > 0
    real = {one["id"] for one in (await api.get("apps/web"))["instances"]}
    assert real & set(shown)


def cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_200_dashboards_are_sent_the_same_bytes(api: Any) -> None:
    """A second is encoded once: all who follow get the same bytes, with the same time to the millisecond."""
    control = (await api.get("status"))["gateway"]["control"]["pid"]
    got: list[dict[bytes, bytes]] = [{} for _ in range(FOLLOWERS)]
    began: list[int] = []

    async def follow(number: int) -> None:
        async for event, data in messages(api.unix):
            if event == "whole":
                began.append(number)
            else:
                got[number][data[:60]] = data
            if len(got[number]) >= 4:
                return

    tasks = [asyncio.create_task(follow(number)) for number in range(FOLLOWERS)]
    try:

        async def all_began() -> bool:
            for task in tasks:
                if task.done():
                    task.result()
            return len(began) >= FOLLOWERS

        await api.until(all_began, "all are sent the whole")
        used, at = cpu(control), time.monotonic()
        await asyncio.wait_for(asyncio.gather(*tasks), 40)
        share = (cpu(control) - used) / (time.monotonic() - at)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    seconds: dict[bytes, set[bytes]] = {}
    for one in got:
        for data in one.values():
            seconds.setdefault(orjson.loads(data)["time"].encode(), set()).add(data)
    assert all(len(same) == 1 for same in seconds.values())
    assert len(seconds) <= 12, "one encoding a second, and not one a client"
    assert share < 0.3, f"control took {share:.0%} of a core for {FOLLOWERS} clients"


async def test_a_dashboard_that_leaves_costs_nothing_more(api: Any) -> None:
    async for _event, _data in messages(api.unix):
        break
    before = (await api.get("status"))["gateway"]["control"]["pid"]
    async for event, _data in messages(api.unix):
        assert event == "whole", "who comes again begins anew"
        break
    assert (await api.get("status"))["gateway"]["control"]["pid"] == before
