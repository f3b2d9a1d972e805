"""Descriptors used up: it turns away, says so, and recovers."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.link.messages import Stats
from tests.dataplane.harness import worker
from tests.dataplane.provoke import Cut, Gateway, answers, app, origin, until


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


def limit(gateway: Gateway, soft: int) -> None:
    pid = gateway.worker.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def lowest_free(gateway: Gateway) -> int:
    used = {int(each.name) for each in Path(f"/proc/{gateway.worker.process.pid}/fd").iterdir()}
    return next(number for number in itertools.count() if number not in used)


def shedding(gateway: Gateway) -> str:
    gateway.rows("")
    stats: Stats = gateway.all(Stats)[-1]
    return stats.shedding


def well(gateway: Gateway) -> bool:
    try:
        return gateway.ask().status == 200
    except (Cut, OSError):
        return False


def test_a_small_limit_makes_for_few_connections(gateway: Gateway) -> None:
    """Two for each connection, and 256 for everything else: (300 - 256) / 2."""
    limit(gateway, 300)
    with origin(answers()) as good:
        gateway.serve(app(good.instance()), slow=2.0)
        clients = [gateway.connect() for _ in range(22)]
        try:
            assert [each.ask().status for each in clients] == [200] * 22
            with gateway.connect() as one_more:
                assert one_more.ask().fault == "gateway-overload"
            assert [each.ask().status for each in clients] == [200] * 22
        finally:
            for each in clients:
                each.sock.close()
        until(lambda: well(gateway))


@pytest.mark.slow
def test_no_descriptor_left(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance()))
        with gateway.connect() as client:
            assert client.ask().status == 200
            normal = resource.prlimit(gateway.worker.process.pid, resource.RLIMIT_NOFILE)[0]
            limit(gateway, lowest_free(gateway))
            # The connection that is there goes on, over a pooled connection to the instance while there is one.
            assert client.ask().status == 200
            with pytest.raises((Cut, OSError)), gateway.connect() as newcomer:
                newcomer.ask()
            until(lambda: shedding(gateway) == "no file descriptor is left")
            limit(gateway, normal)
            until(lambda: shedding(gateway) == "")
            assert client.ask().status == 200
        until(lambda: well(gateway))
        until(lambda: gateway.in_flight(spec) == 0)
