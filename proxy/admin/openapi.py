"""The route table as OpenAPI 3.1: generated, so it cannot differ from what is served."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from proxy import __version__
from proxy.admin import fields
from proxy.admin.examples import FORESEEN
from proxy.admin.routing import Route


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Triage admin API",
            "version": __version__,
            "description": "Times are UTC; durations end in _ms or _s; sizes are bytes. Errors are RFC 9457.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _PROBLEM},
        },
    }


_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "hint"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "what is wrong"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string", "description": "what would be right"},
    },
}


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', route.path).rstrip('_')}",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", route.path)
        ]
        + [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in route.params.items()
        ],
        "responses": {
            str(route.status): {"description": route.summary, **_content(route)},
            "default": {
                "description": "What was wrong",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
        "security": [] if route.open else [{"token": []}],
    }
    if route.method == "POST":
        properties = {name: fields.schema(field) for name, field in route.body.items()}
        schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if "preview" in route.body:
            content = {route.content: {"schema": _schema(FORESEEN), "example": FORESEEN}}
            found["responses"]["200"] = {"description": "With `preview`: what would happen", "content": content}
        found["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return found


def _content(route: Route) -> dict[str, Any]:
    if route.example is None:
        return {}
    return {"content": {route.content: {"schema": _schema(route.example), "example": route.example}}}


def _schema(example: Any) -> dict[str, Any]:
    """The shape of an example; what is null in it may be anything."""
    if isinstance(example, dict):
        return {"type": "object", "properties": {str(name): _schema(value) for name, value in example.items()}}
    if isinstance(example, list):
        return {"type": "array", "items": _schema(example[0])} if example else {"type": "array"}
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if isinstance(example, kind):
            return {"type": name}
    return {}
