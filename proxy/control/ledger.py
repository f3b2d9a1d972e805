"""What a new control starts from: everything that cannot be seen from the outside, as one JSON text.

It lives in a memfd that the launcher holds, and is rewritten at each transition. Monotonic times stay right: they are
of this machine's boot, and so is the memfd. A text that cannot be read is as good as none: children and the config
are enough to go on, only history is lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, TypeVar

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
    Move,
    SuspectRequest,
)

VERSION: Final = 1
"""Told, not asked for: a reader of any version takes what it knows by name."""
EVENTS: Final = 200
"""The newest events go along, so that a person does not lose sight of what led to a restart."""
_FIELDS: Final = (
    "name", "app", "kind", "row", "lifecycle", "admission", "failing", "why", "host", "port", "path", "url",
    "resolved", "dns", "weight", "backup", "pid", "pid_started", "started_at", "started", "ready_since", "admitted",
    "changed_at", "version", "restarts", "failures", "failures_at", "retry_at", "stop_reason", "probes_failed",
    "listens_on", "ejection", "last_exit", "moves", "made_of", "trouble", "marked", "under", "memory_limit",
    "cpu_limit", "limited_by", "limits_why",
)  # fmt: skip
T = TypeVar("T")
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
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)  # what gateway.lasting dumped, by name


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
        parts: dict[str, dict[str, Any]],
    ) -> bytes:
        """`generations`: instance name to what it runs; `processes`: that, in full; `parts`: gateway.lasting."""
        apps = list(apps)
        states = [state for app in apps for state in app.instances.values()]
        if len(self._cache) > 2 * len(states) + 100:
            self._cache.clear()
        return orjson.dumps(
            {
                "version": VERSION,
                "config_text": config_text,
                "table": table,
                "apps": {
                    app.name: {
                        "row": app.row,
                        "state": app.state,
                        "version": app.version,
                        "gap": app.gap,
                        "scaled": app.scaled,
                        "not_replaced": app.not_replaced,
                    }
                    for app in apps
                },
                "fields": _FIELDS,
                "numbers": numbers,
                "instances": [self._instance(state, generations.get(state.name, "")) for state in states],
                "processes": {name: msgspec.to_builtins(process) for name, process in processes.items()},
                "suspects": {app.name: app.suspects for app in apps if app.suspects},
                "ended": {app.name: list(app.ended) for app in apps if app.ended},
                "events": events.newest(EVENTS)[::-1],
                "next_event": events.next_id,
                "parts": parts,
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
    """Never raises: what cannot be read is left out, and the rest is taken, of another version too."""
    known = Known()
    try:
        raw = orjson.loads(text or b"")
    except ValueError:
        return known
    for name, made in _PARTS.items():
        with contextlib.suppress(*_UNREADABLE):
            setattr(known, name, made(raw))
    return known


_UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError)
_PARTS: Final[dict[str, Callable[[Any], Any]]] = {
    "config_text": lambda raw: str(raw["config_text"]),
    "table": lambda raw: int(raw["table"]),
    "apps": lambda raw: dict(raw["apps"]),
    "numbers": lambda raw: dict(raw["numbers"]),
    "instances": lambda raw: list(_each(lambda one: _state(raw["fields"], one), raw["instances"])),
    "processes": lambda raw: dict(_each(_process, raw["processes"].items())),
    "suspects": lambda raw: {
        app: list(_each(lambda one: SuspectRequest(**one), items)) for app, items in raw["suspects"].items()
    },
    "ended": lambda raw: {app: list(_each(_exit, items)) for app, items in raw["ended"].items()},
    "events": lambda raw: list(_each(lambda one: Event(**one), raw["events"])),
    "next_event": lambda raw: int(raw["next_event"]),
    "parts": lambda raw: dict(raw.get("parts", {})),
}


def _each(make: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
    for one in items:
        with contextlib.suppress(*_UNREADABLE):
            yield make(one)


def _process(raw: tuple[str, dict[str, Any]]) -> tuple[str, Process]:
    """A key that another version has and this one does not is left out."""
    return raw[0], msgspec.convert({k: v for k, v in raw[1].items() if k in Process.__struct_fields__}, Process)


def _state(names: list[str], raw: list[Any]) -> tuple[InstanceState, str]:
    """Of this version or another: what only one of them knows is left out, or as it is by default."""
    generation, *values = raw
    found = {name: value for name, value in zip(names, values, strict=True) if name in _FIELDS}
    found["resolved"], found["listens_on"] = tuple(found["resolved"]), tuple(found["listens_on"])
    found["lifecycle"], found["admission"] = Lifecycle(found["lifecycle"]), Admission(found["admission"])
    found["ejection"] = Ejection(**found["ejection"])
    found["last_exit"] = _exit(found["last_exit"]) if found["last_exit"] else None
    found["moves"] = tuple(Move(**one) for one in found.get("moves", ()))
    return InstanceState(**found), generation


def _exit(raw: dict[str, Any]) -> Exit:
    known = {one.name for one in fields(Exit)}
    values = {name: value for name, value in raw.items() if name in known}
    values["last_lines"] = tuple(values.get("last_lines", ()))
    return Exit(**values)
