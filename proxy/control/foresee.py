"""What an act would do, said before it begins. Pure: it only looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from proxy import units
from proxy.control.state import Lifecycle
from proxy.control.supervisor import DRAIN, Pool


@dataclass(frozen=True, slots=True)
class Foresight:
    """What an act would do, said first."""

    lines: list[str] = field(default_factory=list)
    at_stake: bool = False
    """Capacity or requests are: a person is asked."""


def _recycle(pool: Pool, name: str, **fields: Any) -> Foresight:
    return _replaced(pool, [name])


def _restart(pool: Pool, name: str, **fields: Any) -> Foresight:
    return _replaced(pool, [one for one in pool.app.instances if pool.stays(one)])


def _replaced(pool: Pool, names: list[str]) -> Foresight:
    if pool.config.process is None:
        return _given(pool, names)
    app, process = pool.app, pool.config.process
    said = ", ".join(sorted(names))
    limit = units.duration(process.stop.timeout)
    inflight = sum(pool.shared.board.total(app.instances[name].row) for name in names)
    ready = [one.name for one in app.ready if pool.stays(one.name)]
    alone = bool(ready) and not set(ready).difference(names) and len(ready) <= 1
    short = pool.planner.short_of_room(names) if process.overlap else ""
    lines = [f"evidence of {said} is taken, then a fresh instance in its place"]
    if len(names) > 1:
        lines = [f"{len(names)} instances are replaced, one after the other: {said}"]
    if process.overlap and not short:
        lines.append(f"the old one serves until the new one is ready{_start_time(pool)}")
    else:
        why = f"{short}: " if short else "overlap = false: "
        lines.append(f"{why}the old one ends first{_start_time(pool)}")
        if alone:
            lines.append(f"meanwhile none is ready: requests wait in the queue, {pool.config.queue.size} at most")
    lines.append(f"{units.several(inflight, 'request')} on them now; each has {limit} to end, then it is cut")
    return Foresight(lines, at_stake=alone and (not process.overlap or bool(short)))


def _given(pool: Pool, names: list[str]) -> Foresight:
    app, recycle = pool.app, pool.config.recycle
    said = ", ".join(sorted(names))
    lines = [f"{said}: ejected, drained ({units.duration(DRAIN)} at most), recycled, admitted when its probes pass"]
    if recycle:
        lines.append(f"the command is: {' '.join(recycle.command)}")
    alone = not [one for one in app.serving if one.name not in names]
    if alone and len(names) == 1:
        lines.append("no other gets requests: they wait in the queue meanwhile")
    return Foresight(lines, at_stake=alone and len(names) == 1)


def _eject(pool: Pool, name: str, *, for_: float = 0.0, force: bool = False) -> Foresight:
    app = pool.app
    others = [one for one in app.serving if one.name != name]
    lasts = f"for {units.duration(for_)}" if for_ else "until it is admitted by hand"
    lines = [f"{name} gets no new requests {lasts}; what is on it goes on to its end"]
    allowed = pool.ejector.allowed(name)
    if not others:
        lines.append(f"no other gets requests: they wait {units.duration(pool.config.queue.timeout)} and get a 503")
    else:
        lines.append(f"{len(others)} of {app.wanted} are left for all requests")
        if not allowed:
            lines.append("that is more than ejection.max_ejected lets Triage eject; a hand may")
    return Foresight(lines, at_stake=not others or not allowed)


def _admit(pool: Pool, name: str) -> Foresight:
    state = pool.app.instances[name]
    return Foresight([f"{name} gets requests again; it was ejected: {state.ejection.reason}"], at_stake=state.failing)


def _start(pool: Pool, name: str) -> Foresight:
    process = pool.config.process
    count = process.instances if process else len(pool.config.addresses)
    return Foresight([f"{units.several(count, 'instance')} of {pool.app.name} are started{_start_time(pool)}"])


def _stop(pool: Pool, name: str, *, for_: float = 0.0) -> Foresight:
    app = pool.app
    inflight = sum(pool.shared.board.total(one.row) for one in app.instances.values())
    lasts = f"for {units.duration(for_)}" if for_ else "until `triage start`"
    all_ = units.several(len(app.instances), "instance")
    lines = [f"{all_} of {app.name} end, and every request gets a 503 `stopped` {lasts}"]
    if pool.config.process is None:
        lines = [f"every request of {app.name} gets a 503 `stopped` {lasts}; its addresses are left alone"]
    if inflight:
        lines.append(f"{units.several(inflight, 'request')} on them now may end first")
    return Foresight(lines, at_stake=True)


def _hold(pool: Pool, name: str, *, for_: float = 0.0) -> Foresight:
    queue = pool.config.queue
    lasts = f"for {units.duration(for_)}" if for_ else "until `triage release`"
    said = f"new requests of {pool.app.name} wait {lasts}: {units.duration(queue.timeout)} at most, then 503"
    return Foresight([said, f"{queue.size} may wait at once"], at_stake=True)


def _release(pool: Pool, name: str) -> Foresight:
    waiting = pool.shared.board.waiting(pool.app.row)
    return Foresight([f"{units.several(waiting, 'request')} waiting now are served, and all that come"])


def _scale(
    pool: Pool,
    name: str,
    *,
    instances: int | None = None,
    auto: bool = False,
    memory: int | None = None,
    cpus: float | None = None,
    for_: float = 0.0,
) -> Foresight:
    app, process = pool.app, pool.config.process
    assert process is not None
    lines = []
    if auto:
        lines.append(f"{app.name} is as the config and its rules say: {process.instances} of them now")
        instances = process.instances if app.scaled is None else app.scaled
    elif instances is not None:
        until = f"whatever rules say, until `scale {app.name} auto`"
        lines.append(f"{app.name} has {instances} instead of {app.wanted}, {until}")
    if memory is not None or cpus is not None:
        words = [f"memory {units.size(memory)}" if memory else "", f"cpus {cpus:g}" if cpus else ""]
        said = " and ".join(word for word in words if word) or "the config's limits"
        lines.append(f"its instances get {said}, by replacing them one at a time")
    fewer = instances is not None and instances < app.wanted
    if fewer:
        lines.append(f"those that go end what is on them first; {instances} are left")
    serving = len(app.serving)
    return Foresight(lines, at_stake=fewer and (not instances or instances * 2 <= serving))


def _autoheal(pool: Pool, name: str, *, enabled: bool, for_: float = 0.0) -> Foresight:
    if enabled:
        return Foresight([f"rules act on {pool.app.name} again"])
    lasts = f"for {units.duration(for_)}" if for_ else "until they are switched on"
    return Foresight([f"no rule acts on {pool.app.name} {lasts}; they go on to say what they would do"])


def _mute(pool: Pool, name: str, *, for_: float = 0.0, unmute: bool = False) -> Foresight:
    if unmute:
        return Foresight([f"those who are told of {pool.app.name} are told again, first of what is open now"])
    return Foresight(
        [
            f"nobody is told of incidents of {pool.app.name} for {units.duration(for_)}; they are recorded",
            "of those that are open at its end everyone is told then",
        ]
    )


def _start_time(pool: Pool) -> str:
    took = [_between(one.moves) for one in pool.app.instances.values() if one.lifecycle is Lifecycle.READY]
    known = [seconds for seconds in took if seconds]
    return f" (the last start took {units.duration(known[-1])})" if known else ""


def _between(moves: tuple[Any, ...]) -> float:
    """From its last start to being ready."""
    started = [move.at for move in moves if move.state == Lifecycle.STARTING]
    ready = [move.at for move in moves if move.state == Lifecycle.READY]
    return ready[-1] - started[-1] if started and ready else 0.0


LINES: Final[dict[str, Callable[..., Foresight]]] = {
    "recycle": _recycle,
    "restart": _restart,
    "eject": _eject,
    "admit": _admit,
    "start": _start,
    "stop": _stop,
    "hold": _hold,
    "release": _release,
    "scale": _scale,
    "autoheal": _autoheal,
    "mute": _mute,
}
