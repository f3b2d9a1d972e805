"""Whole stories of requests that `keep.whole` asks for: masked when they were saved, so shown as they are."""

from __future__ import annotations

from aiohttp import web

from proxy.admin import answers
from proxy.admin.common import answer, not_readable
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY
from proxy.control.store import NotReadable


async def story(request: web.Request) -> web.Response:
    """One request's whole story."""
    gateway = request.app[GATEWAY]
    of = await answers.one(gateway, request.match_info["id"])
    try:
        found = await gateway.store.story_of(of.id)
    except NotReadable as error:
        raise not_readable(error) from None
    if found is None:
        raise ApiProblem(
            404, "no-story", f"No whole story of request {of.id} is kept",
            "They are of requests that a rule of keep.whole wants, 20 a second and worker at most.",
            'For example [keep] whole = [{ path = "/api/*", status = ">=500", headers = true }], then triage reload.',
        )  # fmt: skip
    return answer({"id": of.id, **found})
