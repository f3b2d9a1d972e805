"""What should have been replaced serves on, because its replacement does not get ready."""

from __future__ import annotations

from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene
from proxy.control.incidents.signals import crash_loop


def look(scene: AppScene) -> Found | None:
    app = scene.app
    if app.state == "stopped" or not app.wanted:
        return None
    failing = crash_loop.that_fail(app)
    says = app.not_replaced
    if not says and failing and len(app.ready) >= app.wanted:
        says = f"{crash_loop.said(failing)}; what it should replace serves on"
    if not says:
        return None
    since = min((one.started_at or one.changed_at for one in failing), default=scene.unix)
    return Found("not-replaced", says, "degraded", "certain", since, tuple(one.name for one in failing[:5]))


SIGNAL = Signal(
    "not-replaced", "app", "a replacement did not get ready, and what ran before serves on", look, touches=False
)
