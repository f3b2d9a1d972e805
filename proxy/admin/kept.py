"""Kept requests, wherever they are: those of late in control's memory, all of the last `keep.requests` in the store.

Memory has each one at once, and as it is now; the store has those that made room for others, and those of before
control began. Where the store cannot be read, memory alone answers; if it has nothing, NotReadable is raised.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from proxy.control.records import Filter, nearest
from proxy.control.store import NotReadable
from proxy.link.messages import Record

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

STEP: Final = 1000
"""Records looked at before others get their turn: about 1 ms."""


async def page(
    gateway: Gateway, wanted: Filter, limit: int, before: int | None = None
) -> tuple[list[Record], int | None]:
    """Newest first, and where the next page begins, None at the end. Raises NotReadable."""
    whole_from = gateway.records.whole_from
    found: dict[int, Record] = {}
    for count, (number, record) in enumerate(gateway.records.newest_first(before), 1):
        if count % STEP == 0:
            await asyncio.sleep(0)
        if wanted.matches(record):
            found[number] = record
            if len(found) > limit:
                break
    newest = sum(number >= whole_from for number in found)
    if newest <= limit:  # else the page lies within what memory has whole
        below = whole_from if before is None else min(before, whole_from)
        try:
            for number, record in await gateway.store.requests(wanted, limit + 1 - newest, below):
                found.setdefault(number, record)
        except NotReadable:
            if not found:
                raise
    numbers = sorted(found, reverse=True)
    return [found[number] for number in numbers[:limit]], numbers[limit - 1] if len(numbers) > limit else None


async def find(gateway: Gateway, start: str, limit: int = 10) -> list[Record]:
    """All whose id, or the client's id, begins so, newest first; a whole id is alone."""
    exact = gateway.records.get(start)
    if exact is not None:
        return [exact]
    found = {record.id: record for record in gateway.records.find(start, limit)}
    try:
        older = [record for _, record in await gateway.store.requests_of(start, limit)]
    except NotReadable:
        older = []
    if any(start in (record.id, record.client_request_id) for record in older):
        return older
    for record in older:
        found.setdefault(record.id, record)
    return list(found.values())[:limit]


async def latest(gateway: Gateway) -> Record | None:
    """The newest that ended in a 5xx or a fault that is not the client's. Raises NotReadable."""
    for _, record in gateway.records.newest_first():
        if record.status >= 500 or (record.fault and not 400 <= record.status < 500):
            return record
    found = await gateway.store.failed_request()
    return found.record if found is not None else None


async def near(gateway: Gateway, at: float, worker: int) -> Record | None:
    """The one next in time to a request that was not kept; one of the same worker, if any."""
    here = gateway.records.nearest(at, worker=worker)
    try:
        older = await gateway.store.requests_near(at)
    except NotReadable:
        older = []
    if here is not None:
        older = [here, *(record for record in older if record.id != here.id)]
    return nearest(older, at, worker)


async def story(gateway: Gateway, id: str) -> dict[str, Any] | None:
    """Of a request, by its whole id; None: none is kept, or it can't be read now."""
    try:
        return await gateway.store.story_of(id)
    except NotReadable:
        return None
