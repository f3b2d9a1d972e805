"""Workers turn connections away."""

from __future__ import annotations

from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import GatewayScene


def look(scene: GatewayScene) -> Found | None:
    if not scene.shedding:
        return None
    name, why = next(iter(scene.shedding.items()))
    more = f", and {len(scene.shedding) - 1} more" if len(scene.shedding) > 1 else ""
    return Found("shedding", f"{name}{more} turns connections away: {why}", "degraded", "certain", scene.unix)


SIGNAL = Signal("shedding", "gateway", "a worker is at its limit of connections, descriptors, memory or lag", look)
