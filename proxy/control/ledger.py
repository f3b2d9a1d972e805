"""What a new control starts from: everything that cannot be seen from the outside, as one JSON text.

It lives in a memfd that the launcher holds, and is rewritten at each transition. Monotonic times stay right: they are
of this machine's boot, and so is the memfd. A text that cannot be read is as good as none: children and the config
are enough to go on, only history is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from operator import attrgetter
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
_FIELDS: Final = (
    "name", "app", "kind", "row", "lifecycle", "admission", "failing", "why", "host", "port", "path", "url",
    "resolved", "dns", "weight", "backup", "pid", "pid_started", "started_at", "started", "ready_since", "admitted",
    "changed_at", "version", "restarts", "failures", "failures_at", "retry_at", "stop_reason", "probes_failed",
    "listens_on", "ejection", "last_exit",
)  # fmt: skip
_values: Final = attrgetter(*_FIELDS)


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


class Writer:
    """Makes the text. What has not changed since the last one is not made again: a thousand instances take some
    milliseconds, not twenty."""

    def __init__(self) -> None:
        self._cache: dict[int, tuple[tuple[Any, ...], str, orjson.Fragment]] = {}  # by row

    def write(
        self,
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
        states = [state for app in apps for state in app.instances.values()]
        if len(self._cache) > 2 * len(states) + 100:
            self._cache.clear()
        return orjson.dumps(
            {
                "version": VERSION,
                "config_text": config_text,
                "table": table,
                "apps": {app.name: {"row": app.row, "state": app.state, "version": app.version} for app in apps},
                "numbers": numbers,
                "instances": [self._instance(state, generations.get(state.name, "")) for state in states],
                "processes": {name: msgspec.to_builtins(process) for name, process in processes.items()},
                "suspects": {app.name: app.suspects for app in apps if app.suspects},
                "ended": {app.name: list(app.ended) for app in apps if app.ended},
                "events": events.newest(EVENTS)[::-1],
                "next_event": events.next_id,
            }
        )

    def _instance(self, state: InstanceState, generation: str) -> orjson.Fragment:
        values = _values(state)
        known = self._cache.get(state.row)
        if known is not None and known[0] == values and known[1] == generation:
            return known[2]
        made = orjson.Fragment(orjson.dumps([generation, *values]))
        self._cache[state.row] = (values, generation, made)
        return made


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
            instances=[_state(one) for one in raw["instances"]],
            processes={name: msgspec.convert(one, Process) for name, one in raw["processes"].items()},
            suspects={app: [SuspectRequest(**one) for one in items] for app, items in raw["suspects"].items()},
            ended={app: [_exit(one) for one in items] for app, items in raw["ended"].items()},
            events=[Event(**one) for one in raw["events"]],
            next_event=raw["next_event"],
        )
    except (ValueError, KeyError, TypeError, msgspec.ValidationError):
        return Known()


def _state(raw: list[Any]) -> tuple[InstanceState, str]:
    generation, *values = raw
    found = dict(zip(_FIELDS, values, strict=True))
    found["resolved"], found["listens_on"] = tuple(found["resolved"]), tuple(found["listens_on"])
    found["lifecycle"], found["admission"] = Lifecycle(found["lifecycle"]), Admission(found["admission"])
    found["ejection"] = Ejection(**found["ejection"])
    found["last_exit"] = _exit(found["last_exit"]) if found["last_exit"] else None
    return InstanceState(**found), generation


def _exit(raw: dict[str, Any]) -> Exit:
    known = {one.name for one in fields(Exit)}
    values = {name: value for name, value in raw.items() if name in known}
    values["last_lines"] = tuple(values.get("last_lines", ()))
    return Exit(**values)
