"""Server-sent events: what all streams have in common.

Always true of a stream:
  - it keeps nothing of its own beyond one message: where it reads from is bounded, and tells it what was lost;
  - a client that takes nothing for STUCK seconds is cut, and there are never more than MOST of them;
  - a quiet one says every HEARTBEAT seconds that it lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from proxy.admin import limits, query
from proxy.admin.errors import ApiProblem, dumps
from proxy.admin.keys import FOLLOWING

MOST: Final = 512
"""Clients of all streams together; an open dashboard is two."""
MOST_OF_ONE: Final = 256
"""Of one caller: half of them are there for the others."""
HEARTBEAT: Final = 15.0
"""Seconds between comments on a quiet stream: what lies between lets a silent connection live longer than that."""
STUCK: Final = 30.0
"""Seconds that a client may take to read what was sent."""
_HEADERS: Final = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}

Write = Callable[[bytes], Awaitable[None]]
"""Raises ConnectionError, TimeoutError."""


async def follow(request: web.Request, work: Callable[[Write], Awaitable[None]]) -> web.StreamResponse:
    """Answer with a stream that `work` writes until the client leaves. Raises ApiProblem when there are too many."""
    for name in ("cursor", "limit"):
        if name in request.query:
            raise query.bad(name, "It does not go with follow.")
    following = request.app[FOLLOWING]
    live = [one for one in following.values() if one.transport is not None and not one.transport.is_closing()]
    if len(live) >= MOST:
        raise ApiProblem(
            503, "too-many-following", f"{MOST} clients follow already",
            hint="End one of them, or ask without follow.", headers={"Retry-After": "10"},
        )  # fmt: skip
    caller = limits.of_call(request)
    if sum(limits.of_call(one) == caller for one in live) >= MOST_OF_ONE:
        raise ApiProblem(
            429, "too-many-of-yours", f"You follow {MOST_OF_ONE} times already",
            hint="End one of them, or ask without follow.", headers={"Retry-After": "10"},
        )  # fmt: skip
    if request.method == "HEAD":
        return web.Response(headers=_HEADERS)
    response = web.StreamResponse(headers=_HEADERS)

    async def write(data: bytes) -> None:
        async with asyncio.timeout(STUCK):
            await response.write(data)

    task = asyncio.current_task()
    following[task] = request
    try:
        await response.prepare(request)
        await work(write)
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    finally:
        del following[task]
    return response


def cut(app: web.Application) -> None:
    """End all streams: who may still follow comes back at once, and goes on where it was."""
    for task in app[FOLLOWING]:
        if task is not None:
            task.cancel()


def last_id(request: web.Request, what: str) -> int | None:
    """The number in Last-Event-ID; None: there is none. `what` it is the number of."""
    text = request.headers.get("Last-Event-ID", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise query.bad("Last-Event-ID", f"It is {text[:40]!r}; expected the number of {what}.")
    return int(text)


def message(kind: str, value: Any, number: int | None = None) -> bytes:
    """One message; JSON has no line ends within."""
    id = f"id: {number}\n" if number is not None else ""
    return f"{id}event: {kind}\ndata: ".encode() + dumps(value) + b"\n"


async def heard(news: asyncio.Event) -> bool:
    """Wait for news; False: HEARTBEAT seconds passed without."""
    try:
        async with asyncio.timeout(HEARTBEAT):
            await news.wait()
    except TimeoutError:
        return False
    return True
