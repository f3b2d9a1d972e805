"""Incidents, and the messages that were sent about them, on the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Final

from proxy.control.incidents.incident import Incident
from proxy.control.incidents.saved import Saved, read
from proxy.control.store.sample import gently

STEP: Final[tuple[str, ...]] = (
    """CREATE TABLE incidents (
        id INTEGER PRIMARY KEY, scope TEXT NOT NULL, app TEXT NOT NULL, began REAL NOT NULL, ended REAL NOT NULL,
        severity TEXT NOT NULL, signal TEXT NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX incidents_app ON incidents (app, id)",
    "CREATE INDEX incidents_began ON incidents (began)",
    """CREATE TABLE messages (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, incident INTEGER NOT NULL, notifier TEXT NOT NULL,
        state TEXT NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX messages_incident ON messages (incident)",
    "CREATE INDEX messages_at ON messages (at)",
)


def rows(one: Saved) -> Iterable[tuple[str, tuple[Any, ...]]]:
    """Whole, each time that it changed: the last one stands."""
    yield (
        "INSERT OR REPLACE INTO incidents (id, scope, app, began, ended, severity, signal, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        tuple(one),
    )


def asked(
    app: str, open_only: bool, since: float, before: int, limit: int
) -> Callable[[sqlite3.Connection], list[Incident]]:
    """Newest first; `since` (Unix seconds): those that were open then or later; `before`: with a lower number."""
    wanted: list[tuple[str, Any]] = []
    if app:
        wanted.append(("app = ?", app))
    if open_only:
        wanted.append(("ended = ?", 0.0))
    if since:
        wanted.append(("(ended = 0 OR ended >= ?)", since))
    if before:
        wanted.append(("id < ?", before))
    where = f" WHERE {' AND '.join(text for text, _ in wanted)}" if wanted else ""
    sql = f"SELECT body FROM incidents{where} ORDER BY id DESC LIMIT ?"
    values = [value for _, value in wanted]

    def ask(connection: sqlite3.Connection) -> list[Incident]:
        return [read(body) for (body,) in gently(connection.execute(sql, (*values, limit)).fetchall())]

    return ask
