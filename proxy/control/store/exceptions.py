"""Tracebacks and panics, grouped by fingerprint, on the disk."""

from __future__ import annotations

from typing import Final

STEP: Final[tuple[str, ...]] = (
    """CREATE TABLE exceptions (
        app TEXT NOT NULL, fingerprint TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL,
        count INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (app, fingerprint)) WITHOUT ROWID""",
    "CREATE INDEX exceptions_last ON exceptions (last)",
)
