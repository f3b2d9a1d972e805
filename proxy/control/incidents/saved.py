"""An incident as plain values, for the ledger and the store; and which events are its timeline."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from proxy.control.incidents.incident import Incident, Step, Subject
from proxy.control.state import Event

_FIELDS: Final = tuple(Incident.__dataclass_fields__)


class Saved(NamedTuple):
    """A row of the store."""

    number: int
    scope: str
    app: str
    began: float
    ended: float
    severity: str
    signal: str
    body: str


def dump(incident: Incident) -> dict[str, Any]:
    """To be written at once: it shares what it holds with the incident. Some 15 µs."""
    raw = {name: getattr(incident, name) for name in _FIELDS}
    raw["subject"] = [incident.subject.scope, incident.subject.app]
    raw["steps"] = [[step.at, step.kind, step.text] for step in incident.steps]
    return raw


def load(raw: dict[str, Any]) -> Incident:
    """Fields that are not known any more are left out, those that are new have their defaults."""
    values = {name: value for name, value in raw.items() if name in _FIELDS}
    scope, app = values["subject"]
    values["subject"] = Subject(scope, app)
    values["steps"] = [Step(at, kind, text) for at, kind, text in values["steps"]]
    return Incident(**values)


def save(incident: Incident) -> Saved:
    """Made at once: it goes on changing while the row waits to be written."""
    subject = incident.subject
    body = orjson.dumps(dump(incident), default=str).decode()
    return Saved(
        incident.number, subject.scope, subject.app, incident.began, incident.ended, incident.severity,
        incident.signal, body,
    )  # fmt: skip


def read(body: str) -> Incident:
    return load(orjson.loads(body))


# --- events ----------------------------------------------------------------------------------------------

_NOT: Final = frozenset({"starting", "warming", "limits", "scale-bounds", "table"})
"""Too small to be a line of its own: what they lead to is told."""
_WHOLE: Final = frozenset(
    {"worker-died", "worker-silent", "worker-protocol", "control-restarted", "reload", "reload-refused", "stopping",
     "stopped", "store-failing", "store-well", "store-set-aside", "upgrade", "upgraded", "will-not-end",
     "launcher-refused", "dns"}
)  # fmt: skip
"""Without an app, and yet of all: an app's faults begin with them too."""
_DONE: Final = frozenset({"recycle", "restart", "scale", "start", "stop", "hold", "release", "eject", "admit", "heal",
                          "heal-done", "heal-failed", "autoheal", "operation", "act", "mute"})  # fmt: skip


def concerns(event: Event, subject: Subject) -> bool:
    """Whether it is a line of the subject's timeline."""
    if event.kind.startswith("incident-") or event.kind in _NOT:
        return False
    if subject.scope == "app":
        return event.app == subject.app or (not event.app and event.kind in _WHOLE)
    return not event.app


def kind(event: Event) -> str:
    """Of the step: what was done about it is an act, all else an event."""
    return "act" if event.kind in _DONE else "event"
