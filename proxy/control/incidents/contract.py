"""What a signal is: one thing that may be wrong with an app, the gateway or the host, seen in a scene of this second.

Always true: `look` is pure; it answers None where nothing is wrong, and also where nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.control.incidents.incident import Scope, Severity


@dataclass(frozen=True, slots=True)
class Found:
    """What a signal saw. `says` is one line with its numbers; `since` is Unix seconds, of the first sign."""

    name: str
    says: str
    severity: Severity
    certainty: str  # "certain" | "very likely" | "likely" | "not known"
    since: float
    instances: tuple[str, ...] = ()
    rule: str = ""  # name of the alert rule that raised it


@dataclass(frozen=True, slots=True)
class Signal:
    """A file in signals/. `touches`: requests are hit by it, so that it may explain an app's faults."""

    name: str
    scope: Scope
    about: str  # one line: when it is seen
    look: Callable[[Any], Found | None]  # of an AppScene, GatewayScene or HostScene
    touches: bool = True
