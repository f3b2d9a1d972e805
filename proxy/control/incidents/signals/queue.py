"""Requests wait for a slot, or are turned away because none comes free."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents import window
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene

REFUSED: Final = frozenset({"queue-full", "queue-timeout", "shed"})
WITHIN: Final = 10.0
LEAST: Final = 5
SHARE: Final = 0.02
WAITS_FOR: Final = 30.0
"""Seconds for which at each look some requests waited: a burst is over by then."""
SEVERAL: Final = 5


def look(scene: AppScene) -> Found | None:
    """Refusals at once; that they wait, only when it lasts. A hold and a planned act make requests wait too."""
    app = scene.app
    if app.state != "up" or not app.wanted:
        return None
    refused = window.over(scene, WITHIN, _refused)
    if refused is not None and refused.hit >= LEAST and refused.share >= SHARE:
        since = window.first_sign(scene, refused, _refused)
        down = refused.hit >= 2 * LEAST and refused.share >= 0.9 and scene.unix - since >= WITHIN - 1.0
        return Found(
            "queue",
            f"{units.count(refused.hit)} of {units.count(refused.asked)} requests were turned away in "
            f"{refused.seconds:.0f} s with {refused.main}: no slot came free; {_slots(scene)}",
            "down" if down else "degraded", "certain", since,
        )  # fmt: skip
    if scene.series is None or app.gap or scene.planned or not scene.waiting_since:
        return None
    waiting = []
    for back in range(0, int(WAITS_FOR) + 1, 2):
        reading = scene.series.before(scene.now - back)
        if reading is None or reading.at < scene.now - back - 3.0 or reading.queue < SEVERAL:
            return None
        waiting.append(reading.queue)
    return Found(
        "queue",
        f"for {units.duration(WAITS_FOR)} at least {units.count(min(waiting))} requests have waited for a slot, now "
        f"{units.count(waiting[0])}, the oldest for {units.duration(max(0.0, scene.now - scene.waiting_since))}; "
        f"{_slots(scene)}",
        "degraded", "certain", scene.unix - WAITS_FOR,
    )  # fmt: skip


def _refused(name: str) -> bool:
    return name in REFUSED


def _slots(scene: AppScene) -> str:
    last = scene.series.last if scene.series is not None else None
    if last is None or not last.slots:
        return f"{len(scene.app.serving)} instances serve"
    return f"{units.count(last.inflight)} of {units.count(last.slots)} slots are taken"


SIGNAL = Signal("queue", "app", "2 % of the requests of 10 s, 5 at least, found no slot; or 5 wait for 30 s", look)
