"""Clients: one request, and a load that notes what became of each."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

from tests.e2e.support import LONG

HOST: Final = "127.0.0.1"
PAUSE: Final = 0.02  # between two requests of a client: what is lost shows at any rate, and the machine is shared


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0 is no answer; `error` says why."""

    status: int
    body: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""


def ask(
    port: int, target: str, method: str = "GET", body: str | None = None, fields: dict[str, str] | None = None
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(HOST, port, timeout=LONG)
    try:
        return exchange(connection, target, method, body, fields)
    finally:
        connection.close()


def exchange(
    connection: http.client.HTTPConnection,
    target: str,
    method: str = "GET",
    body: str | None = None,
    fields: dict[str, str] | None = None,
) -> Answer:
    """One request; a failure of the connection is an answer with status 0."""
    began = time.monotonic()
    try:
        connection.request(method, target, body, {"Accept": "text/plain", **(fields or {})})
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return Answer(0, seconds=time.monotonic() - began, error=repr(error))
    seen = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, text, seen, time.monotonic() - began)


class Load:
    """`clients` connections, one request after the other on each, until the block ends.

    They are kept alive; with `fresh` each request has a connection of its own.
    """

    def __init__(
        self, port: int, target: str = "/products", clients: int = 8, *, fresh: bool = False
    ) -> None:
        self.port = port
        self.fresh = fresh
        self.target = target
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=LONG)
        try:
            while not self._stop.is_set():
                self.answers.append(exchange(connection, self.target))
                if self.fresh:
                    connection.close()
                self._stop.wait(PAUSE)
        finally:
            connection.close()

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in list(self.answers) if answer.status != 200]

    @property
    def good(self) -> int:
        return len(self.answers) - len(self.failed)

    def summary(self) -> str:
        kinds = Counter(
            answer.error or f"{answer.status} {answer.body[:80]}" for answer in list(self.answers)
        )
        return "; ".join(f"{number} x {kind}" for kind, number in kinds.most_common(6))


def at_once(port: int, target: str, clients: int, each: int) -> list[Answer]:
    """`clients` start together and make `each` requests one after the other."""
    start = threading.Barrier(clients)
    answers: list[Answer] = []

    def run() -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=LONG)
        try:
            start.wait(LONG)
            for _ in range(each):
                answers.append(exchange(connection, target))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
