"""Workers' loops are late, so that every request is."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import GatewayScene

LATE: Final = 0.1
"""Seconds, at each look of ten seconds: a single long turn is not it."""


def look(scene: GatewayScene) -> Found | None:
    late = {name: lag for name, lag in scene.lag.items() if lag >= LATE}
    if not late:
        return None
    name = max(late, key=lambda one: late[one])
    return Found(
        "loop-lag", f"the loop of {name} has been at least {units.duration(late[name])} late for 10 s", "degraded",
        "certain", scene.unix - 10.0,
    )  # fmt: skip


SIGNAL = Signal("loop-lag", "gateway", "a worker's loop was 100 ms late or more for 10 s", look)
