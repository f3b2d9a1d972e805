"""Messages about incidents, as rows of the table `messages` (its SQL stands in incidents.py)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

SHOWN: Final = 50
"""Of one answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """What became of one message to one notifier. Times are Unix seconds."""

    id: int
    at: float
    incident: int  # number; 0: a test
    notifier: str
    state: str  # "sent" | "failed" | "dropped"
    kind: str  # "opened", "cause", "repeat", "reopened", "closed", "test"
    tries: int
    error: str
    title: str


def row(one: Message) -> Iterable[tuple[str, tuple[Any, ...]]]:
    body = {"kind": one.kind, "tries": one.tries, "error": one.error, "title": one.title}
    yield (
        "INSERT OR REPLACE INTO messages (id, at, incident, notifier, state, body) VALUES (?, ?, ?, ?, ?, ?)",
        (one.id, one.at, one.incident, one.notifier, one.state, orjson.dumps(body).decode()),
    )


def newest(connection: sqlite3.Connection, incident: int = 0, limit: int = SHOWN) -> list[Message]:
    """Newest first; of one incident, or of all (0)."""
    where, values = (" WHERE incident = ?", (incident,)) if incident else ("", ())
    sql = f"SELECT id, at, incident, notifier, state, body FROM messages{where} ORDER BY id DESC LIMIT {int(limit)}"
    return [_read(*found) for found in connection.execute(sql, values).fetchall()]


def _read(id: int, at: float, incident: int, notifier: str, state: str, body: str) -> Message:
    raw = orjson.loads(body)
    return Message(id, at, incident, notifier, state, raw["kind"], raw["tries"], raw["error"], raw["title"])
