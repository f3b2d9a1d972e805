"""Instances that were ready ended, and nobody here had asked for it."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene
from proxy.control.state import AppState, Exit

LATELY: Final = 15.0
"""Seconds after an end in which it is seen."""
COUNTED: Final = 600.0
AHEAD: Final = -5.0
"""What is further in the future was before the clock was set back."""
AGAIN: Final = 2
"""So many ends with code 0 within COUNTED seconds are no accident; a single one is how some apps renew themselves."""


def look(scene: AppScene) -> Found | None:
    app = scene.app
    if app.state == "stopped" or not app.wanted:
        return None
    ends = [one for one in app.ended if AHEAD <= scene.unix - one.at <= COUNTED and _was_ready(app, one)]
    bad = [one for one in ends if one.by_itself or one.signal is not None or one.code]
    seen = bad if bad or len(ends) < AGAIN else ends
    if not seen or scene.unix - seen[-1].at > LATELY:
        return None
    last = seen[-1]
    times = f"; {len(seen)} such ends in 10 min" if len(seen) > 1 else ""
    ours = "" if last.signal is None or last.by_itself else ", not from Triage"
    memory = {"certain": ", killed by the kernel for its memory", "likely": ", likely for want of memory"}
    of_memory = memory.get(last.oom, "") if "memory" not in last.words else ""
    recent = [one for one in seen if scene.unix - one.at <= LATELY]
    return Found(
        "crashes",
        f"{last.name} ended by itself after {units.duration(last.lasted)}: {last.words}{ours}{of_memory}{times}"
        if last.by_itself else f"{last.name} ended: {last.words}{ours}{of_memory}, after"
        f" {units.duration(last.lasted)}{times}",
        "degraded" if app.serving else "down", "certain", recent[0].at,
        tuple(dict.fromkeys(one.name for one in recent)),
    )  # fmt: skip


def _was_ready(app: AppState, ended: Exit) -> bool:
    """It served before it ended, and was not on its way out. A start that fails is another signal."""
    if ended.ours or not ended.name:
        return False
    state = app.instances.get(ended.name) or next((one for one in reversed(app.gone) if one.name == ended.name), None)
    if state is None:
        return ended.by_itself
    states = [move.state for move in state.moves]
    return "ready" in states and not state.under and "draining" not in states


SIGNAL = Signal("crashes", "app", "an instance that was ready ended, and nobody here had asked for it", look)
