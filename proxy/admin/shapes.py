"""JSON Schema of answers, made from their examples and from what an example cannot show.

An example has a value for each field; that it may be null or absent, that an object's keys are names and not fields,
and which words a text may be, is said here, by the field: `Instance.pid`, or `ended` wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from proxy.admin import examples as e
from proxy.admin.inside import examples as x

NAMED: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {
        "Operation": e.OPERATION, "Reload": e.RELOAD, "Foreseen": e.FORESEEN, "OperationInShort": e.BRIEF,
        "Instance": e.INSTANCE, "InstanceWhole": e.INSTANCE_WHOLE, "App": e.APP, "Alerts": e.ALERTS,
        "Rules": e.RULES, "RulesWhole": e.RULES_WHOLE, "Firing": e.FIRING, "Replay": e.REPLAY, "Request": e.REQUEST,
        "Story": e.STORY, "StoryWhole": e.STORY_WHOLE, "RequestWhole": e.REQUEST_WHOLE, "Why": e.WHY,
        "AppWhy": e.APP_WHY, "Incident": e.INCIDENT, "IncidentWhole": e.INCIDENT_WHOLE, "IncidentWhy": e.INCIDENT_WHY,
        "Session": e.SESSION, "SessionWhole": e.SESSION_WHOLE, "Collector": e.COLLECTOR, "Event": e.EVENT,
        "Gateway": e.GATEWAY, "Metric": e.METRIC, "MetricsQuery": e.METRICS_QUERY, "Frozen": e.FROZEN,
        "FrozenWhole": e.FROZEN_WHOLE,
        "Live": e.LIVE, "Line": e.LINE, "Exception": e.EXCEPTION,
        "Process": x.PROCESS, "ProcessWhole": x.WHOLE_PROCESS, "Thread": x.THREAD, "File": x.FILE,
        "Connection": x.CONNECTION, "Connections": x.CONNECTIONS, "Stacks": x.STACKS, "Cgroup": x.CGROUP,
        "Host": x.HOST, "InstanceEnvironment": x.ENVIRONMENT, "OwnEnvironment": x.OWN_ENVIRONMENT,
    }
)  # fmt: skip
"""Examples that have a name of their own in the document; told by identity."""

_EXIT: Final = {
    "time": "2026-01-05T03:07:41.000Z", "instance": "web-7", "words": "exit code 3", "code": 3, "signal": 9,
    "oom": "", "ours": False, "certainty": "certain", "lasted_s": 1081.2, "last_lines": ["…"],
}  # fmt: skip
_NEAREST: Final = {
    "rule": "slow", "builtin": False, "instance": "web-7", "share": 0.6, "distance": "12 of 20", "why": "",
    "until": None,
}  # fmt: skip
_SETTING: Final = {
    "value": 2, "by": "by hand", "time": "2026-01-05T02:00:00.000Z", "why": "a sale", "until": None,
}  # fmt: skip
_TIME: Final = "2026-01-05T03:07:41.000Z"

INSTEAD: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "expires": _TIME, "last_used": _TIME, "last_from": "127.0.0.1",
        "ended": _TIME, "until": _TIME, "last_fired": _TIME, "muted_until": _TIME, "suppressed_until": _TIME,
        "last_would_have_fired": _TIME, "last": _TIME, "next": "41", "frozen": "4", "last_exit": _EXIT,
        "Instance.operation": e.BRIEF, "by_hand": _SETTING, "Instance.by_hand": {"ejected": _SETTING},
        "oldest_wait_ms": 12.5, "scaled": 2, "nearest": _NEAREST, "scaler": {},
        "value": 0.31, "memory_limit": 536870912,
        "Replay.nearest": {"time": _TIME, "instance": "web-7", "value": 12.0, "words": "12 of 20 requests …"},
        "Story.response": {"line": "HTTP/1.1 200 OK", "fields": [["Content-Type", "text/plain"]]},
        "Session.operation": "op-41", "searched_until": "2026-01-05T03:07:35.412345Z",
    }
)  # fmt: skip
"""What a field may be that is null in its example."""

NULL: Final = frozenset(
    (
        "Instance.pid", "Instance.started", "Instance.uptime_s", "Instance.cpu", "Instance.memory",
        "Instance.memory_limit", "Instance.cpu_limit", "Instance.health", "Instance.processes", "Instance.threads",
        "cgroup.memory_limit", "cgroup.cores", "Instance.descriptors", "own_ms", "p50_ms", "p99_ms",
        "response_ms.mean", "response_ms.p50", "response_ms.p90", "response_ms.p99", "wait_ms.mean", "wait_ms.p50",
        "wait_ms.p90", "wait_ms.p99", "lag_ms", "lag_max_ms", "Gateway.workers.memory", "control_lag_ms",
        "self_check.time", "self_check.ms", "Live.fault", "Live.instances.memory", "Live.instances.cpu",
        "Live.instances.uptime_s", "last_fired", "failing_since", "last_exit.code", "last_exit.signal", "expires",
        "made", "last_used", "last_from", "value", "ended", "frozen", "Rules.rules.nearest", "RequestWhole.story",
        "Process.began", "Process.cpu_s", "Process.memory", "Process.private", "Process.threads", "Process.files",
        "Process.sockets", "Process.cpu", "ProcessWhole.exe", "ProcessWhole.cwd", "ProcessWhole.root",
        "ProcessWhole.oom_score", "group_memory", "File.size", "File.position", "Thread.cpu", "Thread.processor",
        "Connection.receive", "Connection.send", "Connection.backlog", "Connection.sent_age_s",
        "Connection.received_age_s", "Connection.peer", "peer.pid", "Connections.pid", "Cgroup.memory_limit",
        "Cgroup.memory", "Cgroup.cores", "disks.size", "disks.free", "disks.files_free", "disks.read_only",
        "Stacks.processes.threads.active", "Stacks.processes.threads.gil", "Stacks.processes.threads.wait_channel",
        "runtimes.workers", "InstanceEnvironment.version", "InstanceEnvironment.started", "InstanceEnvironment.cwd",
        "InstanceEnvironment.exe", "InstanceEnvironment.cgroup", "OwnEnvironment.cgroup", "limited.memory",
        "limited.cpus", "OwnEnvironment.memory", "OwnEnvironment.memory_available",
    )
)  # fmt: skip
"""May be null, though the example has a value."""

MAYBE: Final = frozenset(
    (
        "Request.idle_ms", "Request.timings.*", "Request.attempts.*", "RequestWhole.idle_ms",
        "RequestWhole.timings.*", "RequestWhole.attempts.*", "Why.request", "AppWhy.request", "IncidentWhy.request",
        "Story.attempts.*", "disks.error",
    )
)  # fmt: skip
"""May be absent."""

MAPS: Final = frozenset(
    (
        "classes", "faults", "recent_faults", "signals", "App.by_hand", "packages", "environment", "kept_from",
        "Rules.rules.guards", "variables", "by_kind", "by_state", "open_by_kind", "connections_by_state",
        "memory_by_kind", "ProcessWhole.counts", "ProcessWhole.io", "figures", "Host.memory", "Host.settings",
        "runtimes.settings",
    )
)  # fmt: skip
"""Objects whose keys are names."""

ANY: Final = frozenset(
    (
        "limits", "cgroup.values", "cgroup.pressure", "data", "details", "config", "guards", "scaler", "value",
        "threshold", "findings.findings", "series.points", "Cgroup.pressure", "Cgroup.values", "Cgroup.above",
        "Host.pressure", "OwnEnvironment.settings", "InstanceEnvironment.settings",
    )
)  # fmt: skip
"""May be anything."""

WORDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "lifecycle": ("starting", "warming", "ready", "draining", "stopping", "stopped", "backoff", "failed"),
        "admission": ("admitting", "ejected", "trial"),
        "App.state": ("up", "degraded", "down", "stopped", "held"),
        "Operation.state": ("running", "done", "failed"),
        "Incident.state": ("open", "closed"),
        "scope": ("app", "gateway", "host", "instance", ""),
        "is_it": ("app", "gateway", "host", ""),
        "Session.mode": ("collect", "analyze", "recycle"),
        "Session.state": ("waiting", "collecting", "recycling", "analyzing", "done", "cancelled", "failed", "lost"),
        "Why.certainty": ("certain", "very likely", "likely", "not known"),
        "Why.subject": ("request", "app", "incident"),
        "Metric.kind": ("counter", "gauge", "histogram"),
    }
)  # fmt: skip
"""Texts that are one of few words."""

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
_BY_IDENTITY: Final = {id(value): name for name, value in NAMED.items()}
_PARTS: Final = {"RequestWhole": "Request", "InstanceWhole": "Instance", "RulesWhole": "Rules",
                 "FrozenWhole": "Frozen", "StoryWhole": "Story", "IncidentWhole": "Incident", "SessionWhole": "Session",
                 "Reload": "Operation", "AppWhy": "Why", "IncidentWhy": "Why",
                 "ProcessWhole": "Process"}  # fmt: skip
"""Shapes that are another one and more: what is said of that one's fields holds for theirs."""


