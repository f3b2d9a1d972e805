"""The route table, walked: what each route must have, and that nothing in it lies about itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from proxy.admin import fields, openapi, params, query, reference
from proxy.admin.docs import kinds
from proxy.admin.routes import ROUTES
from proxy.admin.routing import ROLES, Route

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = openapi.document(ROUTES)
BY_NAME = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")

CONTRACT = """
GET status environment config apps apps/{app} apps/{app}/instances apps/{app}/instances/{instance} requests
GET requests/{id} requests/{id}/why incidents/{id}/why apps/{app}/why events logs metrics/stream metrics metrics/query
GET incidents incidents/{id} autoheal alerts sessions sessions/{id} sessions/{id}/report sessions/{id}/bundle
GET sessions/{id}/artifacts/{name} operations operations/{id} tokens openapi.json
GET apps/{app}/instances/{instance}/environment apps/{app}/instances/{instance}/processes console vfs/{path} zip/{dir}
GET apps/{app}/instances/{instance}/threads apps/{app}/instances/{instance}/files
GET apps/{app}/instances/{instance}/connections apps/{app}/instances/{instance}/logs
GET apps/{app}/instances/{instance}/stacks
POST config/check config/reload apps/{app}/restart apps/{app}/start apps/{app}/stop apps/{app}/hold apps/{app}/release
POST apps/{app}/scale apps/{app}/autoheal apps/{app}/mute apps/{app}/instances/{instance}/recycle
POST apps/{app}/instances/{instance}/eject apps/{app}/instances/{instance}/admit autoheal/replay sessions tokens command
POST apps/{app}/instances/{instance}/memory-dump apps/{app}/instances/{instance}/profile
PUT vfs/{path} zip/{dir}
DELETE sessions/{id} tokens/{id} vfs/{path}
"""
"""Of the design, section 7."""


def test_every_path_that_was_promised_is_there() -> None:
    there = {(route.method, re.sub(r"\{\w+\}", "{}", route.path)) for route in ROUTES}
    wanted = {
        (method, "/api/v1/" + re.sub(r"\{\w+\}", "{}", path))
        for method, *paths in (line.split() for line in CONTRACT.strip().splitlines())
        for path in paths
    }
    assert not wanted - there


@BY_NAME
def test_a_route_says_what_it_is(route: Route) -> None:
    assert route.summary.endswith(".") and route.needs in ROLES
    assert route.example is not None or {route.status, *route.also} & {101, 204, 303}, "an answer without an example"
    assert all(sentence for _, _, _, _, sentence in reference.inputs(route) if sentence != "" or not route.path)
    assert openapi.tag(route) in {tag for tag, *_ in reference.GROUPS}, "a group of the page"


@BY_NAME
def test_a_list_has_pages(route: Route) -> None:
    if isinstance(route.example, dict) and "items" in route.example:
        assert {"limit", "cursor"} <= set(route.params) and "next" in route.example
        assert all("id" in one for one in route.example["items"])


@BY_NAME
def test_an_example_is_of_the_shape_that_is_promised(route: Route) -> None:
    responses = openapi.operation(route)["responses"]
    content = responses[str(route.status)].get("content", {})
    assert set(responses) >= {"400", "403"}
    assert all(status in openapi.WHY for status in openapi.statuses(route))
    if "application/json" in content and route.content == "application/json":
        schema = content["application/json"]["schema"]
        validator(schema).validate(content["application/json"]["example"])


def validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]})


def test_the_document_is_openapi() -> None:
    found = set(re.findall(r"#/components/(\w+)/(\w+)", str(DOCUMENT)))
    assert all(name in DOCUMENT["components"][kind] for kind, name in found)
    assert DOCUMENT["openapi"] == "3.1.0" and len(DOCUMENT["paths"]) == len({route.path for route in ROUTES})


@pytest.mark.parametrize("kind", sorted(fields._READ))
def test_what_a_field_may_be_is_what_is_read(kind: fields.Kind) -> None:
    """The schema takes nothing that is refused, of these."""
    one = fields.Field("", kind)
    found = validator(fields.schema(one))
    for value in ("", "x", "auto", "10m", "1GB", "TERM", 0, 1, 3, 2.5, -1, True, [], ["a"], {"when": {}}, None):
        if found.is_valid(value):
            fields.read(one, value)


def test_what_a_parameter_may_be_is_said() -> None:
    for route in ROUTES:
        for name, said in route.params.items():
            schema = params.schema(params.param(name, said))
            assert schema["type"] in ("string", "integer", "boolean") and (isinstance(said, str) or said.about)
    assert query.MOST == params.MOST


def test_kinds_of_errors_are_words() -> None:
    found = kinds()
    assert len(found) > 40 and all(re.fullmatch(r"[a-z0-9-]+", kind) for kind, _, _ in found)
    assert {int(status) for _, status, _ in found if status.isdigit()} <= {*openapi.WHY, 303, 405, 417, 431, 500}


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    page = reference.page(ROUTES)
    assert "<script" not in page and "http" not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.S).replace("HTTP", "")
    assert all(f'id={reference.anchor(route)}>' in page for route in ROUTES)
