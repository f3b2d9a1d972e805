"""Balancers with real instances: who is slow or fails gets little."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.dataplane.harness import worker
from tests.dataplane.provoke import Gateway, Origin, Script, answers, app, connect, origin, says


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


@contextmanager
def several(*scripts: Script) -> Iterator[list[Origin]]:
    with ExitStack() as stack:
        yield [stack.enter_context(origin(script)) for script in scripts]


def load(gateway: Gateway, clients: int, each: int) -> Counter[int]:
    statuses: Counter[int] = Counter()

    def run() -> None:
        with connect(gateway.port) as client:
            for _ in range(each):
                statuses[client.ask().status] += 1

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.slow
def test_one_of_four_that_is_slow_gets_few_requests(gateway: Gateway) -> None:
    with several(*[answers(after=0.002)] * 3, answers(after=0.3)) as those:
        gateway.serve(app(*(each.instance() for each in those)))
        assert load(gateway, 8, 60) == {200: 480}
        assert len(those[3].requests) <= 0.05 * 480, [len(each.requests) for each in those]


@pytest.mark.parametrize("how", ["500", "closed"])
@pytest.mark.slow
def test_failing_fast_attracts_nothing(gateway: Gateway, how: str) -> None:
    bad = answers(status="500 Odd") if how == "500" else says(b"")
    with several(*[answers(after=0.01)] * 3, bad) as those:
        gateway.serve(app(*(each.instance() for each in those)))
        statuses = load(gateway, 8, 40)
        assert len(those[3].requests) <= 0.05 * 320, [len(each.requests) for each in those]
        assert statuses[200] >= 0.95 * 320
        if how == "closed":
            assert statuses == {200: 320}, "and those few were tried again"


@pytest.mark.parametrize("balance", ["round-robin", "random", "least-inflight"])
def test_weights(gateway: Gateway, balance: str) -> None:
    with several(answers(), answers()) as (heavy, light):
        gateway.serve(app(heavy.instance(weight=3.0), light.instance(), balance=balance))
        # Alone, a client has nothing in flight when it asks: least-inflight is then the heavier one, always.
        load(gateway, 1, 200)
        if balance == "round-robin":
            assert abs(len(heavy.requests) - 150) <= 2
        else:
            assert len(heavy.requests) >= 120


def test_hash_keeps_a_key_on_its_instance(gateway: Gateway) -> None:
    with several(*[answers()] * 4) as those:
        gateway.serve(app(*(each.instance() for each in those), balance="hash", hash_key="header:X-User"))
        with gateway.connect() as client:
            for _ in range(5):
                for user in range(20):
                    client.ask("/", X_User=f"u{user}")
        where = [{asked.field("x-user") for asked in each.requests} for each in those]
        assert sum(map(len, where)) == 20, "each key on one instance only"
        assert sum(1 for each in where if each) >= 2


def test_a_sticky_cookie_is_kept_and_falls_over(gateway: Gateway) -> None:
    with several(answers(), answers()) as (one, two):
        spec = app(one.instance(), two.instance(), sticky_cookie="triage", balance="round-robin")
        gateway.serve(spec, secret="00ff" * 8)
        with gateway.connect() as client:
            given = client.ask().fields["set-cookie"]
            assert "HttpOnly" in given and "Path=/" in given
            cookie = given.partition(";")[0]
            mine, other = (one, two) if one.requests else (two, one)
            for _ in range(6):
                assert "set-cookie" not in client.ask(Cookie=cookie).fields
            assert len(mine.requests) == 7 and not other.requests
            name, _, _signature = cookie.partition("=")[2].rpartition(".")
            forged = f"triage={other.instance().name}.{'0' * 24}"
            assert name == mine.instance().name
            assert "set-cookie" in client.ask(Cookie=forged).fields, "a forged one is as none"
            before = len(other.requests)
            left = [each for each in spec.instances if each.name != name]
            gone = app(*left, name=spec.name, row=spec.row, sticky_cookie="triage", balance="round-robin")
            gateway.serve(gone)
            answer = client.ask(Cookie=cookie)
            assert answer.status == 200 and "set-cookie" in answer.fields
            assert len(other.requests) == before + 1


def test_slow_start(gateway: Gateway) -> None:
    """A tenth of its weight at first."""
    with several(answers(), answers()) as (old, new):
        just = time.monotonic()
        those = (old.instance(), new.instance(admitted_at=just))
        gateway.serve(app(*those, balance="round-robin", slow_start=100_000.0))
        load(gateway, 1, 220)
        assert 10 <= len(new.requests) <= 35


def test_backups_serve_when_no_primary_can(gateway: Gateway) -> None:
    with several(answers(), answers()) as (primary, backup):
        spec = app(primary.instance(), backup.instance(backup=True))
        gateway.serve(spec)
        load(gateway, 2, 10)
        assert not backup.requests
        ejected = app(
            primary.instance(row=spec.instances[0].row, admission="ejected"),
            backup.instance(row=spec.instances[1].row, backup=True),
            name=spec.name,
            row=spec.row,
        )
        gateway.serve(ejected)
        assert load(gateway, 2, 5) == {200: 10}
        assert len(backup.requests) == 10
