"""The open-loop generator against real origins: every due request has exactly one outcome."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from loadtests import open_loop
from loadtests.lab import Lab
from loadtests.open_loop import Plan, percentile
from loadtests.origin import Behaviour, Connection
from loadtests.stage import become, start_origin

# The generator collects garbage before it begins: what earlier tests of this process left in cycles is not its doing.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def test_all_due_requests_are_answered(lab: Lab) -> None:
    port = start_origin(lab)
    result = open_loop.run(Plan(port=port, rate=500, seconds=2.0, timeout=30.0))
    assert result.counts() == {"200": 1000}
    assert len(result.due) == len(result.latency) == len(result.late) == 1000
    assert sorted(round(due * 500) for due in result.due) == list(range(1000))
    good = result.good()
    assert 0 < percentile(good, 0.5) <= percentile(good, 0.99) <= good[-1]


def test_latency_counts_from_when_a_request_was_due(lab: Lab) -> None:
    """One slot of 20 ms serves 50 a second; of 100 a second the later ones wait longer and longer."""
    port = start_origin(lab, delay=0.02, slots=1)
    result = open_loop.run(Plan(port=port, rate=100, seconds=1.0, connections=1, timeout=60.0))
    assert result.counts() == {"200": 100}
    assert percentile(result.good(0.75), 0.5) > percentile(result.good(0.0, 0.25), 0.5)
    assert max(result.latency) > 0.5  # 100 requests of 20 ms, all due within one second


def test_waiting_is_bounded(lab: Lab) -> None:
    """An origin that never answers in time: sent ones time out, those without a connection end unsent."""
    port = start_origin(lab)
    become(port, delay=3600.0)
    result = open_loop.run(Plan(port=port, rate=100, seconds=0.5, connections=10, timeout=2.0))
    counts = result.counts()
    assert set(counts) <= {"timeout", "unsent"}
    assert sum(counts.values()) == 50
    assert counts["timeout"] > 0
    assert min(result.latency) >= 2.0


def test_nobody_listens(lab: Lab) -> None:
    result = open_loop.run(Plan(port=lab.free_port(), rate=100, seconds=0.5, timeout=5.0))
    assert result.counts() == {"connect": 50}


def test_a_closed_connection_is_an_outcome(lab: Lab) -> None:
    port = start_origin(lab)
    become(port, fail="close")
    result = open_loop.run(Plan(port=port, rate=100, seconds=0.5, timeout=30.0))
    assert result.counts() == {"closed": 50}


def test_another_rate_follows_without_a_pause(lab: Lab) -> None:
    plan = Plan(port=start_origin(lab), rate=200, seconds=0.5, then=(50, 1.0), timeout=60.0)
    result = open_loop.run(plan)
    assert plan.total == 150
    assert result.counts() == {"200": 150}
    assert sum(result.counts(0.0, 0.5).values()) == 100
    assert max(result.due) == pytest.approx(1.48)
    assert result.good_answers(3600.0) == 150
    assert result.good_answers(0.0) == 0


def test_kinds_are_counted_beside_the_status(lab: Lab) -> None:
    port = start_origin(lab)
    become(port, fail="503")

    def kind(head: bytes) -> str | None:
        found = re.search(rb"Server: ([a-z]+)", head)
        return found[1].decode() if found else None

    result = open_loop.run(Plan(port=port, rate=100, seconds=0.5, timeout=30.0, kind=kind))
    assert result.counts() == {"503": 50, "503 origin": 50}
    assert result.good() == []
    assert len(result.latencies(lambda outcome, name: name == "origin")) == 50


def test_targets_are_taken_in_turn_and_answers_may_come_in_pieces(lab: Lab) -> None:
    port = start_origin(lab)
    result = open_loop.run(Plan(port=port, rate=50, seconds=1.0, targets=("/small", "/1m"), timeout=60.0))
    assert result.counts() == {"200": 50}


@pytest.mark.parametrize("piece", [1, 7, 10_000])
async def test_the_origin_answers_a_post_only_after_its_content(piece: int) -> None:
    """Whole or in pieces, with the next request already behind it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(Behaviour(0.0, 0)), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        message = b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n" + b"x" * 40
        for start in range(0, len(message) - 1, piece):
            writer.write(message[start : min(start + piece, len(message) - 1)])
            await writer.drain()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)
        writer.write(message[-1:])
        async with asyncio.timeout(30.0):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(101) == b"x" * 101
        writer.close()
        await writer.wait_closed()
