"""Instances fail to start, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene
from proxy.control.state import AppState, InstanceState, Lifecycle

OFTEN: Final = 1.7
"""Start failures of late (they are halved each minute): two in a row, a single one may be an accident."""


def look(scene: AppScene) -> Found | None:
    """Those that should replace what still serves are `not-replaced`."""
    app = scene.app
    if app.state == "stopped" or not app.wanted or len(app.ready) >= app.wanted:
        return None
    failing = that_fail(app)
    if not failing:
        return None
    return Found(
        "crash-loop", f"{said(failing)}; {len(app.ready)} of {app.wanted} ready",
        "degraded" if app.serving else "down", "certain",
        min(one.started_at or one.changed_at for one in failing), tuple(one.name for one in failing[:5]),
    )  # fmt: skip


def that_fail(app: AppState) -> list[InstanceState]:
    return [
        one
        for one in app.instances.values()
        if one.lifecycle is Lifecycle.FAILED
        or (one.lifecycle in (Lifecycle.BACKOFF, Lifecycle.STARTING, Lifecycle.WARMING) and one.failures >= OFTEN)
    ]


def said(failing: Sequence[InstanceState]) -> str:
    worst = next((one for one in failing if one.lifecycle is Lifecycle.FAILED), failing[0])
    told = next((one.why for one in failing if one.lifecycle in (Lifecycle.BACKOFF, Lifecycle.FAILED) and one.why), "")
    exited = worst.last_exit
    why = told or (f"ended: {exited.words}" if exited is not None else worst.why)
    more = f" and {len(failing) - 1} more" if len(failing) > 1 else ""
    return f"{worst.name}{more} can't start, tried again and again: {why}"


SIGNAL = Signal("crash-loop", "app", "an instance failed to start twice in a row, or is `failed`", look)
