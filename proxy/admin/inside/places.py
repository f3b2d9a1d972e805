"""Whom a call is about: an instance's processes, and one of them; refused where there is none to be seen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.admin import query
from proxy.admin.common import the_instance
from proxy.admin.errors import ApiProblem
from proxy.admin.inside.reader import READER
from proxy.admin.keys import GATEWAY
from proxy.control.inside import family
from proxy.control.inside.family import Family, Member
from proxy.control.sessions import behind
from proxy.control.state import AppState, InstanceState

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

LARGEST: Final = 1 << 22
"""PID_MAX_LIMIT, include/linux/threads.h."""


@dataclass(frozen=True, slots=True)
class Place:
    """An instance with a process that can be seen; `pid` and `start` are those of its first one."""

    app: AppState
    instance: InstanceState
    pid: int
    start: int

    def address(self) -> list[str]:
        """Where it serves, and where else it was seen to listen."""
        return [self.instance.address, *self.instance.listens_on]


async def place(request: web.Request) -> Place:
    """Raises ApiProblem."""
    state, found = the_instance(request)
    if found.kind == "address":
        pid, start = 0, 0
        if behind.local(found):
            pid, start = await request.app[READER].read(lambda: behind.process(found))
        if not pid:
            raise ApiProblem(
                409, "not-seen-from-here", f"The process behind {found.name} cannot be seen from here",
                "Triage did not start it, and none that listens at its address was found on this machine.",
                "Ask on the machine that it runs on.",
            )  # fmt: skip
        return Place(state, found, pid, start)
    if not found.pid:
        raise ApiProblem(
            409, "no-process", f"{found.name} has no process now", f"It is {found.lifecycle}.",
            f"Instances are: {', '.join(list(state.instances)[:20]) or 'none'}.",
        )  # fmt: skip
    return Place(state, found, found.pid, found.pid_started)


def reading(gateway: Gateway, at: Place) -> Callable[[], Family]:
    """What reads its processes; for a thread. Raises ProcessLookupError there."""
    own = own_pids(gateway)
    ours = at.instance.kind == "process"
    folders = gateway.shared.limits.folders(at.instance.name) if ours else ()
    launcher, name = (gateway.launcher_pid, at.instance.name) if ours else (0, "")
    return lambda: family.of_instance(at.pid, at.start, name=name, launcher=launcher, own=own, folders=folders)


async def processes(request: web.Request, at: Place) -> Family:
    """Raises ApiProblem when it has ended."""
    try:
        return await request.app[READER].read(reading(request.app[GATEWAY], at))
    except OSError as error:
        raise unreadable(at, at.pid, error) from None


async def one(request: web.Request, at: Place, pid: int) -> Member:
    """A process of the instance. Raises ApiProblem."""
    found = (await processes(request, at)).get(pid)
    if found is None:
        raise not_of_it(at, pid)
    return found


def asked(request: web.Request, at: Place) -> int:
    """`pid` of the query, or the instance's first one. Raises ApiProblem."""
    return query.number(request, "pid", at.pid)


def in_path(request: web.Request, at: Place) -> int:
    """The pid in the path. Raises ApiProblem."""
    text = request.match_info["pid"]
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= LARGEST or len(text) > 9:
        raise ApiProblem(404, "no-such-process", f"{text[:40]!r} is not the number of a process", hint=_hint(at))
    return int(text)


def ended(at: Place, pid: int) -> ApiProblem:
    return ApiProblem(404, "no-such-process", f"Process {pid} has ended", hint=_hint(at))


def unreadable(at: Place, pid: int, error: OSError) -> ApiProblem:
    """It has ended, may not be looked at, or this machine can't do it now."""
    if isinstance(error, (ProcessLookupError, FileNotFoundError)):
        return ended(at, pid)
    why = (error.strerror or str(error)).lower()
    if isinstance(error, PermissionError):
        return ApiProblem(
            409, "not-permitted", f"Process {pid} of {at.instance.name} may not be looked at",
            f"The kernel says: {why}.", "Only root, or the process's own user, may; Triage runs as another one.",
        )  # fmt: skip
    return ApiProblem(
        503, "not-answered", f"Process {pid} of {at.instance.name} could not be looked at", f"The kernel says: {why}.",
        "Ask again in a moment.",
    )  # fmt: skip


def not_of_it(at: Place, pid: int) -> ApiProblem:
    return ApiProblem(
        404, "no-such-process", f"{at.instance.name} has no process {pid}",
        "It has ended, or is another's: only processes of the instance are shown.", _hint(at),
    )  # fmt: skip


def _hint(at: Place) -> str:
    return f"GET apps/{at.app.name}/instances/{at.instance.name}/processes lists them."


def own_pids(gateway: Gateway) -> frozenset[int]:
    """Control and workers."""
    return frozenset({os.getpid(), *(worker.pid for worker in gateway.workers if worker.pid)})


def known_pids(gateway: Gateway) -> dict[int, tuple[str, str]]:
    """What processes are to Triage, by pid: role and name."""
    found = {os.getpid(): ("control", ""), gateway.launcher_pid: ("launcher", "")}
    for worker in gateway.workers:
        if worker.pid:
            found[worker.pid] = ("worker", f"worker{worker.slot + 1}")
    for state in gateway.apps.values():
        for instance in state.instances.values():
            for pid in instance.usage.pids if instance.usage is not None else ():
                found.setdefault(pid, ("child", f"{state.name}/{instance.name}"))
            if instance.pid:
                found[instance.pid] = ("instance", f"{state.name}/{instance.name}")
    return found


async def pause(began: float, seconds: float) -> float:
    """Until so long after `began` (of the loop's clock); how long it really was."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(max(0.0, began + seconds - loop.time()))
    return loop.time() - began
