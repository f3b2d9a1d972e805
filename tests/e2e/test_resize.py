"""The number of workers changes under load: requests go on, and new connections go to who accepts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from tests.e2e.support import Triage, shop_config, until

CLIENTS = 8
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def ask(port: int) -> bytes:
    """One request on a connection of its own; the first line of the answer, or what went wrong."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(REQUEST)
            with sock.makefile("rb") as file:
                return file.read().partition(b"\r\n")[0]
    except OSError as error:
        return repr(error).encode()


def test_requests_go_on_when_workers_go_and_come(gateway: Callable[..., Triage]) -> None:
    running = gateway(shop_config(instances=1, workers=3))
    port, over, answers = running.port, threading.Event(), []

    def load() -> None:
        while not over.is_set():
            answers.append(ask(port))

    threads = [threading.Thread(target=load) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for count in (1, 3, 1, 2):
            before = len(answers)
            (running.folder / "config.toml").write_text(shop_config(instances=1, workers=count))
            assert running.cli("reload").returncode == 0
            until(lambda count=count: len(running.workers()) == count, f"{count} workers")  # type: ignore[misc]
            until(lambda before=before: len(answers) >= before + 200, "requests go on")  # type: ignore[misc]
            accepted = {one["id"]: one["accepted"] for one in running.workers()}
            until(
                lambda accepted=accepted: all(one["accepted"] > accepted[one["id"]] for one in running.workers()),  # type: ignore[misc]
                "each of them accepts",
            )
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {b"HTTP/1.1 200 OK"}
