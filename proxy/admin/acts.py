"""Acts on apps and instances: what was asked, checked, then begun by the mender, or only foreseen.

Always true:
  - an act is begun in one place, `act`; it answers 202 with the operation, which is followed at operations/{id};
  - `preview` does nothing and answers what the act would do;
  - who asked and by which way is in the operation, and so in each event that follows from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from proxy.admin import mending
from proxy.admin.common import answer, the_app, the_instance
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY
from proxy.admin.routing import Handler
from proxy.control.mend import NotPossible
from proxy.control.operations import BY_HAND, Asked

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway


def asked(request: web.Request) -> Asked:
    """Who asks, and why."""
    body = request["body"]
    return Asked(by=BY_HAND, reason=body.get("reason", ""), collect=body.get("collect", True), way=request["way"])


def of_app(name: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return act(request, name, the_app(request).name, "", _lasting(request))

    return handler


def of_instance(name: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return act(request, name, *_present(request), {})

    return handler


def _lasting(request: web.Request) -> dict[str, Any]:
    """For how long, where it was said."""
    return {"for_": request["body"]["for"]} if "for" in request["body"] else {}


def _present(request: web.Request) -> tuple[str, str]:
    """App and instance, which must not be gone."""
    state, found = the_instance(request)
    if found.name not in state.instances:
        raise ApiProblem(
            409, "ended", f"{found.name} has ended already", f"It is {found.lifecycle}.",
            f"Instances are: {', '.join(list(state.instances)[:20]) or 'none'}.",
        )  # fmt: skip
    return state.name, found.name


async def eject(request: web.Request) -> web.StreamResponse:
    body = request["body"]
    fields = {**_lasting(request), "force": body.get("force", False)}
    return act(request, "eject", *_present(request), fields)


async def scale(request: web.Request) -> web.StreamResponse:
    body = request["body"]
    fields = {name: body[name] for name in ("instances", "auto", "memory", "cpus") if name in body}
    if not fields:
        raise ApiProblem(
            400, "nothing-asked", "What shall be scaled?", "None of the fields says it.",
            'Send {"instances": 3}, {"auto": true}, {"memory": "1GB"} or {"cpus": 2}.',
        )  # fmt: skip
    if fields.get("auto") and "instances" in fields:
        raise ApiProblem(400, "contradiction", "Either instances or auto", "Both were given.")
    return act(request, "scale", the_app(request).name, "", {**fields, **_lasting(request)})


async def autoheal(request: web.Request) -> web.StreamResponse:
    body = request["body"]
    if "enabled" not in body:
        raise ApiProblem(400, "nothing-asked", "On or off?", "`enabled` is missing.", 'Send {"enabled": false}.')
    if body["enabled"] and "for" in body:
        raise ApiProblem(400, "contradiction", "`for` goes with off", "Autoheal is on until it is switched off.")
    fields = {"enabled": body["enabled"], **_lasting(request)}
    return act(request, "autoheal", the_app(request).name, "", fields)


def act(request: web.Request, name: str, app: str, instance: str, fields: dict[str, Any]) -> web.Response:
    """Begin it, or answer what it would do."""
    gateway = request.app[GATEWAY]
    if gateway.stopping:
        raise ApiProblem(409, "stopping", "Triage stops", "It finishes what runs and begins nothing new.")
    target = f"{app}/{instance}" if instance else app
    try:
        if request["body"].get("preview", False):
            return answer(_foreseen(gateway, name, target, app, instance, fields))
        operation = gateway.mender.act(name, app, instance, asked(request), **fields)
    except NotPossible as error:
        raise ApiProblem(409, error.kind, f"{name} of {target} is not possible", str(error), error.hint) from None
    response = answer(mending.operation(operation), 202)
    response.headers["Location"] = f"/api/v1/operations/{quote(operation.id)}"
    return response


def _foreseen(
    gateway: Gateway, name: str, target: str, app: str, instance: str, fields: dict[str, Any]
) -> dict[str, Any]:
    foresight = gateway.mender.foresee(name, app, instance, **fields)
    return {"act": name, "target": target, "will": list(foresight.lines), "at_stake": foresight.at_stake}
