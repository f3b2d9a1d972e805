"""Which instances a session looks into: the most troubled first, a few. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from proxy.control.state import Admission, AppState, InstanceState, Lifecycle

MOST: Final = 6
"""Instances of one session; each has its own collectors, all at once."""


def chosen(
    app: AppState, instance: str, first: Sequence[str], in_flight: Callable[[InstanceState], int],
    oldest: Callable[[InstanceState], float],
) -> tuple[list[str], str]:  # fmt: skip
    """Names, and what was left out, in words. `first` come first, whatever they are: those that it is about, gone ones
    among them. `oldest`: seconds that a request has waited on it."""
    if instance:
        return [instance], ""
    there = [one for one in app.instances.values() if one.lifecycle not in (Lifecycle.STOPPED,)]
    ranked = sorted(there, key=lambda one: _trouble(one, in_flight(one), oldest(one)), reverse=True)
    names = list(dict.fromkeys([*first, *(one.name for one in ranked)]))
    if len(names) <= MOST:
        return names, ""
    return names[:MOST], f"{len(names) - MOST} of {len(names)} instances were not looked into, the least troubled ones"


def _trouble(one: InstanceState, in_flight: int, oldest: float) -> tuple[int, float, int, int]:
    """The higher the worse."""
    bad = 0
    if one.lifecycle in (Lifecycle.FAILED, Lifecycle.BACKOFF):
        bad = 3
    elif one.failing or one.admission is not Admission.ADMITTING:
        bad = 4
    elif one.lifecycle in (Lifecycle.STARTING, Lifecycle.WARMING):
        bad = 2 if one.trouble or one.probes_failed else 1
    elif one.probes_failed:
        bad = 2
    waits = oldest if oldest >= 1.0 else 0.0
    return bad, waits, in_flight, one.restarts
