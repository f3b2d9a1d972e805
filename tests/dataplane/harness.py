"""A real worker process with a real channel, driven by a test in control's place."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from proxy.link import board, channel, messages
from proxy.link.messages import App, Instance, Listener, Settings, Table

M = TypeVar("M")
DEADLINE = 30.0


def listening(address: str = "127.0.0.1", *, reuse: bool = False, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, port))
    sock.listen(1024)
    return sock


def instance(port: int, name: str = "", row: int = 0, **more: Any) -> Instance:
    return Instance(
        name=name or f"127.0.0.1:{port}", row=row, kind=more.pop("kind", "address"), host="127.0.0.1", port=port,
        resolved=("127.0.0.1",), **more,
    )  # fmt: skip


class WorkerUnderTest:
    """`table(...)` puts a table in force and returns when the worker has acknowledged it."""

    def __init__(self, *listeners: tuple[socket.socket, bool], workers: int = 1, column: int = 0,
                 board_fd: int | None = None, wakeups: list[int] | None = None,
                 program: tuple[str, ...] = ("-m", "proxy.dataplane.run"), stderr: Any = None) -> None:  # fmt: skip
        self.socks = listeners or ((listening(), False),)
        self.port = self.socks[0][0].getsockname()[1] if self.socks[0][0].family != socket.AF_UNIX else 0
        self.workers = workers
        self.received: list[Any] = []
        self.version = 0
        self.settings = Settings()
        self.apps: tuple[App, ...] = ()
        self._arrived = threading.Condition()
        self.board_fd = board.create() if board_fd is None else board_fd
        self.wakeups = wakeups or [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(board.COLUMNS)]
        self.board = board.Board(self.board_fd, workers)
        ours, theirs = channel.pair()
        self.process = subprocess.Popen(
            [sys.executable, *program, str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=stderr
        )
        theirs.close()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        made: list[channel.Channel] = []
        self._call(lambda: made.append(channel.Channel(self._loop, ours, self._on_message)))
        self._channel = made[0]
        fds = [self.board_fd, *self.wakeups, *(sock.fileno() for sock, _ in self.socks)]
        start = messages.Start(
            messages.PROTOCOL, column, f"e{self.process.pid}",
            [Listener(f"l{index}", tls) for index, (_, tls) in enumerate(self.socks)],
        )  # fmt: skip
        self.tell(start, fds)
        self.wait(messages.Ready)

    def _call(self, what: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            try:
                what()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(DEADLINE)

    def _on_message(self, payload: bytes, fds: list[int]) -> None:
        with self._arrived:
            self.received.append(messages.decode_to_control(payload))
            self._arrived.notify_all()

    def tell(self, message: Any, fds: list[int] | tuple[int, ...] = ()) -> None:
        self._call(lambda: self._channel.send(messages.encode(message), fds))

    def table(self, *apps: App, **settings: Any) -> None:
        """Same settings as before where none are given."""
        if settings:
            self.settings = Settings(**settings)
        if apps:
            self.apps = apps
        self.version += 1
        version = self.version
        self.tell(Table(version, self.workers, self.settings, self.apps))
        self.wait(messages.Ack, lambda ack: ack.version == version)

    def wait(
        self, kind: type[M], when: Callable[[M], bool] = lambda _: True, deadline: float = DEADLINE
    ) -> M:
        """The first message of this kind for which `when` holds; it need not be new."""
        until = time.monotonic() + deadline
        with self._arrived:
            while True:
                for message in self.received:
                    if isinstance(message, kind) and when(message):
                        return message
                left = until - time.monotonic()
                assert left > 0, f"no {kind.__name__} within {deadline} s; last: {self.received[-5:]}"
                self._arrived.wait(left)

    def find(self, id: str = "", limit: int = 10, **more: str) -> list[messages.Record]:
        """What the flight recorder has."""
        question = int(time.monotonic_ns() & 0x7FFFFFFF)
        self.tell(messages.Find(question, id, limit, **more))
        return self.wait(messages.Found, lambda found: found.question == question).items

    def record(self, id: str) -> messages.Record:
        """The record of one request, once it is there."""
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            found = self.find(id)
            if found:
                return found[0]
        raise AssertionError(f"no record of {id}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._call(self._channel.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for sock, _ in self.socks:
            sock.close()


@contextmanager
def worker(*listeners: tuple[socket.socket, bool], **more: Any) -> Iterator[WorkerUnderTest]:
    under_test = WorkerUnderTest(*listeners, **more)
    try:
        yield under_test
    finally:
        under_test.close()
