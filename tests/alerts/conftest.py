"""Receivers, messages and outboxes for these tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.control.alerts.message import Message
from tests.alerts.receivers import Hook


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    try:
        yield made
    finally:
        made.close()


MESSAGE = Message(
    id=1767582470000, kind="opened", at=1767582470.5, number=31, scope="app", app="web", severity="down",
    signal="faults", cause="12 of 20 requests failed: web-7 exited with code 3", certainty="certain",
    began=1767582461.0, requests=20, hit=12, share=0.6, faults={"instance-exited": 12},
    signals={"faults": "12 of 20 requests failed"}, instances=["web-7"],
    done=[(1767582464.0, "recycle of web/web-7, rule hung")], host="box", base="https://ops.example.com",
    alert="faults", instance="web-7", first=1767582470000,
)  # fmt: skip


@pytest.fixture
def message() -> Callable[..., Message]:
    """One about web's incident 31, with other values where they are given."""

    def make(**fields: Any) -> Message:
        return replace(MESSAGE, **fields)

    return make


@pytest.fixture
def now() -> float:
    return time.monotonic()
