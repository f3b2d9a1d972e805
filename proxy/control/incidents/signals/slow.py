"""Answers take far longer than they usually do."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene

FAR: Final = 5.0
"""Times the usual."""
LEAST: Final = 20
LEAST_P90: Final = 100
"""Answers of half a minute: what a few of them say is chance."""
KNOWN: Final = 200
SPAN: Final = 600.0
"""Answers, and seconds with some, from which there is a usual."""


def look(scene: AppScene) -> Found | None:
    """The median, or nine of ten. Not the slowest hundredth: one slow endpoint that is asked more moves that."""
    usual, app = scene.usual, scene.app
    if usual is None or app.state != "up" or scene.planned or scene.young or not app.serving:
        return None
    if usual.before_count < KNOWN or usual.before_span < SPAN or usual.count < LEAST:
        return None
    if any(scene.now - one.ready_since < 60.0 for one in app.serving if one.kind == "process"):
        return None  # caches are cold: that passes
    for word, now, before, least in (
        ("median answer", usual.p50, usual.before_p50, LEAST),
        ("slowest tenth", usual.p90, usual.before_p90, LEAST_P90),
    ):
        if now is None or before is None or usual.count < least or now <= max(scene.slow, FAR * before):
            continue
        verb = "takes" if word == "median answer" else "takes over"
        return Found(
            "slow",
            f"the {word} {verb} {units.duration(now)}, {now / before:,.0f} times as long as in the hour before "
            f"({units.duration(before)}); {units.count(usual.count)} answers in 30 s",
            "degraded", "very likely", usual.since or scene.unix,
        )  # fmt: skip
    return None


SIGNAL = Signal(
    "slow", "app",
    "the median, or the slowest tenth, is five times that of the hour before and beyond gateway.slow", look,
)  # fmt: skip
