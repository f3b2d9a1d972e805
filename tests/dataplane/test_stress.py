"""All at once, at random: two workers, instances that fail in every way, clients that leave, tables that change.

What must hold afterwards: no slot is held and nobody waits, by the board; no connection and no descriptor is left over
beyond the pools; no client was ever given what another asked for.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time

import psutil

from proxy.link import board
from proxy.link.messages import App
from tests.dataplane.client import DEADLINE, Client, Ended, Malformed, chunked, get
from tests.dataplane.harness import WorkerUnderTest, instance, listening
from tests.dataplane.origins import Conn, Origin

SECONDS = 6.0
CLIENTS = 16
KINDS = (
    "well", "well", "well", "well", "reset", "fin", "early", "slow", "hang", "half-content", "half-head", "surplus",
    "garbage", "chunked", "until-close", "big", "upgrade", "continue", "5xx",
)  # fmt: skip


def misbehave(conn: Conn) -> None:
    """Answer with the target and the content, or fail in the way that the target names."""
    while True:
        request = conn.head_only()
        path, _, kind = request.target.partition("?")
        if kind in ("reset", "fin", "early"):
            if kind == "reset":
                conn.reset()
            elif kind == "early":
                conn.answer(b"early")
            return
        conn.content(request)
        body = path.encode() + b"|" + request.body
        plain = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        if kind == "slow":
            time.sleep(0.3)
        if kind == "hang":
            time.sleep(1.2)
            return
        if kind in ("half-content", "half-head", "garbage"):
            conn.send({"half-content": plain[:-3], "half-head": plain[:12]}.get(kind, b"HTTP/9 what\r\n\r\n"))
            return
        if kind == "surplus":
            conn.send(plain + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalien")
        elif kind == "chunked":
            conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked([body]))
        elif kind == "until-close":
            conn.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            return
        elif kind == "upgrade":
            conn.send(b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            time.sleep(0.1)
            return
        elif kind == "5xx":
            conn.answer(body, status="500 No")
        elif kind == "big":
            conn.answer(body + b"z" * 600_000)
        else:
            conn.send(b"HTTP/1.1 100 Continue\r\n\r\n" if kind == "continue" else b"", plain)


class Asking(threading.Thread):
    def __init__(self, port: int, number: int, stop: float) -> None:
        super().__init__(daemon=True)
        self.port, self.number, self.stop = port, number, stop
        self.random = random.Random(number)
        self.asked = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while time.monotonic() < self.stop:
            try:
                with Client(self.port) as client:
                    for _ in range(self.random.randint(1, 6)):
                        if not self.ask(client):
                            break
            except Malformed as error:
                self.wrong.append(repr(error))
            except (Ended, OSError):
                pass  # cut, as it had to be

    def ask(self, client: Client) -> bool:
        """Whether the connection can go on."""
        some = self.random
        self.asked += 1
        kind = some.choice(KINDS)
        path = f"/{self.number}-{self.asked}"
        method = some.choice(("GET", "GET", "POST", "PUT"))
        content = os.urandom(some.choice((1, 3000, 70_000, 300_000))) if method != "GET" and kind != "upgrade" else b""
        if kind == "upgrade":
            data = get(f"{path}?{kind}", "Connection: Upgrade", "Upgrade: websocket")
        elif content and some.random() < 0.5:
            pieces = [content[at : at + 20_000] for at in range(0, len(content), 20_000)]
            data = get(f"{path}?{kind}", "Transfer-Encoding: chunked", method=method) + chunked(pieces)
        else:
            lines = (f"Content-Length: {len(content)}",) if content else ()
            data = get(f"{path}?{kind}", *lines, method=method) + content
        leaves = some.random()
        if leaves < 0.05:
            client.send(data[: some.randint(1, len(data))])
            return False
        client.sock.sendall(data)
        if leaves < 0.12:
            time.sleep(some.random() * 0.2)
            if leaves < 0.08:
                client.reset()
            return False
        answer = client.response_head()
        while answer.status == 100:
            answer = client.response_head()
        if answer.status == 101:  # no upgrade: the gateway's own answer, and the connection goes on
            client.rest()
            return False
        client.content(answer, to_the_end=True)
        expected = path.encode() + b"|" + content
        if answer.status == 200 and answer.body != b"early" and not answer.body.startswith(expected):
            self.wrong.append(f"{path}: {answer.raw!r} {answer.body[:80]!r}")
        return answer.keeps


def test_nothing_is_left_of_a_storm() -> None:
    fd = board.create()
    wakeups = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(board.COLUMNS)]
    first = listening(reuse=True)
    port = first.getsockname()[1]
    socks = (first, listening(reuse=True, port=port))
    origins = [Origin(misbehave) for _ in range(3)]
    workers: list[WorkerUnderTest] = []
    try:
        for column, sock in enumerate(socks):
            workers.append(
                WorkerUnderTest((sock, False), workers=2, column=column, board_fd=fd, wakeups=wakeups)
            )
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            instances = [instance(each.port, f"o{at}", row=10 + at, slots=3) for at, each in enumerate(origins)]
            instances.append(instance(nobody.getsockname()[1], "nobody", row=20))

            def table(*places: int, total: float = 0.0) -> None:
                app = App(
                    "web", 0, instances=tuple(instances[at] for at in places), attempts=2, first_byte=1.0, idle=1.0,
                    connect=1.0, total=total, queue_size=20, queue_timeout=0.7, upgrades=("websocket",),
                )  # fmt: skip
                for worker in workers:
                    worker.table(app, body_timeout=2.0, head_timeout=2.0)

            table(0, 1, 2, 3)
            before = _settled(workers)
            asking = [Asking(port, number, time.monotonic() + SECONDS) for number in range(CLIENTS)]
            for thread in asking:
                thread.start()
            turns = ((0, 1, 2, 3), (1, 2), (0,), (0, 2, 3), (0, 1, 2))
            turn = 0
            while any(thread.is_alive() for thread in asking):
                table(*turns[turn % len(turns)], total=0.9 * (turn % 2))
                turn += 1
                asking[turn % CLIENTS].join(0.3)
            table()
        assert not [wrong for thread in asking for wrong in thread.wrong]
        assert sum(thread.asked for thread in asking) > CLIENTS
        shared = workers[0].board
        end = time.monotonic() + DEADLINE
        while any(shared.inflight) or any(shared.counts) or any(shared.since) or _left(workers, before):
            assert time.monotonic() < end, (
                [(at // board.COLUMNS, count) for at, count in enumerate(shared.inflight) if count],
                list(filter(None, shared.counts)), before, _descriptors(workers),
            )  # fmt: skip
            time.sleep(0.05)
        assert all(worker.process.poll() is None for worker in workers)
    finally:
        for worker in workers:
            worker.close()
        for each in origins:
            each.close(quietly=True)
        for each_fd in (fd, *wakeups):
            os.close(each_fd)


def _settled(workers: list[WorkerUnderTest]) -> list[int]:
    """Descriptors once a worker listens: it does so some turns of its loop after it acknowledged its first table."""
    deadline = time.monotonic() + DEADLINE
    for worker in workers:
        worker.find()
    while len(set(counts := _descriptors(workers))) > 1 and time.monotonic() < deadline:
        for worker in workers:
            worker.find()
    return counts


def _left(workers: list[WorkerUnderTest], before: list[int]) -> bool:
    """More descriptors than before; fewer are none left over."""
    return any(now > then for now, then in zip(_descriptors(workers), before, strict=True))


def _descriptors(workers: list[WorkerUnderTest]) -> list[int]:
    return [psutil.Process(worker.process.pid).num_fds() for worker in workers]
