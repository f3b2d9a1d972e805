"""What hangs while it is read holds nobody but who asked, and not for long."""

import asyncio
import os
import threading

import pytest

from proxy.admin.errors import ApiProblem
from proxy.admin.inside import reader
from proxy.diagnostics.inside.deeper import Question


async def test_what_hangs_is_given_up_and_others_are_read() -> None:
    one, hangs = reader.Reader(), threading.Event()
    try:
        for _ in range(reader.THREADS - 1):
            with pytest.raises(ApiProblem) as caught:
                await one.read(hangs.wait, within=0.05)
            assert caught.value.status == 503 and caught.value.headers["Retry-After"]
            assert await one.read(lambda: 7) == 7
    finally:
        hangs.set()
        one.close()


async def test_of_too_many_at_once_the_last_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(reader, "MOST", 3)
    one, hangs = reader.Reader(), threading.Event()
    waiting = [asyncio.ensure_future(one.read(hangs.wait, within=20.0)) for _ in range(3)]
    try:
        await asyncio.sleep(0)
        with pytest.raises(ApiProblem) as caught:
            await one.read(lambda: 7)
        assert caught.value.kind == "busy-looking"
    finally:
        hangs.set()
        await asyncio.gather(*waiting)
        one.close()
    assert repr(one) == "<Reader 0 under way>"


async def test_errors_of_what_reads_go_on() -> None:
    one = reader.Reader()
    try:
        with pytest.raises(ProcessLookupError):
            await one.read(lambda: os.kill(2**22 + 5, 0))
    finally:
        one.close()


@pytest.mark.slow
async def test_a_process_of_its_own_answers_and_is_ended_in_time(monkeypatch) -> None:
    one = reader.Reader()
    try:
        found = await one.ask(Question(what="runtimes", pid=os.getpid()))
        assert found.runtimes[0].name == "python"
        gone = await one.ask(Question(what="stacks", pid=2**22 + 5))
        assert not gone.processes and "does not run" in gone.why
        monkeypatch.setattr(reader, "DEEPER", 0.01)
        with pytest.raises(ApiProblem) as caught:
            await one.ask(Question(what="runtimes", pid=os.getpid()))
        assert caught.value.status == 503
    finally:
        one.close()
