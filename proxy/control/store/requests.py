"""Kept requests on the disk: what `requests` and `why` know of the last day, over any restart.

What can be asked for is in columns, the rest of a record is its msgpack form, deflated with a dictionary of the names
in it: some 100 bytes. For half an hour all are there; of each minute before that only so many stay (`thin`), so that a
day of total outage costs an app some tens of megabytes. Few minutes have more than that.

Always true:
  - a row has the number its record has in memory, and numbers only grow, over restarts too;
  - of one id there is one row; a record that got its reason later takes the place of what it was.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from proxy.control.records import Filter, lost
from proxy.link.messages import Record

TABLES: Final = ("requests", "requests_thinned")
"""As they came; what stays of each minute after WHOLE. Two tables, because a table of which most rows were removed one
by one is half empty pages."""

STEP: Final[tuple[str, ...]] = (
    *(
        statement
        for table in TABLES
        for statement in (
            f"""CREATE TABLE {table} (
                number INTEGER PRIMARY KEY, at REAL NOT NULL, id TEXT NOT NULL, client_id TEXT NOT NULL,
                app TEXT NOT NULL, instance TEXT NOT NULL, tried TEXT NOT NULL, fault TEXT NOT NULL,
                method TEXT NOT NULL, target TEXT NOT NULL, status INTEGER NOT NULL, total_us INTEGER NOT NULL,
                lost INTEGER NOT NULL, body BLOB NOT NULL)""",
            f"CREATE UNIQUE INDEX {table}_id ON {table} (id)",
            f"CREATE INDEX {table}_client ON {table} (client_id) WHERE client_id != ''",
            f"CREATE INDEX {table}_at ON {table} (at)",
            f"CREATE INDEX {table}_app ON {table} (app, number)",
        )
    ),
    "CREATE TABLE thinned (until INTEGER NOT NULL)",
)
"""`tried` has the instances of earlier attempts, each followed by a line's end."""

WHOLE: Final = 1800.0
"""Seconds for which all stays that was kept."""
OF_FAULT: Final = 10
"""That stay of one app, fault and minute older than that; "" is a fault too: those that were slow."""
OF_APP: Final = 20
"""That stay of one app and minute, all faults together. With 350 bytes a row 10 MB a day at most."""
AT_ONCE: Final = 5000
"""Rows looked through in one call of `thin`, a minute's more at most."""
NEAR: Final = 300.0
"""Seconds to either side in which the nearest one is looked for."""

