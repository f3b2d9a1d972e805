"""Gathering what an answer may rest on: from records, counts, state, output and, when it hangs now, stacks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from proxy.admin import kept, verdict, views
from proxy.admin.hanging import Hanging
from proxy.control.by_hand import EJECTED
from proxy.control.counters import ALL
from proxy.control.records import IdParts
from proxy.control.state import Admission, AppState, Exit, InstanceState, Lifecycle, Usage
from proxy.control.store import NotReadable
from proxy.control.store.points import STEPS
from proxy.diagnostics.facts import (
    AppFacts,
    CountFacts,
    ExitFacts,
    Facts,
    Happened,
    InstanceFacts,
    Malformed,
    Said,
    Used,
)
from proxy.diagnostics.reading import as_text
from proxy.diagnostics.subject import plain
from proxy.link.messages import Record

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

HANGS: Final = frozenset({"head-timeout", "send-timeout", "body-timeout", "total-timeout", "connect-timeout"})
FULL: Final = frozenset({"queue-full", "queue-timeout", "shed"})
EXPLAINED_BY_EXIT: Final = frozenset(
    {"instance-exited", "closed-before-head", "reset-before-head", "connect-refused", "body-truncated", "all-unready"}
)
RECENT: Final = 900.0
STILL: Final = 60.0
"""A stack taken now says something about a request only if such faults still happen: within so many seconds."""


async def of_request(gateway: Gateway, look: views.Look, record: Record, hanging: Hanging) -> Facts:
    """About a kept request. Takes a stack, if its instance hangs now."""
    app = gateway.apps.get(record.app)
    found = Facts(look.now, record=record, id=record.id, lag=record.lag_us / 1e6)
    found.counts = _counts(look, record)
    if app is None:
        return found
    found.app = _app(look, app)
    state = _instance_of(app, record.instance)
    end = record.time + record.total_us / 1e6
    if state is not None:
        found.instance = _instance(look, app, state, around=end)
        found.lines = _lines(state, end)
    if record.fault in EXPLAINED_BY_EXIT:
        found.exit = _exit_near(app, state, record.instance, end)
        if found.exit is None and record.instance:
            found.exit = await _exit_recalled(gateway, record.app, record.instance, end)
            if found.exit is not None and not found.lines:
                found.lines = tuple(Said(found.exit.at, "err", line) for line in found.exit.lines[-10:])
    bad = app.bad_response
    if bad is not None and bad.id == record.id:
        found.malformed = Malformed(bad.offset, bad.why, bad.data)
    if record.fault in HANGS | FULL:
        if record.instance and (state is None or not state.pid):
            folders = [gateway.sessions.folder(one) for one in gateway.sessions.list(record.app)]
            found.stacks, found.stacks_at = await asyncio.to_thread(_saved_stacks, folders, record.instance)
        elif look.now - max(found.counts.last, end) <= STILL:
            found.stacks = await _stacks(hanging, look, app, state)
    found.events = await _around(gateway, record.app, end - 1.0, end + 120.0)
    return found


async def of_app(gateway: Gateway, look: views.Look, app: AppState, hanging: Hanging) -> Facts:
    """About an app as it is now."""
    found = Facts(look.now, app=_app(look, app))
    found.events = _events(gateway, app.name, look.now - 3600.0, look.now, newest=True)
    shown = found.app
    if shown is not None and (
        any(name in HANGS for name in shown.faults) or (shown.slots and shown.in_flight >= 0.9 * shown.slots)
    ):
        found.stacks = await _stacks(hanging, look, app, None)
    return found


async def of_unkept(gateway: Gateway, look: views.Look, id: str, parts: IdParts) -> Facts:
    """About an id of ours of which only worker and second are known: counts, and the nearest that was kept."""
    near = await kept.near(gateway, parts.second + 0.5, parts.worker)
    if near is not None and abs(near.time - parts.second) > 300:
        near = None
    found = Facts(look.now, record=near, kept=False, id=id, second=parts.second, worker=parts.worker)
    found.in_second = look.counters.recent.at(parts.second, around=1)
    found.counted_since = gateway.started_at
    if not found.in_second:
        found.in_interval = await _in_interval(gateway, parts.second)
    if near is not None and near.app in gateway.apps:
        app = gateway.apps[near.app]
        found.app = _app(look, app)
        found.counts = _counts(look, near)
        state = _instance_of(app, near.instance)
        if state is not None:
            found.instance = _instance(look, app, state, around=near.time)
        if near.fault in EXPLAINED_BY_EXIT:
            found.exit = _exit_near(app, state, near.instance, near.time + near.total_us / 1e6)
    elif len(gateway.apps) == 1:
        found.app = _app(look, next(iter(gateway.apps.values())))
    return found


async def _in_interval(gateway: Gateway, second: int) -> dict[tuple[str, str], int]:
    """(app, fault) to count in the ten seconds that a second lies in, from recorded points: of the last day."""
    found: dict[tuple[str, str], int] = {}
    for app in list(gateway.apps):
        try:
            points = await gateway.store.points(app, since=second - 0.5, until=second + STEPS[0], step=STEPS[0])
        except NotReadable:
            return found
        for _, point in points[:1]:
            found |= {(app, fault): count for fault, count in point.faults.items()}
    return found


# --- parts -------------------------------------------------------------------------------------------


def _app(look: views.Look, state: AppState) -> AppFacts:
    config = state.config
    waiting, oldest = look.waiting(state.row)
    sums = look.sums.app(state.name)
    response, waits = sums.response(), sums.waits()
    most = config.max_inflight if isinstance(config.max_inflight, int) else 0
    judged = look.verdict(state)
    return AppFacts(
        name=state.name,
        state=judged.state,
        verdict=judged.line,
        wanted=state.wanted,
        ready=len(state.ready),
        starting=sum(
            one.lifecycle in (Lifecycle.STARTING, Lifecycle.WARMING, Lifecycle.BACKOFF)
            for one in state.instances.values()
        ),
        serving=len(state.serving),
        in_flight=sum(look.in_flight(one.row) for one in state.instances.values()),
        slots=most * len(state.serving),
        waiting=waiting,
        oldest_wait=oldest,
        per_second=sums.per_second,
        p50=response["p50"],
        p99=response["p99"],
        wait_p50=waits["p50"],
        max_inflight=most,
        queue_size=config.queue.size,
        queue_timeout=config.queue.timeout,
        connect=config.timeouts.connect,
        first_byte=config.timeouts.first_byte,
        idle=config.timeouts.idle,
        total=config.timeouts.total,
        max_body=config.max_body,
        faults=verdict.serious(look.counters.recent.by_fault(state.name, look.now - verdict.LOOK_BACK)),
        suspects=tuple(f"{one.method} {one.path}" for one in state.suspects),
        instances=tuple(_instance(look, state, one) for one in list(state.instances.values())[:20]),
        exits=tuple((one.name, _exit(one)) for one in state.ended),
        stopped_by=_by_hand(state, "state"),
        count_by=_by_hand(state, "count"),
        not_replaced=state.not_replaced,
        ejected_by_hand=tuple(key.removeprefix(EJECTED) for key in state.by_hand if key.startswith(EJECTED)),
        has_process=config.process is not None,
    )


def _by_hand(state: AppState, key: str) -> str:
    one = state.by_hand.get(key)
    if one is None:
        return ""
    return f"{one.by} at {views.iso(one.at)}" + (f": {one.why}" if one.why else "")


def _instance_of(app: AppState, name: str) -> InstanceState | None:
    return app.instances.get(name) or next((one for one in reversed(app.gone) if one.name == name), None)


def _instance(look: views.Look, app: AppState, state: InstanceState, around: float | None = None) -> InstanceFacts:
    process = app.config.process
    most = app.config.max_inflight if isinstance(app.config.max_inflight, int) else 0
    ejected = state.admission is not Admission.ADMITTING
    return InstanceFacts(
        name=state.name,
        kind=state.kind,
        address=state.url or state.address,
        lifecycle=state.lifecycle.value,
        admission=state.admission.value,
        failing=state.failing,
        why=state.why,
        pid=state.pid,
        uptime=look.clock - state.started if state.started and state.pid else None,
        restarts=state.restarts,
        memory=state.usage.rss if state.usage is not None else None,
        memory_limit=state.memory_limit or (process.memory if process is not None else None),
        cpu=state.usage.cpu if state.usage is not None else None,
        cpu_limit=state.cpu_limit or (process.cpus if process is not None else None),
        used=_used(look, list(state.usage_history), around) if around is not None else (),
        in_flight=look.in_flight(state.row),
        slots=most,
        probe=state.probe.words if state.probe is not None else "",
        probe_ok=state.probe.ok if state.probe is not None else True,
        listens_on=state.listens_on,
        ejection=(state.ejection.reason or state.ejection.by) if ejected else "",
        log=f"logs/instances/{state.name}.log" if state.output is not None else "",
    )


def _used(look: views.Look, history: list[Usage], around: float) -> tuple[Used, ...]:
    """Samples of the 6 s before a moment, as far as they are still there."""
    shift = look.now - look.clock
    found = [Used(one.at + shift, one.cpu, one.rss) for one in history]
    return tuple(one for one in found if around - 6.0 <= one.at <= around + 1.5)


def _lines(state: InstanceState, at: float) -> tuple[Said, ...]:
    """What it printed around a moment; of one that is gone, what its exit carries, if that was about then."""
    if state.output is not None:
        found = [Said(line.at, line.stream, line.text) for line in state.output.around(at, 10.0, 2.0)]
        if found:
            return tuple(found)
    last = state.last_exit
    if last is not None and last.name in ("", state.name) and abs(last.at - at) <= 5.0:
        return tuple(Said(last.at, "err", line) for line in last.last_lines[-10:])
    return ()


def _exit_near(app: AppState, state: InstanceState | None, name: str, at: float) -> ExitFacts | None:
    """The exit of that instance, the one nearest in time; it must be an exit of *this* instance."""
    found = [one for one in app.ended if one.name == name]
    last = state.last_exit if state is not None else None
    if last is not None and last.name in ("", name) and last not in found:
        found.append(last)
    near = min(found, key=lambda one: abs(one.at - at), default=None)
    return _exit(near) if near is not None and abs(near.at - at) <= 60.0 else None


async def _exit_recalled(gateway: Gateway, app: str, name: str, at: float) -> ExitFacts | None:
    """The same, from the events on the disk: what a former control saw."""
    try:
        found = await gateway.store.events_between(app, at - 60.0, at + 60.0, limit=500)
    except NotReadable:
        return None
    exits = [one.details for one in found if one.instance == name and one.kind in ("exited", "stopped")]
    known = [one for one in exits if isinstance(one.get("at"), float) and isinstance(one.get("words"), str)]
    near = min(known, key=lambda one: abs(one["at"] - at), default=None)
    if near is None:
        return None
    return ExitFacts(
        at=near["at"],
        lasted=float(near.get("lasted") or 0.0),
        words=near["words"],
        code=near.get("code"),
        signal=near.get("signal"),
        oom=near.get("oom", "no"),
        ours=bool(near.get("ours")),
        by_itself=bool(near.get("by_itself")),
        lines=tuple(map(str, near.get("last_lines") or ())),
    )


def _exit(state: Exit) -> ExitFacts:
    return ExitFacts(
        at=state.at,
        lasted=state.lasted,
        words=state.words,
        code=state.code,
        signal=state.signal,
        oom=state.oom,
        ours=state.ours,
        by_itself=state.by_itself,
        lines=state.last_lines,
    )


def _counts(look: views.Look, record: Record) -> CountFacts:
    recent = look.counters.recent
    if not record.fault:
        return CountFacts()
    since = look.now - RECENT
    end = int(record.time + record.total_us / 1e6)
    found = CountFacts(
        recent=recent.count(record.app, record.fault, since=since),
        same_second=recent.count(record.app, record.fault, record.instance or ALL, end - 1, end + 1),
        first=recent.began(record.app, record.fault, since),
        last=float(recent.last(record.app, record.fault)),
        by_instance=recent.by_instance(record.app, record.fault, since),
    )
    if not found.recent and record.time >= since:  # the count comes up to half a second after the record
        found.recent, found.last = 1, record.time
    return found


def _saved_stacks(folders: Iterable[Path], instance: str) -> tuple[str, float]:
    """What was taken of one that is gone, and when, out of sessions, the newest first; ("", 0.0) if nothing was."""
    for folder in folders:
        try:
            artifact = orjson.loads((folder / plain(instance) / "stacks.json").read_bytes())
            text = as_text(artifact)
            if text:
                return text, float(artifact["at"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return "", 0.0


async def _stacks(hanging: Hanging, look: views.Look, app: AppState, state: InstanceState | None) -> str:
    """Of this instance, or of the one with the most requests in flight; "" where none can be had in time."""
    if state is None or not state.pid:
        running = [one for one in app.instances.values() if one.pid]
        state = max(running, key=lambda one: look.in_flight(one.row), default=None)
    if state is None or not state.pid:
        return ""
    pids = state.usage.pids if state.usage is not None and state.usage.pids else (state.pid,)
    return await hanging.stacks((state.pid, *[one for one in pids if one != state.pid][:2]))


async def _around(gateway: Gateway, app: str, since: float, until: float) -> tuple[Happened, ...]:
    """Of the time of a request; out of the store where it is before what memory has."""
    first = next(iter(gateway.events), None)
    if first is not None and first.at <= since:
        return _events(gateway, app, since, until)
    try:
        older = await gateway.store.events_between(app, since, until)
    except NotReadable:
        older = []
    found = {event.id: event for event in older}
    found |= {one.id: one for one in gateway.events if since <= one.at <= until and one.app in (app, "")}
    return tuple(Happened(one.at, one.text) for _, one in sorted(found.items()) if one.kind != "hint")[:8]


def _events(gateway: Gateway, app: str, since: float, until: float, *, newest: bool = False) -> tuple[Happened, ...]:
    found = [
        Happened(event.at, event.text)
        for event in gateway.events
        if since <= event.at <= until and event.app in (app, "") and event.kind != "hint"
    ]
    return tuple(found[-6:] if newest else found[:8])
