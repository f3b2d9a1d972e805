"""Stacks of a process that runs: with few threads it is stopped for them, with more it is not."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from proxy import py_spy
from proxy.control.stacks import NoStacks, stacks

CODE = """
import sys, threading, time

def waits():
    time.sleep(1000)

for _ in range(int(sys.argv[1])):
    threading.Thread(target=waits, daemon=True).start()
print("ready", flush=True)
time.sleep(1000)
"""


def test_who_is_stopped() -> None:
    assert py_spy.ways(1) == py_spy.ways(py_spy.STOPPED) == (True, True)
    assert py_spy.ways(py_spy.STOPPED + 1) == py_spy.ways(64) == (False, False, False, True), "at last, if it must be"
    assert py_spy.ways(65) == (False, False, False), "a pause of some 30 ms is too long for any"
    assert "--nonblocking" in py_spy.dump("py-spy", 7, stop=False)
    assert "--nonblocking" not in py_spy.dump("py-spy", 7, stop=True)


@pytest.fixture(params=[1, 12])
def threads(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A Python process with so many threads beside its first: pid and number."""
    with Popen([sys.executable, "-c", CODE, str(request.param)], stdout=PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield process.pid, request.param
        finally:
            process.kill()


@pytest.mark.slow
async def test_all_threads_are_there(threads: tuple[int, int]) -> None:
    pid, many = threads
    assert (await stacks(pid, 40.0)).count("waits") >= many


@pytest.mark.slow
async def test_what_asks_ends_with_who_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A py-spy that never comes back."""
    with tempfile.TemporaryDirectory(prefix="triage-") as folder:
        slow = Path(folder) / "py-spy"
        slow.write_text(f"#!/bin/sh\necho $$ > {folder}/pid\nexec sleep 1000\n")
        slow.chmod(0o755)
        monkeypatch.setattr(py_spy, "program", lambda: str(slow))
        with pytest.raises(NoStacks, match="no answer within 1 s"):
            await stacks(os.getpid(), 1.0)
        asked = asyncio.create_task(stacks(os.getpid(), 1000.0))
        (Path(folder) / "pid").unlink(missing_ok=True)
        while not (Path(folder) / "pid").exists() or not (pid := (Path(folder) / "pid").read_text().strip()):
            await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not Path(f"/proc/{pid}").exists()
