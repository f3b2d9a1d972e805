"""What was frozen at an incident or an exit: the last 15 minutes second by second, and the flight recorder."""

from __future__ import annotations

from typing import Final

STEP: Final[tuple[str, ...]] = (
    """CREATE TABLE frozen (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, app TEXT NOT NULL, instance TEXT NOT NULL, why TEXT NOT NULL,
        body BLOB NOT NULL)""",
    "CREATE INDEX frozen_at ON frozen (at)",
    "CREATE INDEX frozen_app ON frozen (app, id)",
)
