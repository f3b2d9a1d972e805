"""Handlers that look inside an instance: its environment, processes, threads, files, connections and stacks.

Nothing here holds the loop: /proc is read in threads (reader.py), what takes long in processes of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy import config as configs
from proxy.admin import query
from proxy.admin.common import answer
from proxy.admin.errors import ApiProblem
from proxy.admin.inside import places
from proxy.admin.inside.places import Place
from proxy.admin.inside.reader import READER
from proxy.admin.keys import GATEWAY
from proxy.admin.times import iso
from proxy.control.inside.family import Family, Member
from proxy.control.state import AppState, InstanceState
from proxy.diagnostics.inside import around, files, process, processes, sockets, threads
from proxy.diagnostics.inside.deeper import Answer, Question
from proxy.diagnostics.inside.opened import Opened

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

SAMPLE: Final = 0.5
"""Seconds between two looks at what CPU was used: 50 ticks of the kernel's clock, so 2 % is what can be told."""
IN_WHOLE: Final = 200
"""Files and connections that the whole of a process has; the others are in lists of their own."""


# --- processes -------------------------------------------------------------------------------------------


async def tree(request: web.Request) -> web.Response:
    at = await places.place(request)
    return await page(request, await places.processes(request, at), group_memory=await _group_memory(request, at))


async def page(request: web.Request, family: Family, **more: Any) -> web.Response:
    """Lines of some members, as `limit` and `cursor` say."""
    begin, end, following = query.window(request, [str(one.pid) for one in family.members])
    shown = await lines(request, family.members[begin:end])
    left_out = family.total - len(family.members)
    notes = [f"of {family.total} processes those nearest to the first"] if left_out else []
    return answer(
        {"items": shown, "next": following, "total": family.total, "figures": processes.FIGURES, "notes": notes, **more}
    )


async def _group_memory(request: web.Request, at: Place) -> int | None:
    """Working set of the instance's own cgroup; None where it has none."""
    folders = request.app[GATEWAY].shared.limits.folders(at.instance.name)
    if not folders:
        return None
    group = await request.app[READER].read(lambda: _group(at.pid, set()))
    found = group.get("memory") if group is not None else None
    return found if isinstance(found, int) else None


async def lines(request: web.Request, members: Sequence[Member]) -> list[dict[str, Any]]:
    """A line for each member, with its share of the CPU."""
    reader, loop = request.app[READER], asyncio.get_running_loop()
    wanted = [(one.pid, one.stat.start) for one in members]
    began = loop.time()
    found = await reader.read(lambda: processes.lines(wanted))
    lasted = await places.pause(began, SAMPLE)
    now = await reader.read(lambda: processes.seconds(wanted))
    return [
        {**_member(one), **_timed(found[one.pid]), "cpu": _percent(found[one.pid], now.get(one.pid), lasted)}
        for one in members
    ]


def _member(one: Member) -> dict[str, Any]:
    """What is known even of one that ends while it is read."""
    return {
        "id": str(one.pid), "pid": one.pid, "parent": one.stat.parent, "depth": one.depth, "role": one.role,
        "of": one.name, "name": "", "command": "", "user": "", "start": one.stat.start, "began": None, "cpu_s": None,
        "memory": None, "private": None, "threads": None, "files": None, "sockets": None,
    }  # fmt: skip


def _timed(line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "began": iso(line["began"])} if line.get("began") else line


def _percent(line: dict[str, Any], now: float | None, lasted: float) -> float | None:
    return processes.percent(line["cpu_s"], now, lasted) if line.get("cpu_s") is not None else None


async def one(request: web.Request) -> web.Response:
    """All of it, with its first files and connections."""
    at = await places.place(request)
    member = await places.one(request, at, places.in_path(request, at))
    reader, loop = request.app[READER], asyncio.get_running_loop()
    wanted, near = [(member.pid, member.stat.start)], list(places.known_pids(request.app[GATEWAY]))

    def look() -> dict[str, Any]:
        with Opened(*wanted[0]) as opened:
            found = process.whole(opened)
            page = opened.maybe("files", lambda: files.page(opened, -1, IN_WHOLE)) or files.Files()
        held = sockets.page(wanted, 0, IN_WHOLE, near)
        notes = found["notes"] + [note for note in held.notes if note not in found["notes"]]
        for what, more in (("files", page.following), ("connections", held.following)):
            if more is not None:
                notes.append(f"the first {IN_WHOLE} {what}; GET {what}?pid={member.pid} has all")
        return {
            **found, "open": page.items, "open_by_kind": page.kinds, "connections": held.items,
            "connections_by_state": held.states, "notes": notes,
        }  # fmt: skip

    began = loop.time()
    try:
        found = await reader.read(look)
    except OSError as error:
        raise places.unreadable(at, member.pid, error) from None
    lasted = await places.pause(began, SAMPLE)
    now = await reader.read(lambda: processes.seconds(wanted))
    found["connections"] = _peers(request.app[GATEWAY], found["connections"])
    return answer(
        {**_member(member), **_timed(found), "cpu": _percent(found, now.get(member.pid), lasted),
         "figures": processes.FIGURES}
    )  # fmt: skip


