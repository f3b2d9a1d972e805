"""The load of chaos: GETs and POSTs in turn at a fixed rate, open loop, over kept and over fresh connections.

`python -m loadtests.chaos_load --port 8080 --rate 200 --output FILE`, until SIGUSR1.

Request n is due at n / rate and counts from then, whatever became of those before. Even ones are GET, odd ones are POST
with their number; every other pair has a connection of its own; one in nine takes a quarter of a second, so that
there is always something to drain. Nothing is sent twice by this client: what fails has failed.

Always true:
  - each request ends in exactly one outcome, `timeout` seconds after it was due at the latest;
  - an answer that is not about the number asked is `wrong`, never an answer;
  - no request is sent on a kept connection of which the kernel already knows that the other side closed it: a client
    that doesn't look would count as failed what no server can answer (RFC 9112, section 9.5).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import select
import signal
import time
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple, cast

import orjson
import uvloop

from loadtests.gateway import fault_of

TICK: Final = 0.001
TIMEOUT: Final = 30.0
SLOW_ONE_IN: Final = 9
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
ID: Final = re.compile(rb"\r\nx-request-id: *([0-9a-f]{16})\r", re.IGNORECASE)
CONTENT: Final = {False: b"x" * 40, True: b"x" * 20_000}


class Outcome(NamedTuple):
    """What became of one request. Times are monotonic seconds; `sent` is 0.0 when it never was."""

    number: int
    method: str
    fresh: bool
    due: float
    sent: float
    ended: float
    status: int  # 0: no answer
    failure: str  # "" | the fault's name | "closed" | "timeout" | "connect" | "wrong"
    worker: int  # whose connection it was; 0: not known
    id: str

    @property
    def good(self) -> bool:
        return self.status == 200 and not self.failure


def method_of(number: int) -> str:
    return "POST" if number % 2 else "GET"


def is_fresh(number: int) -> bool:
    return number % 4 >= 2


def request(number: int) -> bytes:
    """Its bytes."""
    wait = 250 if number % SLOW_ONE_IN == 0 else 3
    close = "Connection: close\r\n" if is_fresh(number) else ""
    if method_of(number) == "GET":
        return f"GET /get?n={number}&ms={wait} HTTP/1.1\r\nHost: chaos\r\n{close}\r\n".encode()
    content = CONTENT[number % 21 == 0]
    head = f"POST /post?n={number}&ms={wait} HTTP/1.1\r\nHost: chaos\r\n{close}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Load:
    """Sends, until told to stop, then waits for the last outcome."""

    def __init__(self, port: int, rate: float) -> None:
        self.port = port
        self.rate = rate
        self.outcomes: list[Outcome] = []
        self.idle: list[Client] = []
        self.flying: deque[Client] = deque()  # oldest due first
        self.running = 0
        self.next = 0
        self.stopping = False
        self.over = asyncio.Event()

    async def run(self) -> list[Outcome]:
        self.loop = asyncio.get_running_loop()
        self.loop.add_signal_handler(signal.SIGUSR1, self.stop)
        self.began = time.monotonic()
        self._tick()
        await self.over.wait()
        for client in self.idle:
            client.transport.abort()
        return self.outcomes

    def stop(self) -> None:
        """Send nothing more."""
        self.stopping = True

    def _tick(self) -> None:
        now = time.monotonic()
        while not self.stopping and (due := self.began + self.next / self.rate) <= now:
            number, self.next = self.next, self.next + 1
            self.running += 1
            self._start(number, due)
        while self.flying and (self.flying[0].over or self.flying[0].due <= now - TIMEOUT):
            client = self.flying.popleft()
            if not client.over:
                client.fail("timeout")
        if self.stopping and not self.running:
            self.over.set()
            return
        self.loop.call_later(TICK, self._tick)

    def _start(self, number: int, due: float) -> None:
        client = Client(self, number, due, None if is_fresh(number) else self._maybe_idle())
        self.flying.append(client)
        client.begin()


    def _maybe_idle(self) -> Client | None:
        while self.idle:
            client = self.idle.pop()  # the last used: a server closes the one that was idle longest
            if client.can_send():
                return client
        return None


class Client(asyncio.Protocol):
    """One request, on a new connection or on the one of a client that has its answer."""

    def __init__(self, load: Load, number: int, due: float, before: Client | None = None) -> None:
        self.load, self.number, self.due = load, number, due
        self.before = before
        self.worker: int = before.worker if before else 0
        self.transport: asyncio.Transport
        self.over = False
        self.sent = 0.0
        self.data = b""
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self.before is None:
            self.task = self.load.loop.create_task(self._connect())
        else:
            self.transport = self.before.transport
            self.before = None
            self.transport.set_protocol(self)
            self._send()

    async def _connect(self) -> None:
        try:
            await self.load.loop.create_connection(lambda: self, "127.0.0.1", self.load.port)
        except OSError:
            self._end(0, "connect")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.over:
            self.transport.abort()
        else:
            self._send()

    def _send(self) -> None:
        self.sent = time.monotonic()
        self.transport.write(request(self.number))

    def can_send(self) -> bool:
        """Whether its connection is open still, by the kernel's word and not only by what was read of it."""
        if self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)

    def data_received(self, data: bytes) -> None:
        if self.over:  # bytes that nobody asked for
            self.transport.abort()
            return
        data = self.data = self.data + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = data[:end]
        length = LENGTH.search(head)
        if length is None or len(data) > end + int(length[1]):
            self.fail("wrong")
            return
        if len(data) < end + int(length[1]):
            return
        status, id = int(head[9:12]), ID.search(head)
        name = id[1].decode() if id else ""
        self.worker = int(name[6:8], 16) + 1 if name else 0  # an id carries its worker, counted from 0
        about = data[end:] == b"%d" % self.number
        failure = (fault_of(head) or str(status)) if status != 200 else "" if about else "wrong"
        self._end(status, failure, name)
        if CLOSES.search(head) or is_fresh(self.number):
            self.transport.close()
        else:
            self.load.idle.append(self)

    def fail(self, failure: str) -> None:
        """It ends without an answer, and its connection with it."""
        self._end(0, failure)
        if self.sent:
            self.transport.abort()
        elif self.task:
            self.task.cancel()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over:
            self._end(0, "closed")
        elif self in self.load.idle:
            self.load.idle.remove(self)

    def _end(self, status: int, failure: str, id: str = "") -> None:
        if self.over:
            return
        self.over = True
        self.data = b""
        self.load.running -= 1
        self.load.outcomes.append(
            Outcome(
                self.number, method_of(self.number), is_fresh(self.number), self.due, self.sent, time.monotonic(),
                status, failure, self.worker, id,
            )
        )  # fmt: skip


def read(path: Path) -> list[Outcome]:
    """What a load wrote."""
    return [Outcome(*row) for row in orjson.loads(path.read_bytes())]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    told = parser.parse_args()
    outcomes = uvloop.run(Load(told.port, told.rate).run())
    made = told.output.with_suffix(".new")
    made.write_bytes(orjson.dumps([list(outcome) for outcome in outcomes]))
    made.rename(told.output)


if __name__ == "__main__":
    main()
