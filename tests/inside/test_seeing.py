"""Looking inside a running instance over the API: real processes, threads, files, sockets."""

import io
import json
import os
import shutil
import socket
import urllib.request
import zipfile
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.inside.conftest import until

pytestmark = pytest.mark.slow


def by_name(triage) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in triage.items("@/processes")}


def test_processes_are_a_tree_with_those_that_left_it(triage) -> None:
    found = triage.get("@/processes")
    first, *others = found["items"]
    assert (first["role"], first["depth"], first["of"]) == ("instance", 0, triage.name)
    assert first["pid"] == triage.get("@")["pid"]
    assert "--db-password ***" in first["command"] and "geheim" not in json.dumps(found)
    assert first["user"] == "root" or os.geteuid()
    assert first["threads"] == 2 and first["files"] > 300 and first["sockets"] == 6
    assert 0 < first["private"] < first["memory"]
    names = {one["name"]: one for one in others}
    assert names["worker one"]["parent"] == first["pid"] and names["worker one"]["role"] == "child"
    assert names["stray"]["role"] == "orphan" and names["stray"]["depth"] == 1
    assert names["stray"]["parent"] != first["pid"], "it has left the tree"
    assert names["?[31mred\\xff"]["state"] == "sleeping", "a name that is no text, and would write to a terminal"
    zombie = next(one for one in others if one["state"] == "zombie")
    assert zombie["command"] == "[python]" and zombie["memory"] == 0
    assert "VmRSS" in found["figures"]["memory"]
    if "cgroup" in triage.get("@")["limited_by"]:
        assert "hermit 3600" in {one["command"] for one in others}, "only its cgroup tells whose it is"
        assert 0 < found["group_memory"] < 900e6
    else:
        assert found["group_memory"] is None
    assert found["total"] == len(found["items"]) == 5 + ("cgroup" in triage.get("@")["limited_by"])


