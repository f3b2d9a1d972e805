"""Logs and exceptions: searched, listed, and followed as server-sent events.

A stream goes on after the number in Last-Event-ID: from the files first, then from memory, where the newest batches of
lines are. It sends a bounded number of lines a second; what it leaves out, and what went from memory before it could
be sent, is told as `dropped`. A batch is encoded once, in a thread, for all who follow without a filter of their own.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy import masking
from proxy.admin import query, streams
from proxy.admin.common import answer, items, no_app, the_instance
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import FOLLOWING, GATEWAY
from proxy.admin.times import iso
from proxy.control.logs import exceptions as groups
from proxy.control.logs.exceptions import Tag
from proxy.control.logs.lines import Batch, Line, micros, text
from proxy.control.logs.search import BadExpression, Item, expression

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

STREAMS: Final = ("out", "err", "triage", "file")
GREP: Final = 500
"""Characters of what is looked for."""
BACK: Final = 2000
"""Lines out of the files when a stream is resumed; a client that was away for more has lost the older ones."""
AT_ONCE: Final = 500
"""Lines in one write."""
LINES: Final = 20_000
"""Lines a second that all streams together send; each has its share, and LEAST at least."""
LEAST: Final = 100
ENCODED: Final = 16
"""Batches that are kept as they are sent."""
BATCHES: Final = 50
"""Taken out of memory at once."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are asked for. `since`, `until`: Unix seconds, 0.0 where there is no bound."""

    app: str = ""
    instance: str = ""
    stream: str = ""
    grep: str = ""
    since: float = 0.0
    until: float = 0.0

    @property
    def plain(self) -> bool:
        """Whole batches are of it or not."""
        return not self.grep and not self.since and not self.until

    def is_of(self, batch: Batch) -> bool:
        return (
            (not self.app or batch.app == self.app)
            and (not self.instance or batch.instance == self.instance)
            and (
                not self.stream
                or batch.stream == self.stream
                or (self.stream == "file" and batch.stream.startswith("file:"))
            )
        )


def _wanted(request: web.Request) -> Wanted:
    asked, gateway = request.query, request.app[GATEWAY]
    app, stream, grep = asked.get("app", ""), asked.get("stream", ""), asked.get("grep", "")
    if app and app not in gateway.apps and app not in {pool.app.name for pool in gateway.leaving}:
        raise no_app(gateway, app)
    if stream and stream not in STREAMS and not stream.startswith("file:"):
        raise query.bad("stream", f"It is {stream[:40]!r}; expected {', '.join(STREAMS)} or file:PATH.")
    if len(grep) > GREP:
        raise query.bad("grep", f"It has {len(grep)} characters; {GREP} are the most.")
    if "\n" in grep:
        raise query.bad("grep", "It has more than one line; a line is looked through by itself.")
    try:
        expression(grep)
    except BadExpression as error:
        raise query.bad("grep", f"{grep[:60]} is no regular expression: {error}.") from None
    return Wanted(
        app, asked.get("instance", ""), stream, grep, query.since(request), query.moment(asked.get("until", ""))
    )


# --- search ------------------------------------------------------------------------------------------


async def logs(request: web.Request) -> web.StreamResponse:
    """Newest first; with `follow=true` as they come."""
    wanted = _wanted(request)
    if query.flag(request, "follow"):
        return await _follow(request, wanted)
    gateway = request.app[GATEWAY]
    most, before = query.limit(request), query.cursor(request) or 0
    if wanted.until:
        before = min(before or 1 << 62, int(wanted.until * 1e6) + 1)
    found = await gateway.logbook.search(
        wanted.app, wanted.instance, stream=wanted.stream, grep=wanted.grep,
        after=max(0, int(wanted.since * 1e6) - 1), before=before, limit=most,
    )  # fmt: skip
    shown = await asyncio.to_thread(_shown, found.items, gateway.logbook.exceptions.tags())
    return answer(
        {
            "items": shown,
            "next": str(found.until) if found.until else None,
            "searched_until": micros(found.until) if found.stopped else None,
            "stopped": found.stopped,
        }
    )


def _shown(found: list[Item], tags: list[Tag]) -> list[dict[str, Any]]:
    """In a thread: masking takes some microseconds a line."""
    known = _by_stream(tags)
    return [_item(one, known) for one in found]


Known = dict[tuple[str, str], list[Tag]]
"""By instance and stream, in order."""


