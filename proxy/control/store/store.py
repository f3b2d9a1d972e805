"""The store, as the rest of control knows it: hand over what happened, ask what happened.

Handing over (`event`, `act`, `operation`, `sample`) is an append on control's loop, and never fails: what cannot be
kept is counted in `dropped`. Questions are answered in a thread and raise NotReadable where they can't be.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from proxy.control.counters import ALL
from proxy.control.incidents.incident import Incident
from proxy.control.incidents.saved import Saved
from proxy.control.operations import Operation, read
from proxy.control.records import Filter
from proxy.control.state import Event, Events
from proxy.control.store import exceptions, incidents, messages, stories
from proxy.control.store import requests as kept
from proxy.control.store.acts import Act
from proxy.control.store.frozen import Frozen
from proxy.control.store.points import STEPS, Point, decode
from proxy.control.store.reader import NotReadable, Reader
from proxy.control.store.retention import POINTS_AGE, Limits
from proxy.control.store.sample import Deltas, Sample, gently
from proxy.control.store.tables import number, tables
from proxy.control.store.writer import NUMBERED, Writer
from proxy.link.messages import Record, Story

NAME: Final = "store.db"
OPEN_WITHIN: Final = 3.0
"""Seconds that control waits at its start for a slow disk; then it goes on without."""
MOST: Final = 10_000
"""Rows of one answer."""

T = TypeVar("T")
Say = Callable[..., Any]
"""As Shared.event: (kind, text, **details); called on the loop."""


@dataclass(frozen=True, slots=True)
class Began:
    """Numbers that go on from what the store has, by table (writer.NUMBERED)."""

    next: dict[str, int]

    @property
    def next_event(self) -> int:
        return self.next["events"]

    @property
    def next_operation(self) -> int:
        return self.next["operations"]


class Store:
    """Made on control's loop, used only there. `fresh`: no worker counted anything before this control began."""

    def __init__(self, data_dir: Path, events: Events, say: Say, limits: Limits, fresh: bool = False) -> None:
        self.path = data_dir / NAME
        self.events_ring = events
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(self.path, tables(Deltas(fresh)), self._said, limits)
        self._reader = Reader(self.path)
        self._began = False

    # --- its life ------------------------------------------------------------------------------------

    async def open(self, within: float = OPEN_WITHIN) -> Began:
        """Begin; says where numbers go on. Where that can't be known they jump: a number is never given twice."""
        self._writer.start()
        self._began = True
        await asyncio.to_thread(self._writer.opened.wait, within)
        began = self._writer.began
        if self._writer.set_aside or not began:
            return Began({table: int(time.time() * per_second) for table, (_, per_second) in NUMBERED.items()})
        return Began({table: number + 1 for table, number in began.items()})

    async def close(self, within: float = 3.0) -> None:
        """Write what waits, if that can be done in time."""
        if self._began:
            self._began = False
            await asyncio.to_thread(self._writer.close, within)
            self._reader.close()

    async def flush(self, within: float = 5.0) -> bool:
        """Wait until all that was handed over is in the file."""
        return await asyncio.to_thread(self._writer.flush, within)

    def configure(self, limits: Limits) -> None:
        """A new config."""
        self._writer.limits = limits

    @property
    def error(self) -> str:
        """Why nothing can be written now; "" when all is well."""
        return self._writer.error

    @property
    def dropped(self) -> dict[str, int]:
        """Entries lost since control's start, by table; all tables are there."""
        return self._writer.dropped

    @property
    def waiting(self) -> int:
        """Entries that are on their way to the disk."""
        return self._writer.waiting

    @property
    def size(self) -> int:
        """Bytes on the disk, when it was last looked at."""
        return self._writer.size

    def _said(self, kind: str, text: str, details: dict[str, Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(lambda: self._say(kind, text, **details))
        except RuntimeError:
            pass  # the loop has ended

    # --- what is handed over -------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        self._writer.put("events", event)

    def act(self, act: Act) -> None:
        self._writer.put("acts", act)

    def operation(self, operation: Operation) -> None:
        """One that has ended."""
        self._writer.put("operations", operation)

    def incident(self, saved: Saved) -> None:
        """As it stands now."""
        self._writer.put("incidents", saved)

    def message(self, row: messages.Message) -> None:
        """About an incident, to a notifier: what became of it."""
        self._writer.put("messages", row)

    def exception(self, row: exceptions.Row) -> None:
        """A group of exceptions, as it is now."""
        self._writer.put("exceptions", row)

    def request(self, number: int, record: Record) -> None:
        """One that is kept; again when it was refined."""
        self._writer.put("requests", kept.Numbered(number, record))

    def story(self, story: Story) -> None:
        """The whole story of a request."""
        self._writer.put("stories", story)

    def sample(self, sample: Sample) -> None:
        """Counts and gauges of this moment; points are made of two of them."""
        self._writer.put("points", sample)

    def freeze(self, frozen: Frozen) -> None:
        """Kept under its number."""
        self._writer.put("frozen", frozen)

    # --- what is asked -------------------------------------------------------------------------------

    async def events(
        self,
        app: str = "",
        kind: str = "",
        instance: str = "",
        since: float = 0.0,
        before_id: int = 0,
        limit: int = 100,
    ) -> list[Event]:
        """Newest first, from memory and then from the disk; `before_id` is where an answer before ended (0: none).

        `since`: Unix seconds. Raises NotReadable only when memory has none of them."""
        ring = list(self.events_ring)
        found: list[Event] = []
        for event in reversed(ring):
            if len(found) == limit or event.at < since:
                return found
            if (before_id and event.id >= before_id) or (app and event.app != app) or (kind and event.kind != kind):
                continue
            if not instance or event.instance == instance:
                found.append(event)
        before = min((before_id or 1 << 62), ring[0].id if ring else 1 << 62)
        wanted = _where(("id <", before), ("app =", app), ("kind =", kind), ("instance =", instance), ("at >=", since))
        left = min(limit, MOST) - len(found)
        try:
            older = await self._rows(_EVENT, "events", wanted, left, _event)
        except NotReadable:
            if found:
                return found
            raise
        return found + older

    async def events_after(self, id: int) -> list[Event]:
        """From the disk, oldest first; [] where it can't be read."""
        try:
            return (await self._rows(_EVENT, "events", _where(("id >", id)), MOST, _event))[::-1]
        except NotReadable:
            return []

    async def events_between(self, app: str, since: float, until: float, limit: int = 20) -> list[Event]:
        """Of an app and of none, oldest first, from the disk; Unix seconds. Raises NotReadable."""
        sql = f"SELECT {_EVENT} FROM events WHERE at >= ? AND at <= ? AND app IN (?, '') ORDER BY id LIMIT ?"
        return await self._reader.ask(
            lambda connection: [_event(*row) for row in connection.execute(sql, (since, until, app, limit)).fetchall()]
        )

    async def acts(
        self,
        app: str = "",
        rule: str = "",
        instance: str = "",
        since: float = 0.0,
        before_id: int = 0,
        limit: int = 100,
    ) -> list[Act]:
        """Autoheal's history, newest first. Raises NotReadable."""
        wanted = _where(
            ("id <", before_id), ("app =", app), ("rule =", rule), ("instance =", instance), ("at >=", since)
        )
        return await self._rows(_ACT, "acts", wanted, limit, _act)

    async def operations(
        self, app: str = "", act: str = "", since: float = 0.0, before_id: int = 0, limit: int = 100
    ) -> list[Operation]:
        """Those that ended, newest first. Raises NotReadable."""
        wanted = _where(("id <", before_id), ("app =", app), ("act =", act), ("began >=", since))
        return await self._rows(_OPERATION, "operations", wanted, limit, _operation)

    async def operation_of(self, id: str) -> Operation | None:
        """By its id, as `op-17`. Raises NotReadable."""
        try:
            wanted = _where(("id =", number(id)))
        except ValueError:
            return None
        found = await self._rows(_OPERATION, "operations", wanted, 1, _operation)
        return found[0] if found else None

    async def incidents(
        self, app: str = "", open_only: bool = False, since: float = 0.0, before: int = 0, limit: int = 100
    ) -> list[Incident]:
        """Newest first; `since`: open then or later (Unix seconds); `before`: of a lower number. Raises NotReadable."""
        return await self._reader.ask(incidents.asked(app, open_only, since, before, min(limit, MOST)))

    async def messages(self, incident: int = 0, limit: int = 50) -> list[messages.Message]:
        """That were sent or lost, newest first; of one incident (its number), or of all (0). Raises NotReadable."""
        return await self._reader.ask(lambda connection: messages.newest(connection, incident, min(limit, MOST)))

    async def exceptions(self, limit: int = MOST) -> list[exceptions.Row]:
        """Groups of all apps, those seen last first. Raises NotReadable."""
        return await self._reader.ask(lambda connection: exceptions.newest(connection, limit))

    async def requests(self, wanted: Filter, limit: int = 100, before: int | None = None) -> list[kept.Numbered]:
        """Kept ones, newest first; `before` is a number. Raises NotReadable."""
        return await self._reader.ask(lambda connection: kept.page(connection, wanted, min(limit, MOST), before))

    async def requests_of(self, start: str, limit: int = 10) -> list[kept.Numbered]:
        """Those whose id, or the client's id, begins so, newest first; a whole id is alone. Raises NotReadable."""
        return await self._reader.ask(lambda connection: kept.find(connection, start, limit))

    async def story_of(self, id: str) -> dict[str, Any] | None:
        """Of a request, by its whole id: what `stories.written` made of it. Raises NotReadable."""
        return await self._reader.ask(lambda connection: stories.find(connection, id))

    async def failed_request(self) -> kept.Numbered | None:
        """The newest that ended in a 5xx or a fault that is not the client's. Raises NotReadable."""
        return await self._reader.ask(kept.failed)

    async def requests_near(self, at: float) -> list[Record]:
        """Those nearest to a time, on both sides. Raises NotReadable."""
        return await self._reader.ask(lambda connection: kept.near(connection, at))

    async def points(
        self, app: str, instance: str = ALL, since: float = 0.0, until: float = 1e12, step: int = 0
    ) -> list[tuple[int, Point]]:
        """(Unix second at the end of the interval, point), oldest first; instance "*" is the app as a whole.

        The finest tier that reaches back to `since`, or the one of `step` (10, 60, 3600); what is not rolled up yet
        comes from the tier below. Raises NotReadable."""

        def ask(connection: sqlite3.Connection) -> list[tuple[int, Point]]:
            series = connection.execute(
                "SELECT id FROM series WHERE app = ? AND instance = ?", (app, instance)
            ).fetchone()
            if series is None:
                return []
            now = time.time()
            first = step or next((one for one in STEPS if now - POINTS_AGE[one] <= since), STEPS[-1])
            found: list[tuple[int, bytes]] = []
            after = since
            for tier in reversed(STEPS[: STEPS.index(first) + 1]):
                found += connection.execute(
                    f"SELECT at, body FROM points_{tier} WHERE series = ? AND at > ? AND at <= ? ORDER BY at",
                    (series[0], after, until),
                ).fetchall()
                after = max(after, found[-1][0]) if found else after
            return [(at, point) for at, body in gently(found) if (point := decode(body)) is not None]

        return await self._reader.ask(ask)

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Any question, answered in the reader's thread, one after another, in 3 s at most. Raises NotReadable."""
        return await self._reader.ask(question)

    async def instances(self, app: str) -> list[str]:
        """Those that have points, "*" for the app itself among them. Raises NotReadable."""

        def ask(connection: sqlite3.Connection) -> list[str]:
            return [row[0] for row in connection.execute("SELECT instance FROM series WHERE app = ?", (app,))]

        return await self._reader.ask(ask)

    async def _rows(
        self, columns: str, table: str, wanted: tuple[str, Sequence[Any]], limit: int, make: Callable[..., T]
    ) -> list[T]:
        """Newest first; values are made in the thread."""
        where, values = wanted
        sql = f"SELECT {columns} FROM {table}{where} ORDER BY id DESC LIMIT {min(limit, MOST)}"
        return await self._reader.ask(
            lambda connection: [make(*row) for row in gently(connection.execute(sql, values).fetchall())]
        )


def _where(*wanted: tuple[str, Any]) -> tuple[str, list[Any]]:
    """Conditions of those that have a value."""
    asked = [(column, value) for column, value in wanted if value]
    text = " AND ".join(f"{column} ?" for column, _ in asked)
    return f" WHERE {text}" if text else "", [value for _, value in asked]


_EVENT: Final = "id, at, kind, app, instance, text, details"
_ACT: Final = "rule, app, instance, value, reason, outcomes, operation, dry, details, at, id"
_OPERATION: Final = "id, act, app, instance, state, began, ended, body"


def _event(id: int, at: float, kind: str, app: str, instance: str, text: str, details: str) -> Event:
    return Event(id, at, kind, app, instance, text, orjson.loads(details))


def _act(
    rule: str,
    app: str,
    instance: str,
    value: str,
    reason: str,
    outcomes: str,
    operation: str,
    dry: int,
    details: str,
    at: float,
    id: int,
) -> Act:
    chain = tuple((action, outcome) for action, outcome in orjson.loads(outcomes))
    return Act(rule, app, instance, value, reason, chain, operation, bool(dry), orjson.loads(details), at, id)


def _operation(
    id: int, act: str, app: str, instance: str, state: str, began: float, ended: float, text: str
) -> Operation:
    return read(
        {
            **orjson.loads(text), "id": f"op-{id}", "act": act, "app": app, "instance": instance, "state": state,
            "began": began, "ended": ended,
        }
    )  # fmt: skip
