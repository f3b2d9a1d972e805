"""The store's file: opened, looked through, set aside.

Always true:
  - a file that is damaged, or of a later Triage, is renamed, never written to or removed for that;
  - of those set aside the newest KEPT of each kind stay.
"""

from __future__ import annotations

import os
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy.control.store import points, schema

KEPT: Final = 3
BESIDE: Final = ("", "-wal", "-shm")
BUSY: Final = 1.0
"""Seconds to wait for another process that has the file locked."""
DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
LATER: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY,
     sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT,
     sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOLFS}
)  # fmt: skip
"""What may be over by itself: the disk is full, someone else has it locked."""


def code(error: sqlite3.Error) -> int:
    """The primary result code; 0: SQLite did not say one."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def connect(path: Path) -> sqlite3.Connection:
    """For writing, with the schema of this version. Raises TooNew, sqlite3.Error, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        os.chmod(path, 0o640)  # events tell of commands and clients
        found = schema.version(connection)
        if found > schema.VERSION:
            raise schema.TooNew(found)
        if not found:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before there is a table
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last moments, never the file
        connection.execute("PRAGMA journal_size_limit = 16777216")
        connection.execute("PRAGMA secure_delete = OFF")
        connection.create_function("merged", 2, points.merged, deterministic=True)
        connection.create_aggregate("roll", 1, points.Roll)  # type: ignore[arg-type]
        schema.migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def check(connection: sqlite3.Connection, within: float) -> str:
    """What is wrong with the file, "" when nothing was found in `within` seconds. Raises sqlite3.Error."""
    until = time.monotonic() + within
    connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        if code(error) == sqlite3.SQLITE_INTERRUPT:
            return ""
        raise
    finally:
        connection.set_progress_handler(None, 0)
    said = str(found[0]) if found else ""
    return "" if said == "ok" else " ".join(said.split())


def set_aside(path: Path, word: str) -> Path:
    """Rename it and what belongs to it; where it is now. Raises OSError."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    to = path.with_name(f"{path.name}.{word}-{stamp}")
    for suffix in reversed(BESIDE):  # the log first: alone it is of no use to the new file, and no harm to it
        try:
            os.replace(f"{path}{suffix}", f"{to}{suffix}")
        except FileNotFoundError:
            pass
    old = [one for one in path.parent.glob(f"{path.name}.{word}-*") if not one.name.endswith(BESIDE[1:])]
    for one in sorted(old)[:-KEPT]:
        for suffix in BESIDE:
            Path(f"{one}{suffix}").unlink(missing_ok=True)
    return to


def identity(path: Path) -> tuple[int, int]:
    """Of the file that is there now; (0, 0): none is."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def size(path: Path) -> int:
    """Bytes on the disk, its log included."""
    found = 0
    for suffix in BESIDE[:2]:
        try:
            found += os.stat(f"{path}{suffix}").st_size
        except OSError:
            pass
    return found
