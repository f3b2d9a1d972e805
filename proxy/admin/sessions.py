"""Sessions as the API shows them: begun, listed, one whole, its findings, report, artifacts and bundle.

Always true:
  - what lies in a session's folder is read in a thread, and no name leads out of that folder;
  - a report is shown with a policy that lets nothing be loaded from anywhere, and runs no script.
"""

from __future__ import annotations

import asyncio
import math
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from aiohttp import web

from proxy import units
from proxy.admin import kept, query
from proxy.admin.bundling import is_dump
from proxy.admin.callers import require
from proxy.admin.common import answer, items, no_app, not_readable
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY
from proxy.admin.times import iso
from proxy.control.operations import BY_HAND
from proxy.control.refusal import NotPossible
from proxy.control.sessions import folders
from proxy.control.sessions.engine import LONGEST, SHORTEST, Refusal
from proxy.control.sessions.session import ACTIVE, ENDED, MODES, Session, Trigger, number_of
from proxy.control.store import NotReadable
from proxy.diagnostics.collectors import COLLECTORS
from proxy.link.session import OUTCOME, Outcome, Step

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

USUAL: Final = 30.0
"""Seconds of one that says no time."""
DISK: Final = 10.0
"""Seconds for a look at the disk by one call."""
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
TYPES: Final = {
    ".json": "application/json", ".txt": "text/plain; charset=utf-8", ".log": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}  # fmt: skip
"""Of artifacts; everything else is bytes to be saved."""
_TOO_MANY: Final = frozenset({"too-many-sessions", "cooldown", "per-day"})

T = TypeVar("T")


# --- calls -----------------------------------------------------------------------------------------------


async def begin(request: web.Request) -> web.Response:
    """202 with the session."""
    gateway, body = request.app[GATEWAY], request["body"]
    app, instance = body.get("app", ""), body.get("instance", "")
    trigger = Trigger(reason=body.get("reason", ""), way=request["way"])
    if body.get("request"):
        app, trigger = await _of_request(gateway, app, body["request"], trigger)
    if app not in gateway.apps:
        if not app and len(gateway.apps) == 1:
            app = next(iter(gateway.apps))
        else:
            raise no_app(gateway, app)
    if instance and instance not in gateway.apps[app].instances:
        names = ", ".join(list(gateway.apps[app].instances)[:20]) or "none"
        raise ApiProblem(404, "no-such-instance", f"{app} has no instance {instance[:60]!r}",
                         hint=f"Instances are: {names}.")  # fmt: skip
    mode, seconds, chosen = body.get("mode", "analyze"), body.get("seconds", USUAL), body.get("collectors", ())
    if mode not in MODES:
        raise ApiProblem(400, "bad-field", "mode cannot be that", f"It is {mode[:40]!r}; it may be {', '.join(MODES)}.")
    if not SHORTEST <= seconds <= LONGEST:
        raise ApiProblem(
            400, "bad-field", "seconds cannot be that",
            f"It is {seconds:g}; {units.write_duration(SHORTEST)} to {units.write_duration(LONGEST)} can be.",
        )  # fmt: skip
    known = [one.name for one in COLLECTORS]
    for name in chosen:
        if name not in known:
            raise ApiProblem(400, "no-such-collector", f"There is no collector {name[:60]!r}",
                             hint=f"Collectors are: {', '.join(known)}.")  # fmt: skip
    try:
        session = await gateway.sessions.begin(
            app, instance, trigger=trigger, mode=mode, seconds=seconds, collectors=chosen
        )
    except NotPossible as error:
        raise refused(error, f"No session of {app} can begin now") from None
    except KeyError:
        raise no_app(gateway, app) from None
    response = answer(item(gateway, session), 202)
    response.headers["Location"] = f"/api/v1/sessions/{session.id}"
    return response


async def _of_request(gateway: Gateway, app: str, id: str, trigger: Trigger) -> tuple[str, Trigger]:
    """The app of a request, and the trigger that names it."""
    try:
        found = await kept.find(gateway, id)
    except NotReadable as error:
        raise not_readable(error) from None
    if not found:
        raise ApiProblem(404, "no-such-request", f"No request {id[:60]!r} is known", hint="triage requests lists them.")
    record = found[0]
    if app and record.app != app:
        raise ApiProblem(409, "other-app", f"Request {record.id} is one of {record.app or 'no app'}, not of {app}")
    reason = trigger.reason or f"request {record.id}: {record.method} {record.target.partition('?')[0]}"
    made = Trigger("request", BY_HAND, reason, saw=record.fault or str(record.status), request=record.id,
                   way=trigger.way, at=record.time)  # fmt: skip
    return record.app, made


