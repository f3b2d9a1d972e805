"""Kept requests on the disk: what `requests` and `why` know of the last day, over any restart."""

from __future__ import annotations

from typing import Final

STEP: Final[tuple[str, ...]] = (
    """CREATE TABLE requests (
        number INTEGER PRIMARY KEY, at REAL NOT NULL, id TEXT NOT NULL, client_id TEXT NOT NULL,
        app TEXT NOT NULL, instance TEXT NOT NULL, fault TEXT NOT NULL, status INTEGER NOT NULL,
        total_us INTEGER NOT NULL, body BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX requests_id ON requests (id)",
    "CREATE INDEX requests_client ON requests (client_id) WHERE client_id != ''",
    "CREATE INDEX requests_at ON requests (at)",
    "CREATE INDEX requests_app ON requests (app, number)",
)
