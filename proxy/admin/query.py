"""Parameters and content of a call: read, or refused with what would be right."""

from __future__ import annotations

import asyncio
import base64
import difflib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web

from proxy import units
from proxy.admin import fields, params
from proxy.admin.errors import ApiProblem
from proxy.admin.routing import Route
from proxy.control.records import Filter, parse_status
from proxy.faults import FAULTS

MOST: Final = params.MOST
SLOWEST: Final = 30.0
"""Seconds for the content of a call, 1 MiB at most."""


def bad(name: str, detail: str, hint: str = "") -> ApiProblem:
    return ApiProblem(400, "bad-parameter", f"{name} cannot be used so", detail, hint)


def check_names(request: web.Request, route: Route) -> None:
    """Only known parameters, each once."""
    for name in request.query:
        if name not in route.params:
            near = difflib.get_close_matches(name, route.params, 1)
            known = ", ".join(route.params) or "none"
            raise ApiProblem(
                400,
                "unknown-parameter",
                f"There is no parameter {name!r} here",
                f"Known are: {known}.",
                f"Did you mean {near[0]!r}?" if near else "",
            )
        if len(request.query.getall(name)) > 1:
            raise bad(name, "It was given twice.")


async def body(request: web.Request, route: Route) -> dict[str, Any]:
    """The JSON object of a call, its fields read; nothing at all is an empty one."""
    try:
        async with asyncio.timeout(SLOWEST):
            data = await request.read()
    except TimeoutError:
        raise ApiProblem(
            408, "slow-content", "The content did not come in time", f"It took over {SLOWEST:g} s.",
            headers={"Connection": "close"},
        ) from None  # fmt: skip
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise ApiProblem(415, "encoded", "Encoded content is not taken", "", "Send it without Content-Encoding.")
    if not data.strip():
        return {}
    if request.content_type != "application/json":
        raise ApiProblem(
            415,
            "not-json",
            "Content must be JSON",
            f"Its type is {request.content_type}.",
            "Send Content-Type: application/json",
        )
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ApiProblem(400, "bad-json", "The content is not JSON", str(error)) from None
    if not isinstance(value, dict):
        raise ApiProblem(400, "bad-json", "The content is not a JSON object", "{} will do.")
    for name, item in value.items():
        if name not in route.body:
            near = difflib.get_close_matches(name, route.body, 1)
            raise ApiProblem(
                400,
                "unknown-field",
                f"There is no field {name[:60]!r} here",
                f"Known are: {', '.join(route.body) or 'none'}.",
                f"Did you mean {near[0]!r}?" if near else "",
            )
        try:
            value[name] = fields.read(route.body[name], item)
        except ValueError as error:
            raise ApiProblem(
                400, "bad-field", f"{name} cannot be that", f"It is {_shortly(item)}; {error}."
            ) from None
    return value


def _shortly(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else f"{text[:60]}…"


def limit(request: web.Request, default: int = 100, most: int = MOST) -> int:
    text = request.query.get("limit")
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= most:
        raise bad("limit", f"It is {text[:40]!r}; expected 1 to {most}.")
    return int(text)


def cursor(request: web.Request) -> int | None:
    text = request.query.get("cursor")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise bad("cursor", "It is not one of ours.", "Take it from `next` of the page before.")
    return int(text)


def window(request: web.Request, ids: Sequence[str], default: int = MOST) -> tuple[int, int, str | None]:
    """Which of a list's items are asked for: from, to, and the cursor of the page after, None at the end.

    A cursor has the id of the page's last item and its place, so that what goes or comes meanwhile is neither told
    twice nor passed over, but for that item itself.
    """
    most, at = limit(request, default), 0
    text = request.query.get("cursor")
    if text is not None:
        place, id = _place(text)
        at = ids.index(id) + 1 if id in ids else min(place, len(ids))
    to = min(at + most, len(ids))
    return at, to, _cursor(to - 1, ids[to - 1]) if at < to < len(ids) else None


def _cursor(place: int, id: str) -> str:
    return base64.urlsafe_b64encode(f"{place} {id}".encode()).rstrip(b"=").decode()


def _place(text: str) -> tuple[int, str]:
    try:
        if not text.isascii() or len(text) > params.LONGEST_CURSOR:
            raise ValueError(text)
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        place, _, id = data.partition(" ")
        if not place.isascii() or not place.isdigit() or len(place) > 9 or not id:
            raise ValueError(text)
    except ValueError:
        raise bad("cursor", "It is not one of ours.", "Take it from `next` of the page before.") from None
    return int(place), id


def duration(request: web.Request, name: str, most: float) -> float:
    """Seconds, more than 0 and no more than `most`."""
    text = request.query.get(name, "")
    try:
        seconds = float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else units.parse_duration(text)
    except ValueError:
        raise bad(name, f"It is {text[:40]!r}; expected a duration such as 30s.") from None
    if not seconds > 0:
        raise bad(name, f"It is {text[:40]!r}; expected more than 0.")
    return min(seconds, most)


def number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise bad(name, f"It is {text[:40]!r}; expected a whole number.")
    return int(text)


def flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false")
    if text not in ("true", "false"):
        raise bad(name, f"It is {text[:40]!r}; expected true or false.")
    return text == "true"


def since(request: web.Request) -> float:
    """Unix seconds; 0.0 is the beginning."""
    return moment(request.query.get("since", ""))


def moment(text: str) -> float:
    """Unix seconds of how far back, or of a time; 0.0 is the beginning."""
    if not text:
        return 0.0
    try:
        return time.time() - units.parse_duration(text)
    except ValueError:
        pass
    try:
        if text.replace(".", "", 1).isdigit():
            return float(text)
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a + that was not encoded
    except ValueError:
        raise bad("since", f"It is {text[:40]!r}; expected 5m, 2h, or 2026-01-05T03:07:41Z.") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def record_filter(request: web.Request) -> Filter:
    """The filters of `requests`."""
    query = request.query
    fault = query.get("fault", "")
    if fault and fault != "any" and fault not in FAULTS:
        near = difflib.get_close_matches(fault, FAULTS, 1)
        raise bad("fault", f"There is no fault {fault[:60]!r}.", f"Did you mean {near[0]!r}?" if near else "")
    try:
        status = parse_status(query["status"]) if query.get("status") else ()
    except ValueError as error:
        raise bad("status", f"{error}.") from None
    slower = 0.0
    if query.get("slower"):
        try:
            slower = units.parse_duration(query["slower"])
        except ValueError:
            raise bad("slower", f"It is {query['slower'][:40]!r}; expected 1s or 250ms.") from None
    return Filter(
        app=query.get("app", ""),
        instance=query.get("instance", ""),
        method=query.get("method", "").upper(),
        fault=fault,
        status=status,
        slower=slower,
        path=query.get("path", ""),
        since=since(request),
    )
