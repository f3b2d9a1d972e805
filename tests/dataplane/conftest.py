"""One worker for each file of tests; each test gives it its own origins by a new table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.link.messages import App, Instance
from tests.dataplane.client import Client, get
from tests.dataplane.harness import WorkerUnderTest, instance, worker
from tests.dataplane.origins import Origin, Script

ROWS = itertools.cycle(range(1, 512))
"""A fresh row of the board for each instance, so that no test meets the counts of another."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[WorkerUnderTest]:
    """The worker of this file, with its default settings."""
    with worker() as under_test:
        yield under_test


def of(origin: Origin, name: str = "", **more: Any) -> Instance:
    """The instance that an origin plays."""
    if origin.path:
        return Instance(name=name or "on-a-socket", row=next(ROWS), kind="address", path=origin.path, **more)
    return instance(origin.port, name, row=next(ROWS), **more)


Serve = Callable[..., Origin]


@pytest.fixture
def serve(gateway: WorkerUnderTest) -> Iterator[Serve]:
    """`origin = serve(script, **app)`: an origin behind the gateway, the only app; ended with the test.

    Keys that `Instance` has (tls, slots) go there by `instance={...}`, those of Settings by `settings={...}`, those
    of Origin by `origin={...}`.
    """
    started: list[Origin] = []
    before = gateway.settings

    def start(
        script: Script | None = None,
        *,
        instance: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        origin: dict[str, Any] | None = None,
        **app: Any,
    ) -> Origin:
        made = Origin(script, **(origin or {}))
        started.append(made)
        app.setdefault("attempts", 0)
        gateway.table(App("web", 0, instances=(of(made, **(instance or {})),), **app), **(settings or {}))
        return made

    yield start
    gateway.settings = before
    for each in started:
        each.close()


@pytest.fixture
def client(gateway: WorkerUnderTest) -> Iterator[Client]:
    """A connection to the gateway."""
    with Client(gateway.port) as made:
        yield made


def _asked(origin: Origin) -> int:
    """Not whether it came last: what was cut before may be written down later, by another thread."""
    return sum(one.target == "/works" for one in origin.requests)


def works(gateway: WorkerUnderTest, origin: Origin) -> None:
    """A valid request on a new connection is answered, whatever happened before."""
    before = _asked(origin)
    with Client(gateway.port) as client:
        answer = client.ask(get("/works"))
        assert (answer.status, answer.body) == (200, b"/works"), answer.raw
    assert _asked(origin) == before + 1
