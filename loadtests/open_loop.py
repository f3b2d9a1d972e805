"""An open-loop generator: requests at a fixed rate, whether or not the last ones have been answered.

`python -m loadtests.open_loop http://127.0.0.1:8080/small --rate 5000 --seconds 10`

A closed loop slows down with the server it measures, and so hides what clients would see. Here request n
is due at n / rate, and its latency counts from then, also when no connection was free or this process
was late. One core sends well over 10,000 a second.

Always true:
  - every due request ends in exactly one outcome: a status, or one of FAILURES;
  - none is waited for longer than `timeout` after it was due (checked every TICK);
  - one connection carries one request at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

from loadtests.works import BROWSER

TICK: Final = 0.001  # seconds between looks at what is due
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
FAILURES: Final = {
    "timeout": 1,  # sent, no whole answer in time
    "unsent": 2,  # no connection was free in time
    "connect": 3,  # refused or unreachable
    "closed": 4,  # the connection ended before the answer was whole
    "unreadable": 5,  # not an answer with a Content-Length
}
NAMES: Final = {number: name for name, number in FAILURES.items()}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: `rate` a second, for `seconds`, over at most `connections`."""

    port: int
    rate: float
    seconds: float
    host: str = "127.0.0.1"
    targets: Sequence[str] = ("/small",)  # in turn
    connections: int = 1000
    timeout: float = 10.0
    fields: Mapping[str, str] = field(default_factory=lambda: BROWSER)
    method: str = "GET"
    # Names a kind of answer from its head, beside the status; for telling 503 apart. None: the status alone.
    kind: Callable[[bytes], str | None] | None = None
    # Another rate, and for how many seconds, following without a pause.
    then: tuple[float, float] | None = None

    @property
    def total(self) -> int:
        """How many requests are due in all."""
        return int(self.rate * self.seconds) + (int(self.then[0] * self.then[1]) if self.then else 0)

    def due(self, number: int) -> float:
        """When request `number`, counted from 0, is due: seconds from the start."""
        first = int(self.rate * self.seconds)
        if self.then is None or number < first:
            return number / self.rate
        return self.seconds + (number - first) / self.then[0]

    @property
    def requests(self) -> list[bytes]:
        """The bytes of a request for each target."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.fields.items())
        return [f"{self.method} {target} HTTP/1.1\r\n{fields}\r\n".encode() for target in self.targets]


class Result:
    """All outcomes in parallel arrays: when due (seconds since the start), status or failure, latency."""

    def __init__(self) -> None:
        self.due = array("d")
        self.outcome = array("H")
        self.latency = array("d")
        self.late = array("d")  # how long after it was due a request was written
        self.kinds: dict[int, str] = {}  # entry -> what `kind` said

    def __repr__(self) -> str:
        return f"Result({len(self.due)}: {dict(self.counts())})"

    def counts(self, since: float = 0.0, until: float = float("inf")) -> Counter[str]:
        """How many of each status or failure were due in a span; kinds are counted too, as `status kind`."""
        found: Counter[str] = Counter()
        for entry, due in enumerate(self.due):
            if since <= due < until:
                outcome = self.outcome[entry]
                found[NAMES.get(outcome) or str(outcome)] += 1
                if entry in self.kinds:
                    found[f"{outcome} {self.kinds[entry]}"] += 1
        return found

    def latencies(
        self, wanted: Callable[[int, str | None], bool], since: float = 0.0, until: float = float("inf")
    ) -> list[float]:
        """Sorted latencies of the entries whose (outcome, kind) is wanted and which were due in a span."""
        return sorted(
            self.latency[entry]
            for entry, due in enumerate(self.due)
            if since <= due < until and wanted(self.outcome[entry], self.kinds.get(entry))
        )

    def good_answers(self, until: float) -> int:
        """How many 2xx answers had arrived by then, whenever they were due."""
        return sum(
            1
            for due, outcome, latency in zip(self.due, self.outcome, self.latency, strict=True)
            if 200 <= outcome < 300 and due + latency < until
        )

    def lateness(self, until: float = float("inf")) -> list[float]:
        """Sorted: how long after it was due each request was written, of those due before."""
        return sorted(late for due, late in zip(self.due, self.late, strict=True) if due < until)

    def good(self, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """Sorted latencies of 2xx answers."""
        return self.latencies(lambda outcome, kind: 200 <= outcome < 300, since, until)


def percentile(ordered: list[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; NaN of none."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Generator:
    """Sends a plan. `await Generator(plan).run()` gives the Result."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = plan.requests
        self.next = 0
        self.result = Result()
        self.idle: dict[Client, None] = {}  # the last used is used first
        self.backlog: deque[float] = deque()  # when requests without a connection were due
        self.flying: deque[tuple[float, Client, int]] = deque()  # (due, client, its turn), as sent
        self.open = 0  # connections, those being made too
        self.sent = 0
        self.outstanding = 0
        self.finished = asyncio.Event()
        self.clock = time.perf_counter
        self.began = 0.0

    async def run(self) -> Result:
        """Send everything, and wait for the last outcome."""
        self.loop = asyncio.get_running_loop()
        self.began = self.clock()
        self._tick()
        await self.finished.wait()
        for client in self.idle:
            client.transport.abort()
        return self.result

    def _tick(self) -> None:
        plan, now = self.plan, self.clock() - self.began
        total = plan.total
        while self.sent < total and (due := plan.due(self.sent)) <= now:
            self.sent += 1
            self.outstanding += 1
            self._send_or_wait(due)
        limit = now - plan.timeout
        while self.backlog and self.backlog[0] <= limit:
            self.record(self.backlog.popleft(), FAILURES["unsent"])
        while self.flying and self.flying[0][0] <= limit:
            due, client, turn = self.flying.popleft()
            if client.turn == turn and client.due is not None:
                client.fail("timeout")
        if self.sent >= total and not self.outstanding:
            self.finished.set()
            return
        self.loop.call_later(TICK, self._tick)

    def _send_or_wait(self, due: float) -> None:
        if self.idle:
            self.idle.popitem()[0].send(due)
            return
        self.backlog.append(due)
        if self.open < self.plan.connections:
            self.open += 1
            self.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self.plan.timeout):
                await self.loop.create_connection(lambda: Client(self), self.plan.host, self.plan.port)
        except (OSError, TimeoutError):
            self.open -= 1
            if self.backlog:
                self.record(self.backlog.popleft(), FAILURES["connect"])

    def free(self, client: Client) -> None:
        """A connection can carry a request."""
        if self.backlog:
            client.send(self.backlog.popleft())
        else:
            self.idle[client] = None

    def lost(self, client: Client) -> None:
        """A connection is gone; another is made if someone waits for one."""
        self.open -= 1
        self.idle.pop(client, None)
        if self.backlog and self.open < self.plan.connections:
            self.open += 1
            self.loop.create_task(self._connect())

    def record(self, due: float, outcome: int, head: bytes = b"", late: float = 0.0) -> None:
        """A request has its outcome, now."""
        result = self.result
        if head and self.plan.kind is not None and (kind := self.plan.kind(head)) is not None:
            result.kinds[len(result.due)] = kind
        result.due.append(due)
        result.outcome.append(outcome)
        result.latency.append(self.clock() - self.began - due)
        result.late.append(late)
        self.outstanding -= 1


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    __slots__ = ("data", "due", "generator", "head", "late", "need", "transport", "turn")

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.due: float | None = None
        self.turn = 0
        self.late = 0.0
        self.need = -1  # bytes of content to come; -1: the head is not whole
        self.data = b""
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.generator.free(self)

    def send(self, due: float) -> None:
        """Send one request, due at this time."""
        generator = self.generator
        self.due = due
        self.turn += 1
        self.late = generator.clock() - generator.began - due
        generator.flying.append((due, self, self.turn))
        generator.next = (generator.next + 1) % len(generator.requests)
        self.transport.write(generator.requests[generator.next])

    def data_received(self, data: bytes) -> None:
        if self.due is None:  # bytes nobody asked for
            self.transport.abort()
            return
        if self.need < 0:
            if self.data:
                data = self.data + data
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self.data = data
                return
            self.data = b""
            self.head = data[:end]
            found = LENGTH.search(self.head)
            if found is None or not self.head.startswith(b"HTTP/1.1 "):
                self.fail("unreadable")
                return
            self.need = int(found[1]) - (len(data) - end)
        else:
            self.need -= len(data)
        if self.need > 0:
            return
        if self.need < 0:
            self.fail("unreadable")
            return
        due, self.due, self.need = self.due, None, -1
        self.generator.record(due, int(self.head[9:12]), self.head, self.late)
        if CLOSES.search(self.head):
            self.transport.close()
        else:
            self.generator.free(self)

    def fail(self, name: str) -> None:
        """The request ends without an answer, and the connection with it."""
        if self.due is not None:
            due, self.due = self.due, None
            self.generator.record(due, FAILURES[name], late=self.late)
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self.due is not None:
            self.fail("closed")
        self.generator.lost(self)


