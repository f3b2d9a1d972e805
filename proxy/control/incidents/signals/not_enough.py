"""Fewer instances serve than are wanted."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene
from proxy.control.incidents.signals.down import untroubled, why

AFTER: Final = 10.0
"""Seconds for which none of its states changed: what is under way comes to its end by itself."""


def look(scene: AppScene) -> Found | None:
    """Not those that come, nor a planned act."""
    app = scene.app
    if app.state != "up" or not app.wanted or not app.serving or app.gap or scene.planned or scene.young:
        return None
    if len(app.ready) >= app.wanted:
        return None
    coming = [one for one in app.instances.values() if untroubled(one)]
    lacking = app.wanted - len(app.ready) - len(coming)
    changed = max((one.changed_at for one in app.instances.values()), default=0.0)
    last = max((one.at for one in app.ended), default=0.0)
    if lacking <= 0 or scene.unix - max(changed, last) < AFTER:
        return None
    return Found(
        "not-enough",
        f"{len(app.ready)} of {app.wanted} instances are ready, for "
        f"{units.duration(scene.unix - max(changed, last))}{why(app)}",
        "degraded", "certain", max(changed, last),
        tuple(one.name for one in app.instances.values() if one not in app.ready)[:5],
    )  # fmt: skip


SIGNAL = Signal("not-enough", "app", "fewer instances are ready than wanted, none comes, and no act is under way", look)
