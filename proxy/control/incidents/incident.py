"""What an incident is: a span of time in which an app, the gateway or the host was degraded or down.

Always true:
  - of one subject at most one incident is open; all that is wrong with it meanwhile are its signals;
  - an id is never used again; steps are in order of time, bounded, and the first one stays;
  - `ended` is 0.0 as long as it is open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

Severity = Literal["degraded", "down"]
Scope = Literal["app", "gateway", "host"]

STEPS: Final = 60
"""Kept of one incident: the first 10 and the newest."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is not well; `app` only where the scope is "app"."""

    scope: Scope
    app: str = ""

    def __str__(self) -> str:
        return self.app if self.scope == "app" else f"({self.scope})"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of its timeline."""

    at: float  # Unix seconds
    kind: str  # "opened", "cause", "signal", "cleared", "event", "act", "told", "closed", "reopened"
    text: str


@dataclass(slots=True)
class Incident:
    number: int
    subject: Subject
    severity: Severity  # the worst it was
    signal: str  # the name of the signal that explains it best: "faults", "down", "crashes", …
    cause: str  # WHY in one line, with its numbers
    certainty: str  # "certain", "very likely", "likely", "not known"
    began: float  # Unix seconds: of the first sign, which may be before it was opened
    opened: float
    updated: float
    ended: float = 0.0
    signals: dict[str, str] = field(default_factory=dict)  # those seen now: name to what it says
    seen: list[str] = field(default_factory=list)  # all signals it had
    requests: int = 0  # of the subject, in its span
    hit: int = 0  # of those, how many failed or were refused, not by the clients' own doing
    faults: dict[str, int] = field(default_factory=dict)
    instances: list[str] = field(default_factory=list)  # that had a part in it
    steps: list[Step] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # notifiers that took a message
    rules: list[str] = field(default_factory=list)  # names of alert rules that asked to tell somebody
    frozen: int = 0  # number of what was frozen when it opened; 0: nothing
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"INC-{self.number}"

    @property
    def open(self) -> bool:
        return not self.ended

    @property
    def share(self) -> float:
        """Of its requests that were hit, 0 to 1."""
        return min(1.0, self.hit / self.requests) if self.requests else 0.0

    def __repr__(self) -> str:
        state = "open" if self.open else "closed"
        return f"<{self.id} {self.subject} {state} {self.severity}: {self.signal}>"


def number(id: str) -> int | None:
    """Of `INC-31`, `inc-31` or `31`; None: it is not an id of an incident."""
    text = id.upper().removeprefix("INC-")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
