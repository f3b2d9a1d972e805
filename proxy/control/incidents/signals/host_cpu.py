"""The host has no time for us."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import HostScene

STEAL: Final = 0.25
BUSY: Final = 0.97
LATE: Final = 0.1
"""Seconds that a worker's loop is late, at least, for 10 s: a busy machine alone is no trouble, one that is late is."""
LOOKS: Final = 8


def look(scene: HostScene) -> Found | None:
    last = scene.past[-LOOKS:]
    if len(last) < LOOKS:
        return None
    since = scene.unix - (scene.now - last[0].at)
    span = units.duration(scene.now - last[0].at)
    stolen = [one.steal for one in last if one.steal is not None]
    if len(stolen) == LOOKS and min(stolen) >= STEAL:
        return Found(
            "host-cpu", f"for {span} other machines on the same hardware took {units.percent(min(stolen))} of the CPU",
            "degraded", "certain", since,
        )  # fmt: skip
    busy = [one.busy for one in last if one.busy is not None]
    if len(busy) == LOOKS and min(busy) >= BUSY and scene.lag >= LATE:
        return Found(
            "host-cpu",
            f"all cores have been busy for {span} ({units.percent(min(busy))}), and requests wait for one: the loop of "
            f"a worker is {units.duration(scene.lag)} late",
            "degraded", "very likely", since,
        )  # fmt: skip
    return None


SIGNAL = Signal("host-cpu", "host", "all cores are busy and workers late, or other machines take the CPU", look)
