"""The bundle of a session, or of now: everything that support would ask for, as one zip, streamed as it is made.

What of it is Triage's own is taken here; a process of its own (bundling.py) masks and packs, and is ended with the
call. One at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

import proxy
from proxy import config as configs
from proxy import masking
from proxy.admin import incidents, mending, query, sessions, views
from proxy.admin.callers import require
from proxy.admin.common import look, no_app, whole_app
from proxy.admin.errors import ApiProblem, dumps
from proxy.admin.inside import own, seeing
from proxy.admin.inside.reader import READER
from proxy.admin.keys import BUNDLING, GATEWAY
from proxy.control.sessions.pieces import CHUNK as PIECE
from proxy.control.sessions.pieces import REST
from proxy.control.sessions.session import Session
from proxy.control.state import AppState
from proxy.control.store import NotReadable
from proxy.diagnostics.subject import plain

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

EVENTS: Final = 2000
INCIDENTS: Final = 50
OPERATIONS: Final = 100
DAY: Final = 86400.0
CHUNK: Final = 1 << 18
WITHIN: Final = 600.0
"""Seconds for one bundle, the client's slowness included."""
WORDS: Final = 4000
"""Bytes of what its process says of a failure, from the end."""
LOGS: Final = 12
"""Instances whose output goes along."""


async def bundle(request: web.Request) -> web.StreamResponse:
    """A zip; `memory=true` with memory dumps."""
    gateway, one = request.app[GATEWAY], sessions.the_session(request)
    memory = query.flag(request, "memory")
    if memory:
        require(request, "operator", "A bundle with memory dumps")
    if one.active:
        raise ApiProblem(409, "session-active", f"{one.id} is not over", f"It is {one.state}.",
                         "Wait for its end, or cancel it.")  # fmt: skip
    apps = [gateway.apps[one.app]] if one.app in gateway.apps else []
    folder = str(gateway.sessions.folder(one))
    made = {"session.json": sessions.item(gateway, one), "README.txt": _readme(one)}
    return await _made(request, f"triage-{one.id}", folder, memory, apps, one.targets, one.began - DAY, made)


async def bundle_of_now(request: web.Request) -> web.StreamResponse:
    """A zip of how everything stands, without a session: of one app, or of all."""
    gateway, name = request.app[GATEWAY], request.query.get("app", "")
    if name and name not in gateway.apps:
        raise no_app(gateway, name)
    apps = [gateway.apps[name]] if name else list(gateway.apps.values())
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    made = {"README.txt": _readme_of_now(name)}
    return await _made(request, f"triage-{name or 'all'}-{stamp}", "", False, apps, (), time.time() - DAY, made)


async def _made(
    request: web.Request, name: str, folder: str, memory: bool, apps: Sequence[AppState], targets: Sequence[str],
    since: float, made: dict[str, Any],
) -> web.StreamResponse:  # fmt: skip
    """`made`: documents there are already; `targets`: instances whose logs come first; `since`: of events."""
    gateway, lock = request.app[GATEWAY], request.app[BUNDLING]
    if lock.locked():
        raise ApiProblem(
            429, "bundling", "Another bundle is being made", hint="Ask again in a moment.", headers={"Retry-After": "5"}
        )
    async with lock:
        rest = {"folder": folder, "name": name, "memory": memory, "logs": _logs(gateway, apps, targets)}
        made |= await _documents(request, apps, since, inside=not folder)
        plan = await asyncio.to_thread(_planned, rest, made)
        async with asyncio.timeout(WITHIN):
            return await _stream(request, plan, f"{name}.zip")


async def _stream(request: web.Request, plan: bytes, name: str) -> web.StreamResponse:
    env = {**os.environ, "PYTHONPATH": str(Path(proxy.__file__).parent.parent)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "proxy.admin.bundling", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env, limit=CHUNK,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    feeding = asyncio.ensure_future(_feed(process.stdin, plan))
    said = asyncio.ensure_future(_last_words(process.stderr))
    try:
        first = await process.stdout.read(CHUNK)
        if not first:
            code, words = await process.wait(), await said
            how = f"Its process ended with {code}{f': {words}' if words else ''}."
            raise ApiProblem(500, "no-bundle", "The bundle could not be made", how)
        response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{name}"'})
        response.content_type = "application/zip"
        await response.prepare(request)
        data = first
        while data:
            await response.write(data)
            data = await process.stdout.read(CHUNK)
        if code := await process.wait():
            log = request.app[GATEWAY].log
            log.error("bundle", f"{name} broke off: its process ended with {code}: {await said}")
            raise ConnectionError("the bundle is not whole")  # cut, so that nobody takes it for one
        await response.write_eof()
        return response
    finally:
        feeding.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        said.cancel()


async def _last_words(pipe: asyncio.StreamReader) -> str:
    """The last line that it says of what went wrong, masked. Read to its end: a full pipe would hold it up."""
    kept = b""
    while data := await pipe.read(CHUNK):
        kept = (kept + data)[-WORDS:]
    lines = [line for line in kept.decode(errors="replace").splitlines() if line.strip()]
    return masking.text(lines[-1].strip())[:300] if lines else ""


async def _feed(pipe: asyncio.StreamWriter, plan: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        for at in range(0, len(plan), CHUNK):
            pipe.write(plan[at : at + CHUNK])
            await pipe.drain()
        pipe.close()


async def _documents(
    request: web.Request, apps: Sequence[AppState], since: float, *, inside: bool
) -> dict[str, Any]:
    """Triage's own part, name to JSON or text. `inside`: with a look into the instances as they are now."""
    gateway = request.app[GATEWAY]
    found: dict[str, Any] = {"config.json": await asyncio.to_thread(configs.shown, gateway.config)}
    with contextlib.suppress(ApiProblem):  # a disk that hangs
        found["environment.json"] = await request.app[READER].read(own.taking(gateway))
    seen = await look(gateway)
    found["status.json"] = {
        "verdict": gateway.verdict().state, "lines": gateway.verdict().lines, "version": gateway.version,
        "workers": [views.worker(worker) for worker in gateway.workers],
        "self_check": gateway.self_check.last.words,
    }  # fmt: skip
    for state in apps:
        found["app.json" if len(apps) == 1 else f"apps/{state.name}.json"] = await whole_app(gateway, seen, state)
    if inside:
        running = [(state, instance) for state in apps for instance in state.instances.values()]
        for app, instance in running[:LOGS]:
            found[f"instances/{plain(instance.name)}.json"] = await seeing.snapshot(request, app, instance)
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


def _logs(gateway: Gateway, apps: Sequence[AppState], targets: Sequence[str]) -> dict[str, str]:
    """Output of the instances, and Triage's own log where it is a file: name in the bundle to path."""
    found: dict[str, str] = {}
    for app in apps:
        states = [*app.instances.values(), *list(app.gone)[-LOGS:]]
        states.sort(key=lambda state: state.name not in targets)
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


def _readme_of_now(app: str) -> str:
    made = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return f"""Triage {proxy.__version__}: {app or "all apps"} as it stands, made {made}

status.json            the verdict
app.json or apps/      how everything stands
instances/             processes, files, connections and variables of the instances
config.json            the config in force
environment.json       versions, machine, limits
events.json            what happened in the day before
incidents.json, operations.json, logs/

A session gathers more (stacks, a profile, findings): triage diagnose. Secrets are masked where they can be told: look
through it before you give it away. left-out.txt says what is not here.
"""
