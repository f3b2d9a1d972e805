"""The other thread: reads from the file with a connection that cannot write, and never for long."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from proxy.control.store import file

LIMIT: Final = 3.0
"""Seconds that a question may take."""

T = TypeVar("T")


class NotReadable(Exception):
    """The store can't answer now; the text says why."""


class Reader:
    """Questions are answered one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._until = 0.0

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Its answer. Raises NotReadable."""
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        except RuntimeError:
            raise NotReadable("the store is closed") from None
        return await answer

    def close(self) -> None:
        """Later questions raise."""
        self._thread.submit(self._let_go)
        self._thread.shutdown(wait=False)

    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connected()
            self._until = time.monotonic() + LIMIT
            return question(connection)
        except FileNotFoundError:
            raise NotReadable("there is no store yet") from None
        except sqlite3.Error as error:
            self._let_go()
            if file.code(error) == sqlite3.SQLITE_INTERRUPT:
                raise NotReadable(f"the question took more than {LIMIT:g} s: ask for less") from None
            raise NotReadable(f"the store can't be read: {error}") from None
        except OSError as error:
            self._let_go()
            raise NotReadable(f"the store can't be read: {error.strerror}") from None

    def _connected(self) -> sqlite3.Connection:
        found = os.stat(self.path)
        if self._connection is not None and (found.st_dev, found.st_ino) == self._file:
            return self._connection
        self._let_go()  # another file is there: the one before was set aside
        connection = sqlite3.connect(
            f"file:{urllib.parse.quote(str(self.path))}?mode=ro", uri=True, timeout=1.0, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        connection.set_progress_handler(lambda: time.monotonic() > self._until, 10_000)
        self._connection, self._file = connection, (found.st_dev, found.st_ino)
        return connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
