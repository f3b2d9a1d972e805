"""One request after another: keep-alive, pipelining, HTTP/1.0, HEAD, statuses without content."""

from __future__ import annotations

from tests.dataplane.client import Client, get
from tests.dataplane.conftest import Serve
from tests.dataplane.harness import WorkerUnderTest


def test_keep_alive(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Many requests on one connection, and one connection to the instance."""
    origin = serve()
    for number in range(5):
        answer = client.ask(get(f"/{number}"))
        assert (answer.status, answer.body, answer.keeps) == (200, f"/{number}".encode(), True)
    assert len(origin.connections) == 1
