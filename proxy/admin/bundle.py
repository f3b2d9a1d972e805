"""The bundle of a session: everything that support would ask for, as one zip, streamed as it is made.

What of it is Triage's own is taken here; a process of its own (bundling.py) masks and packs, and is ended with the
call. One at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

import proxy
from proxy import config as configs
from proxy.admin import incidents, mending, query, sessions, views
from proxy.admin.common import look, whole_app
from proxy.admin.errors import ApiProblem, dumps
from proxy.admin.keys import BUNDLING, GATEWAY
from proxy.admin.overview import machine
from proxy.control.sessions.pieces import CHUNK as PIECE
from proxy.control.sessions.pieces import REST
from proxy.control.sessions.session import Session
from proxy.control.store import NotReadable

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

EVENTS: Final = 2000
INCIDENTS: Final = 50
OPERATIONS: Final = 100
DAY: Final = 86400.0
CHUNK: Final = 1 << 18
WITHIN: Final = 600.0
"""Seconds for one bundle, the client's slowness included."""
LOGS: Final = 12
"""Instances whose output goes along."""


async def bundle(request: web.Request) -> web.StreamResponse:
    """A zip; `memory=true` with memory dumps."""
    gateway, one = request.app[GATEWAY], sessions.the_session(request)
    memory = query.flag(request, "memory")
    if one.active:
        raise ApiProblem(409, "session-active", f"{one.id} is not over", f"It is {one.state}.",
                         "Wait for its end, or cancel it.")  # fmt: skip
    lock = request.app[BUNDLING]
    if lock.locked():
        raise ApiProblem(
            429, "bundling", "Another bundle is being made", hint="Ask again in a moment.", headers={"Retry-After": "5"}
        )
    async with lock:
        rest = {
            "folder": str(gateway.sessions.folder(one)), "name": f"triage-{one.id}", "memory": memory,
            "logs": _logs(gateway, one),
        }  # fmt: skip
        plan = await asyncio.to_thread(_planned, rest, await _documents(gateway, one))
        async with asyncio.timeout(WITHIN):
            return await _stream(request, plan, f"triage-{one.id}.zip")


async def _stream(request: web.Request, plan: bytes, name: str) -> web.StreamResponse:
    env = {**os.environ, "PYTHONPATH": str(Path(proxy.__file__).parent.parent)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "proxy.admin.bundling", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=env, limit=CHUNK,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    feeding = asyncio.ensure_future(_feed(process.stdin, plan))
    try:
        first = await process.stdout.read(CHUNK)
        if not first:
            code = await process.wait()
            raise ApiProblem(500, "no-bundle", "The bundle could not be made", f"Its process ended with {code}.")
        response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{name}"'})
        response.content_type = "application/zip"
        await response.prepare(request)
        data = first
        while data:
            await response.write(data)
            data = await process.stdout.read(CHUNK)
        if await process.wait():
            raise ConnectionError("the bundle is not whole")  # cut, so that nobody takes it for one
        await response.write_eof()
        return response
    finally:
        feeding.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _feed(pipe: asyncio.StreamWriter, plan: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        for at in range(0, len(plan), CHUNK):
            pipe.write(plan[at : at + CHUNK])
            await pipe.drain()
        pipe.close()


async def _documents(gateway: Gateway, one: Session) -> dict[str, Any]:
    """Triage's own part, name to JSON or text."""
    found: dict[str, Any] = {
        "README.txt": _readme(one),
        "environment.json": await asyncio.to_thread(machine, gateway.version),
        "config.json": await asyncio.to_thread(configs.shown, gateway.config),
        "session.json": sessions.item(gateway, one),
    }
    seen = await look(gateway)
    found["status.json"] = {
        "verdict": gateway.verdict().state, "lines": gateway.verdict().lines, "version": gateway.version,
        "workers": [views.worker(worker) for worker in gateway.workers],
        "self_check": gateway.self_check.last.words,
    }  # fmt: skip
    if one.app in gateway.apps:
        found["app.json"] = await whole_app(gateway, seen, gateway.apps[one.app])
    since = one.began - DAY
    with contextlib.suppress(NotReadable):
        events = await gateway.store.events(since=since, limit=EVENTS)
        found["events.json"] = await asyncio.to_thread(lambda: [views.event(event) for event in events])
    with contextlib.suppress(NotReadable):
        listed = await gateway.incidents.list(since=since, limit=INCIDENTS)
        found["incidents.json"] = [await incidents.whole(gateway, incident) for incident in listed]
    with contextlib.suppress(NotReadable):
        ended = await gateway.store.operations(since=since, limit=OPERATIONS)
        found["operations.json"] = [mending.operation(each) for each in ended]
    return found


def _planned(rest: dict[str, Any], documents: dict[str, Any]) -> bytes:
    """The plan as JSON, piece by piece: all at once would hold control's loop for tens of milliseconds."""
    made = [dumps(name) + b":" + b"".join(_pieces(value)) for name, value in documents.items()]
    return dumps(rest).rstrip()[:-1] + b',"documents":{' + b",".join(made) + b"}}"


def _pieces(value: Any) -> Iterator[bytes]:
    if not isinstance(value, list) or len(value) <= PIECE:
        yield dumps(value)
        time.sleep(REST)
        return
    mark = b"["
    for at in range(0, len(value), PIECE):
        yield mark + dumps(value[at : at + PIECE]).strip()[1:-1]
        mark = b","
        time.sleep(REST)
    yield b"]"


def _logs(gateway: Gateway, one: Session) -> dict[str, str]:
    """Output of the instances, and Triage's own log where it is a file: name in the bundle to path."""
    found: dict[str, str] = {}
    app = gateway.apps.get(one.app)
    if app is not None:
        states = [*app.instances.values(), *list(app.gone)[-LOGS:]]
        states.sort(key=lambda state: state.name not in one.targets)
        for state in states[:LOGS]:
            for number, path in enumerate(state.log_paths[-2:]):
                found[f"logs/{state.name.replace('/', '_')}{f'.{number}' if number else ''}.log"] = path
    own = gateway.config.gateway.log
    if own not in ("stderr", "stdout"):
        found["logs/triage.log"] = own
    return found


def _readme(one: Session) -> str:
    return f"""Triage {proxy.__version__}: session {one.id} of {one.app}, made {time.strftime("%Y-%m-%d %H:%M:%S %z")}

session/report.html    what was found; open this first, in any browser, offline
session/               all that was gathered; findings.json has what was concluded from it
app.json, status.json  how everything stood when this bundle was made
config.json            the config in force
environment.json       versions, machine, limits
events.json            what happened in the day before
incidents.json, operations.json, logs/

Secrets are masked where they can be told: look through it before you give it away. left-out.txt says what is not here.
"""
