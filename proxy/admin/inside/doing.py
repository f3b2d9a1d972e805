"""Handlers of what is done to processes by hand: a signal to one, a profile, a memory dump."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final
from urllib.parse import quote

from aiohttp import web

from proxy import units
from proxy.admin import acts, mending, sessions
from proxy.admin.common import answer
from proxy.admin.errors import ApiProblem
from proxy.admin.inside import places
from proxy.admin.inside.places import Place
from proxy.admin.inside.reader import READER
from proxy.admin.keys import GATEWAY
from proxy.control.inside import kill
from proxy.control.refusal import NotPossible
from proxy.control.sessions.engine import MEMORY_DUMP
from proxy.control.sessions.session import Mode, Trigger

PROFILE: Final = 10.0
LONGEST_PROFILE: Final = 60.0
"""Seconds, as long as its collector takes."""
SHORTEST: Final = 2.0
_MISSING: Final = frozenset({"no-such-process", "not-of-this-instance"})


async def kill_process(request: web.Request) -> web.Response:
    """202 with the operation; of a `preview` 200 with what it would do."""
    at = await places.place(request)
    gateway, body = request.app[GATEWAY], request["body"]
    pid, wanted = places.in_path(request, at), body.get("signal", "TERM")
    if at.instance.kind == "address":
        raise ApiProblem(
            409, "not-ours", f"Triage did not start {at.instance.name}",
            "Only processes of instances that Triage started are ended from here.",
            "apps.NAME.recycle.command is what a given address is recycled by.",
        )  # fmt: skip
    if gateway.stopping:
        raise ApiProblem(409, "stopping", "Triage stops", "It finishes what runs and begins nothing new.")
    take = partial(kill.take, pid, body.get("start", 0), places.reading(gateway, at))
    try:
        target = await request.app[READER].read(take)
    except OSError as error:
        raise places.unreadable(at, at.pid, error) from None
    except NotPossible as error:
        status = 404 if error.kind in _MISSING else 409
        raise ApiProblem(status, error.kind, f"{pid} is not ended", str(error), error.hint) from None
    if body.get("preview", False):
        lines, at_stake = kill.foresee(at.instance, target, wanted)
        said = f"{at.app.name}/{at.instance.name}"
        return answer({"act": kill.ACT, "target": said, "will": lines, "at_stake": at_stake})
    operation = gateway.killer.begin(at.instance, target, wanted, acts.asked(request))
    response = answer(mending.operation(operation), 202)
    response.headers["Location"] = f"/api/v1/operations/{quote(operation.id)}"
    return response


async def profile(request: web.Request) -> web.Response:
    """202 with a session of that collector alone."""
    seconds = request["body"].get("seconds", PROFILE)
    if not SHORTEST <= seconds <= LONGEST_PROFILE:
        raise ApiProblem(
            400, "bad-field", "seconds cannot be that",
            f"It is {seconds:g}; {units.write_duration(SHORTEST)} to {units.write_duration(LONGEST_PROFILE)} can be.",
        )  # fmt: skip
    at = await places.place(request)
    return await _session(request, at, ("profile",), seconds, "analyze")


async def memory_dump(request: web.Request) -> web.Response:
    """Likewise; it is not analyzed, and holds all secrets of the process."""
    at = await places.place(request)
    return await _session(request, at, (MEMORY_DUMP,), SHORTEST, "collect")


async def _session(
    request: web.Request, at: Place, collectors: Sequence[str], seconds: float, mode: Mode
) -> web.Response:
    gateway = request.app[GATEWAY]
    trigger = Trigger(reason=request["body"].get("reason", ""), way=request["way"])
    try:
        session = await gateway.sessions.begin(
            at.app.name, at.instance.name, trigger=trigger, mode=mode, seconds=seconds, collectors=collectors
        )
    except NotPossible as error:
        raise sessions.refused(error, f"No {collectors[0]} of {at.instance.name} can be taken now") from None
    except KeyError:
        raise places.ended(at, at.pid) from None
    response = answer(sessions.item(gateway, session), 202)
    response.headers["Location"] = f"/api/v1/sessions/{session.id}"
    return response
