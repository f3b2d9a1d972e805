"""Incidents, and the messages that were sent about them, on the disk."""

from __future__ import annotations

from typing import Final

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
