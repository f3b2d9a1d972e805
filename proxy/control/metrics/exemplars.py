"""Request ids for the buckets of the duration histograms: from a slow bucket to a request that can be asked about.

Of kept requests only (faults and slow ones), so that `why` has all of it. Bounded by apps times buckets.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple

from proxy.link.histogram import EXTRA_BOUNDS, OTEL_BOUNDS
from proxy.link.messages import Record

BOUNDS: Final = (*OTEL_BOUNDS, *EXTRA_BOUNDS)
APPS: Final = 512


class Found(NamedTuple):
    id: str
    instance: str
    seconds: float
    at: float  # Unix seconds


class Exemplars:
    """The newest of each app and bucket of the exposition."""

    def __init__(self) -> None:
        self._found: dict[str, dict[int, Found]] = {}

    def add(self, record: Record) -> None:
        seconds = record.total_us / 1e6
        mine = self._found.get(record.app)
        if mine is None:
            if len(self._found) >= APPS:
                del self._found[next(iter(self._found))]
            mine = self._found[record.app] = {}
        place = bisect_left(BOUNDS, seconds)
        before = mine.get(place)
        if before is None or record.time >= before.at:
            mine[place] = Found(record.id, record.instance, seconds, record.time)

    def snapshot(self) -> dict[tuple[str, str], dict[int, Found]]:
        """By (app, instance) and bucket (len(BOUNDS) is the last); for any thread."""
        made: dict[tuple[str, str], dict[int, Found]] = {}
        for app, mine in self._found.items():
            for place, one in mine.items():
                made.setdefault((app, one.instance), {})[place] = one
        return made