async def sessions(request: web.Request) -> web.Response:
    """Newest first."""
    gateway, state = request.app[GATEWAY], request.query.get("state", "")
    if state and state not in (*ACTIVE, *ENDED, "active"):
        raise query.bad("state", f"It is {state[:40]!r}; it may be active, {', '.join((*ACTIVE, *sorted(ENDED)))}.")
    most, before = query.limit(request), query.cursor(request) or 0
    found = gateway.sessions.list(request.query.get("app", ""), state, query.since(request), before, most + 1)
    following = found[most - 1].number if len(found) > most else None
    return items([item(gateway, one) for one in found[:most]], following)


async def session(request: web.Request) -> web.Response:
    """One, with its steps and files."""
    gateway = request.app[GATEWAY]
    return answer(await whole(gateway, the_session(request)))


async def findings(request: web.Request) -> web.StreamResponse:
    return await _file(request, "findings.json", "findings", "application/json")


async def report(request: web.Request) -> web.StreamResponse:
    form = request.query.get("form", "html")
    if form not in ("html", "json"):
        raise query.bad("form", f"It is {form[:40]!r}; it may be html or json.")
    if form == "json":
        return await _file(request, "report.json", "report", "application/json")
    one = the_session(request)
    return await _file(
        request, "report.html", "report", TYPES[".html"],
        {"Content-Security-Policy": POLICY, "Content-Disposition": f'inline; filename="{one.id}.html"'},
    )  # fmt: skip


async def artifact(request: web.Request) -> web.StreamResponse:
    """Any file of the folder."""
    name = request.match_info["name"]
    if is_dump(name):
        require(request, "operator", "A memory dump")
    suffix = os.path.splitext(name)[1]
    headers = {"Content-Security-Policy": POLICY} if suffix == ".html" else {}
    plain = quote(name.replace("/", "-"))
    way = "inline" if suffix in TYPES else "attachment"
    headers["Content-Disposition"] = f"{way}; filename*=UTF-8''{plain}"
    return await _file(request, name, "artifact", TYPES.get(suffix, "application/octet-stream"), headers)


async def cancel(request: web.Request) -> web.Response:
    gateway, one = request.app[GATEWAY], the_session(request)
    reason = request["body"].get("reason", "")
    try:
        gateway.sessions.cancel(one.number, f"{BY_HAND}{f': {reason}' if reason else ''}")
    except NotPossible as error:
        raise refused(error, f"{one.id} cannot be cancelled") from None
    return answer(item(gateway, one), 202)


async def analyze(request: web.Request) -> web.Response:
    gateway, one = request.app[GATEWAY], the_session(request)
    try:
        gateway.sessions.analyze(one.number)
    except NotPossible as error:
        raise refused(error, f"{one.id} cannot be analyzed now") from None
    return answer(item(gateway, one), 202)


async def delete(request: web.Request) -> web.Response:
    gateway, one = request.app[GATEWAY], the_session(request)
    try:
        await gateway.sessions.delete(one.number)
    except NotPossible as error:
        raise refused(error, f"{one.id} cannot be removed") from None
    return web.Response(status=204)


async def collectors(request: web.Request) -> web.Response:
    """What can be gathered."""
    at, to, following = query.window(request, [one.name for one in COLLECTORS])
    return items([
        {"id": one.name, "title": one.title, "needs": one.needs, "cost": one.cost, "of": one.of, "when": one.when,
         "default": one.default, "quick": one.quick, "runtimes": list(one.runtimes), "most_s": one.limit}
        for one in COLLECTORS[at:to]
    ], following)  # fmt: skip


def refused(error: NotPossible, title: str) -> ApiProblem:
    """429 where waiting helps, with the seconds in Retry-After; else 409."""
    headers = {}
    until = error.until if isinstance(error, Refusal) else 0.0
    if until > time.time():
        headers["Retry-After"] = str(math.ceil(until - time.time()))
    status = 429 if error.kind in _TOO_MANY else 409
    return ApiProblem(status, error.kind, title, str(error), error.hint, headers, until=iso(until) if until else None)


# --- shapes ----------------------------------------------------------------------------------------------