# --- of one process: lists -------------------------------------------------------------------------------


async def thread_list(request: web.Request) -> web.Response:
    at = await places.place(request)
    member = await places.one(request, at, places.asked(request, at))
    most, after = query.limit(request), query.cursor(request) or 0
    reader, loop = request.app[READER], asyncio.get_running_loop()

    def look() -> tuple[list[dict[str, Any]], int | None, int, list[str]]:
        with Opened(member.pid, member.stat.start) as opened:
            return *threads.page(opened, after, most), opened.notes

    def again(ids: list[int]) -> dict[int, float]:
        with Opened(member.pid, member.stat.start) as opened:
            return threads.seconds(opened, ids)

    began = loop.time()
    try:
        found, following, total, notes = await reader.read(look)
        lasted = await places.pause(began, SAMPLE)
        now = await reader.read(lambda: again([each["tid"] for each in found]))
    except OSError as error:
        raise places.unreadable(at, member.pid, error) from None
    for each in found:
        each["cpu"] = processes.percent(each["cpu_s"], now.get(each["tid"]), lasted)
    return _page(found, following, total=total, pid=member.pid, notes=notes)


async def file_list(request: web.Request) -> web.Response:
    at = await places.place(request)
    member = await places.one(request, at, places.asked(request, at))
    most, cursor = query.limit(request), query.cursor(request)
    after = -1 if cursor is None else cursor

    def look() -> tuple[files.Files, list[str]]:
        with Opened(member.pid, member.stat.start) as opened:
            return files.page(opened, after, most), opened.notes

    try:
        found, notes = await request.app[READER].read(look)
    except OSError as error:
        raise places.unreadable(at, member.pid, error) from None
    return _page(
        found.items, found.following, total=found.total, pid=member.pid, by_kind=found.kinds, notes=notes
    )


async def connection_list(request: web.Request) -> web.Response:
    """Of one process, or of all of the instance."""
    at = await places.place(request)
    family = await places.processes(request, at)
    pid = places.asked(request, at) if "pid" in request.query else 0
    chosen = family.members if not pid else tuple(one for one in family.members if one.pid == pid)
    if not chosen:
        raise places.not_of_it(at, pid)
    most, after = query.limit(request), query.cursor(request) or 0
    wanted, near = [(one.pid, one.stat.start) for one in chosen], list(places.known_pids(request.app[GATEWAY]))
    found = await request.app[READER].read(lambda: sockets.page(wanted, after, most, near))
    return _page(
        _peers(request.app[GATEWAY], found.items), found.following, total=found.total, pid=pid or None,
        by_state=found.states, notes=found.notes,
    )  # fmt: skip


def _page(items: Sequence[Any], following: int | None, **more: Any) -> web.Response:
    """A number goes on after it, so no place in a list has to be remembered."""
    return answer({"items": items, "next": str(following) if following is not None else None, **more})


