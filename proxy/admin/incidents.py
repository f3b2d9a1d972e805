"""Incidents as the API shows them: listed, one whole, and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from proxy.admin import incident_why, query
from proxy.admin.common import answer, items, look, not_readable
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import FINDINGS, GATEWAY
from proxy.admin.times import iso
from proxy.control.by_hand import MUTED
from proxy.control.incidents.incident import Incident, number
from proxy.control.store import NotReadable
from proxy.control.store.messages import Message

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway


async def incidents(request: web.Request) -> web.Response:
    """Newest first, from memory and from the store."""
    gateway = request.app[GATEWAY]
    before, most = query.cursor(request) or 0, query.limit(request)
    app, only = request.query.get("app", ""), query.flag(request, "open")
    try:
        found = await gateway.incidents.list(app, only, query.since(request), before, most + 1)
    except NotReadable as error:
        raise not_readable(error) from None
    following = found[most - 1].number if len(found) > most else None
    return items([item(gateway, one) for one in found[:most]], following)


async def incident(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    return answer(await whole(gateway, await _the(request)))


async def why(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    found = await _the(request)
    said = await incident_why.explain(gateway, await look(gateway), found, request.app[FINDINGS])
    return answer({**said, "incident": item(gateway, found)})


async def _the(request: web.Request) -> Incident:
    """`latest` is the newest open one, else the newest. ApiProblem for what is not there."""
    gateway, text = request.app[GATEWAY], request.match_info["id"]
    try:
        if text == "latest":
            open_ones = await gateway.incidents.list(open_only=True, limit=1)
            known = open_ones or await gateway.incidents.list(limit=1)
            found = known[0] if known else None
        else:
            wanted = number(text)
            found = await gateway.incidents.found(wanted) if wanted is not None else None
    except NotReadable as error:
        raise not_readable(error) from None
    if found is None:
        raise ApiProblem(
            404, "no-such-incident", f"There is no incident {text[:60]!r}",
            hint="triage incidents lists those that are kept; an id is like INC-31.",
        )  # fmt: skip
    return found


# --- shapes ----------------------------------------------------------------------------------------------


def brief(one: Incident) -> dict[str, Any]:
    """For `status`, and wherever there is little room."""
    return {
        "id": one.id, "scope": one.subject.scope, "app": one.subject.app, "severity": one.severity,
        "signal": one.signal, "cause": one.cause, "began": iso(one.began), "share": round(one.share, 4),
    }  # fmt: skip


def item(gateway: Gateway, one: Incident) -> dict[str, Any]:
    state = gateway.apps.get(one.subject.app)
    return {
        "id": one.id,
        "scope": one.subject.scope,
        "app": one.subject.app,
        "state": "open" if one.open else "closed",
        "severity": one.severity,
        "signal": one.signal,
        "cause": one.cause,
        "certainty": one.certainty,
        "began": iso(one.began),
        "opened": iso(one.opened),
        "updated": iso(one.updated),
        "ended": iso(one.ended),
        "lasted_s": round((one.ended or time.time()) - one.began, 3),
        "requests": one.requests,
        "hit": one.hit,
        "share": round(one.share, 4),
        "faults": dict(sorted(one.faults.items(), key=lambda entry: -entry[1])),
        "instances": one.instances,
        "signals": one.signals if one.open else dict.fromkeys(one.seen, ""),
        "told": one.told,
        "rules": one.rules,
        "muted": one.open and state is not None and MUTED in state.by_hand,
    }


async def whole(gateway: Gateway, one: Incident) -> dict[str, Any]:
    """With its timeline, and what was sent about it."""
    messages: list[dict[str, Any]] = []
    problem = ""
    try:
        messages = [_message(message) for message in await gateway.store.messages(one.number)]
    except NotReadable as error:
        problem = str(error)
    return {
        **item(gateway, one),
        "seen": one.seen,
        "steps": [{"time": iso(step.at), "kind": step.kind, "text": step.text} for step in one.steps],
        "steps_dropped": one.details.get("steps_dropped", 0),
        "frozen": str(one.frozen) if one.frozen else None,
        "messages": messages,
        "messages_problem": problem,
    }


def _message(one: Message) -> dict[str, Any]:
    return {
        "id": f"msg-{one.id}", "time": iso(one.at), "incident": f"INC-{one.incident}", "notifier": one.notifier,
        "state": one.state, "attempts": one.tries, "error": one.error, "event": one.kind, "title": one.title,
    }  # fmt: skip
