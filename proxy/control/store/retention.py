"""What goes: what is too old, and when the file is too large the oldest of what takes most room.

Each call does a bounded part of the work, so that the writer's queue never waits long for it.
"""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.control.store import requests, stories
from proxy.control.store.points import STEPS

LATE: Final = 15
"""Seconds after its end at which an interval is rolled up: its last points are written by then."""
AT_ONCE: Final = 5000
"""Rows removed in one transaction."""
INTERVALS: Final = 120
"""Rolled up in one call."""
HISTORY: Final = 90 * units.DAYS
POINTS_AGE: Final = {10: units.DAYS, 60: 7 * units.DAYS, 3600: 90 * units.DAYS}


@dataclass(frozen=True, slots=True)
class Limits:
    size: int  # bytes, of the file
    age: float = HISTORY  # seconds, of all that has no age of its own
    requests: float = units.DAYS
    incidents: float = 90 * units.DAYS  # and of what belongs to them


@dataclass(frozen=True, slots=True)
class Aged:
    """A table whose rows go with time."""

    table: str
    time: str  # column, Unix seconds; an index begins with it
    length: str  # SQL: bytes of a row, about
    age: str = "age"  # which one of Limits
    most: int = 0  # rows; 0: as many as age and size allow
    only: str = "true"  # SQL: others stay whatever their age
    key: str = "rowid"


AGED: Final = (
    Aged("events", "at", "length(text) + length(details)"),
    Aged("acts", "at", "length(details) + length(outcomes)"),
    Aged("operations", "ended", "length(body)"),
    *(Aged(table, "at", "length(body) + length(target) + 120", "requests") for table in requests.TABLES),
    Aged("stories", "at", "length(body) + 100", "requests", most=stories.MOST),
    Aged("incidents", "began", "length(body)", "incidents", only="ended > 0"),
    Aged("messages", "at", "length(body)", "incidents"),
    Aged("exceptions", "last", "length(body)", most=20_000, key="app, fingerprint"),
    Aged("frozen", "at", "length(body)", "incidents", most=300),
)
"""Points are not among them: they have an index by series only."""


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
    """Remove some of what is too old or too many; how many rows."""
    removed = 0
    for aged in AGED:
        removed += _before(connection, aged, now - getattr(limits, aged.age))
        if aged.most:
            removed += _beyond(connection, aged)
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
    by_name = {aged.table: aged for aged in AGED}
    shares = {aged.table: _bytes(connection, aged.table, aged.length) for aged in AGED}
    shares |= {f"points_{step}": _bytes(connection, f"points_{step}", "length(body)") for step in STEPS}
    for table in sorted(shares, key=lambda name: -shares[name]):
        aged = by_name.get(table)
        column, only = (aged.time, aged.only) if aged is not None else ("at", "true")
        low, high = connection.execute(f"SELECT min({column}), max({column}) FROM {table} WHERE {only}").fetchone()
        if low is None:
            continue
        if aged is not None:
            removed = _before(connection, aged, low + max(1.0, (high - low) / 10))
        else:
            removed = _points_before(connection, int(table.removeprefix("points_")), low + max(1, (high - low) // 10))
        if removed:
            return removed
    return 0


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


def _bytes(connection: sqlite3.Connection, table: str, length: str) -> float:
    """About how much a table holds: rows times the mean of some of them."""
    rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    mean = connection.execute(f"SELECT avg(n) FROM (SELECT {length} + 40 AS n FROM {table} LIMIT 500)").fetchone()[0]
    return float(rows * (mean or 0))


def _before(connection: sqlite3.Connection, aged: Aged, at: float) -> int:
    found = f"SELECT {aged.key} FROM {aged.table} WHERE {aged.time} < ? AND {aged.only} LIMIT {AT_ONCE}"
    return connection.execute(f"DELETE FROM {aged.table} WHERE ({aged.key}) IN ({found})", (at,)).rowcount


def _beyond(connection: sqlite3.Connection, aged: Aged) -> int:
    """The oldest of those that are more than may be."""
    over = connection.execute(f"SELECT count(*) FROM {aged.table}").fetchone()[0] - aged.most
    if over <= 0:
        return 0
    found = f"SELECT {aged.key} FROM {aged.table} ORDER BY {aged.time} LIMIT {min(over, AT_ONCE)}"
    return connection.execute(f"DELETE FROM {aged.table} WHERE ({aged.key}) IN ({found})").rowcount


def _points_before(connection: sqlite3.Connection, step: int, at: int) -> int:
    removed = 0
    for (series,) in connection.execute("SELECT id FROM series").fetchall():
        removed += connection.execute(
            f"DELETE FROM points_{step} WHERE series = ? AND at < ?", (series, at)
        ).rowcount
        if removed >= AT_ONCE:
            break
    return removed
