"""Instances get no requests, or should get none, for faults or failing checks."""

from __future__ import annotations

from typing import Final

from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene
from proxy.control.state import Admission

BY: Final = ("probe", "faults")
"""What a person or a rule ejected is an act, and no sign."""


def look(scene: AppScene) -> Found | None:
    app = scene.app
    if app.state == "stopped" or not app.wanted or scene.young:
        return None
    ready = app.ready
    out = [one for one in ready if one.admission is not Admission.ADMITTING and one.ejection.by in BY]
    failing = [one for one in ready if one.failing and one not in out]
    bad = [*out, *failing]
    if not bad:
        return None
    first = bad[0]
    reason = first.ejection.reason or first.why
    if out:
        says = f"{len(out)} of {len(ready)} instances get no requests: {first.name}, {reason}"
    elif len(failing) == len(ready):
        says = f"checks fail on all {len(ready)}, which serve on: {first.name}, {reason}"
    else:
        says = f"{len(failing)} of {len(ready)} instances fail, and serve on: {first.name}, {reason}"
    return Found(
        "ejected", says, "degraded" if app.serving else "down", "certain", scene.unix,
        tuple(one.name for one in bad[:10]),
    )  # fmt: skip


SIGNAL = Signal("ejected", "app", "an instance is ejected by faults or checks, or fails and serves on", look)
