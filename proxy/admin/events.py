"""Events: listed, and followed as server-sent events.

Always true of a stream:
  - it sends each event once, in order, by its number; what it cannot send any more (the client comes back too late,
    and the store does not have them) is reported as `dropped`, with how many there were at most;
  - it keeps nothing of its own: control's ring is its buffer, and before that the store, a part at a time;
  - a client that takes nothing for a while is cut, and there are never more than MOST of them.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy.admin import query, views
from proxy.admin.common import items, not_readable
from proxy.admin.errors import ApiProblem, dumps
from proxy.admin.keys import FOLLOWING, GATEWAY
from proxy.control.state import Event
from proxy.control.store import NotReadable

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

MOST: Final = 32
HEARTBEAT: Final = 15.0
"""Seconds between comments on a quiet stream: what lies between lets a silent connection live longer than that."""
STUCK: Final = 30.0
"""Seconds that a client may take to read what was sent."""
BATCH: Final = 100
"""Events in one write: others get their turn."""
BACK: Final = 2000
"""Events out of the store at once; a client that was away for more has lost the older ones."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked for."""

    app: str = ""
    instance: str = ""
    kind: str = ""
    since: float = 0.0  # Unix seconds

    def matches(self, event: Event) -> bool:
        return (
            (not self.app or event.app == self.app)
            and (not self.instance or event.instance == self.instance)
            and (not self.kind or event.kind == self.kind)
            and event.at >= self.since
        )


async def events(request: web.Request) -> web.StreamResponse:
    """Newest first; with `follow=true` as they come."""
    asked = request.query
    wanted = Wanted(asked.get("app", ""), asked.get("instance", ""), asked.get("kind", ""), query.since(request))
    if query.flag(request, "follow"):
        return await _follow(request, wanted)
    gateway = request.app[GATEWAY]
    before, most = query.cursor(request), query.limit(request)
    try:
        found = await gateway.store.events(
            wanted.app, wanted.kind, wanted.instance, wanted.since, before_id=before or 0, limit=most + 1
        )
    except NotReadable as error:
        raise not_readable(error) from None
    following = found[most - 1].id if len(found) > most else None
    return items([views.event(event) for event in found[:most]], following)


async def _follow(request: web.Request, wanted: Wanted) -> web.StreamResponse:
    gateway = request.app[GATEWAY]
    for name in ("cursor", "limit"):
        if name in request.query:
            raise query.bad(name, "It does not go with follow.")
    following = request.app[FOLLOWING]
    live = (one.transport is not None and not one.transport.is_closing() for one in following.values())
    if sum(live) >= MOST:
        raise ApiProblem(
            503, "too-many-following", f"{MOST} clients follow events already",
            hint="End one of them, or ask for events without follow.", headers={"Retry-After": "10"},
        )  # fmt: skip
    last = _begin(request, gateway, wanted)
    headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return web.Response(headers=headers)
    response = web.StreamResponse(headers=headers)
    task = asyncio.current_task()
    following[task] = request
    try:
        await response.prepare(request)
        await _stream(gateway, wanted, last, response)
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    finally:
        del following[task]
    return response


def _begin(request: web.Request, gateway: Gateway, wanted: Wanted) -> int:
    """Number of the event before the first that is sent."""
    newest = gateway.events.next_id - 1
    text = request.headers.get("Last-Event-ID", "")
    if text:
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise query.bad("Last-Event-ID", f"It is {text[:40]!r}; expected the number of an event.")
        return int(text) if int(text) <= newest else 0  # of a life before: all that is here is news
    return 0 if wanted.since else newest


async def _stream(gateway: Gateway, wanted: Wanted, last: int, response: web.StreamResponse) -> None:
    """Until the client leaves. Raises ConnectionError, TimeoutError."""
    news = asyncio.Event()

    def wake(event: Event) -> None:
        news.set()

    ring = gateway.events.ring
    gateway.events.listeners.append(wake)
    try:
        await _write(response, b": Triage tells its events\nretry: 1000\n\n")
        while True:
            news.clear()
            if ring and ring[0].id > last + 1:
                until = ring[0].id
                found, missing = await _before_ring(gateway, wanted, last, until)
                if missing:
                    await _write(response, _message("dropped", {"dropped": missing}, last))
                for at in range(0, len(found), BATCH):
                    await _write(response, _messages(found[at : at + BATCH]))
                last = until - 1
            at = bisect_right(ring, last, key=_number)
            batch = list(islice(ring, at, at + BATCH))
            if batch:
                last = batch[-1].id
                if data := _messages([one for one in batch if wanted.matches(one)]):
                    await _write(response, data)
                continue
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await news.wait()
            except TimeoutError:
                await _write(response, f": still here\nid: {last}\n\n".encode())
    finally:
        gateway.events.listeners.remove(wake)


async def _before_ring(gateway: Gateway, wanted: Wanted, last: int, until: int) -> tuple[list[Event], int]:
    """Those between two numbers, oldest first, and how many at most are not to be had."""
    try:
        found = await gateway.store.events(
            wanted.app, wanted.kind, wanted.instance, wanted.since, before_id=until, limit=BACK + 1
        )
    except NotReadable:
        return [], until - last - 1 if last else 0
    newer = [one for one in found[:BACK] if one.id > last]
    newer.reverse()
    cut = len(found) > BACK and len(newer) == BACK
    return newer, newer[0].id - last - 1 if cut and last else 0


def _number(event: Event) -> int:
    return event.id


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(STUCK):
        await response.write(data)


def _messages(events: list[Event]) -> bytes:
    return b"".join(_message("event", views.event(one), one.id) for one in events)


def _message(kind: str, value: dict[str, Any], number: int | None = None) -> bytes:
    """One message; JSON has no line ends within."""
    id = f"id: {number}\n" if number is not None else ""
    return f"{id}event: {kind}\ndata: ".encode() + dumps(value) + b"\n"
