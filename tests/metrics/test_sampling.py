"""What process trees use, of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.control.metrics.own import Lag, Own
from proxy.control.sampling import DEAR, SOCKETS, Sampler, follow
from proxy.control.state import Usage

PROGRAM = """
import os, socket, sys, time
sockets = [socket.socket() for _ in range(5)]
child = os.fork()
if not child:
    memory = bytearray(os.urandom(1 << 20) * 24)
    time.sleep(60)
worker = os.fork()
if not worker:
    until = time.process_time() + 0.4
    while time.process_time() < until:
        pass
    os._exit(0)
os.waitpid(worker, 0)
with open(sys.argv[1], "wb") as file:
    file.write(b"x" * 300_000)
    file.flush()
    os.fsync(file.fileno())
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "written")], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    os.killpg(process.pid, 9)
    process.wait()
    process.stdout.close()


def look(sampler: Sampler, pid: int, until: Callable[[Usage], Any]) -> Usage:
    before = None
    for number in range(200):
        usage = sampler.sample({"web-1": pid}, 100.0 + number)["web-1"]
        follow(before, usage)
        if until(usage):
            return usage
        before = usage
        time.sleep(0.02)
    raise AssertionError(usage)


@pytest.mark.slow
def test_a_tree_counts_whole(tree: subprocess.Popen[bytes]) -> None:
    usage = look(Sampler(), tree.pid, lambda usage: usage.private and usage.private > 24 << 20)
    assert usage.processes == 2 and usage.threads == 2
    assert usage.connections == 5, "sockets that both have are counted once"
    assert usage.rss >= usage.private > 24 << 20
    assert usage.cpu_seconds >= 0.4 and usage.cpu_time >= 0.4, "also of a child that ended"
    assert usage.descriptors >= 2 * 5 and usage.descriptors_most < usage.descriptors
    fd = len(os.listdir(f"/proc/{tree.pid}/fd"))
    assert usage.descriptors_most >= fd
    assert usage.io_read is not None and usage.io_write is not None
    assert usage.read_total == usage.io_read and usage.write_total == usage.io_write


@pytest.mark.slow
def test_what_is_dear_is_read_in_turn(tree: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy.control import sampling

    read: list[str] = []
    real = sampling._read
    monkeypatch.setattr(sampling, "_read", lambda path: read.append(path.rpartition("/")[2]) or real(path))
    counted: list[int] = []
    sockets = sampling._sockets
    monkeypatch.setattr(sampling, "_sockets", lambda pids: counted.append(1) or sockets(pids))
    sampler = Sampler()
    for number in range(2 * SOCKETS):
        usage = sampler.sample({"web-1": tree.pid}, float(number))["web-1"]
        assert usage.private is not None and usage.connections == 5
    processes = 2
    assert read.count("status") == read.count("io") <= processes * (2 * SOCKETS // DEAR + 1)
    assert len(counted) <= 3


def test_counters_never_fall() -> None:
    first = Usage(1.0, cpu_seconds=5.0, io_read=100, io_write=10)
    follow(None, first)
    assert (first.cpu_time, first.read_total, first.cpu) == (5.0, 100, 0.0)
    second = Usage(2.0, cpu_seconds=2.0, io_read=30, io_write=None)
    follow(first, second)
    assert (second.cpu_time, second.cpu, second.read_total) == (5.0, 0.0, None), "not known, as one of both was not"
    third = Usage(3.0, cpu_seconds=2.5, io_read=40, io_write=20)
    follow(first, third)
    assert (third.read_total, third.write_total) == (100, 20)


async def test_own_processes_host_and_lag(tmp_path: Path) -> None:
    import asyncio

    own = Own(tmp_path)
    own.look({"control": os.getpid(), "worker1": 2**22 + 1}, 10.0)
    own.look({"control": os.getpid()}, 11.0)
    assert set(own.processes) == {"control"} and own.processes["control"].memory > 1 << 20
    assert own.host.cpu is not None and own.host.cpu >= 0.0
    assert own.host.memory_available and own.host.load is not None
    while own.host.disk_free is None:
        await asyncio.sleep(0.01)
    lag = Lag()
    lag.start()
    try:
        await asyncio.sleep(0)
        time.sleep(0.35)  # the loop is held
        await asyncio.sleep(0.15)
        assert lag.take() >= 0.2
    finally:
        lag.close()