def test_processes_come_in_pages(triage) -> None:
    seen: list[int] = []
    cursor = {}
    while True:
        page = triage.get("@/processes", limit=2, **cursor)
        seen += [one["pid"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [one["pid"] for one in triage.items("@/processes")]


def test_cpu_is_a_share_of_a_core(triage) -> None:
    before = triage.items("@/processes")[0]
    assert before["cpu"] < 50
    url = triage.get("status")["gateway"]["listen"][0]
    with urllib.request.urlopen(f"{url}/burn") as answer:
        assert answer.status == 200
    after = triage.items("@/processes")[0]
    assert 2 < after["cpu"] <= 130, after
    threads = triage.items("@/threads")
    busiest = max(threads, key=lambda one: one["cpu"] or 0)
    assert not busiest["main"] and busiest["cpu"] > 2


def test_one_process_whole(triage) -> None:
    pid = triage.items("@/processes")[0]["pid"]
    found = triage.get(f"@/processes/{pid}")
    assert found["environment"]["API_TOKEN"] == "***" and found["environment"]["PLAIN"] == "seen"
    assert found["environment"]["DATABASE_URL"] == "postgres://app:***@db/app"
    assert found["limits"]["max open files"][0].isdigit()
    assert any(one["code"] and "python" in one["path"] for one in found["modules"])
    assert found["cwd"] == str(triage.folder) and "python" in found["exe"]
    assert found["memory_by_kind"]["in RAM"] > 1e6 and found["io"]["written"] >= 100
    assert len(found["open"]) == 200 and any("files?pid=" in note for note in found["notes"])
    assert {one["fd"] for one in found["connections"]} <= {one["fd"] for one in triage.items("@/files", limit=1000)}
    text = json.dumps(found)
    assert "very-secret" not in text and "hush" not in text and "geheim" not in text


def test_threads_say_where_they_stand(triage) -> None:
    def waits() -> dict[str, Any] | None:
        found = triage.get("@/threads")
        one = next(each for each in found["items"] if each["main"])
        assert one["tid"] == found["pid"]
        return one if one["state"] == "sleeping" else None

    main = until(waits, "it has nothing to do")
    assert "poll" in main["wait_channel"] or "poll" in main["call"]
    child = by_name(triage)["worker one"]
    (only,) = triage.items("@/threads", pid=child["pid"])
    assert only["name"] == "worker one" and "nanosleep" in only["call"]


def test_files_have_sizes_positions_and_what_is_deleted(triage) -> None:
    found = triage.get("@/files", limit=1000)
    named = {one["target"].rpartition("/")[2]: one for one in found["items"]}
    log = named["app.log"]
    assert (log["size"], log["position"], log["mode"], log["deleted"]) == (100, 100, "write, append", False)
    assert named["gone.txt"]["deleted"]
    assert named["odd\\xff?[2Jname"]["kind"] == "file", "no UTF-8, and a control sequence"
    assert found["by_kind"]["device"] >= 300 and found["total"] == sum(found["by_kind"].values())
    numbers, cursor = [], {}
    while True:
        page = triage.get("@/files", limit=100, **cursor)
        numbers += [one["fd"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert numbers == sorted(numbers) == [one["fd"] for one in found["items"]]


def test_connections_have_both_ends_and_queues(triage) -> None:
    found = triage.get("@/connections")
    pid = triage.get("@")["pid"]
    unread = next(one for one in found["items"] if one["receive"] == 6)
    assert unread["side"] == "to" and unread["state"] == "ESTABLISHED"
    assert unread["peer"] == {"pid": pid, "name": "python", "role": "instance", "of": f"web/{triage.name}"}
    taken = next(one for one in found["items"] if one["local"] == unread["remote"] and one["side"] == "from")
    assert taken["remote"] == unread["local"]
    local = next(one for one in found["items"] if one["local"] == f"{triage.folder}/own.sock")
    assert (local["kind"], local["side"], local["backlog"]) == ("unix", "listens", 3)
    assert any(one["kind"] == "udp" for one in found["items"])
    assert found["by_state"]["tcp ESTABLISHED"] >= 2
    first = triage.get("@/connections", limit=1, pid=pid)
    assert first["items"][0]["id"] == found["items"][0]["id"] and first["next"] == first["items"][0]["id"]


def test_the_gateway_s_worker_is_told_as_a_peer(triage) -> None:
    """Of a request that is on the instance."""
    url = urlsplit(triage.get("status")["gateway"]["listen"][0])
    with socket.create_connection((url.hostname, url.port)) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")

        def told() -> list[dict[str, Any]]:
            found = [one["peer"] for one in triage.items("@/connections") if one["side"] == "from" and one["peer"]]
            return [peer for peer in found if peer["role"] == "worker"]

        assert until(told, "a worker is at the other end")[0]["of"] == "worker1"


def test_environment_has_versions_settings_and_limits(triage) -> None:
    found = triage.get("@/environment")
    (runtime, *_) = found["runtimes"]
    assert runtime["name"] == "python" and runtime["version"].startswith("3.")
    assert found["settings"]["process"]["env"]["API_TOKEN"] == "***"
    assert found["settings"]["health"]["path"] == "/healthz"
    assert found["variables"]["API_TOKEN"] == "***" and found["variables"]["TRIAGE_INSTANCE"] == triage.name
    assert found["cwd"] == str(triage.folder) and found["processes"] >= 5
    assert found["limits"]["max open files"] and found["limited"]["memory"] == 900_000_000
    if "cgroup" in found["limited"]["by"]:
        group = found["cgroup"]
        assert group["own"] and group["path"].endswith(f"/{triage.name}") and group["memory_limit"] <= 900_000_000
    text = json.dumps(found)
    assert "very-secret" not in text and "hush" not in text and "geheim" not in text


def test_stacks_of_all_its_processes_or_of_one(triage) -> None:
    status, found = triage.call("GET", "@/stacks")
    if status == 409:
        pytest.skip(found["detail"])
    assert "serve_forever" in found["stacks"] and "sleep_on" in found["stacks"]
    main = found["processes"][0]
    assert any(frame["function"].endswith("serve_forever") for one in main["threads"] for frame in one["frames"])
    child = by_name(triage)["worker one"]["pid"]
    alone = triage.get("@/stacks", pid=child)
    assert [one["pid"] for one in alone["processes"]] == [child]


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_a_node_app_is_looked_into_too(triage) -> None:
    name = triage.items("apps/node/instances")[0]["id"]
    at = f"apps/node/instances/{name}"
    found = triage.get(f"{at}/environment")
    assert found["runtimes"][0]["name"] == "node" and found["runtimes"][0]["version"].count(".") == 2
    assert len(triage.items(f"{at}/threads")) > 3
    stacks = triage.get(f"{at}/stacks")
    assert stacks["processes"][0]["threads"] and "event loop" in stacks["stacks"]


def test_of_the_gateway_and_the_host(triage) -> None:
    found = triage.get("environment")
    assert found["environment"]["SOME_API_TOKEN"] == "***" and "geheim" not in json.dumps(found)
    assert found["limits"]["descriptors"][0] > 0 and found["packages"]["aiohttp"]
    assert found["host"]["memory"]["total"] == found["memory"] > 0 and found["host"]["uptime_s"] > 0
    disk = next(one for one in found["host"]["disks"] if one["path"] == str(triage.folder / "var"))
    assert 0 < disk["free"] < disk["size"]
    assert found["settings"]["admin"] and found["data_dir"] == str(triage.folder / "var")
    own = triage.items("processes")
    roles = {one["role"]: one for one in own}
    assert roles["launcher"]["pid"] == triage.process.pid and roles["launcher"]["depth"] == 0
    assert {"control", "worker", "instance", "child"} <= roles.keys()
    assert roles["orphan"]["of"] == triage.name, "what left its instance is told as its"


def test_what_is_not_there_is_said(triage) -> None:
    for path, status, kind in (
        ("apps/nobody/instances/x/processes", 404, "no-such-app"),
        ("apps/web/instances/web-99/files", 404, "no-such-instance"),
        ("apps/away/instances/127.0.0.1:9/processes", 409, "not-seen-from-here"),
        ("@/processes/1", 404, "no-such-process"),
        ("@/processes/2", 404, "no-such-process"),  # a thread of the kernel, where it is seen
        (f"@/processes/{os.getpid()}", 404, "no-such-process"),
        ("@/processes/-1", 404, "no-such-process"),
        ("@/processes/99999999999999999999", 404, "no-such-process"),
        ("@/processes/self", 404, "no-such-process"),
    ):
        got, problem = triage.call("GET", path)
        assert (got, problem["type"]) == (status, f"urn:triage:{kind}"), problem
        assert problem["hint"]
    for path, params in (("@/files", {"pid": "x"}), ("@/threads", {"cursor": "-1"}), ("@/files", {"limit": 5000})):
        got, problem = triage.call("GET", path, **params)
        assert (got, problem["type"]) == (400, "urn:triage:bad-parameter"), problem
    got, problem = triage.call("GET", "@/threads", pid=1)
    assert got == 404 and triage.name in problem["title"]


def test_a_bundle_of_now(triage) -> None:
    status, problem = triage.call("GET", "bundle", app="nobody")
    assert status == 404 and problem["type"] == "urn:triage:no-such-app"
    with zipfile.ZipFile(io.BytesIO(triage.raw("bundle", app="web"))) as found:
        names = {name.partition("/")[2]: name for name in found.namelist()}
        wanted = {"README.txt", "status.json", "app.json", "config.json", "environment.json", "events.json"}
        assert wanted <= names.keys()
        inside = json.loads(found.read(names[f"instances/{triage.name}.json"]))
        assert {"worker one", "stray"} <= {one["name"] for one in inside["processes"]}
        assert inside["first"]["environment"]["API_TOKEN"] == "***" and inside["connections"]
        for name in found.namelist():
            text = found.read(name)
            assert b"very-secret" not in text and b"hush" not in text and b"geheim" not in text, name
