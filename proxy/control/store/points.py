"""One point: what happened to one instance in the seconds up to `at`, and how it stood then.

Counts are those of the interval, not cumulative: points are added by adding counts, so that percentiles come from
merged histograms and a restart of anything leaves no jump. Gauges are of the end of the interval, or its largest
value or its mean, as said. The point of an app as a whole (instance "*") has the sum of all its counts, also of
requests that reached no instance, and the gauges that only an app has. App "" is Triage itself: "worker1" …,
"control", "launcher", "host", and "*" for all its processes; what only they have is in `own`.

The stored form is msgpack, a point an array: new fields go to the end and have a default, so that older ones are read
for ever.
"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.control.store import packed
from proxy.link import histogram

FORM: Final = 1
STEPS: Final = (10, 60, 3600)
"""Seconds of a point, of each tier."""


class Own(msgspec.Struct, array_like=True):
    """Of Triage's own processes, all of them ("*"), or the host. None: it has none, or it was not known."""

    lag: float | None = None  # seconds that its loop was late, largest
    clients: int | None = None  # connections of clients, at the end
    tunnels: int | None = None
    accepted: int | None = None  # counts
    records_dropped: int | None = None
    log_lost: int | None = None
    output_lost: int | None = None  # bytes
    store_dropped: int | None = None
    memory_available: int | None = None  # bytes, smallest
    load: float | None = None  # of one minute, mean
    disk_free: int | None = None  # bytes, of data_dir, at the end


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
    # later ones
    memory_mean: float | None = None
    private: int | None = None  # bytes of memory that it shares with nobody, at the end
    io_read: int | None = None  # bytes from disks, in the interval
    io_write: int | None = None
    connections: int | None = None  # sockets of the process tree, at the end
    cpu_ms: int | None = None  # CPU time in the interval
    restarts: int = 0  # starts that took the place of one before, in the interval
    inflight_mean: float | None = None
    queue_mean: float | None = None  # of an app only
    queue_oldest: float = 0.0  # seconds that the oldest has waited for a slot, largest; of an app only
    uptime: float = 0.0  # seconds since the process was started
    own: Own | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[bytes, bytes, Point]).decode
_decode_plain: Final = msgspec.msgpack.Decoder(Point).decode
_PACKED: Final = b"\x01"
"""First byte of what is packed and deflated. A point as earlier ones were written begins as an array."""


def encode(point: Point) -> bytes:
    """Its two histograms, packed, and the rest of it, deflated."""
    try:
        total, wait = packed.pack(point.total), packed.pack(point.wait)
    except ValueError:  # of a layout with more buckets
        return _encode(point)
    return _PACKED + packed.deflate(_encode((total, wait, msgspec.structs.replace(point, total={}, wait={}))))


def decode(body: bytes) -> Point | None:
    """None: it cannot be read, or its histograms have another layout."""
    try:
        if body[:1] == _PACKED:
            total, wait, point = _decode(packed.inflate(body[1:]))
            point.total, point.wait = packed.unpack(total), packed.unpack(wait)
        else:
            point = _decode_plain(body)
    except (msgspec.MsgspecError, ValueError, IndexError):
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
    for name in _MEANS:
        mine, other = getattr(into, name), getattr(later, name)
        if mine is not None and other is not None and spans:
            setattr(into, name, number((mine * into.seconds + other * later.seconds) / spans))
        elif other is not None:
            setattr(into, name, other)
    for name in _MAYBE_COUNTS:
        mine, other = getattr(into, name), getattr(later, name)
        if other is not None:
            setattr(into, name, (mine or 0) + other)
    if later.own is not None:
        into.own = _own(into.own, into.seconds, later.own, later.seconds)
    if later.memory_max is not None:
        into.memory_max = max(into.memory_max or 0, later.memory_max)
    for name in _LAST:
        value = getattr(later, name)
        if value is not None:
            setattr(into, name, value)
    into.seconds = spans


_COUNTS: Final = (
    "requests", "total_sum", "wait_sum", "own_sum", "bytes_in", "bytes_out", "connects", "retries", "exits",
    "restarts",
)  # fmt: skip
_LARGEST: Final = ("inflight", "queue", "oldest_wait", "probes_failed", "unhealthy", "queue_oldest")
_LAST: Final = (
    "slots", "memory", "memory_limit", "cpu_limit", "threads", "processes", "descriptors", "descriptor_limit", "age",
    "lifecycle", "admission", "instances", "ready", "files", "config", "private", "connections", "uptime",
)  # fmt: skip
_MEANS: Final = ("memory_mean", "inflight_mean", "queue_mean")
_MAYBE_COUNTS: Final = ("io_read", "io_write", "cpu_ms")
_OWN_COUNTS: Final = ("accepted", "records_dropped", "log_lost", "output_lost", "store_dropped")
_OWN_LAST: Final = ("clients", "tunnels", "disk_free")


def number(value: float) -> float:
    """With four digits behind the point at most; a whole one takes less room on the disk as such."""
    return int(value) if value == int(value) else round(value, 4)


def _own(mine: Own | None, seconds: float, other: Own, more: float) -> Own:
    if mine is None:
        return other
    made = msgspec.structs.replace(other)
    for name in _OWN_LAST:
        if getattr(other, name) is None:
            setattr(made, name, getattr(mine, name))
    for name in _OWN_COUNTS:
        if getattr(mine, name) is not None:
            setattr(made, name, getattr(mine, name) + (getattr(other, name) or 0))
    if mine.lag is not None:
        made.lag = max(mine.lag, other.lag or 0.0)
    if mine.memory_available is not None:
        last = other.memory_available
        made.memory_available = mine.memory_available if last is None else min(mine.memory_available, last)
    if mine.load is not None:
        known = other.load if other.load is not None else mine.load
        made.load = number((mine.load * seconds + known * more) / (seconds + more)) if seconds + more else known
    return made


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
