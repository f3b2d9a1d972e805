"""The host, or the cgroup that all runs in, has no memory left."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import HostScene

LEFT: Final = 0.03
MOST: Final = 256 * units.MB
STALL: Final = 0.2
SWAP: Final = 2000.0
"""Pages a second, in and out."""
TIGHT: Final = 0.1
LOOKS: Final = 3


def look(scene: HostScene) -> Found | None:
    """Little memory alone is how caches look; it takes three looks, stalls, swapping, or a kill by the kernel."""
    last = scene.past[-LOOKS:]
    host = scene.host
    if host is None or len(last) < LOOKS or host.memory_left is None or not host.memory_total:
        return None
    left = f"{units.size(host.memory_left)} left of {units.size(host.memory_total)}"
    tight = all(one.memory_left is not None and one.memory_left < TIGHT * host.memory_total for one in last)
    first = next((one for one in scene.past if one.oom_kills is not None), None)
    killed = host.oom_kills - first.oom_kills if first and host.oom_kills and first.oom_kills is not None else 0
    since = scene.unix - (scene.now - last[0].at)
    if killed > 0 and tight:
        many = f"{killed} process{'' if killed == 1 else 'es'}"
        return Found(
            "host-memory", f"the kernel killed {many} for memory in the last minute; {left}", "degraded", "certain",
            since,
        )  # fmt: skip
    if all(one.memory_stall is not None and one.memory_stall >= STALL for one in last):
        stall = units.percent(host.memory_stall or 0.0)
        return Found(
            "host-memory", f"for {stall} of the time every process waits for memory; {left}", "degraded", "certain",
            since,
        )  # fmt: skip
    if tight and all((one.swapped or 0.0) >= SWAP for one in last):
        return Found(
            "host-memory", f"the host swaps {host.swapped:,.0f} pages a second; {left}", "degraded", "certain", since
        )
    low = min(MOST, LEFT * host.memory_total)
    if all(one.memory_left is not None and one.memory_left < low for one in last):
        return Found("host-memory", f"memory is used up: {left}", "degraded", "certain", since)
    return None


SIGNAL = Signal(
    "host-memory", "host", "memory is used up, swapped to and fro, waited for, or the kernel kills for it", look
)
