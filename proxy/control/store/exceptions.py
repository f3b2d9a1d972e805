"""Tracebacks and panics, grouped by fingerprint, on the disk: one row a group, as it was last."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any, Final

from proxy.control.store.sample import gently

STEP: Final[tuple[str, ...]] = (
    """CREATE TABLE exceptions (
        app TEXT NOT NULL, fingerprint TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL,
        count INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (app, fingerprint)) WITHOUT ROWID""",
    "CREATE INDEX exceptions_last ON exceptions (last)",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One group; `body` is JSON, whose form is the book's business."""

    app: str
    fingerprint: str
    first: float  # Unix seconds
    last: float
    count: int
    body: str


def rows(row: Row) -> Iterable[tuple[str, tuple[Any, ...]]]:
    """It takes the place of what it was before."""
    yield (
        "INSERT OR REPLACE INTO exceptions (app, fingerprint, first, last, count, body) VALUES (?, ?, ?, ?, ?, ?)",
        astuple(row),
    )


def newest(connection: sqlite3.Connection, limit: int) -> list[Row]:
    """In the reader's thread: those seen last, newest first."""
    found = connection.execute(
        "SELECT app, fingerprint, first, last, count, body FROM exceptions ORDER BY last DESC LIMIT ?", (limit,)
    )
    return [Row(*row) for row in gently(found.fetchall())]