def _by_stream(tags: list[Tag]) -> Known:
    known: Known = {}
    for tag in sorted(tags, key=lambda tag: tag.first):
        known.setdefault((tag.instance, tag.stream), []).append(tag)
    return known


def _item(one: Item, known: Known) -> dict[str, Any]:
    of = ""
    if tags := known.get((one.instance, one.stream)):
        tag = tags[max(0, bisect_right(tags, one.id, key=lambda tag: tag.first) - 1)]
        of = tag.fingerprint if tag.first <= one.id <= tag.last else ""
    return {
        "id": one.id, "time": micros(one.id), "app": one.app, "instance": one.instance, "stream": one.stream,
        "line": masking.text(one.line), "exception": of,
    }  # fmt: skip


async def instance_logs(request: web.Request) -> web.Response:
    """The last lines of one instance, oldest first, out of memory."""
    app, found = the_instance(request)
    gateway = request.app[GATEWAY]
    most, before = query.limit(request, 200, 200), query.cursor(request)
    lines = found.output.last(notes=True) if found.output is not None else []
    if before is not None:
        lines = [line for line in lines if 0 < line.id < before]
    following = lines[-most].id if len(lines) > most else None
    tags = gateway.logbook.exceptions.tags()
    shown = await asyncio.to_thread(_of_instance, app.name, found.name, lines[-most:], tags)
    return items(shown, following)


def _of_instance(app: str, instance: str, lines: list[Line], tags: list[Tag]) -> list[dict[str, Any]]:
    known = _by_stream(tags)
    return [
        {**_item(Item(line.id, app, instance, line.stream, line.text), known), "time": iso(line.at)} for line in lines
    ]


# --- stream ------------------------------------------------------------------------------------------


async def _follow(request: web.Request, wanted: Wanted) -> web.StreamResponse:
    gateway = request.app[GATEWAY]
    if wanted.grep and expression(wanted.grep):
        raise query.bad("grep", "A stream takes a plain text; an expression is for looking back.")
    last = streams.last_id(request, "a line")
    if last is None and wanted.since:
        last = int(wanted.since * 1e6) - 1
    return await streams.follow(request, lambda write: _Stream(request, gateway, wanted, write).run(last))


