"""The route table as OpenAPI 3.1: generated, so it cannot differ from what is served."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from proxy import __version__
from proxy.admin import fields, params, shapes
from proxy.admin.examples import FORESEEN
from proxy.admin.limits import UNLIMITED
from proxy.admin.routing import Route

WHY: Final = {
    400: "The call cannot be understood: a parameter, a field or the content is not what it may be.",
    401: "No token, or none that is known.",
    403: "Host or Origin is not known here, or the role is too low.",
    404: "What the path names is not there.",
    408: "The content did not come in time.",
    409: "Not possible now.",
    412: "If-Match: it has changed since.",
    413: "The content is too large.",
    415: "The content is of another type, or encoded.",
    416: "The range is not there.",
    422: "Understood, and refused.",
    426: "Ask with the handshake of a WebSocket.",
    429: "Too many calls; Retry-After says when to ask again.",
    503: "Not to be had at this moment.",
    507: "No room.",
}
"""What an error status says; the document that comes with it says the rest."""

_PROBLEM: Final = {
    "title": "Problem",
    "description": "RFC 9457",
    "type": "object",
    "required": ["type", "title", "status", "detail", "hint"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:triage:[a-z0-9-]+$", "description": "one for each kind of error"},
        "title": {"type": "string", "description": "what is wrong"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string", "description": "what would be right"},
    },
}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Triage admin API",
            "version": __version__,
            "description": "Times are UTC; durations end in _ms or _s; sizes are bytes. Errors are RFC 9457. Besides "
            "the errors of each operation any call may be answered 405, 408, 417, 431 or 503, where it is slow, "
            "is no HTTP/1.1, or is one too many.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _PROBLEM, **shapes.components()},
            "responses": {f"Problem{status}": _problem(words) for status, words in WHY.items()},
        },
    }


def statuses(route: Route) -> tuple[int, ...]:
    """Errors that it may answer, in order."""
    found = {400, 403, *route.errors}
    if not route.open:
        found.add(401)
    if route.path not in UNLIMITED:
        found.add(429)
    if "{" in route.path:
        found.add(404)
    if route.method not in ("GET", "HEAD", "DELETE"):
        found |= {408, 413, 415}
    if route.method not in ("GET", "HEAD") and not route.open:
        found.add(409)
    return tuple(sorted(found))


def body_schema(route: Route) -> dict[str, Any]:
    """Of the JSON content of a call."""
    required = [name for name, field in route.body.items() if field.required]
    return {
        "type": "object",
        "properties": {name: fields.schema(field) for name, field in route.body.items()},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def operation(route: Route) -> dict[str, Any]:
    """One method of one path."""
    found: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', route.path).rstrip('_')}",
        "tags": [tag(route)],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in re.findall(r"\{(\w+)\}", route.path)
        ]
        + [_query(name, params.param(name, said)) for name, said in route.params.items()],
        "responses": {
            str(route.status): {"description": _phrase(route.status), **_content(route)},
            **{str(status): {"description": words, **_content(route, status)} for status, words in route.also.items()},
            **{str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in statuses(route)},
        },
        "security": [] if route.open else [{"token": []}],
        "x-role": "open" if route.open else route.needs,
    }
    if route.method not in ("GET", "DELETE"):
        schema = {"schema": body_schema(route)}
        content = {"application/json": schema} if not route.takes else {route.takes: {}}
        required = any(field.required for field in route.body.values()) or bool(route.takes)
        found["requestBody"] = {"content": content, "required": required}
        if "preview" in route.body:
            content = {"application/json": {"schema": shapes.schema(FORESEEN), "example": FORESEEN}}
            found["responses"]["200"] = {"description": "With `preview`: what would happen", "content": content}
    found["responses"] = dict(sorted(found["responses"].items()))
    return found


def tag(route: Route) -> str:
    """What it is about: the first part of its path."""
    parts = route.path.removeprefix("/api/v1").strip("/").split("/")
    if not route.path.startswith("/api/v1/"):
        return "gateway"
    if parts[0] == "apps" and len(parts) > 2 and parts[2] == "instances":
        return "instances"
    return _TAGS.get(parts[0], parts[0])


_TAGS: Final = {
    "status": "gateway", "environment": "gateway", "config": "gateway", "upgrade": "gateway", "openapi.json": "gateway",
    "docs": "gateway", "processes": "gateway", "exceptions": "logs", "frozen": "metrics", "collectors": "sessions",
    "bundle": "sessions",
    "login-links": "access", "whoami": "access", "tokens": "access", "zip": "console", "vfs": "console",
    "command": "console", "consoles": "console",
}  # fmt: skip


def _query(name: str, one: params.Param) -> dict[str, Any]:
    return {
        "name": name, "in": "query", "description": one.about, "schema": params.schema(one),
        **({"required": True} if one.required else {}),
    }  # fmt: skip


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _problem(words: str) -> dict[str, Any]:
    return {
        "description": words,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _content(route: Route, status: int = 0) -> dict[str, Any]:
    if route.example is None or status in (101, 204, 303, 304) or route.status in (204, 303):
        return {}
    of = route.path.rpartition("/")[2]
    found: dict[str, Any] = {"schema": shapes.schema(route.example, of), "example": route.example}
    others: dict[str, Any] = {kind: {} for kind in route.others}
    if route.content == "application/json":
        return {"content": {route.content: found, **others}}
    if route.content in ("text/event-stream", "*/*"):
        return {"content": {route.content: {}, **others}}
    return {"content": {route.content: {"schema": {"type": "string"}, "example": route.example}, **others}}
