"""One bucket layout for every duration Triage counts.

Log-linear: from 100 µs to 1 h, 8 steps per doubling, with OpenTelemetry's HTTP bounds and 30, 60 and 120 s as
edges besides, so that an exposition in those bounds is exact. A value lies in bucket `i` when
EDGES[i-1] <= value < EDGES[i]; bucket 0 holds all below 100 µs, the last one all from 1 h on.

Counts travel sparse (`{bucket: count}`) with LAYOUT beside them; two layouts are never added.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Final

LAYOUT: Final = 1
OTEL_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds. OpenTelemetry semantic conventions, http.server.request.duration."""
EXTRA_BOUNDS: Final = (30.0, 60.0, 120.0)


def _edges() -> tuple[float, ...]:
    edges = {*OTEL_BOUNDS, *EXTRA_BOUNDS, 3600.0}
    low = 0.0001
    while low < 3600.0:
        edges.update(round(low * (1 + step / 8), 9) for step in range(8))
        low *= 2
    return tuple(sorted(edge for edge in edges if edge <= 3600.0))


EDGES: Final[tuple[float, ...]] = _edges()
BUCKETS: Final = len(EDGES) + 1


def bucket(seconds: float) -> int:
    """The bucket a duration falls into."""
    return bisect_right(EDGES, seconds)


def merge(into: dict[int, int], other: Mapping[int, int]) -> None:
    """Add sparse counts of the same layout."""
    for index, count in other.items():
        into[index] = into.get(index, 0) + count


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """The q-quantile in seconds, by linear interpolation in its bucket; None without a value."""
    total = sum(counts.values())
    if total == 0:
        return None
    rank = q * total
    seen = 0
    for index in sorted(counts):
        count = counts[index]
        if seen + count >= rank:
            low = EDGES[index - 1] if index > 0 else 0.0
            high = EDGES[index] if index < len(EDGES) else EDGES[-1]
            return low + (high - low) * max(0.0, rank - seen) / count
        seen += count
    return EDGES[-1]


def below(counts: Mapping[int, int], bounds: Iterable[float]) -> list[int]:
    """Cumulative counts at `bounds`, each of which must be an edge."""
    places = [bisect_right(EDGES, bound) - 1 for bound in bounds]
    return [sum(count for index, count in counts.items() if index <= place) for place in places]