def item(gateway: Gateway, one: Session) -> dict[str, Any]:
    trigger = one.trigger
    return {
        "id": one.id, "app": one.app, "instance": one.instance, "mode": one.mode, "state": one.state, "why": one.why,
        "trigger": {
            "kind": trigger.kind, "by": trigger.by, "reason": trigger.reason, "rule": trigger.rule, "saw": trigger.saw,
            "incident": trigger.incident, "request": trigger.request, "operation": trigger.operation,
            "act": trigger.act,
        },
        "began": iso(one.began), "ended": iso(one.ended) if one.ended else None,
        "until": iso(one.until) if one.active and one.until else None, "seconds": one.seconds,
        "took_s": round((one.ended or time.time()) - one.began, 3),
        "progress": one.progress(time.time()), "verdict": one.verdict, "top": one.top, "certainty": one.certainty,
        "severity": one.severity, "findings": one.findings, "size": one.size,
        "targets": list(one.targets), "collectors": list(one.collectors), "left_out": one.left_out,
        "operation": one.recycle or None, "recycled": one.recycled, "folder": str(gateway.sessions.folder(one)),
    }  # fmt: skip


async def whole(gateway: Gateway, one: Session) -> dict[str, Any]:
    folder = gateway.sessions.folder(one)
    found = await _read(gateway, lambda: folders.files(folder)) or []
    outcome = one.outcome or await _read(gateway, lambda: _outcome(folder))
    return {
        **item(gateway, one),
        "steps": [_step(step) for step in outcome.steps] if outcome is not None else [],
        "files": [{"name": name, "size": size} for name, size in found],
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "name": step.name, "title": step.title, "instance": step.instance, "state": step.state, "why": step.why,
        "took_s": round(step.took, 3), "files": step.files,
    }  # fmt: skip


def _outcome(folder: Path) -> Outcome | None:
    try:
        return msgspec.json.decode((folder / OUTCOME).read_bytes(), type=Outcome)
    except (OSError, msgspec.MsgspecError):
        return None


# --- files -----------------------------------------------------------------------------------------------


def the_session(request: web.Request) -> Session:
    """`latest` is the newest one. ApiProblem for what is not there."""
    gateway, text = request.app[GATEWAY], request.match_info["id"]
    if text == "latest":
        found = next(iter(gateway.sessions.list(limit=1)), None)
    else:
        number = number_of(text)
        found = gateway.sessions.get(number) if number is not None else None
    if found is None:
        raise ApiProblem(
            404, "no-such-session", f"There is no session {text[:60]!r}",
            hint="triage sessions lists those that are kept; an id is like S-12.",
        )  # fmt: skip
    return found


async def _read(gateway: Gateway, work: Callable[[], T]) -> T | None:
    """None where the disk does not answer."""
    try:
        return await gateway.sessions.in_thread(work, DISK)
    except (TimeoutError, OSError):
        return None


async def _file(
    request: web.Request, name: str, what: str, content: str, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    """A file of a session's folder, streamed: opened without following a link, below the folder only."""
    gateway, one = request.app[GATEWAY], the_session(request)
    folder = gateway.sessions.folder(one)
    fd = await _read(gateway, lambda: opened(folder, name))
    if fd is None:
        hint = f"it is {one.state}" + (f": {one.why}" if one.why else "")
        if what != "artifact" and one.mode == "collect":
            hint = f"it only collected; POST sessions/{one.id}/analyze analyzes it"
        raise ApiProblem(404, f"no-{what}", f"{one.id} has no {name[:80]!r}", hint=f"{one.id}: {hint}.")
    size = os.fstat(fd).st_size
    response = web.StreamResponse(headers=headers)
    response.headers["Content-Type"] = content
    response.content_length = size
    loop = asyncio.get_running_loop()
    try:
        await response.prepare(request)
        left = 0 if request.method == "HEAD" else size
        while left > 0:
            data = await loop.run_in_executor(None, os.read, fd, min(left, 1 << 18))
            if not data:
                break
            left -= len(data)
            await response.write(data)
        await response.write_eof()
    finally:
        os.close(fd)
    return response


def opened(folder: Path, name: str) -> int | None:
    """A descriptor of a plain file at `name` below the folder, no step of the way a link; None: there is none."""
    parts = name.split("/")
    if not all(parts) or any(part in (".", "..") or "\0" in part for part in parts) or len(parts) > 8:
        return None
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return fd
