"""One line on what is wrong with an app. Pure."""

from __future__ import annotations

from proxy.control.state import Admission, AppState, Lifecycle


def degraded(app: AppState, not_replaced: str = "") -> str:
    """ "" when nothing is. `not_replaced`: why instances run what they should no longer run, or ""."""
    going = (Lifecycle.DRAINING, Lifecycle.STOPPING)
    others = [one for one in app.instances.values() if one.lifecycle not in (*going, Lifecycle.READY)]
    ready = app.ready
    failing = [one.name for one in ready if one.failing]
    ejected = [one for one in ready if one.admission is Admission.EJECTED]
    if app.wanted == 0:
        return ""
    if ready and len(failing) == len(ready):
        return f"checks fail on all, still serving: {ready[0].why.rpartition(': ')[2]}"
    if len(ready) < app.wanted:
        why = f": {others[0].name} {others[0].lifecycle}, {others[0].why}" if others else ""
        return f"{len(ready)} of {app.wanted} ready{why}"
    if not_replaced:
        return not_replaced
    if ejected:
        return f"{len(ejected)} of {len(ready)} ejected: {ejected[0].name}, {ejected[0].ejection.reason}"
    return f"{', '.join(failing)} failing, still serving" if failing else ""
