"""Counts of one (app, instance) in one worker: integers and arrays, added to once per request."""

from __future__ import annotations

from array import array

from proxy.link.histogram import BUCKETS
from proxy.link.messages import Row


class Tally:
    """Cumulative since the worker's start; `row()` is what goes over the link."""

    __slots__ = (
        "app", "bytes_in", "bytes_out", "classes", "connects", "dirty", "faults", "instance", "own_sum", "requests",
        "retries", "total", "total_sum", "wait", "wait_sum",
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
        self.total = array("Q", bytes(8 * BUCKETS))
        self.wait = array("Q", bytes(8 * BUCKETS))
        self.total_sum = 0.0
        self.wait_sum = 0.0
        self.own_sum = 0.0
        self.dirty = False

    def fault(self, name: str) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1
        self.dirty = True

    def row(self) -> Row:
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
            {index: count for index, count in enumerate(self.total) if count},
            self.total_sum,
            {index: count for index, count in enumerate(self.wait) if count},
            self.wait_sum,
            self.own_sum,
        )