_FORM: Final = b"\x01"
_NAMES: Final = (
    b"Mozilla/5.0", b"connection refused", b"exit code 1", b"127.0.0.1", b"total-timeout", b"queue-timeout",
    b"queue-full", b"all-unready", b"no-instance", b"closed-before-head", b"reset-before-head", b"instance-exited",
    b"connect-refused", b"connect-timeout", b"head-timeout", b"app-error", b"instance", b"fault", b"detail", b"status",
    b"user_agent", b"referer", b"tunnel", b"replayable", b"trace", b"tls_us", b"reused", b"idle_us", b"bytes_in",
    b"body_us", b"id", b"time", b"worker", b"client", b"host", b"bytes_out", b"head_us", b"queue_us", b"connect_us",
    b"wait_us", b"own_us", b"lag_us", b"tries", b"sent", b"attempts",
)  # fmt: skip
_DICTIONARY: Final = b"".join(bytes([0xA0 | len(name)]) + name for name in _NAMES)
"""Of form 1, never changed: what was written with it could not be read. Another one is another form."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Record).decode
_COLUMNS: Final = "number, at, id, client_id, app, instance, fault, method, target, status, total_us, body"


class Numbered(NamedTuple):
    number: int
    record: Record


def rows(kept: Numbered) -> Iterable[tuple[str, tuple[Any, ...]]]:
    """Into the table; takes the place of what the same number or id was before."""
    number, one = kept
    rest = msgspec.structs.replace(
        one, time=0.0, id="", client_request_id="", app="", instance="", fault="", method="", target="", status=0,
        total_us=0,
    )  # fmt: skip
    tried = "".join(f"{attempt.instance}\n" for attempt in one.attempts or () if attempt.instance != one.instance)
    yield (
        "INSERT OR REPLACE INTO requests (number, at, id, client_id, app, instance, tried, fault, method, target,"
        " status, total_us, lost, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number, one.time, one.id, one.client_request_id, one.app, one.instance, tried, one.fault, one.method,
            one.target, one.status, one.total_us, lost(one), packed(_encode(rest)),
        ),
    )  # fmt: skip


def packed(data: bytes) -> bytes:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -12, 5, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return _FORM + squeeze.compress(data) + squeeze.flush()


def _record(
    number: int, at: float, id: str, client: str, app: str, instance: str, fault: str, method: str, target: str,
    status: int, total_us: int, body: bytes,
) -> Numbered:  # fmt: skip
    """What of it cannot be read is left out: the columns say enough to be of use."""
    found = Record("", 0.0, 0)
    if body[:1] == _FORM:
        try:
            found = _decode(zlib.decompressobj(-12, _DICTIONARY).decompress(body[1:]))
        except (zlib.error, msgspec.MsgspecError):
            pass
    found.id, found.time, found.client_request_id, found.app, found.instance = id, at, client, app, instance
    found.fault, found.method, found.target, found.status, found.total_us = fault, method, target, status, total_us
    return Numbered(number, found)


# --- what is asked, in the reader's thread -----------------------------------------------------------


def page(connection: sqlite3.Connection, wanted: Filter, limit: int, before: int | None) -> list[Numbered]:
    """Newest first; `before` is a number."""
    where: list[str] = []
    values: list[Any] = []

    def also(sql: str, *given: Any) -> None:
        where.append(sql)
        values.extend(given)

    if before is not None:
        also("number < ?", before)
    if wanted.app:
        also("app = ?", wanted.app)
    if wanted.instance:
        also("(instance = ? OR instr(char(10) || tried, char(10) || ? || char(10)))", *[wanted.instance] * 2)
    if wanted.method:
        also("method = ?", wanted.method)
    if wanted.fault == "any":
        also("fault != ''")
    elif wanted.fault:
        also("fault = ?", wanted.fault)
    if wanted.status:
        ranges = " OR ".join("status BETWEEN ? AND ?" for _ in wanted.status)
        also(f"({ranges})", *(edge for each in wanted.status for edge in each))
    if wanted.slower:
        also("total_us >= ?", wanted.slower * 1e6)
    if wanted.since:
        also("at >= ?", wanted.since)
    if wanted.path:
        connection.create_function("of_path", 1, wanted.of_path, deterministic=True)
        also("of_path(target)")
    return _all(connection, where, values, limit)


def find(connection: sqlite3.Connection, start: str, limit: int) -> list[Numbered]:
    """All whose id, or the client's id, begins so, newest first; a whole id is alone."""
    for column in ("id", "client_id"):
        also = ["client_id != ''"] if column == "client_id" else []
        if exact := _all(connection, [f"{column} = ?", *also], [start], 1):
            return exact
    end = start + "\U0010ffff"
    ours = _all(connection, ["id >= ?", "id < ?"], [start, end], limit)
    theirs = _all(connection, ["client_id >= ?", "client_id < ?", "client_id != ''"], [start, end], limit)
    found = {one.number: one for one in (*ours, *theirs)}
    return sorted(found.values(), key=lambda one: -one.number)[:limit]


def failed(connection: sqlite3.Connection) -> Numbered | None:
    """The newest that ended in a 5xx or a fault that is not the client's."""
    found = _all(connection, ["(status >= 500 OR (fault != '' AND status NOT BETWEEN 400 AND 499))"], [], 1)
    return found[0] if found else None


def last(connection: sqlite3.Connection) -> int:
    """The highest number; 0: there is none."""
    found = (connection.execute(f"SELECT coalesce(max(number), 0) FROM {table}").fetchone() for table in TABLES)
    return max(int(number) for number, in found)


