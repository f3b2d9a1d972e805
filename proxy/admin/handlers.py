"""One function a route: read what control knows, make the shape, answer. Nothing here holds the loop.

What is summed over many instances or searched over many records runs in a thread or in steps; the rest is some
attributes.
"""

from __future__ import annotations

from aiohttp import web

from proxy.admin import answers, kept, mending, query, views
from proxy.admin.common import all_instances, answer, items, look, not_readable, the_app, the_instance, whole_app
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import FINDINGS, GATEWAY
from proxy.control.store import NotReadable
from proxy.link.messages import Record

# --- apps and instances ------------------------------------------------------------------------------


async def apps(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    at, to, following = query.window(request, list(gateway.apps))
    seen = await look(gateway)
    return items([await whole_app(gateway, seen, state) for state in list(gateway.apps.values())[at:to]], following)


async def app(request: web.Request) -> web.Response:
    state = the_app(request)
    gateway = request.app[GATEWAY]
    return answer(await whole_app(gateway, await look(gateway), state))


async def instances(request: web.Request) -> web.Response:
    state = the_app(request)
    at, to, following = query.window(request, list(state.instances))
    chosen = list(state.instances.values())[at:to]
    return items(await all_instances(await look(request.app[GATEWAY]), state, chosen), following)


async def instance(request: web.Request) -> web.Response:
    state, found = the_instance(request)
    gateway = request.app[GATEWAY]
    shown = views.instance(await look(gateway), state, found)
    return answer({**shown, "path": mending.path(found), "last_lines": gateway.last_lines(found.name, 20)})


# --- requests ----------------------------------------------------------------------------------------


async def requests(request: web.Request) -> web.Response:
    wanted = query.record_filter(request)
    try:
        found, following = await kept.page(request.app[GATEWAY], wanted, query.limit(request), query.cursor(request))
    except NotReadable as error:
        raise not_readable(error) from None
    return items([views.record(one) for one in found], following)


async def request(request: web.Request) -> web.Response:
    found = await answers.one(request.app[GATEWAY], request.match_info["id"])
    if isinstance(found, Record):
        told = await kept.story(request.app[GATEWAY], found.id)
        return answer({**views.record(found), "story": told})
    raise ApiProblem(
        404, "not-kept", f"Request {found.id} was not kept in full",
        f"Worker {found.parts.worker + 1} made this id at {views.iso(found.parts.second)}. Kept are faults, 5xx and "
        "slow ones; of a storm of faults only some.",
        f"triage why {found.id} says what is known of its second; the access log has a line for each request.",
    )  # fmt: skip


async def request_why(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    found = await answers.one(gateway, request.match_info["id"], latest=True)
    return answer(await answers.why_request(gateway, await look(gateway), found, request.app[FINDINGS]))


async def app_why(request: web.Request) -> web.Response:
    state = the_app(request)
    gateway = request.app[GATEWAY]
    return answer(await answers.why_app(gateway, await look(gateway), state, request.app[FINDINGS]))
