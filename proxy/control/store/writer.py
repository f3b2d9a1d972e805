"""The thread that writes: takes what is handed over, and puts batches of it into the file.

Always true:
  - only this thread writes to the file; handing over never waits, and costs an append;
  - what waits is bounded, table by table; what is dropped is counted, table by table;
  - a batch is written whole or not at all, and is tried again until it is written or turns out to be wrong;
  - whatever is wrong with disk or file is said once when it begins and once when it is over.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy.control.store import file, requests, retention, schema
from proxy.control.store.retention import Limits
from proxy.control.store.tables import Statement, Table

TOGETHER: Final = 0.1
"""Seconds that a first item waits for others: one transaction for all."""
BATCH: Final = 2000
"""Items of one transaction."""
RETRY: Final = 1.0
CHECK: Final = 2.0
"""Seconds that looking through the file may take at the start; what a larger file hides shows when it is read."""
LOOK_AFTER: Final = 10.0
AGED: Final = 600.0
"""Between looks for what is too old."""
NUMBERED: Final = {
    "events": ("id", 1), "operations": ("id", 1), "requests": ("number", 1000), "incidents": ("id", 1),
    "frozen": ("id", 1),
}  # fmt: skip
"""Tables whose numbers are given by control: the column, and how many a second at most, over a long time. Where the
last number is not known they go on from the time of day in these units."""

Say = Callable[[str, str, dict[str, Any]], None]
"""(kind, text, details) of an event; called in the thread."""


class _Flush(NamedTuple):
    done: threading.Event


class _Close(NamedTuple):
    pass


class Writer:
    """`limits` may be replaced at any time."""

    def __init__(
        self,
        path: Path,
        tables: Mapping[str, Table],
        say: Say,
        limits: Limits,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.tables = tables
        self.limits = limits
        self.error = ""
        """Why nothing can be written now; "" when all is well."""
        self.size = 0
        self.opened = threading.Event()
        """The file was looked at for the first time; `began` says what is in it."""
        self.began: dict[str, int] = {}
        """Highest number of each table at the start; {} while it is not known."""
        self.set_aside = False
        """What was there at the start was not usable."""
        self._clock = clock  # Unix time
        self._steady = steady
        self._say = say
        self._queue: queue.SimpleQueue[tuple[str, Any] | _Flush | _Close] = queue.SimpleQueue()
        self._handed = dict.fromkeys(tables, 0)  # written by who hands over
        self._taken = dict.fromkeys(tables, 0)  # written by the thread
        self._refused = dict.fromkeys(tables, 0)  # written by who hands over
        self._lost = dict.fromkeys(tables, 0)  # written by the thread
        self._pending: deque[tuple[str, list[Statement]]] = deque()
        self._flushes: list[threading.Event] = []
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._failing_since = 0.0
        self._lost_before = 0
        self._looked = self._aged = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    @property
    def dropped(self) -> dict[str, int]:
        """Items lost, by table."""
        return {name: self._refused[name] + self._lost[name] for name in self.tables}

    @property
    def waiting(self) -> int:
        """Items handed over and not yet written."""
        return sum(self._handed.values()) - sum(self._taken.values()) + len(self._pending)

    def start(self) -> None:
        self._thread.start()

    def put(self, table: str, item: Any) -> bool:
        """Hand over; on control's loop. False: too much waits, and it is dropped."""
        if self._handed[table] - self._taken[table] >= self.tables[table].most:
            self._refused[table] += 1
            return False
        self._handed[table] += 1
        self._queue.put((table, item))
        return True

    def flush(self, timeout: float) -> bool:
        """Wait until all that was handed over is in the file. Not for the loop."""
        done = threading.Event()
        self._queue.put(_Flush(done))
        return done.wait(timeout)

    def close(self, timeout: float) -> None:
        """Write what waits, if that can be done now, and end the thread. Not for the loop."""
        if self._thread.is_alive():
            self._ending.set()
            self._queue.put(_Close())
            self._thread.join(timeout)

    # --- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            if self._connection is not None:
                self._connection.close()

    def _turn(self) -> bool:
        last = self._ending.is_set()
        if self._connection is None and not self._open():
            return self._later(last)
        going = self._take() if not self._pending else True
        if self._pending and not self._write():
            return self._later(last or not going)
        for done in self._flushes:
            done.set()
        self._flushes.clear()
        if self._steady() - self._looked >= LOOK_AFTER and not self._ending.is_set():
            self._look_after()
        return going

    def _take(self) -> bool:
        """Make rows of what was handed over. False: it was the last."""
        try:
            item = self._queue.get(timeout=max(0.0, self._looked + LOOK_AFTER - self._steady()))
        except queue.Empty:
            return True
        if not isinstance(item, (_Flush, _Close)):
            self._ending.wait(TOGETHER)
        while True:
            match item:
                case _Close():
                    return False
                case _Flush(done=done):
                    self._flushes.append(done)
                    return True
                case (table, value):
                    self._taken[table] += 1
                    try:
                        self._pending.append((table, list(self.tables[table].rows(value))))
                    except Exception as error:  # a value without a form: it alone is lost
                        self._lose(table, f"it has no form: {error!r}")
            if len(self._pending) >= BATCH:
                return True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return True

    def _write(self) -> bool:
        """All that is pending, in one transaction. False: not now."""
        connection = self._connection
        assert connection is not None
        try:
            connection.execute("BEGIN IMMEDIATE")
            for _, statements in self._pending:
                for sql, values in statements:
                    connection.execute(sql, values)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._waits(error):
                return False
            return self._one_by_one()
        except Exception:  # a value that SQLite does not take
            self._roll_back()
            return self._one_by_one()
        self._pending.clear()
        self._well()
        return True

    def _one_by_one(self) -> bool:
        """Something in the batch is wrong: the rest shall not suffer for it. False: not now."""
        while self._pending:
            connection = self._connection
            if connection is None:
                return False
            table, statements = self._pending[0]
            try:
                connection.execute("BEGIN IMMEDIATE")
                for sql, values in statements:
                    connection.execute(sql, values)
                connection.execute("COMMIT")
            except Exception as error:
                if isinstance(error, sqlite3.Error) and self._waits(error):
                    return False
                self._roll_back()
                self._lose(table, f"it could not be written: {error}")
            self._pending.popleft()
        self._well()
        return True

    def _waits(self, error: sqlite3.Error) -> bool:
        """Roll back, and decide what an error means. True: the file or the disk is not well, what was to be done has to
        wait; False: it would fail again, for what it is."""
        number = file.code(error)
        self._roll_back()
        if number in file.DAMAGE:
            self._set_aside("damaged", str(error))
            return True
        if number in file.LATER:
            self._fails(str(error))
            if number == sqlite3.SQLITE_IOERR:  # a connection after that is not to be trusted
                self._let_go()
            return True
        return False

    def _roll_back(self) -> None:
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._let_go()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                pass

    def _lose(self, table: str, why: str) -> None:
        self._lost[table] += 1
        if self._lost[table] == 1:
            self._say("store-failing", f"one of {table} is not in the store: {why}", {"table": table})

    def _later(self, last: bool) -> bool:
        """It could not be done now. `last`: this was tried since the end began, and what waits is lost."""
        if not last:
            self._ending.wait(RETRY)
            return True
        for table, _ in self._pending:
            self._lost[table] += 1
        self._pending.clear()
        for done in self._flushes:
            done.set()
        return False

    # --- the file ------------------------------------------------------------------------------------

    def _open(self) -> bool:
        try:
            self._connection = file.connect(self.path)
            self._file = file.identity(self.path)
            self._first_look(self._connection)
        except schema.TooNew as error:
            self._let_go()
            return self._set_aside("newer", str(error))
        except sqlite3.Error as error:
            self._let_go()
            if not self._waits(error):  # whatever it is, there is nothing else to do
                self._fails(str(error))
            return False
        except OSError as error:
            self._fails(error.strerror or str(error))
            return False
        if not self._pending:
            self._well()
        return True

    def _first_look(self, connection: sqlite3.Connection) -> None:
        """Numbers go on from here, at once; then whether the file is sound."""
        if self.opened.is_set():
            return
        self.began = {
            table: connection.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()[0]
            for table, (column, _) in NUMBERED.items()
        }
        self.began["requests"] = max(self.began["requests"], requests.last(connection))
        self.size = file.size(self.path)
        self.opened.set()
        wrong = file.check(connection, CHECK)
        if wrong:
            raise _damage(wrong)

    def _set_aside(self, word: str, why: str) -> bool:
        """Put it out of the way; the next look makes a new one."""
        self._let_go()
        self.set_aside = True
        try:
            to = file.set_aside(self.path, word)
        except OSError as error:
            self._fails(f"{why}; it can't be set aside: {error.strerror}")
            return False
        text = f"the store was {word} ({why}): set aside as {to.name}, a new one was begun"
        self._say("store-set-aside", text, {"path": str(to), "why": why})
        return False

    def _fails(self, why: str) -> None:
        self.opened.set()
        if not self.error:
            self._failing_since = time.monotonic()
            self._lost_before = sum(self.dropped.values())
            self._say("store-failing", f"the store can't be written: {why}; it is tried again", {"why": why})
        self.error = why

    def _well(self) -> None:
        if self.error:
            lost = sum(self.dropped.values()) - self._lost_before
            lasted = time.monotonic() - self._failing_since
            self.error = ""
            said = f"{lost} entries were lost" if lost else "nothing was lost"
            self._say("store-well", f"the store is written again after {lasted:.0f} s; {said}", {"lost": lost})

    def _look_after(self) -> None:
        """What time brings: intervals that ended, rows too old, a file too large."""
        connection = self._connection
        if connection is None:
            return
        self._looked = self._steady()
        if file.identity(self.path) != self._file:  # somebody removed it, or put another there
            self._let_go()
            return
        now = self._clock()
        try:
            retention.roll_up(connection, now)
            requests.thin(connection, now)
            if self._looked - self._aged >= AGED or not self._aged:
                self._aged = self._looked if not retention.too_old(connection, now, self.limits) else 0.0
            if retention.too_much(connection, self.limits):
                self._looked -= LOOK_AFTER  # soon again
            retention.shrink(connection, self.limits)
            self.size = file.size(self.path)
        except sqlite3.Error as error:
            if not self._waits(error):
                self._say("store-failing", f"the store can't be looked after: {error}", {"why": str(error)})


def _damage(text: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
