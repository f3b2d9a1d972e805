"""What several handlers need: answers, lists, sums, and the refusal of an unknown app."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy.admin import mending, verdict, views
from proxy.admin.errors import ApiProblem, dumps
from proxy.admin.keys import GATEWAY
from proxy.control.incidents.engine import GATEWAY as GATEWAY_ITSELF
from proxy.control.incidents.engine import HOST
from proxy.control.state import AppState, InstanceState
from proxy.control.store import NotReadable

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

STEP: Final = 100
"""Instances shown before others get their turn: about 2 ms."""


def answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=dumps(value), status=status, content_type="application/json")


def items(values: list[Any], following: int | str | None = None) -> web.Response:
    return answer({"items": values, "next": str(following) if following is not None else None})


async def look(gateway: Gateway) -> views.Look:
    """All sums of this moment."""
    sums = await asyncio.to_thread(gateway.counters.snapshot().summaries)
    return views.Look(gateway.counters, gateway.board, sums, gateway.operations.running(), gateway.incidents.open)


def whole_verdict(gateway: Gateway, apps: Sequence[tuple[str, verdict.Verdict]]) -> verdict.Verdict:
    """Of everything: the apps', Triage's own, and not better than what open incidents of gateway and host still see."""
    numbers = {subject.app: one.number for subject, one in gateway.incidents.open.items()}
    known = sorted(apps, key=lambda one: numbers.get(one[0], sys.maxsize))  # what is_it names comes first
    whole = verdict.of_gateway(known, gateway.stopping)
    own = gateway.verdict()
    if own.state == "down" and whole.state != "down":
        whole = verdict.Verdict("down", f"Triage is down: {'; '.join(own.lines[:2])}")
    for subject in (GATEWAY_ITSELF, HOST):
        whole = verdict.beside(whole, gateway.incidents.open.get(subject))
    return whole


async def all_instances(
    seen: views.Look, state: AppState, chosen: Sequence[InstanceState] | None = None
) -> list[dict[str, Any]]:
    """Those, or all, as the API shows them; where there are many, in steps, so that others get their turn."""
    shown = []
    for number, one in enumerate(list(state.instances.values()) if chosen is None else chosen, 1):
        shown.append(views.instance(seen, state, one))
        if number % STEP == 0:
            await asyncio.sleep(0)
    return shown


async def whole_app(gateway: Gateway, seen: views.Look, state: AppState) -> dict[str, Any]:
    shown = views.app(seen, state, await all_instances(seen, state))
    return {
        **shown,
        "autoheal": mending.rules(state, gateway.autoheal.view(state.name)),
        "scaler": mending.scaler(gateway.scaler.view(state.name)),
        "muted_until": views.muted_until(state),
    }


def no_app(gateway: Gateway, name: str, *, known: bool = True) -> ApiProblem:
    names = ", ".join(gateway.apps) or "none"
    return ApiProblem(404, "no-such-app", f"There is no app {name[:60]!r}", hint=f"Apps are: {names}." if known else "")


def not_readable(error: NotReadable) -> ApiProblem:
    return ApiProblem(
        503, "store-not-readable", "The store cannot be read now", str(error),
        "What control has in memory is there still.",
    )  # fmt: skip


def the_app(request: web.Request) -> AppState:
    gateway = request.app[GATEWAY]
    found = gateway.apps.get(request.match_info["app"])
    if found is None:
        raise no_app(gateway, request.match_info["app"])
    return found


def the_instance(request: web.Request) -> tuple[AppState, InstanceState]:
    state, name = the_app(request), request.match_info["instance"]
    found = state.instances.get(name) or next((one for one in reversed(state.gone) if one.name == name), None)
    if found is None:
        names = ", ".join(list(state.instances)[:20]) or "none"
        raise ApiProblem(
            404, "no-such-instance", f"{state.name} has no instance {name[:60]!r}", hint=f"Instances are: {names}."
        )
    return state, found