def _peers(gateway: Gateway, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say what of Triage is at the other end."""
    known = places.known_pids(gateway)
    given = {
        one.address: f"{state.name}/{one.name}"
        for state in gateway.apps.values() for one in state.instances.values() if one.kind == "address"
    }  # fmt: skip
    for item in items:
        peer = item["peer"]
        if peer is not None:
            role, of = known.get(peer["pid"], ("process", ""))
            item["peer"] = {**peer, "role": role, "of": of}
        elif item["remote"] in given:
            item["peer"] = {"pid": None, "name": "", "role": "instance", "of": given[item["remote"]]}
    return items


async def snapshot(request: web.Request, state: AppState, instance: InstanceState) -> dict[str, Any]:
    """For a bundle: processes, the first of them whole, and connections; why there is nothing, where that is so."""
    found: dict[str, Any] = {"id": instance.name, "app": state.name, "pid": instance.pid or None}
    if not instance.pid:
        return {**found, "why": "no process of it runs that Triage started"}
    at = Place(state, instance, instance.pid, instance.pid_started)
    family = places.reading(request.app[GATEWAY], at)

    def look() -> dict[str, Any]:
        members = family().members
        wanted = [(one.pid, one.stat.start) for one in members]
        lines = processes.lines(wanted)
        held = sockets.page(wanted, 0, IN_WHOLE)
        with Opened(at.pid, at.start) as opened:
            whole = process.whole(opened)
            page = opened.maybe("files", lambda: files.page(opened, -1, IN_WHOLE)) or files.Files()
        return {
            "processes": [{**_member(one), **_timed(lines[one.pid])} for one in members],
            "first": {**_timed(whole), "open": page.items, "open_by_kind": page.kinds},
            "connections": held.items, "connections_by_state": held.states, "notes": held.notes,
        }  # fmt: skip

    try:
        return {**found, **await request.app[READER].read(look)}
    except ApiProblem as problem:
        return {**found, "why": problem.title}
    except OSError as error:
        return {**found, "why": error.strerror or str(error)}


# --- environment and stacks ------------------------------------------------------------------------------


async def environment(request: web.Request) -> web.Response:
    at = await places.place(request)
    gateway, reader = request.app[GATEWAY], request.app[READER]
    family = await places.processes(request, at)
    pids = {one.pid for one in family.members}

    def look() -> dict[str, Any]:
        with Opened(at.pid, at.start) as opened:
            found = {
                "user": opened.maybe("user", lambda: processes.line(opened, processes.Left())["user"]) or "",
                "cwd": opened.maybe("working directory", lambda: opened.link("cwd")),
                "exe": opened.maybe("program", lambda: opened.link("exe")),
                "command": opened.command(),
                "variables": opened.maybe("variables", lambda: process.variables(opened)) or {},
                "limits": opened.maybe("limits", lambda: process.limits(opened)) or {},
                "cgroup": opened.maybe("cgroup", lambda: _group(at.pid, pids)),
                "settings": configs.shown(gateway.config)["apps"].get(at.app.name, {}),
            }
            return {**found, "notes": opened.notes}

    question = Question(what="runtimes", pid=at.pid, start=at.start, addresses=at.address())
    try:
        found, deeper = await asyncio.gather(reader.read(look), _asked(request, question))
    except OSError as error:
        raise places.unreadable(at, at.pid, error) from None
    instance = at.instance
    notes = found.pop("notes")
    return answer(
        {
            "id": instance.name, "app": at.app.name, "time": iso(time.time()), "pid": at.pid,
            "started": iso(instance.started_at), "version": instance.version or None, "address": instance.address,
            "runtimes": [_runtime(one) for one in deeper.runtimes],
            **found,
            "limited": {
                "memory": instance.memory_limit or None, "cpus": instance.cpu_limit or None,
                "by": instance.limited_by, "why": instance.limits_why,
            },
            "processes": family.total,
            "notes": [*notes, *([f"versions: {deeper.why}"] if deeper.why else [])],
        }
    )  # fmt: skip


async def _asked(request: web.Request, question: Question) -> Answer:
    """Where it can't be told in time, all the rest is answered still."""
    try:
        return await request.app[READER].ask(question)
    except ApiProblem as problem:
        return Answer(why=problem.title)


def _runtime(one: Any) -> dict[str, Any]:
    return {
        "pid": one.pid, "name": one.name, "version": one.version, "server": one.server,
        "server_version": one.server_version, "workers": one.workers, "packages": one.packages,
        "settings": one.settings,
    }  # fmt: skip


def _group(pid: int, tree: set[int]) -> dict[str, Any] | None:
    return around.group(pid, tree)


async def stacks(request: web.Request) -> web.Response:
    """Of the instance's processes that have connections, eight at most; or of one."""
    at = await places.place(request)
    pid = places.asked(request, at)
    alone = "pid" in request.query
    member = await places.one(request, at, pid)
    question = Question(
        what="stacks", pid=pid, start=member.stat.start, alone=alone, addresses=at.address(),
        inspect=at.app.config.diagnose.inspect,
    )  # fmt: skip
    found = await request.app[READER].ask(question)
    if not any(one.threads for one in found.processes):
        raise ApiProblem(
            409, "no-stacks", "The stacks could not be taken", found.why or "Nothing says why.",
            "They need the right to trace: root, or apps.NAME.process.diagnose on; for Python py-spy, for Java jcmd.",
        )  # fmt: skip
    return answer(
        {
            "id": at.instance.name, "time": iso(time.time()), "stacks": found.text,
            "processes": [
                {
                    "pid": one.pid, "name": one.name, "how": one.how, "why": one.why,
                    "threads": [
                        {
                            "id": thread.id, "name": thread.name, "active": thread.active, "gil": thread.gil,
                            "note": thread.note, "wait_channel": thread.wchan,
                            "frames": [
                                {"function": frame.function, "file": frame.file, "line": frame.line}
                                for frame in thread.frames
                            ],
                        }
                        for thread in one.threads
                    ],
                }
                for one in found.processes
            ],
            "notes": [found.why] if found.why else [],
        }
    )  # fmt: skip
