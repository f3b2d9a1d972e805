"""The store, as the rest of control knows it: hand over what happened, ask what happened.

Handing over (`event`, `act`, `operation`, `sample`) is an append on control's loop, and never fails: what cannot be
kept is counted in `dropped`. Questions are answered in a thread and raise NotReadable where they can't be.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from proxy.control.counters import ALL
from proxy.control.operations import Asked, Operation, Step
from proxy.control.state import Event, Events
from proxy.control.store.acts import Act
from proxy.control.store.points import STEPS, Point, decode
from proxy.control.store.reader import NotReadable, Reader
from proxy.control.store.retention import POINTS_AGE, Limits
from proxy.control.store.sample import Deltas, Sample, gently
from proxy.control.store.tables import number, tables
from proxy.control.store.writer import Writer

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
    """Numbers that go on from what the store has."""

    next_event: int
    next_operation: int


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
            jump = int(time.time())
            return Began(jump, jump)
        return Began(began["events"] + 1, began["operations"] + 1)

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

    def sample(self, sample: Sample) -> None:
        """Counts and gauges of this moment; points are made of two of them."""
        self._writer.put("points", sample)

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


_ASKED: Final = frozenset(field.name for field in fields(Asked))
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
    body = orjson.loads(text)
    asked = {name: value for name, value in body["asked"].items() if name in _ASKED}
    operation = Operation(
        f"op-{id}", act, app, instance, Asked(**asked), began, state=state, ended=ended, why=body["why"],
        steps=[Step(at, said) for at, said in body["steps"]], targets=tuple(body["targets"]),
        evidence=body["evidence"], details=body["details"],
    )  # fmt: skip
    operation.over.set()
    return operation