class _Stream:
    """One client's."""

    def __init__(self, request: web.Request, gateway: Gateway, wanted: Wanted, write: streams.Write) -> None:
        self.request = request
        self.gateway = gateway
        self.recent = gateway.logbook.recent
        self.wanted = wanted
        self.write = write
        self.tokens = 0.0
        self.filled = time.monotonic()
        self.last = 0
        """Number of the last line."""
        self.seen = self._lines()
        """Lines of what is followed that came so far, sent or not."""
        self.left_out = 0

    def _lines(self) -> int:
        return self.recent.lines(self.wanted.app, self.wanted.instance)

    async def run(self, last: int | None) -> None:
        """Until the client leaves. Raises ConnectionError, TimeoutError."""
        news = asyncio.Event()

        def wake(batch: Batch) -> None:
            news.set()

        number, self.seen = self.recent.last, self._lines()
        self.last = self.gateway.logbook.numbers.last
        self.recent.listeners.append(wake)
        try:
            await self.write(b": Triage tells lines\nretry: 1000\n\n")
            if last is not None:
                await self._back(last, self.last)
            while True:
                news.clear()
                batches = self.recent.after(number, BATCHES)
                if batches:
                    number = batches[-1].number
                    for batch in batches:
                        await self._batch(batch)
                    continue
                if not await streams.heard(news):
                    await self.write(f": still here\nid: {self.last}\n\n".encode())
        finally:
            self.recent.listeners.remove(wake)

    async def _back(self, after: int, until: int) -> None:
        """What a client that comes again has missed, out of the files."""
        if after >= until:
            return
        found = await self.gateway.logbook.search(
            self.wanted.app, self.wanted.instance, stream=self.wanted.stream, grep=self.wanted.grep, after=after,
            before=until + 1, limit=BACK + 1,
        )  # fmt: skip
        if len(found.items) > BACK or found.stopped:
            said = f"lines between {micros(after)} and {micros(found.items[-1].id if found.items else until)}"
            why = f": the search ended {found.stopped}" if found.stopped else f": more than {BACK} were missed"
            await self._dropped(None, f"{said} are not sent{why}; `logs` has them", after)
        shown = await asyncio.to_thread(_shown, found.items[:BACK][::-1], self.gateway.logbook.exceptions.tags())
        for at in range(0, len(shown), AT_ONCE):
            await self.write(
                b"".join(streams.message("line", one, one["id"]) for one in shown[at : at + AT_ONCE])
            )

    async def _batch(self, batch: Batch) -> None:
        which = 0 if self.wanted.instance else 1 if self.wanted.app else 2
        if not self._counts(batch):
            return
        missed = batch.before[which] - self.seen
        self.seen = batch.before[which] + len(batch.lines)
        if missed > 0:
            await self._dropped(missed, "they were gone from memory before they could be sent", self.last)
        self.last = max(self.last, batch.id + len(batch.lines) - 1)
        if not self.wanted.is_of(batch):
            return
        if not self._may(len(batch.lines)):
            self.left_out += len(batch.lines)
            return
        if self.left_out:
            count, self.left_out = self.left_out, 0
            await self._dropped(count, "they came faster than a stream takes them; `logs` has them", batch.id - 1)
        if data := await self._encoded(batch):
            await self.write(data)

    def _counts(self, batch: Batch) -> bool:
        wanted = self.wanted
        if wanted.instance:
            return batch.instance == wanted.instance and (not wanted.app or batch.app == wanted.app)
        return not wanted.app or batch.app == wanted.app

    def _may(self, count: int) -> bool:
        """Its share of what streams send in a second."""
        now = time.monotonic()
        rate = max(LEAST, LINES // max(1, len(self.request.app[FOLLOWING])))
        self.tokens = min(2.0 * rate, self.tokens + (now - self.filled) * rate)
        self.filled = now
        if self.tokens <= 0 and count > 1:
            return False
        if self.tokens <= -rate:
            return False
        self.tokens -= count
        return True

    async def _encoded(self, batch: Batch) -> bytes:
        if not self.wanted.plain:
            return await asyncio.to_thread(_messages, batch, self.wanted)
        encoded = self.recent.encoded
        if batch.number not in encoded:
            encoded[batch.number] = asyncio.ensure_future(asyncio.to_thread(_messages, batch, self.wanted))
            while len(encoded) > ENCODED:
                del encoded[next(iter(encoded))]
        return await asyncio.shield(encoded[batch.number])

    async def _dropped(self, count: int | None, words: str, number: int) -> None:
        value = {"dropped": count, "instance": self.wanted.instance, "words": words}
        await self.write(streams.message("dropped", value, number))


def _messages(batch: Batch, wanted: Wanted) -> bytes:
    """Of the lines that are asked for. In a thread."""
    grep = wanted.grep.lower()
    found = []
    for number, line in enumerate(batch.lines, batch.id):
        said = text(line)
        if (grep and grep not in said.lower()) or (wanted.until and number > wanted.until * 1e6):
            continue
        one = _item(Item(number, batch.app, batch.instance, batch.stream, said), {})
        found.append(streams.message("line", one, number))
        if len(found) % 100 == 0:
            time.sleep(0)  # the loop may have its turn
    return b"".join(found)


# --- exceptions --------------------------------------------------------------------------------------


async def exceptions(request: web.Request) -> web.Response:
    """Groups, those seen last first."""
    gateway, app = request.app[GATEWAY], request.query.get("app", "")
    since, most = query.since(request), query.limit(request)
    before = query.cursor(request) or 0
    if app and app not in gateway.apps:
        raise no_app(gateway, app)
    found = await asyncio.to_thread(gateway.logbook.exceptions.groups, app)
    found = [one for one in found if one.last >= since][before:]
    following = before + most if len(found) > most else None
    return items([_group(one) for one in found[:most]], following)


async def exception(request: web.Request) -> web.Response:
    """One group, by its fingerprint."""
    gateway, name, app = request.app[GATEWAY], request.match_info["id"], request.query.get("app", "")
    found = await asyncio.to_thread(gateway.logbook.exceptions.group, name, app)
    if found is None:
        raise ApiProblem(
            404, "no-such-exception", f"There is no exception {name[:60]!r}{f' of {app}' if app else ''}",
            hint="GET /api/v1/exceptions lists those that there are.",
        )  # fmt: skip
    return answer(_group(found))


def _group(one: groups.Group) -> dict[str, Any]:
    shown = groups.shown(one, time.time())
    return {**shown, "first": iso(one.first), "last": iso(one.last)}
