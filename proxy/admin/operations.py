"""Operations as the API shows them: what was asked, each step, what it came to; waited for without busy polling."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.admin import mending, query
from proxy.admin.common import answer, items, not_readable
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY, WAITING
from proxy.control.operations import Operation
from proxy.control.store import NotReadable

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

LONGEST_WAIT: Final = 60.0
"""Seconds of one call: less than what lies between a client and here lets a connection be silent."""
MOST_WAITING: Final = 64
_ID: Final = re.compile(r"op-[0-9]{1,15}")


async def operations(request: web.Request) -> web.Response:
    """Newest first, from memory and from the store. The cursor is a number of an operation."""
    gateway = request.app[GATEWAY]
    app, only_running = request.query.get("app", ""), query.flag(request, "running")
    before, most = query.cursor(request) or 0, query.limit(request)
    known = {
        _number(one): one
        for one in gateway.operations
        if (not before or _number(one) < before) and app in ("", one.app) and (one.running or not only_running)
    }
    if not only_running:
        try:
            for one in await gateway.store.operations(app, before_id=before, limit=most + 1):
                known.setdefault(_number(one), one)
        except NotReadable as error:
            if not known:
                raise not_readable(error) from None
    numbers = sorted(known, reverse=True)
    following = numbers[most - 1] if len(numbers) > most else None
    return items([mending.operation(known[number]) for number in numbers[:most]], following)


async def operation(request: web.Request) -> web.Response:
    """One of them; with `wait` the answer comes when it has moved on, or the time is over."""
    gateway = request.app[GATEWAY]
    found = await _known(gateway, request.match_info["id"])
    seen = query.number(request, "seen", found.told)
    if "wait" in request.query:
        await _wait(request, found, seen)
    return answer(mending.operation(found))


async def _known(gateway: Gateway, id: str) -> Operation:
    found = gateway.operations.get(id)
    if found is None and _ID.fullmatch(id):
        try:
            found = await gateway.store.operation_of(id)
        except NotReadable as error:
            raise not_readable(error) from None
    if found is None:
        raise ApiProblem(
            404, "no-such-operation", f"There is no operation {id[:60]!r}",
            hint="triage operations lists those that are kept.",
        )  # fmt: skip
    return found


async def _wait(request: web.Request, found: Operation, seen: int) -> None:
    """Until there is more than the `seen` steps, or it ends."""
    limit = query.duration(request, "wait", LONGEST_WAIT)
    if not found.running or found.told != seen:
        return
    waiting = request.app[WAITING]
    if len(waiting) >= MOST_WAITING:
        raise ApiProblem(
            503, "too-many-waiting", f"{MOST_WAITING} calls wait for operations already",
            hint="Ask again without `wait`.", headers={"Retry-After": "2"},
        )  # fmt: skip
    task = asyncio.current_task()
    waiting[task] = request
    try:
        async with asyncio.timeout(limit):
            await found.moved.wait()
    except TimeoutError:
        pass
    finally:
        del waiting[task]


def _number(one: Operation) -> int:
    return int(one.id.rpartition("-")[2])
