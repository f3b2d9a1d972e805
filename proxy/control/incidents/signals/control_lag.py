"""Control itself is late: probes, rules and this very look are, too."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import GatewayScene

LATE: Final = 1.0


def look(scene: GatewayScene) -> Found | None:
    if scene.control_lag < LATE:
        return None
    return Found(
        "control-lag",
        f"control's loop has been at least {units.duration(scene.control_lag)} late for 10 s: requests go on, probes "
        "and rules come late",
        "degraded", "certain", scene.unix - 10.0,
    )  # fmt: skip


SIGNAL = Signal("control-lag", "gateway", "control's own loop was 1 s late or more for 10 s", look, touches=False)