def near(connection: sqlite3.Connection, at: float, limit: int = 20) -> list[Record]:
    """Those nearest in time, `limit` to each side at most."""
    found = []
    for table in TABLES:
        for compare, order, edge in (("<", "DESC", at - NEAR), (">=", "ASC", at + NEAR)):
            found += connection.execute(
                f"SELECT {_COLUMNS} FROM {table} WHERE at BETWEEN ? AND ? AND at {compare} ?"
                f" ORDER BY at {order} LIMIT ?",
                (*sorted((at, edge)), at, limit),
            ).fetchall()
    return [_record(*row).record for row in found]


def _all(connection: sqlite3.Connection, where: list[str], values: list[Any], limit: int) -> list[Numbered]:
    wanted = f" WHERE {' AND '.join(where)}" if where else ""
    found = []
    for table in TABLES:
        sql = f"SELECT {_COLUMNS} FROM {table}{wanted} ORDER BY number DESC LIMIT ?"
        found += connection.execute(sql, (*values, limit)).fetchall()
    found.sort(key=lambda row: -row[0])
    return [_record(*row) for row in found[:limit]]


# --- what goes, in the writer's thread ---------------------------------------------------------------


class Row(NamedTuple):
    """What decides whether one stays."""

    number: int
    app: str
    fault: str
    lost: int
    total_us: int


def thin(connection: sqlite3.Connection, now: float) -> int:
    """Leave some of each minute that ended over WHOLE ago; a part of the work, the oldest first. How many rows went."""
    end = int(now - WHOLE) // 60 * 60
    known = connection.execute("SELECT until FROM thinned").fetchone()
    until = min(known[0], end) if known else 0
    looked = removed = 0
    while looked < AT_ONCE:
        first = connection.execute("SELECT min(at) FROM requests WHERE at >= ?", (until,)).fetchone()[0]
        minute = int(first) // 60 * 60 if first is not None else end
        if minute >= end:
            until = end
            break
        found = connection.execute(
            "SELECT number, app, fault, lost, total_us FROM requests WHERE at >= ? AND at < ?", (minute, minute + 60)
        ).fetchall()
        gone = surplus(Row(*row) for row in found)
        until = minute + 60
        stays = {row[0] for row in found}.difference(gone)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT OR REPLACE INTO requests_thinned SELECT * FROM requests WHERE number = ?",
            ((number,) for number in sorted(stays)),
        )
        connection.execute("DELETE FROM requests WHERE at >= ? AND at < ?", (minute, minute + 60))
        _mark(connection, until)
        connection.execute("COMMIT")
        looked += len(found) + 1
        removed += len(gone)
    if not known or until != known[0]:
        connection.execute("BEGIN IMMEDIATE")
        _mark(connection, until)
        connection.execute("COMMIT")
    return removed


def _mark(connection: sqlite3.Connection, until: int) -> None:
    connection.execute("DELETE FROM thinned")
    connection.execute("INSERT INTO thinned (until) VALUES (?)", (until,))


def surplus(minute: Iterable[Row]) -> list[int]:
    """Numbers of those that go.

    Of each app and fault the first stays before all others, then those that lost a non-idempotent request, spread over
    the minute; of those without a fault the slowest. Each fault has as many as any other, while there are so many."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in minute:
        groups.setdefault((row.app, row.fault), []).append(row)
    ranked: dict[str, list[tuple[int, int]]] = {}  # by app: (place in its group, number)
    gone: list[int] = []
    for (app, fault), members in groups.items():
        first = min(row.number for row in members)
        order = _slowest if not fault else _spread
        members.sort(key=lambda row: (row.number != first, not row.lost, order(row)))
        ranked.setdefault(app, []).extend((place, row.number) for place, row in enumerate(members[:OF_FAULT]))
        gone += [row.number for row in members[OF_FAULT:]]
    for places in ranked.values():
        gone += [number for _, number in sorted(places)[OF_APP:]]
    return gone


def _slowest(row: Row) -> int:
    return -row.total_us


def _spread(row: Row) -> int:
    """No order at all, and always the same."""
    return row.number * 2654435761 & 0xFFFFFFFF
