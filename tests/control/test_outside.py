"""A command of the operator's, whatever it does."""

import asyncio
import sys
import time

import psutil

from proxy.control import outside


def run(script: str, timeout: float = 30.0, **env: str) -> outside.Outcome:
    return asyncio.run(outside.run(["sh", "-c", script], timeout, env))


def test_how_it_ended_and_its_last_lines() -> None:
    assert run("echo $WHY; exit 0", WHY="slow") == outside.Outcome(True, "exit code 0", ("slow",))
    outcome = run("i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; echo no end; exit 3")
    assert not outcome.ok
    assert len(outcome.lines) == outside.LINES
    assert outcome.text.startswith("exit code 3; its last lines: line 96 | ")
    assert run("kill -9 $$").words == "signal 9"


def test_one_that_is_not_there_is_said() -> None:
    outcome = asyncio.run(outside.run(["/nowhere/command"], 1.0))
    assert (outcome.ok, outcome.words) == (False, "could not be started: No such file or directory")


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_that_hangs_is_ended_with_all_it_began() -> None:
    began = time.monotonic()
    outcome = run("trap '' TERM; sleep 3003 & echo $!; wait; wait", 0.2)
    assert outcome.words == "not within 0.2 s: killed"
    assert time.monotonic() - began < 20
    child = int(outcome.lines[0])
    while runs(child):  # it was told; when it is gone the kernel decides
        assert time.monotonic() - began < 40
        time.sleep(0.02)


def test_output_without_end_is_bounded() -> None:
    outcome = asyncio.run(outside.run([sys.executable, "-c", "print('x' * 10_000_000, end='')"], 60.0))
    assert outcome.ok
    assert sum(len(line) for line in outcome.lines) <= outside.LINE
