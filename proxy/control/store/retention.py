"""What goes: what is too old, and when the file is too large the oldest of what takes most room.

Each call does a bounded part of the work, so that the writer's queue never waits long for it.
"""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.control.store.points import STEPS

LATE: Final = 15
"""Seconds after its end at which an interval is rolled up: its last points are written by then."""
AT_ONCE: Final = 5000
"""Rows removed in one transaction."""
INTERVALS: Final = 120
"""Rolled up in one call."""
HISTORY: Final = 90 * units.DAYS
POINTS_AGE: Final = {10: units.DAYS, 60: 7 * units.DAYS, 3600: 90 * units.DAYS}
AGED: Final = (("events", "at"), ("acts", "at"), ("operations", "ended"))


@dataclass(frozen=True, slots=True)
class Limits:
    size: int  # bytes, of the file
    age: float = HISTORY  # seconds, of events, acts and operations


def roll_up(connection: sqlite3.Connection, now: float) -> None:
    """Points of ended intervals into the next tier. `now` is Unix time."""
    for finer, coarser in itertools.pairwise(STEPS):
        done = connection.execute("SELECT until FROM rolled WHERE step = ?", (coarser,)).fetchone()
        until = done[0] if done else 0
        if until > now:  # the clock was set back
            until = int(now) // coarser * coarser - coarser
        for _ in range(INTERVALS):
            oldest = _next(connection, finer, until)
            if oldest is None:
                break
            end = -(-oldest // coarser) * coarser  # a point belongs to the interval that ends at or after it
            if end + LATE > now:
                break
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                f"INSERT INTO points_{coarser} (series, at, body)"
                f" SELECT s.id, ?, roll(p.body) FROM series s CROSS JOIN points_{finer} p"
                " ON p.series = s.id AND p.at > ? AND p.at <= ? WHERE true GROUP BY s.id"
                " ON CONFLICT (series, at) DO UPDATE SET body = excluded.body",
                (end, end - coarser, end),
            )
            connection.execute(
                "INSERT INTO rolled (step, until) VALUES (?, ?) ON CONFLICT (step) DO UPDATE SET until = ?",
                (coarser, end, end),
            )
            connection.execute("COMMIT")
            until = end


def _next(connection: sqlite3.Connection, step: int, after: int) -> int | None:
    """The first point later than `after`, by one look into each series."""
    found = connection.execute(
        "SELECT min(at) FROM (SELECT"
        f" (SELECT at FROM points_{step} WHERE series = s.id AND at > ? ORDER BY at LIMIT 1) AS at FROM series s)",
        (after,),
    ).fetchone()[0]
    return int(found) if found is not None else None


def too_old(connection: sqlite3.Connection, now: float, limits: Limits) -> int:
    """Remove some of what is too old; how many rows."""
    removed = 0
    for table, column in AGED:
        removed += _before(connection, table, column, now - limits.age)
    for step in STEPS:
        removed += _points_before(connection, step, int(now - POINTS_AGE[step]))
    if removed:
        connection.execute(
            "DELETE FROM series WHERE "
            + " AND ".join(f"NOT EXISTS (SELECT 1 FROM points_{step} WHERE series = series.id)" for step in STEPS)
        )
    return removed


def too_much(connection: sqlite3.Connection, limits: Limits) -> int:
    """If the file is larger than it may be, remove the oldest tenth of what takes most room; how many rows."""
    if used(connection) <= limits.size:
        return 0
    shares = {table: _bytes(connection, table, f"length({body})") for table, body in _BODIES.items()}
    table = max(shares, key=lambda name: shares[name])
    if table.startswith("points_"):
        step = int(table.removeprefix("points_"))
        low, high = connection.execute(f"SELECT min(at), max(at) FROM {table}").fetchone()
        return _points_before(connection, step, low + max(1, (high - low) // 10)) if low is not None else 0
    column = dict(AGED)[table]
    low, high = connection.execute(f"SELECT min({column}), max({column}) FROM {table}").fetchone()
    return _before(connection, table, column, low + max(1.0, (high - low) / 10)) if low is not None else 0


def shrink(connection: sqlite3.Connection, limits: Limits) -> None:
    """Give some free pages back to the disk where they make the file larger than it may be, or are most of it."""
    pages, free, size = _pages(connection)
    if free and (pages * size > limits.size or free > pages // 2 + AT_ONCE):
        connection.executescript(f"PRAGMA incremental_vacuum({AT_ONCE})")  # execute() would free a single page


def used(connection: sqlite3.Connection) -> int:
    """Bytes of pages that hold something."""
    pages, free, size = _pages(connection)
    return (pages - free) * size


def _pages(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """All, free ones, bytes of each."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return pages, free, size


_BODIES: Final = {
    "events": "text) + length(details",
    "acts": "details) + length(outcomes",
    "operations": "body",
    **{f"points_{step}": "body" for step in STEPS},
}


def _bytes(connection: sqlite3.Connection, table: str, length: str) -> float:
    """About how much a table holds: rows times the mean of some of them."""
    rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    mean = connection.execute(f"SELECT avg(n) FROM (SELECT {length} + 40 AS n FROM {table} LIMIT 500)").fetchone()[0]
    return float(rows * (mean or 0))


def _before(connection: sqlite3.Connection, table: str, column: str, at: float) -> int:
    return connection.execute(
        f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {column} < ? LIMIT {AT_ONCE})", (at,)
    ).rowcount


def _points_before(connection: sqlite3.Connection, step: int, at: int) -> int:
    removed = 0
    for (series,) in connection.execute("SELECT id FROM series").fetchall():
        removed += connection.execute(
            f"DELETE FROM points_{step} WHERE series = ? AND at < ?", (series, at)
        ).rowcount
        if removed >= AT_ONCE:
            break
    return removed
