"""What may be handed to the store, one row each: how it becomes rows of a table, and how much of it may wait.

Rows are made in the writer's thread. A table more is one function and one row of TABLES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.control import operations
from proxy.control.operations import Operation
from proxy.control.state import Event
from proxy.control.store import exceptions, frozen, incidents, messages, requests, stories
from proxy.control.store.acts import Act
from proxy.control.store.points import STEPS, encode
from proxy.control.store.sample import Deltas, Sample, gently

Statement = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    most: int  # that may wait to be written; more are dropped, and counted
    rows: Callable[[Any], Iterable[Statement]]


def text(value: Any) -> str:
    """JSON; what has no form there is written as str() has it."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _event(event: Event) -> Iterable[Statement]:
    yield (
        "INSERT OR IGNORE INTO events (id, at, kind, app, instance, text, details) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (event.id, event.at, event.kind, event.app, event.instance, event.text, text(event.details)),
    )


def _act(act: Act) -> Iterable[Statement]:
    yield (
        "INSERT INTO acts (at, rule, app, instance, value, reason, outcomes, operation, dry, details)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            act.at, act.rule, act.app, act.instance, act.value, act.reason, text(act.outcomes), act.operation,
            act.dry, text(act.details),
        ),
    )  # fmt: skip


def _operation(operation: Operation) -> Iterable[Statement]:
    yield (
        "INSERT OR REPLACE INTO operations (id, began, ended, act, app, instance, state, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number(operation.id), operation.began, operation.ended, operation.act, operation.app,
            operation.instance, operation.state, text(operations.plain(operation)),
        ),
    )  # fmt: skip


def number(operation: str) -> int:
    """Of `op-17`."""
    return int(operation.rpartition("-")[2])


def _points(deltas: Deltas) -> Callable[[Sample], Iterable[Statement]]:
    series = "INSERT OR IGNORE INTO series (app, instance) VALUES (?, ?)"
    # A clock that was set back leads to a time that has its row already: then both are added.
    point = (
        f"INSERT INTO points_{STEPS[0]} (series, at, body)"
        " VALUES ((SELECT id FROM series WHERE app = ? AND instance = ?), ?, ?)"
        " ON CONFLICT (series, at) DO UPDATE SET body = merged(body, excluded.body)"
    )

    def rows(sample: Sample) -> Iterable[Statement]:
        for app, instance, at, value in gently(deltas.points(sample)):
            yield series, (app, instance)
            yield point, (app, instance, at, encode(value))

    return rows


def tables(deltas: Deltas) -> dict[str, Table]:
    """All of them, by name."""
    found: Final = (
        Table("events", 10_000, _event),
        Table("acts", 2_000, _act),
        Table("operations", 1_000, _operation),
        Table("incidents", 500, incidents.rows),
        Table("messages", 1_000, messages.row),
        Table("exceptions", 2_000, exceptions.rows),
        Table("requests", 20_000, requests.rows),
        Table("stories", 500, stories.row),
        Table("frozen", 16, frozen.rows),
        Table("points", 6, _points(deltas)),  # a sample that is dropped is in the counts of the next one
    )
    return {table.name: table for table in found}
