"""What was frozen at an incident or an exit: the last 15 minutes second by second, and the flight recorder's records.

One row each: its rings as they are in memory, packed and compressed already, and the records. Kept are the newest
EXITS that followed from exits and the newest OTHERS of each app; retention.py limits all of them together.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy.link.messages import Record

if TYPE_CHECKING:
    from proxy.control.metrics.ring import Held

STEP: Final[tuple[str, ...]] = (
    """CREATE TABLE frozen (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, app TEXT NOT NULL, instance TEXT NOT NULL, why TEXT NOT NULL,
        body BLOB NOT NULL)""",
    "CREATE INDEX frozen_at ON frozen (at)",
    "CREATE INDEX frozen_app ON frozen (app, id)",
)
EXITS: Final = 20
OTHERS: Final = 40
MOST_LIST: Final = 1000


@dataclass(slots=True)
class Frozen:
    """`rings`: (app, instance, its seconds); `why` begins with "exit" where it followed from one."""

    number: int
    at: float  # Unix seconds
    app: str  # "": the gateway
    instance: str
    why: str
    rings: list[tuple[str, str, Held]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


class Listed(msgspec.Struct):
    """What a list says of one."""

    number: int
    at: float
    app: str
    instance: str
    why: str
    size: int  # bytes on the disk


class Packed(msgspec.Struct, array_like=True):
    """On the disk. `rings`: (app, instance, blocks as (first second, length, packed))."""

    rings: list[tuple[str, str, list[tuple[int, int, bytes]]]]
    records: bytes  # compressed msgpack of a list of Record


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Packed).decode
_records: Final = msgspec.msgpack.Decoder(list[Record]).decode


def rows(frozen: Frozen) -> Iterable[tuple[str, tuple[Any, ...]]]:
    """In the writer's thread."""
    packed = Packed([], zlib.compress(_encode(frozen.records), 6))
    for app, instance, held in frozen.rings:
        packed.rings.append((app, instance, [(one.start, one.length, one.data) for one in held.packed()]))
    yield (
        "INSERT OR IGNORE INTO frozen (id, at, app, instance, why, body) VALUES (?, ?, ?, ?, ?, ?)",
        (frozen.number, frozen.at, frozen.app, frozen.instance, frozen.why, _encode(packed)),
    )
    by_exit = frozen.why.startswith("exit")
    yield (
        "DELETE FROM frozen WHERE id IN (SELECT id FROM frozen WHERE app = ? AND (why LIKE 'exit%') = ?"
        " ORDER BY id DESC LIMIT -1 OFFSET ?)",
        (frozen.app, int(by_exit), EXITS if by_exit else OTHERS),
    )


def listed(app: str, since: float, before: int, limit: int) -> Callable[[sqlite3.Connection], list[Listed]]:
    """Newest first; `app` "" is all, `since` Unix seconds, `before` a number or 0."""

    def ask(connection: sqlite3.Connection) -> list[Listed]:
        where = ["at >= ?"]
        values: list[Any] = [since]
        if app:
            where, values = [*where, "app = ?"], [*values, app]
        if before:
            where, values = [*where, "id < ?"], [*values, before]
        found = connection.execute(
            f"SELECT id, at, app, instance, why, length(body) FROM frozen WHERE {' AND '.join(where)}"
            f" ORDER BY id DESC LIMIT {min(limit, MOST_LIST)}",
            values,
        )
        return [Listed(*row) for row in found]

    return ask


def whole(number: int) -> Callable[[sqlite3.Connection], tuple[Listed, Packed, list[Record]] | None]:
    """One of them; None: there is none of that number, or it cannot be read."""

    def ask(connection: sqlite3.Connection) -> tuple[Listed, Packed, list[Record]] | None:
        row = connection.execute(
            "SELECT id, at, app, instance, why, body FROM frozen WHERE id = ?", (number,)
        ).fetchone()
        if row is None:
            return None
        try:
            packed = _decode(row[5])
            listed = Listed(row[0], row[1], row[2], row[3], row[4], len(row[5]))
            return listed, packed, _records(zlib.decompress(packed.records))
        except (msgspec.MsgspecError, zlib.error):
            return None

    return ask
