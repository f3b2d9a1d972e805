"""One point: what happened to one instance in the seconds up to `at`, and how it stood then.

Counts are those of the interval, not cumulative: points are added by adding counts, so that percentiles come from
merged histograms and a restart of anything leaves no jump. Gauges are of the end of the interval, or its largest
value or its mean, as said. The point of an app as a whole (instance "*") has the sum of all its counts, also of
requests that reached no instance, and the gauges that only an app has.

The stored form is a msgpack array: new fields go to the end and have a default, so that older ones are read for ever.
"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.link import histogram

FORM: Final = 1
STEPS: Final = (10, 60, 3600)
"""Seconds of a point, of each tier."""


class Point(msgspec.Struct, array_like=True):
    """None: it was not known."""

    form: int = FORM
    layout: int = histogram.LAYOUT
    seconds: float = 0.0  # that it spans
    # counts
    requests: int = 0
    classes: list[int] = msgspec.field(default_factory=lambda: [0] * 6)  # 1xx … 5xx, none
    faults: dict[str, int] = {}
    watched: dict[str, int] = {}  # by link.Watch.key
    total: dict[int, int] = {}  # sparse histogram of whole requests
    total_sum: float = 0.0
    wait: dict[int, int] = {}  # sparse histogram of waits for the response head
    wait_sum: float = 0.0
    own_sum: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    connects: int = 0
    retries: int = 0
    exits: int = 0  # unplanned ends; of an app only
    # gauges
    inflight: int = 0  # largest
    slots: int = 0
    queue: int = 0  # largest; of an app only
    oldest_wait: float = 0.0  # largest, seconds
    memory: int | None = None  # bytes of the process tree, at the end
    memory_max: int | None = None
    memory_limit: int | None = None
    cpu: float | None = None  # cores, mean
    cpu_limit: float | None = None
    threads: int | None = None
    processes: int | None = None
    descriptors: int | None = None
    descriptor_limit: int | None = None
    age: float = 0.0  # seconds since it became ready
    probes_failed: int = 0  # in a row, largest
    lifecycle: str = ""
    admission: str = ""
    # of an app only
    instances: int = 0  # wanted
    ready: int = 0
    unhealthy: int = 0  # largest
    files: str = ""
    config: str = ""


encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Point).decode


def decode(body: bytes) -> Point | None:
    """None: it cannot be read, or its histograms have another layout."""
    try:
        point = _decode(body)
    except msgspec.MsgspecError:
        return None
    return point if point.form == FORM and point.layout == histogram.LAYOUT else None


def add(into: Point, later: Point) -> None:
    """Make `into` the point of both intervals."""
    spans = into.seconds + later.seconds
    for name in _COUNTS:
        setattr(into, name, getattr(into, name) + getattr(later, name))
    for name in _LARGEST:
        setattr(into, name, max(getattr(into, name), getattr(later, name)))
    into.classes = [one + other for one, other in zip(into.classes, later.classes, strict=True)]
    for mine, other in ((into.faults, later.faults), (into.watched, later.watched)):
        for key, count in other.items():
            mine[key] = mine.get(key, 0) + count
    histogram.merge(into.total, later.total)
    histogram.merge(into.wait, later.wait)
    if into.cpu is not None and later.cpu is not None and spans:
        into.cpu = (into.cpu * into.seconds + later.cpu * later.seconds) / spans
    elif later.cpu is not None:
        into.cpu = later.cpu
    if later.memory_max is not None:
        into.memory_max = max(into.memory_max or 0, later.memory_max)
    for name in _LAST:
        value = getattr(later, name)
        if value is not None:
            setattr(into, name, value)
    into.seconds = spans


_COUNTS: Final = (
    "requests", "total_sum", "wait_sum", "own_sum", "bytes_in", "bytes_out", "connects", "retries", "exits",
)  # fmt: skip
_LARGEST: Final = ("inflight", "queue", "oldest_wait", "probes_failed", "unhealthy")
_LAST: Final = (
    "slots", "memory", "memory_limit", "cpu_limit", "threads", "processes", "descriptors", "descriptor_limit", "age",
    "lifecycle", "admission", "instances", "ready", "files", "config",
)  # fmt: skip


def merged(one: bytes, other: bytes) -> bytes:
    """SQL function: two stored points of the same time (the clock was set back), as one."""
    first, second = decode(one), decode(other)
    if first is None or second is None:
        return other if first is None else one
    add(first, second)
    return encode(first)


class Roll:
    """SQL aggregate: stored points in order, as one. Those that cannot be read are left out."""

    def __init__(self) -> None:
        self._sum = Point()

    def step(self, body: bytes) -> None:
        point = decode(body)
        if point is not None:
            add(self._sum, point)

    def finalize(self) -> bytes:
        return encode(self._sum)
