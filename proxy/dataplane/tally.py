"""Counts of one (app, instance) in one worker: integers and lists of them, added to once per request."""

from __future__ import annotations

from itertools import compress
from typing import Final

from proxy.link.histogram import BUCKETS
from proxy.link.messages import Row

_PLACES: Final = range(BUCKETS)


class Tally:
    """Cumulative since the worker's start; `row()` is what goes over the link."""

    __slots__ = (
        "app", "bytes_in", "bytes_out", "classes", "connects", "dirty", "faults", "instance", "own_sum", "requests",
        "retries", "total", "total_sum", "wait", "wait_sum", "watched",
    )  # fmt: skip

    def __init__(self, app: str, instance: str) -> None:
        self.app = app
        self.instance = instance
        self.requests = 0
        self.classes = [0, 0, 0, 0, 0, 0]
        """1xx, 2xx, 3xx, 4xx, 5xx, none."""
        self.faults: dict[str, int] = {}
        self.bytes_in = 0
        self.bytes_out = 0
        self.connects = 0
        self.retries = 0
        self.total = [0] * BUCKETS
        self.wait = [0] * BUCKETS
        self.total_sum = 0.0
        self.wait_sum = 0.0
        self.own_sum = 0.0
        self.watched: dict[str, int] = {}
        """By watch; see watches.py."""
        self.dirty = False

    def fault(self, name: str) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1
        self.dirty = True

    def row(self) -> Row:
        """What is counted by now: it is clean again."""
        self.dirty = False
        return Row(
            self.app,
            self.instance,
            self.requests,
            list(self.classes),
            dict(self.faults),
            self.bytes_in,
            self.bytes_out,
            self.connects,
            self.retries,
            _sparse(self.total),
            self.total_sum,
            _sparse(self.wait),
            self.wait_sum,
            self.own_sum,
            dict(self.watched),
        )


def _sparse(counts: list[int]) -> dict[int, int]:
    """Without the zeros. In C alone: as a comprehension a thousand rows took 10 ms."""
    return dict(zip(compress(_PLACES, counts), filter(None, counts), strict=True))
