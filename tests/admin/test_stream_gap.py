"""What a client that comes back gets of the events it missed, out of a real store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy.admin.events import BACK, Wanted, _before_ring
from proxy.control.state import Event, Events
from proxy.control.store import Store
from proxy.control.store.retention import Limits

COUNT = BACK + 500
pytestmark = pytest.mark.slow


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(tmp_path, Events(), lambda *said, **more: None, Limits(1 << 30))
    await made.open()
    began = time.time() - 60.0
    for number in range(1, COUNT + 1):
        made.event(Event(number, began + number / 1000, "ready", "web" if number % 2 else "away", "", "it is", {}))
    assert await made.flush(40.0)
    yield made
    await made.close()


async def missed(store: Store, wanted: Wanted, last: int, until: int = COUNT + 1) -> tuple[list[int], int]:
    found, dropped = await _before_ring(SimpleNamespace(store=store), wanted, last, until)  # type: ignore[arg-type]
    return [event.id for event in found], dropped


async def test_all_that_the_store_has_come_in_order(store: Store) -> None:
    assert await missed(store, Wanted(), COUNT - 10) == (list(range(COUNT - 9, COUNT + 1)), 0)
    assert await missed(store, Wanted(app="web"), COUNT - 10, COUNT - 3) == ([COUNT - 9, COUNT - 7, COUNT - 5], 0)
    assert await missed(store, Wanted(), COUNT - BACK) == (list(range(COUNT - BACK + 1, COUNT + 1)), 0)


async def test_who_was_away_for_too_long_is_told_how_many_are_lost(store: Store) -> None:
    ids, dropped = await missed(store, Wanted(), 100)
    assert len(ids) == BACK and ids[-1] == COUNT and dropped == ids[0] - 101
    assert await missed(store, Wanted(app="web"), 100) == (list(range(101, COUNT + 1, 2)), 0)  # few enough of this app


async def test_a_store_that_cannot_be_read_is_a_loss_too(store: Store) -> None:
    await store.close()
    ids, dropped = await missed(store, Wanted(), 100)
    assert ids == [] and dropped == COUNT - 100
