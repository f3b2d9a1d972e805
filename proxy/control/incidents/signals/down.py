"""Nothing of an app can be served."""

from __future__ import annotations

from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene
from proxy.control.state import Admission, AppState, InstanceState, Lifecycle

COMING = (Lifecycle.STARTING, Lifecycle.WARMING)
GOING = (Lifecycle.DRAINING, Lifecycle.STOPPING, Lifecycle.STOPPED)


def look(scene: AppScene) -> Found | None:
    """Not while a planned act has its requests wait, nor while what was asked for starts for the first time."""
    app = scene.app
    if app.state != "up" or not app.wanted or app.serving or app.gap or scene.young:
        return None
    others = [one for one in app.instances.values() if one.lifecycle not in GOING]
    if scene.planned and all(untroubled(one) for one in others):
        return None
    since = max((one.changed_at for one in app.instances.values()), default=scene.unix)
    ended = [one.at for one in app.ended if not one.ours and 0.0 <= scene.unix - one.at <= 60.0]
    return Found(
        "down", f"{app.name} can't be served: {len(app.ready)} of {app.wanted} ready{why(app)}", "down", "certain",
        min(scene.unix, *(ended[-1:] or [since])), tuple(one.name for one in others[:5]),
    )  # fmt: skip


def untroubled(one: InstanceState) -> bool:
    """It comes, and nothing has gone wrong with it or with what it replaces."""
    exited = one.last_exit is not None and not one.last_exit.ours
    return one.lifecycle in COMING and one.failures < 0.5 and not exited


def why(app: AppState) -> str:
    """Of the instance that says most."""
    out = [one for one in app.ready if one.admission is Admission.EJECTED]
    if out:
        return f"; {out[0].name} is ejected: {out[0].ejection.reason or out[0].why}"
    others = [one for one in app.instances.values() if one.lifecycle not in (*GOING, Lifecycle.READY)]
    told = next((one for one in others if one.lifecycle in (Lifecycle.FAILED, Lifecycle.BACKOFF)), None)
    told = told or next(iter(others), None)
    if told is None:
        return ""
    last = told.last_exit
    after = f", after {last.name} ended: {last.words}" if last and not last.ours and last.name != told.name else ""
    return f"; {told.name} is {told.lifecycle}{f': {told.why}' if told.why else ''}{after}"


SIGNAL = Signal("down", "app", "instances are wanted and none can get a request, and no planned act explains it", look)
