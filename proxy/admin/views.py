"""State to JSON shapes; the shapes are those of routes.py. Pure but for reading the state."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from proxy.admin import mending, verdict
from proxy.admin.times import iso as iso
from proxy.admin.times import millis as millis
from proxy.admin.verdict import Verdict
from proxy.control.by_hand import MUTED
from proxy.control.counters import Counters, Summaries, Summary
from proxy.control.incidents.incident import Incident, Subject
from proxy.control.operations import Operation
from proxy.control.state import AppState, Event, Exit, InstanceState, WorkerState
from proxy.link.board import Board
from proxy.link.messages import Attempt, Record

_TIMINGS = ("head", "queue", "connect", "tls", "wait", "body", "total", "own", "lag")


def muted_until(app: AppState) -> str | None:
    """Until when nobody is told of its incidents."""
    muted = app.by_hand.get(MUTED)
    return iso(muted.until) if muted is not None else None


class Look:
    """What is needed to show apps, of one moment."""

    def __init__(
        self,
        counters: Counters,
        board: Board | None,
        sums: Summaries,
        running: Sequence[Operation] = (),
        incidents: Mapping[Subject, Incident] | None = None,
    ) -> None:
        self.counters = counters
        self.board = board
        self.sums = sums
        self.now = time.time()
        self.clock = time.monotonic()
        self.running = running
        self.incidents = incidents or {}
        """Open ones."""
        self._by_id = {one.id: one for one in running}
        self._under_way = {(one.app, name): one for one in running for name in (*one.targets, one.instance)}

    def operation(self, state: InstanceState) -> Operation | None:
        """What is under way with an instance, as the one that goes or as the one that comes."""
        return self._under_way.get((state.app, state.name)) or self._by_id.get(state.under)

    def verdict(self, app: AppState) -> Verdict:
        recent = self.counters.recent.by_fault(app.name, self.now - verdict.LOOK_BACK)
        last = self.counters.recent.by_fault(app.name, self.now - 60)
        minute = sum(verdict.serious(last).values())
        found = verdict.of_app(app, recent, minute, self.counters.requests(app.name, 60, self.now))
        return verdict.beside(found, self.incidents.get(Subject("app", app.name)))

    def in_flight(self, row: int) -> int:
        return max(0, self.board.total(row)) if self.board is not None else 0

    def waiting(self, row: int) -> tuple[int, float | None]:
        """How many, and how long the oldest has."""
        if self.board is None:
            return 0, None
        oldest = self.board.oldest(row)
        return max(0, self.board.waiting(row)), max(0.0, self.clock - oldest) if oldest else None


def app(look: Look, state: AppState, instances: list[dict[str, Any]]) -> dict[str, Any]:
    """An app, with its instances as `instance` shows them."""
    found = look.verdict(state)
    waiting, oldest = look.waiting(state.row)
    slots = [one["slots"] for one in instances if one["lifecycle"] == "ready"]
    return {
        "id": state.name,
        "state": found.state,
        "verdict": found.line,
        "hosts": list(state.config.hosts),
        "paths": list(state.config.paths),
        "wanted": state.wanted,
        "ready": len(state.ready),
        "starting": sum(one["lifecycle"] in ("starting", "warming", "backoff") for one in instances),
        "in_flight": sum(one["in_flight"] for one in instances),
        "slots": sum(slots) if all(slots) else 0,
        "waiting": waiting,
        "oldest_wait_ms": millis(oldest),
        **_counts(look.sums.app(state.name)),
        "recent_faults": look.counters.recent.by_fault(state.name, look.now - verdict.LOOK_BACK),
        "version": state.version,
        "by_hand": mending.by_hand(state),
        "scaled": state.scaled,
        "operations": [mending.brief(one) for one in look.running if one.app == state.name],
        "suspects": [f"{one.method} {one.path}" for one in state.suspects],
        "instances": instances,
    }


def instance(look: Look, parent: AppState, state: InstanceState) -> dict[str, Any]:
    process = parent.config.process
    probe = state.probe
    operation = look.operation(state)
    uptime = look.clock - state.started if state.started and state.pid else None
    limit = parent.config.max_inflight
    return {
        "id": state.name,
        "app": state.app,
        "kind": state.kind,
        "address": state.url or state.address,
        "pid": state.pid or None,
        "lifecycle": state.lifecycle.value,
        "admission": state.admission.value,
        "ejected_by": state.ejection.by if state.admission.value != "admitting" else "",
        "failing": state.failing,
        "why": state.why,
        "version": state.version,
        "started": iso(state.started_at),
        "uptime_s": round(uptime, 3) if uptime is not None else None,
        "restarts": state.restarts,
        "last_exit": exit_(state.last_exit) if state.last_exit is not None else None,
        "in_flight": look.in_flight(state.row),
        "slots": limit if isinstance(limit, int) else 0,
        "cpu": round(state.usage.cpu, 3) if state.usage is not None else None,
        "memory": state.usage.rss if state.usage is not None else None,
        "memory_limit": state.memory_limit or (process.memory if process is not None else None),
        "cpu_limit": state.cpu_limit or (process.cpus if process is not None else None),
        "limited_by": state.limited_by,
        "limits_why": state.limits_why,
        "operation": mending.brief(operation) if operation is not None else None,
        "by_hand": mending.of_instance(parent, state.name),
        "processes": state.usage.processes if state.usage is not None else None,
        "threads": state.usage.threads if state.usage is not None else None,
        "descriptors": state.usage.descriptors if state.usage is not None else None,
        "listens_on": list(state.listens_on),
        "health": None
        if probe is None
        else {
            "checked": iso(probe.at),
            "ok": probe.ok,
            "words": probe.words,
            "fails": state.probes_failed,
        },
        **_counts(look.sums.instance(state.app, state.name)),
    }


def exit_(state: Exit) -> dict[str, Any]:
    return {
        "time": iso(state.at),
        "instance": state.name,
        "words": state.words,
        "code": state.code,
        "signal": state.signal,
        "oom": state.oom,
        "ours": state.ours,
        "certainty": "likely" if state.oom == "likely" else "certain",
        "lasted_s": round(state.lasted, 3),
        "last_lines": list(state.last_lines[-20:]),
    }


def _counts(found: Summary) -> dict[str, Any]:
    return {
        "requests": found.requests,
        "requests_per_s": round(found.per_second, 2),
        "classes": found.classes,
        "faults": found.faults,
        "bytes_in": found.bytes_in,
        "bytes_out": found.bytes_out,
        "connects": found.connects,
        "retries": found.retries,
        "response_ms": {name: millis(value) for name, value in found.response().items()},
        "wait_ms": {name: millis(value) for name, value in found.waits().items()},
        "own_ms": millis(found.own_sum / found.requests) if found.requests else None,
    }


def worker(state: WorkerState) -> dict[str, Any]:
    stats = state.stats
    shown: dict[str, Any] = {
        "id": str(state.slot + 1),
        "pid": state.pid,
        "state": state.state,
        "why": state.why,
        "restarts": state.restarts,
        "release": state.release,
        "table": state.acked,
    }
    return shown | {
        "connections": stats.connections if stats else 0,
        "accepted": stats.accepted if stats else 0,
        "instance_connections": stats.instance_connections if stats else 0,
        "tunnels": stats.tunnels if stats else 0,
        "lag_ms": stats.lag_us / 1000 if stats else None,
        "lag_max_ms": stats.lag_max_us / 1000 if stats else None,
        "memory": stats.rss if stats else None,
        "shedding": stats.shedding if stats else "",
        "records_dropped": stats.records_dropped if stats else 0,
        "log_lost": stats.log_lost if stats else 0,
        "log_error": stats.log_error if stats else "",
    }


def record(one: Record) -> dict[str, Any]:
    """A request. Timings that were not reached are absent."""
    shown: dict[str, Any] = {
        "id": one.id,
        "time": iso(one.time),
        "app": one.app,
        "instance": one.instance,
        "client": one.client,
        "client_request_id": one.client_request_id,
        "trace": one.trace,
        "method": one.method,
        "host": one.host,
        "target": one.target,
        "status": one.status,
        "fault": one.fault,
        "detail": one.detail,
        "bytes_in": one.bytes_in,
        "bytes_out": one.bytes_out,
        "sent": one.sent,
        "tries": one.tries,
        "reused": one.reused,
        "replayable": one.replayable,
        "tunnel": one.tunnel,
        "worker": one.worker,
        "timings": _timings(one),
        "attempts": [attempt(each) for each in one.attempts or ()],
    }
    if one.idle_us is not None:
        shown["idle_ms"] = one.idle_us / 1000
    return shown


def _timings(one: Record) -> dict[str, float]:
    found = ((name, getattr(one, f"{name}_us")) for name in _TIMINGS)
    return {f"{name}_ms": value / 1000 for name, value in found if value is not None}


def attempt(one: Attempt) -> dict[str, Any]:
    shown: dict[str, Any] = {"instance": one.instance, "fault": one.fault, "status": one.status, "sent": one.sent}
    shown["reused"] = one.reused
    if one.detail:
        shown["detail"] = one.detail
    for name in ("idle", "connect", "tls", "wait"):
        value = getattr(one, f"{name}_us")
        if value is not None:
            shown[f"{name}_ms"] = value / 1000
    return shown


def event(one: Event) -> dict[str, Any]:
    return {
        "id": str(one.id),
        "time": iso(one.at),
        "kind": one.kind,
        "app": one.app,
        "instance": one.instance,
        "words": one.text,
        "data": one.details,
    }


def verdicts(look: Look, apps: Mapping[str, AppState]) -> list[tuple[str, Verdict]]:
    return [(name, look.verdict(state)) for name, state in apps.items()]
