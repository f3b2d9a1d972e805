"""The app that chaos disturbs: it writes down each POST it executes, and starts badly when a file says so.

`python -m loadtests.chaos_app --port 9000 --book FILE --mode FILE`

`/get?n=7&ms=3` and `/post?n=7&ms=3` take that long and answer `7`; /deadlock hangs it for ever; all else, /healthz too,
is answered at once. On SIGTERM it stops
accepting, closes idle connections, answers what it has, and ends with 0.

The mode file is read once, at the start: `exit` ends with 1, `hang` never listens, `wrong-port` listens elsewhere,
`flap 1.5` serves and ends with 3 after so many seconds, at a moment without a request. Without the file it is well.

Always true:
  - a number is in the book before its POST is answered, in one write(2), so that it survives SIGKILL;
  - a POST whose content did not come whole is not executed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ASKED: Final = re.compile(rb"(GET|POST) /(?:get|post)\?n=(\d+)&ms=(\d+) ")


class App:
    """What its connections share."""

    def __init__(self, book: int) -> None:
        self.book = book
        self.connections: set[Connection] = set()
        self.server: asyncio.Server
        self.leaving = False
        self.over = asyncio.Event()
        self.end_with: int | None = None  # as soon as no request runs

    def changed(self) -> None:
        """A request ended, or a connection: is it time to go?"""
        busy = sum(one.busy for one in self.connections)
        if self.end_with is not None and not busy:
            os._exit(self.end_with)
        if self.leaving and not busy:
            self.over.set()

    def leave(self) -> None:
        """SIGTERM."""
        self.leaving = True
        self.server.close()
        for one in list(self.connections):
            if not one.busy:
                one.transport.close()
        self.changed()

    def end(self, code: int) -> None:
        """By itself, when the last running request is answered; so that there is such a moment, no more may come."""
        self.end_with = code
        self.leaving = True
        self.server.close()
        self.changed()


class Connection(asyncio.Protocol):
    """Requests one after the other; pipelining is not expected."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.data = b""
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.app.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.busy = False
        self.app.connections.discard(self)
        self.app.changed()

    def data_received(self, data: bytes) -> None:
        data = self.data = self.data + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        if found := LENGTH.search(data, 0, end):
            end += int(found[1])
            if len(data) < end:
                return
        self.data = b""
        if (asked := ASKED.match(data)) is None:
            if data.startswith(b"GET /deadlock "):
                deadlock()
            self.answer(b"ok")
            return
        method, number, wait = asked[1], asked[2], int(asked[3])
        if method == b"POST":
            os.write(self.app.book, number + b"\n")
        self.busy = True
        asyncio.get_running_loop().call_later(wait / 1000, self.answer, number)

    def answer(self, content: bytes) -> None:
        self.busy = False
        if self.transport.is_closing():
            return
        last = b"Connection: close\r\n" if self.app.leaving else b""
        self.transport.write(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (last, len(content), content))
        if self.app.leaving:
            self.transport.close()
        self.app.changed()


def deadlock() -> None:
    """Wait for what only this thread could give."""
    lock = threading.Lock()
    with lock, lock:
        pass


async def serve(port: int, book: int, flap: float) -> None:
    """Serve until SIGTERM."""
    app, loop = App(book), asyncio.get_running_loop()
    make: Callable[[], asyncio.Protocol] = lambda: Connection(app)  # noqa: E731
    app.server = await loop.create_server(make, "127.0.0.1", port, backlog=512)
    loop.add_signal_handler(signal.SIGTERM, app.leave)
    if flap:
        loop.call_later(flap, app.end, 3)
    await app.over.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--book", type=Path, required=True)
    parser.add_argument("--mode", type=Path, required=True)
    told = parser.parse_args()
    mode, _, after = (told.mode.read_text().strip() if told.mode.exists() else "").partition(" ")
    port = told.port
    match mode:
        case "exit":
            sys.exit("told to fail")
        case "hang":
            while True:
                time.sleep(60)
        case "wrong-port":
            port = 0
        case _:
            pass
    book = os.open(told.book, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    asyncio.run(serve(port, book, float(after) if mode == "flap" else 0.0))


if __name__ == "__main__":
    main()
