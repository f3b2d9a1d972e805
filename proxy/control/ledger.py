"""What a new control starts from: everything that cannot be seen from the outside, as one JSON text.

It lives in a memfd that the launcher holds, and is rewritten at each transition. Monotonic times stay right: they are
of this machine's boot, and so is the memfd. A text that cannot be read is as good as none: children and the config
are enough to go on, only history is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Final

import msgspec
import orjson

from proxy.config import Process
from proxy.control.state import (
    Admission,
    AppState,
    Ejection,
    Event,
    Events,
    Exit,
    InstanceState,
    Lifecycle,
    SuspectRequest,
)

VERSION: Final = 1
EVENTS: Final = 200
"""The newest events go along, so that a person does not lose sight of what led to a restart."""
_PLAIN: Final = (
    "name", "app", "kind", "row", "failing", "why", "host", "port", "path", "url", "resolved", "dns", "weight", "backup",
    "pid", "pid_started", "started_at", "started", "ready_since", "admitted", "changed_at", "version", "restarts",
    "failures", "failures_at", "retry_at", "stop_reason", "probes_failed", "listens_on",
)  # fmt: skip


@dataclass(slots=True)
class Known:
    """What the ledger says."""

    config_text: str = ""
    table: int = 0
    apps: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> row, state, version
    numbers: dict[str, int] = field(default_factory=dict)
    instances: list[tuple[InstanceState, str]] = field(default_factory=list)  # with the generation it runs
    processes: dict[str, Process] = field(default_factory=dict)  # by generation
    suspects: dict[str, list[SuspectRequest]] = field(default_factory=dict)
    ended: dict[str, list[Exit]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    next_event: int = 1


def write(
    config_text: str,
    table: int,
    apps: Iterable[AppState],
    generations: dict[str, str],
    processes: dict[str, Process],
    events: Events,
    numbers: dict[str, int],
) -> bytes:
    """`generations`: instance name to what it runs; `processes`: that, in full."""
    apps = list(apps)
    return orjson.dumps(
        {
            "version": VERSION,
            "config_text": config_text,
            "table": table,
            "apps": {app.name: {"row": app.row, "state": app.state, "version": app.version} for app in apps},
            "numbers": numbers,
            "instances": [
                _instance(state) | {"generation": generations.get(state.name, "")}
                for app in apps
                for state in app.instances.values()
            ],
            "processes": {name: msgspec.to_builtins(process) for name, process in processes.items()},
            "suspects": {app.name: app.suspects for app in apps if app.suspects},
            "ended": {app.name: list(app.ended) for app in apps if app.ended},
            "events": events.newest(EVENTS)[::-1],
            "next_event": events.next_id,
        }
    )


def _instance(state: InstanceState) -> dict[str, Any]:
    found = {name: getattr(state, name) for name in _PLAIN}
    found["lifecycle"], found["admission"] = state.lifecycle.value, state.admission.value
    found["ejection"], found["last_exit"] = state.ejection, state.last_exit
    return found


def read(text: bytes | None) -> Known:
    """Never raises: what cannot be read is left out."""
    if not text:
        return Known()
    try:
        raw = orjson.loads(text)
        if raw["version"] != VERSION:
            return Known()
        return Known(
            config_text=raw["config_text"],
            table=raw["table"],
            apps=raw["apps"],
            numbers=raw["numbers"],
            instances=[(_state(one), one["generation"]) for one in raw["instances"]],
            processes={name: msgspec.convert(one, Process) for name, one in raw["processes"].items()},
            suspects={app: [SuspectRequest(**one) for one in items] for app, items in raw["suspects"].items()},
            ended={app: [_exit(one) for one in items] for app, items in raw["ended"].items()},
            events=[Event(**one) for one in raw["events"]],
            next_event=raw["next_event"],
        )
    except (ValueError, KeyError, TypeError, msgspec.ValidationError):
        return Known()


def _state(raw: dict[str, Any]) -> InstanceState:
    values = {name: raw[name] for name in _PLAIN}
    values["resolved"] = tuple(values["resolved"])
    values["listens_on"] = tuple(values["listens_on"])
    state = InstanceState(**values)
    state.lifecycle, state.admission = Lifecycle(raw["lifecycle"]), Admission(raw["admission"])
    state.ejection = Ejection(**raw["ejection"])
    state.last_exit = _exit(raw["last_exit"]) if raw["last_exit"] else None
    return state


def _exit(raw: dict[str, Any]) -> Exit:
    known = {one.name for one in fields(Exit)}
    values = {name: value for name, value in raw.items() if name in known}
    values["last_lines"] = tuple(values.get("last_lines", ()))
    return Exit(**values)