def components() -> dict[str, Any]:
    """All named shapes."""
    return {name: {**schema(value, name, inline=True), "title": name} for name, value in NAMED.items()}


def schema(example: Any, of: str = "", *, inline: bool = False) -> dict[str, Any]:
    """The shape of an example. `of`: the named shape and the path of fields in it, "Instance.health"."""
    if isinstance(example, dict):
        name = _BY_IDENTITY.get(id(example))
        if name is not None and not inline:
            return {"$ref": f"#/components/schemas/{name}"}
        fields = {str(key): _field(key, value, f"{of}.{key}" if of else str(key)) for key, value in example.items()}
        required = [key for key in fields if not _said(MAYBE, f"{of}.{key}", key)]
        return {"type": "object", "properties": fields, **({"required": required} if required else {})}
    if isinstance(example, (list, tuple)):
        return {"type": "array", "items": schema(example[0], of)} if example else {"type": "array"}
    if isinstance(example, str):
        if _MOMENT.fullmatch(example):
            return {"type": "string", "format": "date-time"}
        return {"type": "string"}
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number")):
        if isinstance(example, kind):
            return {"type": name}
    return {}


def _field(key: str, value: Any, at: str) -> dict[str, Any]:
    if _said(ANY, at, key):
        return {}
    if words := _word(WORDS, at, key):
        return {"type": "string", "enum": list(words)}
    null = value is None or _said(NULL, at, key)
    if value is None:
        value = _word(INSTEAD, at, key)
    if _said(MAPS, at, key) and isinstance(value, dict):
        inner = next(iter(value.values()), None)
        found = {"type": "object", "additionalProperties": schema(inner, f"{at}.*") if inner is not None else {}}
    else:
        found = schema(value, at)
    if not null:
        return found
    if "$ref" in found:
        return {"oneOf": [found, {"type": "null"}]}
    return {**found, "type": [found["type"], "null"]} if "type" in found else found


def _names(at: str, key: str) -> list[str]:
    """Under which names something may be said of a field, the nearest first."""
    shape, _, rest = at.partition(".")
    parts = at.split(".")
    found = [at, f"{at.rpartition('.')[0]}.*"]
    while shape in _PARTS:
        shape = _PARTS[shape]
        found += [f"{shape}.{rest}", f"{shape}.{rest}".rpartition(".")[0] + ".*"]
    found += [".".join(parts[-2:]), f"{parts[-2]}.*" if len(parts) > 1 else key, key]
    return found


def _said(where: frozenset[str], at: str, key: str) -> bool:
    return any(name in where for name in _names(at, key))


def _word(where: Mapping[str, Any], at: str, key: str) -> Any:
    return next((where[name] for name in _names(at, key) if name in where), None)
