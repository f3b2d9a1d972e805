"""What control knows of apps, instances, exits, workers …, as a session's process reads it. Pure, quick, on the loop.

Lines that an app printed are masked later, in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from proxy import masking
from proxy.control.by_hand import EJECTED
from proxy.control.incidents.incident import Incident
from proxy.control.logs.exceptions import Group
from proxy.control.metrics.own import Use
from proxy.control.state import Admission, AppState, Event, Exit, InstanceState, WorkerState
from proxy.link import session as link

DEPLOYS: Final = {
    "deployed": "deployed", "reload": "config", "scale-done": "scaled", "restart-done": "restarted",
    "upgrade-done": "upgraded",
}  # fmt: skip
"""Events that change what runs, by kind."""
LATELY: Final = 900.0
"""Seconds."""


def app(
    state: AppState, shown: str, verdict: str, in_flight: int, waiting: int, oldest: float | None,
    rules: Iterable[str],
) -> link.App:  # fmt: skip
    """`shown`: up degraded down stopped held."""
    config, process = state.config, state.config.process
    return link.App(
        name=state.name, state=shown, verdict=verdict, wanted=state.wanted, ready=len(state.ready),
        command=masking.arguments(process.command) if process is not None else [],
        cwd=process.cwd if process is not None else "", bind=process.bind if process is not None else "",
        hosts=list(config.hosts), paths=list(config.paths), balance=config.balance,
        max_inflight=config.max_inflight if isinstance(config.max_inflight, int) else 0,
        inspect=config.diagnose.inspect,
        queue_size=config.queue.size, queue_timeout=config.queue.timeout, connect=config.timeouts.connect,
        first_byte=config.timeouts.first_byte, idle=config.timeouts.idle, total=config.timeouts.total,
        retries=config.retries.attempts, max_body=config.max_body, health_path=config.health.path or "",
        health_interval=config.health.interval, health_timeout=config.health.timeout,
        health_status=",".join(f"{low}-{high}" if low != high else f"{low}" for low, high in config.health.status),
        ready_within=config.health.ready_within,
        memory_limit=_limit(state.by_hand.get("memory"), process.memory if process is not None else None),
        cpu_limit=_limit(state.by_hand.get("cpus"), process.cpus if process is not None else None),
        watch=list(process.watch) if process is not None else [],
        version=next((one.version for one in state.ready if one.version), ""),
        by_hand={
            key.replace(EJECTED, "ejected "): f"{entry.by}{f': {entry.why}' if entry.why else ''} ({entry.value})"
            for key, entry in state.by_hand.items()
        },
        not_replaced=state.not_replaced, in_flight=in_flight, waiting=waiting, oldest_wait=oldest,
        suspects=[f"{one.method} {one.path}" for one in state.suspects], mending=list(rules),
    )  # fmt: skip


def _limit(by_hand: Any, configured: Any) -> Any:
    return by_hand.value if by_hand is not None else configured


def instance(
    app: AppState, state: InstanceState, in_flight: int, now: float, unix: float, *, gone: bool
) -> link.Instance:  # fmt: skip
    """`now` is monotonic, `unix` the same moment on the clock of the wall."""
    process, shift, probe = app.config.process, unix - now, state.probe
    ejected = state.admission is not Admission.ADMITTING
    return link.Instance(
        name=state.name, kind=state.kind, pid=0 if gone else state.pid, started=0 if gone else state.pid_started,
        started_at=state.started_at, ready_at=state.ready_since + shift if state.ready_since else 0.0,
        address=state.url or state.address, lifecycle=state.lifecycle.value, admission=state.admission.value,
        failing=state.failing, why=state.why,
        ejection=(state.ejection.reason or state.ejection.by) if ejected else "", version=state.version,
        restarts=state.restarts, gone=gone, in_flight=0 if gone else in_flight,
        slots=app.config.max_inflight if isinstance(app.config.max_inflight, int) else 0,
        memory=state.usage.rss if state.usage is not None else None,
        memory_limit=state.memory_limit or (process.memory if process is not None else None),
        cpu_limit=state.cpu_limit or (process.cpus if process is not None else None),
        limited_by=state.limited_by, probe=probe.words if probe is not None else "",
        probe_ok=probe.ok if probe is not None else True, probe_status=probe.status if probe is not None else None,
        probe_seconds=probe.seconds if probe is not None else None,
        probe_body=masking.text(probe.body) if probe is not None else "", probes_failed=state.probes_failed,
        answered_at=state.answered + shift if state.answered else 0.0, listens_on=list(state.listens_on),
        logs=list(state.log_paths), moves=[(one.at, one.state, one.why) for one in state.moves],
    )  # fmt: skip


def exit_of(one: Exit, state: InstanceState | None) -> link.Exit:
    """Without its lines. `state`: its instance, where it is still remembered."""
    usage = state.usage_history[-1] if state is not None and state.usage_history else None
    return link.Exit(
        instance=one.name, at=one.at, lasted=one.lasted, words=one.words, code=one.code, signal=one.signal, oom=one.oom,
        ours=one.ours, by_itself=one.by_itself, why=state.stop_reason if state is not None and one.ours else "",
        memory=usage.rss if usage is not None else None,
        memory_limit=(state.memory_limit or None) if state is not None else None,
        was_ready=state is not None and any(move.state == "ready" for move in state.moves),
    )  # fmt: skip


def exit_told(event: Event) -> link.Exit | None:
    """What an event says of an exit that is remembered nowhere else; None: it is none."""
    said = event.details
    if event.kind not in ("exited", "stopped") or not isinstance(said.get("words"), str):
        return None
    return link.Exit(
        instance=event.instance, at=float(said.get("at") or event.at), lasted=float(said.get("lasted") or 0.0),
        words=said["words"], code=said.get("code"), signal=said.get("signal"), oom=str(said.get("oom") or "no"),
        ours=bool(said.get("ours")), by_itself=bool(said.get("by_itself")),
        last_lines=[masking.text(str(line)) for line in said.get("last_lines") or ()],
        was_ready=event.kind == "exited",  # one that was starting still is told of otherwise
    )  # fmt: skip


def event(one: Event) -> link.Event:
    return link.Event(
        id=one.id, at=one.at, kind=one.kind, text=masking.text(one.text), app=one.app, instance=one.instance,
        details=_plain(one.details),
    )  # fmt: skip


def deploy(one: Event) -> link.Deploy | None:
    """None: the event changes nothing of what runs."""
    what = DEPLOYS.get(one.kind)
    if what is None:
        return None
    said = one.details
    changed = said.get("changed") or said.get("changes") or ()
    return link.Deploy(
        at=one.at, what=what, text=masking.text(one.text), version=str(said.get("version") or ""),
        before=str(said.get("before") or "").rpartition("/")[0],
        changed=[str(each) for each in changed] if isinstance(changed, (list, tuple)) else [],
    )  # fmt: skip


def incident(one: Incident) -> link.Incident:
    return link.Incident(
        id=one.id, scope=one.subject.scope, app=one.subject.app, severity=one.severity, signal=one.signal,
        cause=one.cause, certainty=one.certainty, began_at=one.began, ended_at=one.ended, requests=one.requests,
        hit=one.hit, faults=dict(one.faults), signals=dict(one.signals),
    )  # fmt: skip


def exception(one: Group, unix: float) -> link.ExceptionGroup:
    since = int((unix - LATELY) // 60)
    return link.ExceptionGroup(
        fingerprint=one.fingerprint, runtime=one.runtime, type=one.type, message=masking.text(one.message),
        where=one.where, count=one.count, first_at=one.first, last_at=one.last,
        lately=sum(count for minute, count in one.minutes.items() if minute > since),
        instances=list(one.instances), versions=list(one.versions), sample=list(one.sample), raised=one.raised,
        caught=one.caught, uncaught=one.uncaught,
    )  # fmt: skip


def worker(one: WorkerState, uses: Mapping[str, Use], descriptors: Callable[[int], tuple[int | None, int | None]]
           ) -> link.Worker:  # fmt: skip
    """In a thread: `descriptors` of a pid, used and limit, reads /proc."""
    stats, use = one.stats, uses.get(f"worker{one.slot + 1}")
    used, limit = descriptors(one.pid) if one.pid else (None, None)
    return link.Worker(
        slot=one.slot, pid=one.pid, state=one.state, why=one.why or (stats.shedding if stats is not None else ""),
        lag=stats.lag_us / 1e6 if stats is not None else None,
        lag_max=stats.lag_max_us / 1e6 if stats is not None else None,
        connections=stats.connections if stats is not None else 0, descriptors=used, descriptors_limit=limit,
        cpu=use.cpu if use is not None else None, restarts=one.restarts,
    )  # fmt: skip


def state_of(one: AppState) -> tuple[str, str]:
    """up, degraded, down, stopped or held; and why."""
    count = f"{len(one.ready)} of {one.wanted} ready"
    if one.state in ("stopped", "held"):
        return one.state, f"{one.name} is {one.state} by hand; {count}"
    if one.wanted and not one.serving:
        return "down", f"{one.name} is down: {count}{f'; {one.degraded}' if one.degraded else ''}"
    if one.degraded or len(one.ready) < one.wanted:
        return "degraded", f"{one.name} is degraded: {one.degraded.removeprefix(f'{one.name}: ') or count}"
    return "up", f"{one.name} is up: {count}"


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON can have, masked, and not too much of it."""
    if isinstance(value, str):
        return masking.text(value)[:2000]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth >= 4:
        return masking.text(str(value))[:200]
    if isinstance(value, Mapping):
        return {
            str(key): masking.masked(str(key), each)[:2000] if isinstance(each, str) else _plain(each, depth + 1)
            for key, each in list(value.items())[:50]
        }
    if isinstance(value, Iterable):
        return [_plain(each, depth + 1) for each in list(value)[:50]]
    return masking.text(str(value))[:200]
