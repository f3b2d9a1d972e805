"""Requests fail."""

from __future__ import annotations

import itertools
from typing import Final

from proxy import units
from proxy.control.incidents import hits, window
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import AppScene
from proxy.control.incidents.signals.queue import REFUSED
from proxy.control.incidents.window import Window
from proxy.faults import APP_ERROR, FAULTS

WITHIN: Final = 10.0
LEAST: Final = 5
SHARE: Final = 0.05
"""So many of the requests of ten seconds, and so large a share: one that fails among many is none of it."""
LONG: Final = 60.0
LONG_LEAST: Final = 10
LONG_SHARE: Final = 0.01
PARTS: Final = 4
"""What drips: in so many of the six parts of a minute, the last 20 s among them. Only of faults that the gateway
answers itself: a 5xx of the app's own may be what one of its endpoints always says."""
IN_A_ROW: Final = 3
ROW_WITHIN: Final = 300.0
"""Of an app that is seldom asked, the last ones: all of them failed."""
DOWN_SHARE: Final = 0.9
"""For all of WITHIN: a client that meets one broken page ten times in a second says nothing about the others."""
ELSEWHERE: Final = REFUSED | {"all-unready", "all-ejected"}
"""These have signals of their own: queue and down."""


def look(scene: AppScene) -> Found | None:
    app = scene.app
    if app.state == "stopped" or not app.wanted:
        return None
    any_at_all = window.over(scene, ROW_WITHIN, _counts)
    short = window.over(scene, WITHIN, _counts)
    if any_at_all is None or not any_at_all.hit or short is None:
        return None
    if short.hit >= LEAST and short.share >= SHARE:
        return _found(scene, short)
    long = window.over(scene, LONG, _ours)
    if long is not None and long.hit >= LONG_LEAST and long.share >= LONG_SHARE and _drips(scene):
        return _found(scene, long)
    return _row(scene)


def _drips(scene: AppScene) -> bool:
    assert scene.series is not None
    counts = []
    for back in range(0, int(LONG) + 1, 10):
        reading = scene.series.before(scene.now - back)
        counts.append(sum(n for name, n in reading.faults.items() if _ours(name)) if reading is not None else 0)
    parts = [later - earlier for later, earlier in itertools.pairwise(counts)]
    return sum(part > 0 for part in parts) >= PARTS and any(part > 0 for part in parts[:2])


def _row(scene: AppScene) -> Found | None:
    """The newest span that holds the last three requests: did all of it fail?"""
    assert scene.series is not None
    last = scene.series.last
    assert last is not None
    for back in (5, 10, 20, 30, 60, 90, 120, 180, 240, 300):
        if back > ROW_WITHIN:
            break
        first = scene.series.before(scene.now - back)
        if first is None or first.at < scene.now - back - 30.0:
            first = scene.series.first
        if first is None or first.at >= last.at:
            continue
        found = window.between(first, last, _counts)
        if found.asked > found.hit:
            return None
        if found.hit >= IN_A_ROW:
            begun = window.first_sign(scene, found, _counts)
            words = f"the last {found.hit} requests all failed, with {_named(found)}, within"
            span = units.duration(max(1.0, scene.unix - begun))
            return Found(
                "faults", f"{words} {span}{_meaning(found)}", "degraded", "certain", begun, _on(scene, found)
            )
        if first.at == scene.series.first.at:  # type: ignore[union-attr]
            return None
    return None


def _found(scene: AppScene, found: Window) -> Found:
    since = window.first_sign(scene, found, _counts)
    all_of_it = found.share >= DOWN_SHARE and found.hit >= 2 * LEAST and scene.unix - since >= WITHIN - 1.0
    return Found(
        "faults",
        f"{units.count(found.hit)} of {units.count(found.asked)} requests failed in {found.seconds:.0f} s "
        f"({units.percent(found.share)}), with {_named(found)}{_meaning(found)}",
        "down" if all_of_it else "degraded", "certain", since, _on(scene, found),
    )  # fmt: skip


def _counts(name: str) -> bool:
    return hits.serious(name) and name not in ELSEWHERE


def _ours(name: str) -> bool:
    return _counts(name) and name != APP_ERROR.name


def _named(found: Window) -> str:
    names = list(found.faults)
    return names[0] if len(names) == 1 else f"{names[0]} most of all ({units.count(found.faults[names[0]])})"


def _meaning(found: Window) -> str:
    words = FAULTS[found.main].words if found.main in FAULTS else ""
    return f". {words.rstrip('.')}" if words else ""


def _on(scene: AppScene, found: Window) -> tuple[str, ...]:
    return tuple(scene.on(found.main, found.since)[:5])


SIGNAL = Signal(
    "faults", "app",
    "5 % of the requests of 10 s failed, 5 at least; or 1 % of a minute's, 10 at least, not by an answer of the app's "
    "own; or the last three, within 5 min",
    look,
)  # fmt: skip
