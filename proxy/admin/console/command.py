"""Run a command and stream what it prints, as server-sent events.

Always true: it ends with the call. Whoever made it leaves, loses the right to it, or Triage ends: so does all that it
started.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from typing import Any, Final

from aiohttp import web

from proxy import masking, units
from proxy.admin import streams
from proxy.admin.console import where as places
from proxy.admin.console.desk import Desk
from proxy.admin.errors import ApiProblem
from proxy.control.console.command import Outcome, Running
from proxy.control.console.where import Where
from proxy.control.refusal import NotPossible

USUAL: Final = 60.0
LONGEST: Final = 1 * units.HOURS
LOOK: Final = 0.5
"""Seconds between two looks at whether the client is there."""
MOST_SHOWN: Final = 300


async def run(request: web.Request, desk: Desk) -> web.StreamResponse:
    """Events `out` and `err` with text, `dropped`, and at the end `exit`."""
    body = request["body"]
    if "command" not in body:
        raise ApiProblem(400, "nothing-asked", "What shall be run?", "`command` is missing.",
                         'Send {"command": ["ls", "-l"]}.')  # fmt: skip
    argv = arguments(body["command"])
    timeout = body.get("timeout", USUAL)
    if timeout > LONGEST:
        raise ApiProblem(400, "bad-field", "timeout cannot be that", f"At most {units.write_duration(LONGEST)}.")
    place, folder = await places.found(
        desk, body.get("app", ""), body.get("instance", ""), body.get("root", ""), body.get("dir", "")
    )
    running = Running(argv, place, timeout)
    try:
        with desk.consoles.command():
            await running.start()
            return await _streamed(request, desk, running, body.get("reason", ""))
    except NotPossible as error:
        raise places.refused(error) from None
    finally:
        await running.close()
        places.close(folder)


def arguments(given: str | list[str]) -> list[str]:
    """As a program gets them. Raises ApiProblem."""
    try:
        argv = shlex.split(given) if isinstance(given, str) else list(given)
    except ValueError as error:
        raise ApiProblem(400, "bad-field", "command cannot be that", f"{error}.",
                         'A list has no such trouble: ["ls", "-l"].') from None  # fmt: skip
    if not argv or not argv[0]:
        raise ApiProblem(400, "bad-field", "command cannot be that", "There is nothing to run.", 'Try ["ls", "-l"].')
    if any("\0" in one for one in argv):
        raise ApiProblem(400, "bad-field", "command cannot be that", "An argument has no NUL in it.")
    return argv


async def _streamed(request: web.Request, desk: Desk, running: Running, reason: str) -> web.StreamResponse:
    place = running.where
    line = said(running.argv)
    about = {"command": line, "pid": running.pid, "cwd": place.cwd, "user": place.name, "reason": reason}
    why = f" ({reason})" if reason else ""
    desk.note(request, f"runs {line} in {place.words}{why}", place.app, place.instance, what="began", **about)
    outcome: Outcome | None = None
    began = time.monotonic()

    async def work(write: streams.Write) -> None:
        nonlocal outcome
        outcome = await _told(request, running, write)

    try:
        return await streams.follow(request, work)
    finally:
        _ended(request, desk, place, line, outcome, running, time.monotonic() - began)


async def _told(request: web.Request, running: Running, write: streams.Write) -> Outcome:
    """Raises ConnectionError where nobody listens any more."""

    async def tell(kind: str, text: str) -> None:
        await write(streams.message(kind, text))

    following = asyncio.ensure_future(running.follow(tell))
    heard = time.monotonic()
    try:
        while not following.done():
            await asyncio.wait({following}, timeout=LOOK)
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("its client left")
            if time.monotonic() - heard >= streams.HEARTBEAT and not following.done():
                heard = time.monotonic()
                await write(b": \n\n")
        outcome = following.result()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    if outcome.dropped:
        await write(streams.message("dropped", {"bytes": outcome.dropped}))
    await write(streams.message("exit", _exit(outcome)))
    return outcome


def _exit(outcome: Outcome) -> dict[str, Any]:
    return {
        "code": outcome.ended.code, "signal": outcome.ended.signal, "words": outcome.words, "late": outcome.late,
        "took_s": round(outcome.took, 3), "out": outcome.out, "err": outcome.err, "dropped": outcome.dropped,
        "left": outcome.ended.left,
    }  # fmt: skip


def _ended(
    request: web.Request, desk: Desk, place: Where, line: str, outcome: Outcome | None, running: Running, took: float
) -> None:
    words = outcome.words if outcome is not None else "it was ended, because its call was"
    sizes = running.outcome
    desk.note(
        request, f"{line} in {place.words}: {words}, after {units.duration(took)}", place.app, place.instance,
        what="ended", command=line, pid=running.pid, outcome=words, out=sizes.out, err=sizes.err,
        dropped=sizes.dropped, took_s=round(took, 3),
    )  # fmt: skip


def said(argv: list[str]) -> str:
    """For events: on one line, secrets masked as far as they can be told."""
    text = shlex.join(masking.arguments(argv[:50]))
    text = "".join(one if one.isprintable() else "\ufffd" for one in text)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
