"""What may be wrong, one file each. One ordered registry: what explains more stands before what it explains.

To add one is to add one file and one line of ALL.
"""

from __future__ import annotations

from typing import Final

from proxy.control.incidents.contract import Signal
from proxy.control.incidents.signals import (
    certificate,
    control_lag,
    crash_loop,
    crashes,
    disk,
    disk_full,
    down,
    ejected,
    faults,
    host_cpu,
    host_memory,
    loop_lag,
    losses,
    memory,
    not_enough,
    not_replaced,
    queue,
    self_check,
    shedding,
    slow,
    workers,
)

ALL: Final[tuple[Signal, ...]] = (
    host_memory.SIGNAL,
    disk_full.SIGNAL,
    disk.SIGNAL,
    host_cpu.SIGNAL,
    workers.SIGNAL,
    self_check.SIGNAL,
    shedding.SIGNAL,
    loop_lag.SIGNAL,
    certificate.SIGNAL,
    losses.SIGNAL,
    control_lag.SIGNAL,
    crash_loop.SIGNAL,
    crashes.SIGNAL,
    down.SIGNAL,
    ejected.SIGNAL,
    faults.SIGNAL,
    queue.SIGNAL,
    slow.SIGNAL,
    memory.SIGNAL,
    not_replaced.SIGNAL,
    not_enough.SIGNAL,
)

SIGNALS: Final[dict[str, tuple[Signal, ...]]] = {
    scope: tuple(one for one in ALL if one.scope == scope) for scope in ("host", "gateway", "app")
}
RANK: Final[dict[str, int]] = {one.name: place for place, one in enumerate(ALL)}
TOUCHING: Final[dict[str, frozenset[str]]] = {
    scope: frozenset(one.name for one in found if one.touches) for scope, found in SIGNALS.items()
}
"""Those that may be behind what apps suffer, or are what an app may suffer from others."""