def run(plan: Plan) -> Result:
    """Send a plan in a loop of its own, without the garbage collector: its pauses would be measured too."""
    gc.collect()
    gc.disable()
    try:
        return uvloop.run(Generator(plan).run())
    finally:
        gc.enable()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", help="http://HOST:PORT/TARGET")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=1000, help="at most")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds after it was due")
    told = parser.parse_args()
    url = urlsplit(told.url)
    plan = Plan(
        host=url.hostname or "127.0.0.1",
        port=url.port or 80,
        targets=(url.path or "/",),
        rate=told.rate,
        seconds=told.seconds,
        connections=told.connections,
        timeout=told.timeout,
    )
    began, cpu = time.perf_counter(), time.process_time()
    result = run(plan)
    lasted = time.perf_counter() - began
    good = result.good()
    print(f"{len(result.due)} requests in {lasted:.1f} s: {dict(result.counts())}")
    print(
        "good, ms:",
        ", ".join(f"p{share * 100:g} {percentile(good, share) * 1e3:.2f}" for share in (0.5, 0.9, 0.99, 0.999)),
    )
    print(
        f"this generator: {(time.process_time() - cpu) / max(1, len(result.due)) * 1e6:.1f} µs a request, "
        f"written late by p99 {percentile(sorted(result.late), 0.99) * 1e3:.2f} ms"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
