"""What holds for all calls: pages of lists, ETags, limits of rate; and the examples of docs/api.md, run."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import jsonschema_rs
import pytest

from proxy.admin import limits, openapi, params
from proxy.admin.docs import EXAMPLES
from proxy.admin.errors import ApiProblem, dumps
from proxy.admin.limits import ACTS, READS, Limits, of_address
from proxy.admin.routes import ROUTES
from tests.api import fuzz
from tests.api.gateway import Gateway
from tests.api.raw import exchange

DOCUMENT = openapi.document(ROUTES)
LISTS = sorted(
    route.path.removeprefix("/api/v1/")
    for route in ROUTES
    if isinstance(route.example, dict) and "items" in route.example and "/vfs/" not in route.path
)


def filled(gateway: Gateway, path: str) -> str:
    first = gateway.get("apps/web")["instances"][0]["id"]
    return path.replace("{app}", "web").replace("{instance}", first)


@pytest.fixture(scope="module")
def busy(gateway: Gateway) -> Gateway:
    """One with a few of everything that a list may have."""
    for _ in range(3):
        gateway.call("POST", "config/reload", {"reason": "to have some"})
    for name in ("one", "two"):
        assert gateway.call("POST", "tokens", {"name": name, "role": "viewer"})[0] == 201
    gateway.until(lambda: len(gateway.get("events?limit=5")["items"]) == 5, "there are events")
    return gateway


@pytest.mark.parametrize("path", LISTS)
def test_pages_of_one_are_the_whole_list_in_its_order(busy: Gateway, path: str) -> None:
    url = filled(busy, path)
    status, whole, _ = busy.call("GET", f"{url}?limit=5" if "instance" not in path else url)
    if status == 403 and whole["type"] == "urn:triage:console-off":
        pytest.skip("the Console has tests of its own")
    assert status == 200, whole
    ids, found, cursor = [one["id"] for one in whole["items"]][:3], [], ""
    while len(found) < len(ids):
        page = busy.get(f"{url}?limit=1{cursor}")
        found += [one["id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    if path.endswith(("/logs", "events", "logs", "connections", "files", "threads")):  # they grow meanwhile
        assert len(set(found)) == len(found) and len(found) >= min(1, len(ids))
    else:
        assert found == ids


@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_that_is_none_of_ours_is_refused(busy: Gateway, path: str) -> None:
    for cursor in ("", "x", "-1", "1 1", "AA==", "%00", "9" * 400, "MTIz", "\u0661".encode().hex()):
        status, problem, _ = busy.call("GET", f"{filled(busy, path)}?cursor={cursor.replace(' ', '%20')}")
        if status == 403 and problem["type"] == "urn:triage:console-off":
            pytest.skip("the Console has tests of its own")
        assert status == 400 and problem["type"] == "urn:triage:bad-parameter", (cursor, problem)


def test_a_page_goes_on_after_an_item_that_is_gone(busy: Gateway) -> None:
    first = busy.get("tokens?limit=2")
    gone = first["items"][1]["id"]
    assert busy.call("DELETE", f"tokens/{gone}")[0] == 204
    rest = busy.get(f"tokens?limit=10&cursor={first['next']}")
    ids = [one["id"] for one in busy.get("tokens")["items"]]
    assert [first["items"][0]["id"], *(one["id"] for one in rest["items"])] == ids and gone not in ids


# --- has it changed? ------------------------------------------------------------------------------------


def test_the_config_is_sent_once_and_not_reloaded_over_another_ones(gateway: Gateway) -> None:
    status, _, fields = gateway.call("GET", "config")
    tag = fields["etag"]
    for same in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        status, body, again = gateway.call("GET", "config", If_None_Match=same)
        assert (status, body, again["etag"]) == (304, "", tag)
    assert gateway.call("GET", "config", If_None_Match='"other"')[0] == 200
    assert gateway.call("POST", "config/check", {}, If_Match=tag)[0] == 200
    status, _, _ = gateway.call("POST", "config/reload", {"reason": "mine"}, If_Match=tag)
    assert status == 202
    for path in ("config/check", "config/reload"):
        status, problem, fields = gateway.call("POST", path, {}, If_Match=tag)
        assert status == 412 and problem["type"] == "urn:triage:changed"
        assert fields["etag"] == gateway.call("GET", "config")[2]["etag"] != tag
    assert gateway.call("POST", "config/reload", {}, If_Match="*")[0] == 202
    assert gateway.call("POST", "config/reload", {}, If_Match="garbage")[0] == 412


def test_the_page_of_the_api_stands_alone(gateway: Gateway) -> None:
    status, page, fields = gateway.call("GET", "/api/docs")
    assert status == 200 and fields["content-type"].startswith("text/html")
    assert "default-src 'none'" in fields["content-security-policy"] and "script" not in page.lower().split("<h2")[0]
    assert all(route.path.replace("&", "&amp;") in page for route in ROUTES)


# --- how often ------------------------------------------------------------------------------------------


def test_a_bucket_is_emptied_told_of_and_filled_again() -> None:
    counted = Limits()
    for left in range(READS.most - 1, -1, -1):
        headers = counted.take("ops", READS, 100.0)
        assert headers["RateLimit"].startswith(f'"reads";r={left};')
    with pytest.raises(ApiProblem) as refused:
        counted.take("ops", READS, 100.0)
    assert refused.value.status == 429 and refused.value.headers["Retry-After"] == "1"
    assert counted.refused == 1
    counted.take("ops", ACTS, 100.0)
    counted.take("another", READS, 100.0)
    for _ in range(int(READS.rate)):
        counted.take("ops", READS, 101.0)
    with pytest.raises(ApiProblem):
        counted.take("ops", READS, 101.0)


def test_buckets_are_bounded_and_those_in_use_stay() -> None:
    counted = Limits()
    for _ in range(ACTS.most):
        counted.take("busy", ACTS, 100.0)
    for number in range(3 * limits.MOST):
        counted.take(f"address {number}", READS, 100.0)
        if number % 1000 == 0:
            with pytest.raises(ApiProblem):
                counted.take("busy", ACTS, 100.0)
    assert len(counted) == limits.MOST


@pytest.mark.parametrize(
    ("given", "of"),
    [
        ("127.0.0.1", "127.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("odd", "odd"),
    ],
)  # fmt: skip
def test_who_has_one_address_of_a_network_has_all(given: str, of: str) -> None:
    assert of_address(given) == of


@pytest.mark.slow
def test_one_who_calls_too_often_is_told_when_to_come_again_and_others_are_not_kept(gateway: Gateway) -> None:
    status, made, _ = gateway.call("POST", "tokens", {"name": "storm", "role": "operator"})
    assert status == 201
    call = f"POST /api/v1/apps/nobody/start HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {made['token']}\r\n"
    refused: list[Any] = []
    for _ in range(4):
        more = f"{call}Content-Length: 0\r\n\r\n".encode() * 99
        last = f"{call}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        refused += [answer for answer in exchange(gateway, more + last) if answer.status == 429]
        if refused:
            break
    assert refused and refused[0].problem["type"] == "urn:triage:too-many-calls"
    assert int(refused[0].fields["retry-after"]) >= 1 and refused[0].fields["ratelimit"].startswith('"acts";r=0;')
    assert refused[0].fields["ratelimit-policy"] == ACTS.policy
    assert gateway.call("POST", "config/reload", {})[0] == 202
    health = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    many = exchange(gateway, health * 1500 + health.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert {answer.status for answer in many} == {200} and "ratelimit" not in many[0].fields


def test_anything_becomes_json() -> None:
    assert dumps({"a": "\udcff", "b": [1 << 70, b"x", {2}], "\ud800": float("nan")}).endswith(b"\n")
    assert params.param("follow", "…").kind == "flag"


# --- shapes ---------------------------------------------------------------------------------------------

PLAIN = sorted(
    route.path
    for route in ROUTES
    if route.method == "GET" and route.content == "application/json" and not {"{id}", "{pid}", "{path}"} & set(
        route.path.replace("/", " ").split()
    )
)


def not_said(schema: dict[str, Any], value: Any, at: str = "") -> list[str]:
    """Fields of an answer that its schema has not."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "oneOf" in schema:
        return not_said(schema["oneOf"][0], value, at) if value is not None else []
    if isinstance(value, dict) and schema.get("properties"):
        found = [f"{at}.{name}" for name in value if name not in schema["properties"]]
        for name, inner in schema["properties"].items():
            found += not_said(inner, value.get(name), f"{at}.{name}")
        return found
    if isinstance(value, list) and "items" in schema:
        return [each for one in value for each in not_said(schema["items"], one, f"{at}[]")]
    return []


