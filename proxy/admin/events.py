"""Events: listed, and followed as server-sent events.

A stream sends each event once, in order, by its number; what it cannot send any more (the client comes back too late,
and the store does not have them) is reported as `dropped`, with how many there were at most. Control's ring is its
buffer, and before that the store, a part at a time.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.admin import query, streams, views
from proxy.admin.common import items, not_readable
from proxy.admin.keys import GATEWAY
from proxy.control.state import Event
from proxy.control.store import NotReadable

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

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
    last = _begin(request, gateway, wanted)
    return await streams.follow(request, lambda write: _stream(gateway, wanted, last, write))


def _begin(request: web.Request, gateway: Gateway, wanted: Wanted) -> int:
    """Number of the event before the first that is sent."""
    newest = gateway.events.next_id - 1
    last = streams.last_id(request, "an event")
    if last is not None:
        return last if last <= newest else gateway.events.first - 1  # a control that was killed told more than it saved
    return 0 if wanted.since else newest


async def _stream(gateway: Gateway, wanted: Wanted, last: int, write: streams.Write) -> None:
    """Until the client leaves. Raises ConnectionError, TimeoutError."""
    news = asyncio.Event()

    def wake(event: Event) -> None:
        news.set()

    ring = gateway.events.ring
    gateway.events.listeners.append(wake)
    try:
        await write(b": Triage tells its events\nretry: 1000\n\n")
        while True:
            news.clear()
            if ring and ring[0].id > last + 1:
                until = ring[0].id
                found, missing = await _before_ring(gateway, wanted, last, until)
                if missing:
                    await write(streams.message("dropped", {"dropped": missing}, last))
                for at in range(0, len(found), BATCH):
                    await write(_messages(found[at : at + BATCH]))
                last = until - 1
            at = bisect_right(ring, last, key=_number)
            batch = list(islice(ring, at, at + BATCH))
            if batch:
                last = batch[-1].id
                if data := _messages([one for one in batch if wanted.matches(one)]):
                    await write(data)
                continue
            if not await streams.heard(news):
                await write(f": still here\nid: {last}\n\n".encode())
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


def _messages(events: list[Event]) -> bytes:
    return b"".join(streams.message("event", views.event(one), one.id) for one in events)
