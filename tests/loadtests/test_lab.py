"""Processes are measured with their children, and none outlives its lab."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from loadtests import procs
from loadtests.gateway import Watch
from loadtests.lab import Failed, Lab
from loadtests.peers import PEERS, Peer
from loadtests.peers.peer import on_path, start
from loadtests.stage import stage

pytestmark = pytest.mark.slow

FAMILY = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
print("up", flush=True)
child.wait()
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Ended; whether its parent has looked yet does not matter."""
    found = procs.stat(pid)
    return found is None or found.state == "Z"


def test_a_family_is_measured_and_ended_whole() -> None:
    with Lab() as lab:
        lab.patience = 0.2
        parent = lab.start([sys.executable, "-c", FAMILY], core=lab.proxy_core)
        until(lambda: len(procs.tree(parent.pid)) == 2 and "up" in lab.said(parent))
        pids = procs.tree(parent.pid)
        assert pids[0] == parent.pid
        until(lambda: procs.cpu_seconds(pids) > procs.cpu_seconds(pids[:1]))
        assert all(os.sched_getaffinity(pid) == {lab.proxy_core} for pid in pids)
        assert procs.memory(pids).rss > procs.memory(pids[:1]).rss > 0
        with Watch(pids, interval=0.01) as watch:
            until(lambda: len(watch.samples) >= 5)
        assert min(watch.growth()) > 0
    assert parent.returncode is not None
    until(lambda: all(gone(pid) for pid in pids))


def test_nothing_is_left_after_an_error() -> None:
    affinity = os.sched_getaffinity(0)
    labs: list[Lab] = []
    started: list[subprocess.Popen[bytes]] = []

    def work() -> None:
        with Lab() as lab:
            labs.append(lab)
            started.append(lab.start(["sleep", "1000"], core=lab.proxy_core))
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        work()
    assert started[0].returncode is not None
    assert not labs[0].folder.exists()
    assert not labs[0].logs.exists()
    assert os.sched_getaffinity(0) == affinity


def test_a_process_that_ends_while_starting_is_quoted() -> None:
    with Lab() as lab:
        process = lab.start(["sh", "-c", "echo no such key; exit 3"], core=lab.proxy_core)
        with pytest.raises(Failed, match=r"a thing ended with 3 while starting:\nno such key"):
            lab.wait_until(lambda: False, process, "a thing")


def test_a_peer_that_is_not_installed_is_named_with_how_to_get_it() -> None:
    peer = Peer("nowhere", on_path("no-such-program"), "apt-get install nowhere", str, PEERS["nginx"].prepare)
    with Lab() as lab, pytest.raises(Failed, match="nowhere is not installed: apt-get install nowhere"):
        start(lab, peer, stage(lab).site("nowhere"))
