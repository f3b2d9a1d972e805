"""The tables, as numbered steps: version n is what the first n steps make.

Always true:
  - a step that was ever released is never changed; a change is a new step;
  - steps and the version they make are one transaction: a file is of one version, whole;
  - a file of a higher version than known is not touched (`TooNew`).
"""

from __future__ import annotations

import sqlite3
from typing import Final

from proxy.control.store import exceptions, frozen, incidents, requests, stories

APPLICATION: Final = 0x54524941  # "TRIA": file(1) and we know it by this

STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL,
            app TEXT NOT NULL, instance TEXT NOT NULL, text TEXT NOT NULL, details TEXT NOT NULL)""",
        "CREATE INDEX events_at ON events (at)",
        "CREATE INDEX events_app ON events (app, id)",
        "CREATE INDEX events_kind ON events (kind, id)",
        """CREATE TABLE acts (
            id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, rule TEXT NOT NULL,
            app TEXT NOT NULL, instance TEXT NOT NULL, value TEXT NOT NULL, reason TEXT NOT NULL,
            outcomes TEXT NOT NULL, operation TEXT NOT NULL, dry INTEGER NOT NULL, details TEXT NOT NULL)""",
        "CREATE INDEX acts_at ON acts (at)",
        "CREATE INDEX acts_app ON acts (app, id)",
        """CREATE TABLE operations (
            id INTEGER PRIMARY KEY, began REAL NOT NULL, ended REAL NOT NULL, act TEXT NOT NULL,
            app TEXT NOT NULL, instance TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL)""",
        "CREATE INDEX operations_began ON operations (began)",
        "CREATE INDEX operations_app ON operations (app, id)",
    ),
    (
        """CREATE TABLE series (
            id INTEGER PRIMARY KEY, app TEXT NOT NULL, instance TEXT NOT NULL, UNIQUE (app, instance))""",
        *(
            f"""CREATE TABLE points_{step} (
                series INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL,
                PRIMARY KEY (series, at)) WITHOUT ROWID"""
            for step in (10, 60, 3600)
        ),
        "CREATE TABLE rolled (step INTEGER PRIMARY KEY, until INTEGER NOT NULL)",
    ),
    requests.STEP,
    incidents.STEP,
    exceptions.STEP,
    frozen.STEP,
    stories.STEP,
)
VERSION: Final = len(STEPS)


class TooNew(Exception):
    """The file was written by a later Triage."""

    def __init__(self, version: int) -> None:
        super().__init__(f"its schema is version {version}, this Triage knows {VERSION}")


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Bring it to VERSION. Raises TooNew, sqlite3.Error.

    The connection must be in autocommit mode (isolation_level None)."""
    before = version(connection)
    if before > VERSION:
        raise TooNew(before)
    if before == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[before:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
