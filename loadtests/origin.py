"""An origin in a few lines of uvloop: answers at once, late, in few slots, or badly, as it is told.

`python -m loadtests.origin --port 9000 --delay 0.02 --slots 10`

/small, /16k, /1m answer with that many bytes; /post after the whole content was read; any other path like
/small. `/origin/become?delay=0.2&fail=500` changes what it does from then on: `fail` is a status, `close`
(the connection, without an answer) or empty.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections import deque
from typing import Final, cast
from urllib.parse import parse_qs

import uvloop

from loadtests.works import KIB, SMALL

LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SIZES: Final = {b"/16k": 16 * KIB, b"/1m": 1024 * KIB}


def answer(status: int, length: int) -> bytes:
    """A whole answer with `length` bytes of content."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    head = (
        f"HTTP/1.1 {status} {'OK' if status == 200 else 'Failed'}\r\nServer: origin\r\nDate: {date}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    )
    return head.encode() + b"x" * length


class Behaviour:
    """What the origin does with a request: shared by its connections, changed by /origin/become."""

    def __init__(self, delay: float, slots: int) -> None:
        self.delay = delay
        self.slots = slots
        self.fail = ""
        self.running = 0
        self.waiting: deque[Connection] = deque()
        self.failure = b""
        self.answers = {path: answer(200, length) for path, length in SIZES.items()}
        self.small = answer(200, SMALL)

    def become(self, query: str) -> None:
        """Take `delay` and `fail` from a query string."""
        values = parse_qs(query, keep_blank_values=True)
        if "delay" in values:
            self.delay = float(values["delay"][0])
        if "fail" in values:
            self.fail = values["fail"][0]
            self.failure = answer(int(self.fail), SMALL) if self.fail.isdigit() else b""

    def take(self, connection: Connection) -> None:
        """Begin with a request, or let it wait for a slot."""
        if self.slots and self.running >= self.slots:
            self.waiting.append(connection)
            return
        self.running += 1
        asyncio.get_running_loop().call_later(self.delay, self.done, connection)

    def done(self, connection: Connection) -> None:
        """A request has run: answer it, and begin with the one that waited longest."""
        self.running -= 1
        connection.finish()
        while self.waiting and (not self.slots or self.running < self.slots):
            self.take(self.waiting.popleft())


class Connection(asyncio.Protocol):
    """Requests of one connection, one after the other; pipelining is not expected."""

    __slots__ = ("behaviour", "data", "target", "transport")

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.data = b""
        self.target = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.data:
            data = self.data + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self.data = data
            return
        if not data.startswith(b"GET ") and (found := LENGTH.search(data, 0, end)):
            end += int(found[1])
            if len(data) < end:
                self.data = data
                return
        self.data = data[end:]
        self.target = data[:end].split(b" ", 2)[1]
        if self.behaviour.delay or self.behaviour.slots:
            self.behaviour.take(self)
        else:
            self.finish()

    def finish(self) -> None:
        """Answer the request that was read."""
        behaviour = self.behaviour
        if self.transport.is_closing():
            return
        if self.target.startswith(b"/origin/become?"):
            behaviour.become(self.target.decode().partition("?")[2])
            self.transport.write(behaviour.small)
        elif not behaviour.fail:
            self.transport.write(behaviour.answers.get(self.target, behaviour.small))
        elif behaviour.failure:
            self.transport.write(behaviour.failure)
        else:
            self.transport.close()


async def serve(host: str, port: int, behaviour: Behaviour) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(behaviour), host, port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--slots", type=int, default=0, help="requests served at a time; 0: any number")
    told = parser.parse_args()
    uvloop.run(serve(told.host, told.port, Behaviour(told.delay, told.slots)))


if __name__ == "__main__":
    main()
