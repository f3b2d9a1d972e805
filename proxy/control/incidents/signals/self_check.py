"""The gateway does not answer itself, through its own listener."""

from __future__ import annotations

from typing import Final

from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import GatewayScene

FAILS: Final = 2
"""In a row, a second apart: a single one may be a moment of a busy machine."""


def look(scene: GatewayScene) -> Found | None:
    check = scene.check
    if check is None or check.ok or check.fails < FAILS:
        return None
    return Found(
        "self-check", f"the gateway does not answer itself: {check.words}", "down", "certain", check.since or scene.unix
    )


SIGNAL = Signal("self-check", "gateway", "its own question to its own listener failed twice in a row", look)
