"""One grammar for every condition, in autoheal, scale, alerts and diagnose.

`{ KIND = { above | below, for, within, count, path } }`: what a threshold is measured in follows from its
kind. Some kinds look for something that is no threshold, and have a key of their own: `status.codes`,
`fault.names`, `changed.files`, `schedule.cron`, `metric.name` and `event.kinds`.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

STEPS: Final = ("collect", "diagnose", "recycle", "restart", "eject", "scale", "run")

AMOUNTS: Final[dict[str, tuple[str, ...]]] = {
    "requests": ("number",),
    "slow": ("duration",),
    "status": (),
    "fault": (),
    "fault_ratio": ("ratio",),
    "memory": ("size", "ratio"),
    "cpu": ("ratio",),
    "stuck": ("duration",),
    "crashes": ("number",),
    "unhealthy": ("number", "ratio"),
    "age": ("duration",),
    "descriptors": ("number", "ratio"),
    "queue": ("number",),
    "inflight": ("number", "ratio"),
    "changed": (),
    "schedule": (),
    "metric": ("number", "duration", "size", "ratio"),
    "event": (),
}
"""Kinds, and what `above` and `below` are measured in; a ratio is of the instance's limit."""

OWN_KEYS: Final = {
    "status": "codes", "fault": "names", "changed": "files", "schedule": "cron", "metric": "name", "event": "kinds",
}  # fmt: skip

ALERTS_ONLY: Final = ("metric", "event")
"""Kinds that look at more than readings of an app: any metric, any event."""
METRICS: Final = (
    "requests", "faults", "status_1xx", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "status_none",
    "response_time", "wait_time", "own_time", "in_flight", "queue", "queue_oldest", "bytes_in", "bytes_out", "connects",
    "retries", "connections", "cpu", "cpu_time", "memory", "memory_average", "memory_private", "threads", "processes",
    "descriptors", "io_read", "io_write", "exits", "ready", "wanted", "unhealthy", "loop_lag",
    "control_lag", "gateway_cpu", "gateway_memory", "client_connections", "accepted", "tunnels", "records_dropped",
    "log_lost", "output_lost", "store_dropped", "host_cpu", "host_memory_available", "host_load", "disk_free",
)  # fmt: skip
"""Ids of the metrics that a `metric` condition may name: of control's table those that are known second by second, as
a test sees to."""
FURTHEST: Final = 900.0
"""Seconds that it looks back."""
MOST_EVENTS: Final = 10_000
"""That an `event` condition counts."""

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "heal": tuple(name for name in AMOUNTS if name not in ("queue", "inflight", *ALERTS_ONLY)),
    "scaling": ("cpu", "memory", "queue", "inflight", "requests", "slow", "schedule"),
    "alarm": tuple(name for name in AMOUNTS if name not in ("changed", "schedule")),
}
"""Where which kinds may stand."""


def _says(text: str, kind: str = "", **also: object) -> Meta:
    return Meta(description=text, extra={"kind": kind, **also} if kind or also else None)


class Condition(Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """`kind` is the key it stood under.

    `relative`: above and below are ratios, of the instance's limit where it has one.
    """

    kind: str
    above: Annotated[float | None, _says("more than this", "amount")] = None
    below: Annotated[float | None, _says("less than this", "amount")] = None
    relative: bool = False
    for_: Annotated[float, _says("without a break for so long", "duration")] = 0.0
    within: Annotated[float, _says("looking back so far", "duration", least=1)] = 60.0
    count: Annotated[int, _says("so many at least", least=1, most=10_000_000)] = 1
    path: Annotated[str | None, _says("only these requests; `*` stands for any letters", "path-pattern")] = (
        None
    )
    codes: Annotated[
        tuple[tuple[int, int], ...], _says('`status`: `"500-599"`, `">=500"`, or a list', "statuses")
    ] = ()
    names: Annotated[tuple[Annotated[str, _says("", "fault")], ...], _says("`fault`: names of faults")] = ()
    files: Annotated[
        tuple[Annotated[str, _says("", "glob")], ...], _says("`changed`: these files, relative to `cwd`")
    ] = ()
    cron: Annotated[str | None, _says("`schedule`: minute, hour, day, month, weekday", "cron")] = None
    name: Annotated[str, _says("`metric`: its id, as `triage metrics` lists it", "metric")] = ""
    kinds: Annotated[
        tuple[Annotated[str, _says("", "event-kind")], ...],
        _says("`event`: kinds of events, as `triage events` has them"),
    ] = ()


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    """One act of an autoheal rule; `by` is how many instances `scale` adds."""

    act: str
    run: tuple[str, ...] = ()
    by: int = 0
