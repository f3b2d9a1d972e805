"""What a rule does: one file each, and this registry in the order of the docs."""

from __future__ import annotations

from typing import Final

from proxy.control.autoheal.actions import collect, diagnose, eject, recycle, restart, run, scale
from proxy.control.autoheal.firing import Action

ACTIONS: Final[dict[str, Action]] = {
    action.name: action
    for action in (
        collect.ACTION,
        diagnose.ACTION,
        recycle.ACTION,
        restart.ACTION,
        eject.ACTION,
        scale.ACTION,
        run.ACTION,
    )
}