@pytest.mark.parametrize("path", PLAIN)
def test_an_answer_has_the_fields_that_are_described_and_no_others(busy: Gateway, path: str) -> None:
    url = filled(busy, path) + ("?name=response_time&app=web" if path.endswith("metrics/query") else "")
    status, value, _ = busy.call("GET", url)
    if status == 403 and value["type"] == "urn:triage:console-off":
        pytest.skip("the Console has tests of its own")
    assert status == 200, value
    operation = DOCUMENT["paths"][path]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(value)
    assert not not_said(schema, value)


# --- the documents --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
def test_the_examples_of_the_documents_work(gateway: Gateway) -> None:
    script = EXAMPLES.partition("```sh\n")[2].partition("```")[0]
    old = subprocess.run(["curl", "--json", "{}", "file:///dev/null"], capture_output=True, check=False).returncode == 2
    if old:  # curl before 7.82 has no --json
        script = script.replace("--json ", "-H 'Content-Type: application/json' -d ")
    env = {**os.environ, "SOCKET": gateway.socket, "DATA": str(gateway.data), "URL": gateway.admin, "no_proxy": "*"}
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "urn:triage:" not in run.stdout, run.stdout
    assert all(part in run.stdout for part in ('"verdict"', '"items"', '"will"', '"act":"mute"', '"act":"reload"'))
    assert "event: event" in run.stdout


# --- what the document promises --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not fuzz.there(), reason="schemathesis is not installed")
def test_no_call_is_answered_otherwise_than_the_document_says(gateway: Gateway) -> None:
    """A short run, and the last of this file: it stops what it likes. `make fuzz-api` is the long one."""
    code, said = fuzz.run(gateway, *fuzz.SHALLOW)
    assert code == 0, said[-20_000:]
    assert "fuzzing" in said.lower() and not fuzz.errors(gateway)
