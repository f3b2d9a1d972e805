"""Slots hold over all workers, and who waits in one worker is not starved by the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.e2e.client import at_once
from tests.e2e.support import Triage, shop_config

pytestmark = pytest.mark.slow

ONE_SLOT = 'max_inflight = 1\nqueue = { size = 1000, timeout = "60s" }\ntimeouts = { first_byte = "60s" }'


def test_one_slot_two_workers_fifty_clients(gateway: Callable[..., Triage]) -> None:
    longest: list[float] = []
    for turn, workers in enumerate((1, 2, 1, 2, 1, 2)):  # who is starved is so each time; who waits for a core, seldom
        running = gateway(shop_config(instances=1, workers=workers, app=ONE_SLOT), name=f"w{turn}")
        answers = at_once(running.port, "/slow?s=0.01", clients=50, each=3)
        assert Counter(answer.status for answer in answers) == {200: 150}, Counter(
            answer.error or answer.body for answer in answers
        )
        longest.append(max(answer.seconds for answer in answers))
        running.end()
        if workers == 2 and longest[-1] < 2 * longest[-2]:
            break
    else:
        pytest.fail(f"longest waits, with one worker and with two in turn: {longest}")
