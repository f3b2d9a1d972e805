"""The gateway's own limits: connections, the loop's lag, clients that say nothing; and that nothing leaks."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from proxy.dataplane.guard import LAG, RESERVE, Guard
from proxy.link.messages import Stats
from tests.dataplane.harness import worker
from tests.dataplane.provoke import Client, Cut, Gateway, answers, app, descriptors, origin, place, until


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


def newest(gateway: Gateway) -> Stats:
    """What the worker says of itself now."""
    gateway.rows("")
    found: Stats = gateway.all(Stats)[-1]
    return found


@pytest.mark.slow
def test_far_more_connections_than_allowed(gateway: Gateway) -> None:
    """Some get a 503, the rest wait or are cut; never more than the limit and its reserve are held."""
    with origin(answers()) as good:
        gateway.serve(app(good.instance()), connections_limit=10)
        inside = [gateway.connect() for _ in range(10)]
        assert [each.ask().status for each in inside] == [200] * 10
        crowd = [gateway.connect() for _ in range(400)]
        told = cut = 0
        try:
            for each in crowd[:RESERVE]:
                try:
                    answer = each.ask()
                    assert answer.fault == "gateway-overload" and answer.closes and "retry-after" in answer.fields
                    told += 1
                except (Cut, OSError):
                    cut += 1
            assert told, "those in the reserve get an answer"
            assert newest(gateway).connections <= 10 + RESERVE
            assert [each.ask().status for each in inside] == [200] * 10
        finally:
            for each in (*crowd, *inside):
                each.sock.close()
        assert max(each.connections for each in gateway.all(Stats)) <= 10 + RESERVE + 1
        until(lambda: well(gateway), "served again")


def well(gateway: Gateway) -> bool:
    try:
        return gateway.ask().status == 200
    except (Cut, OSError):
        return False


@pytest.mark.slow
def test_two_thousand_connections_that_say_nothing_are_closed(gateway: Gateway) -> None:
    with origin(answers()) as good:
        gateway.serve(app(good.instance()), head_timeout=0.5)
        before = descriptors(gateway.worker.process.pid)
        silent: list[Client] = []
        try:
            for _ in range(2000):
                silent.append(gateway.connect())
            assert well(gateway)
            assert all(each.at_end() for each in silent)
        finally:
            for each in silent:
                each.sock.close()
        until(lambda: newest(gateway).connections == 0)
        until(lambda: descriptors(gateway.worker.process.pid) <= before + 3)


@pytest.mark.slow
def test_nothing_leaks(gateway: Gateway) -> None:
    """Fifty cycles of what goes wrong: descriptors and memory are as after the first ones."""
    with origin(answers()) as good, origin(lambda sock, asked: False) as bad:
        pid = gateway.worker.process.pid
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            nobody = closed.getsockname()[1]

            def cycle() -> None:
                gateway.serve(app(good.instance(), bad.instance(), place(nobody), queue_timeout=0.2))
                for _ in range(4):
                    gateway.ask()
                    gateway.ask("/", "POST", b"x" * 100_000)
                with gateway.connect() as client:
                    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
                with gateway.connect() as client:
                    client.send(b"nonsense\r\n\r\n")
                    client.read()

            for _ in range(15):
                cycle()
            gateway.serve(app())
            until(lambda: newest(gateway).connections == 0)
            descriptors_before, memory_before = descriptors(pid), newest(gateway).rss
            for _ in range(50):
                cycle()
            gateway.serve(app())
            until(lambda: newest(gateway).connections == 0 and newest(gateway).instance_connections == 0)
            until(lambda: descriptors(pid) <= descriptors_before + 2)
            assert newest(gateway).rss < memory_before + (12 << 20)


class TestGuard:
    """The guard alone, in virtual time."""

    def test_a_loop_that_is_late_sheds_a_share_and_recovers(self) -> None:
        guard = Guard()
        for _ in range(20):
            guard.tick(0.001)
        assert guard.shedding == ""
        for _ in range(100):
            guard.tick(0.6)
        assert "late" in guard.shedding
        shed = sum(guard.sheds() for _ in range(2000))
        assert 0.3 < shed / 2000 < 0.9, "a share, not all"
        for _ in range(200):
            guard.tick(0.0)
        assert guard.shedding == ""

    def test_one_stall_is_no_overload(self) -> None:
        guard = Guard()
        guard.tick(LAG * 10)
        assert guard.shedding == ""

    def test_memory_used_up_sheds_all(self) -> None:
        guard = Guard()
        guard.memory_short = True
        guard.tick(0.0)
        assert guard.sheds() and "memory" in guard.shedding
        guard.memory_short = False
        guard.tick(0.0)
        assert guard.shedding == ""

    def test_the_limit_leaves_descriptors_for_the_instances_side(self) -> None:
        guard = Guard()
        guard.limit(10**9)
        assert guard.most_clients == max(1, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 256) // 2)
        guard.limit(7)
        assert guard.most_clients == 7


@pytest.mark.slow
def test_a_worker_that_was_stopped_sheds_then_recovers(gateway: Gateway) -> None:
    """Stopped and continued, its loop has been late: one long stall alone turns nobody away."""
    with origin(answers()) as good:
        gateway.serve(app(good.instance()))
        os.kill(gateway.worker.process.pid, signal.SIGSTOP)
        waiting = gateway.later()
        time.sleep(0.5)  # the stall
        os.kill(gateway.worker.process.pid, signal.SIGCONT)
        assert waiting.answer.status == 200
        until(lambda: any(each.lag_max_us > 300_000 for each in gateway.all(Stats)))
        assert newest(gateway).shedding == ""

