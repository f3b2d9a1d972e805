"""Alerts as the API shows them, a real test message, and mute."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from proxy.admin import query
from proxy.admin.acts import act
from proxy.admin.common import answer, the_app
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY
from proxy.admin.times import iso
from proxy.control.alerts import views


async def alerts(request: web.Request) -> web.Response:
    """Rules, notifiers, and the newest messages."""
    found = request.app[GATEWAY].alerts
    rules = views.rules(found)
    at, to, following = query.window(request, [str(one["id"]) for one in rules])
    return answer(
        {
            "items": [_timed(one, "last_fired", "muted_until") for one in rules[at:to]],
            "notifiers": [_timed(one, "last", "failing_since") for one in views.notifiers(found)],
            "messages": [_timed(one, "time") for one in await views.messages(found)],
            "words": "" if found.outboxes else "no [notify.NAME] is configured: nobody is told of anything",
            "next": following,
        }
    )


async def test(request: web.Request) -> web.Response:
    """Send one, and wait for what comes of it."""
    found = request.app[GATEWAY].alerts
    name = request["body"].get("notifier", "")
    if not name and len(found.outboxes) == 1:
        name = next(iter(found.outboxes))
    if name not in found.outboxes:
        names = ", ".join(found.outboxes) or "none"
        raise ApiProblem(
            404, "no-such-notifier", f"There is no notifier {name[:60]!r}" if name else "Which notifier?",
            hint=f"Notifiers are: {names}.",
        )  # fmt: skip
    began = time.monotonic()
    message, said, error = await found.test(name)
    return answer(
        {
            "id": message.name, "notifier": name, "target": found.outboxes[name].notifier.target, "ok": not error,
            "words": said, "error": error, "took_ms": round((time.monotonic() - began) * 1000, 1),
        }
    )  # fmt: skip


async def mute(request: web.Request) -> web.StreamResponse:
    """For so long, or no longer."""
    body = request["body"]
    lasts, unmute = body.get("for"), body.get("unmute", False) or body.get("for") == 0.0
    if lasts is None and not unmute:
        raise ApiProblem(
            400, "nothing-asked", "For how long?", "`for` is missing.", 'Send {"for": "1h"}, or {"unmute": true}.'
        )
    if lasts and unmute:
        raise ApiProblem(400, "contradiction", "Either for or unmute", "Both were given.")
    return act(request, "mute", the_app(request).name, "", {"unmute": True} if unmute else {"for_": lasts})


def _timed(one: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**one, **{name: iso(one[name]) for name in names}}
