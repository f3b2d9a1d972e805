"""A worker died, or hangs."""

from __future__ import annotations

from typing import Final

from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import GatewayScene

LATELY: Final = 15.0


def look(scene: GatewayScene) -> Found | None:
    silent = [one for one in scene.workers if one.state == "silent"]
    lately = [one for one in scene.deaths if scene.unix - one[0] <= LATELY]
    live = [one for one in scene.workers if one.state in ("alive", "silent", "draining")]
    if scene.planned and not lately and not silent:
        return None
    if not silent and not lately:
        return None
    if lately:
        says, since = lately[-1][1], lately[0][0]
        if len(scene.deaths) > 1:
            says += f"; {len(scene.deaths)} such ends in a minute"
    else:
        says, since = f"worker{silent[0].slot + 1} is {silent[0].why}", scene.unix - (scene.now - silent[0].heard)
    return Found("worker", says, "degraded" if live else "down", "certain", since)


SIGNAL = Signal("worker", "gateway", "a worker died or was silent, and nobody had asked for it", look)
