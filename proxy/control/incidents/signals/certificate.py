"""A certificate ends soon."""

from __future__ import annotations

import time
from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import GatewayScene

BEFORE: Final = 14 * units.DAYS


def look(scene: GatewayScene) -> Found | None:
    near = sorted((end, path) for path, end in scene.certificates if end - scene.unix < BEFORE)
    if not near:
        return None
    end, path = near[0]
    on = time.strftime("%Y-%m-%d", time.gmtime(end))
    if end <= scene.unix:
        return Found(
            "certificate", f"the certificate {path} ended on {on}: clients refuse it", "down", "certain", end
        )
    left = (end - scene.unix) / units.DAYS
    return Found(
        "certificate", f"the certificate {path} ends on {on}, in {left:.0f} days", "degraded", "certain", end - BEFORE
    )


SIGNAL = Signal("certificate", "gateway", "a certificate of a listener ends within 14 days", look, touches=False)
