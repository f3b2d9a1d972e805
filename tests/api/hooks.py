"""What schemathesis may not ask for, and where it shall look: names that are there, and no stream without end."""

from __future__ import annotations

from typing import Any

import schemathesis

NAMES = {"app": ["web", "web", "web", "away"], "instance": ["web-1", "web-2", "127.0.0.1:9"], "id": ["latest", "op-1"]}
"""Three of four times one of these; else whatever was made up."""


@schemathesis.serializer("application/zip")
def as_zip(context: Any, value: Any) -> bytes:
    """Whatever was made up: no archive, or hardly ever."""
    return value if isinstance(value, bytes) else repr(value).encode()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """No stream, and a wait that is short."""
    query = case.query
    if isinstance(query, dict):
        if str(query.get("follow")).lower() == "true":
            query["follow"] = "false"
        if "wait" in query and str(query["wait"])[:1].isdigit():
            query["wait"] = "1s"
    if case.meta is not None and not case.meta.generation.mode.is_negative:
        for name, value in (case.path_parameters or {}).items():
            number = sum(map(ord, str(value)))
            if name in NAMES and number % 4:
                case.path_parameters[name] = NAMES[name][number % len(NAMES[name])]
