"""What is known, as one reading a second of each ready instance and of each app.

Longer than most: each field of a reading has its few lines here, and they are read like a table.

Always true:
  - counts of a series only grow; a worker that was there before this control, and is heard of late, begins all anew
    rather than being taken for traffic of this second;
  - little is read from outside, and seldom: what host or cgroup still has each 2 s, /proc/PID/limits each minute. A
    tick over 200 instances takes a few milliseconds; what did not change since the last one is not added up again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.control import room
from proxy.control.autoheal.contract import CONFIG, FILES, NOTHING, Reading
from proxy.control.autoheal.pss import Closely
from proxy.control.autoheal.series import Thinned
from proxy.control.counters import ALL, Counters, Key
from proxy.control.state import Admission, AppState, Exit, InstanceState, Lifecycle, ProbeResult, WorkerState
from proxy.link.board import Board
from proxy.link.messages import Row

KEEP: Final = 120.0
"""Seconds back that is kept for whoever asks; `need` asks for more."""
SETTLE: Final = 3.0
"""Seconds from a control's start in which workers tell again all that they have counted."""
PER_SECOND: Final = 500
"""Rows that they tell in a second at least."""
LEFT_EVERY: Final = 2.0
GAP: Final = 3.0
"""Seconds without a waiting request that do not end the time in which somebody waited."""

Files = Callable[[str, tuple[str, ...]], str]
"""App and patterns (() for process.watch) to a fingerprint, "" when it is not known."""


@dataclass(slots=True)
class _Sum:
    """Of all workers' rows of one instance."""

    rows: Sequence[Row] = ()
    requests: int = 0
    answers: int = 0
    classes: tuple[int, ...] = (0, 0, 0, 0, 0, 0)
    faults: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    watched: Mapping[str, int] = field(default_factory=lambda: NOTHING)


@dataclass(slots=True)
class _Seen:
    """Of one instance, what a single moment does not tell."""

    series: Thinned
    answers: int = -1
    answered: float = 0.0
    probe: ProbeResult | None = None
    waiting_since: float = 0.0
    waited_at: float = 0.0
    longest: float = 0.0  # of oldest_wait since `extra` was asked last
    usage_at: float = 0.0
    cpu_seconds: float = 0.0
    closely: Closely = field(default_factory=Closely)
    limit: int | None = None  # of descriptors
    limit_of: tuple[int, float] = (0, 0.0)  # pid, and when it was read


@dataclass(slots=True)
class _App:
    series: Thinned
    exits: int = 0
    last_exit: Exit | None = None
    begun: bool = False
    cpu_seconds: float = 0.0
    states: dict[str, str] = field(default_factory=dict)
    changes: Mapping[str, float] = field(default_factory=lambda: NOTHING)


class Readings:
    """`workers` are the gateway's, `files` is asked for fingerprints of watched files."""

    def __init__(
        self,
        apps: Mapping[str, AppState],
        counters: Counters,
        board: Board,
        workers: Callable[[], Iterable[WorkerState]],
        files: Files = lambda app, globs: "",
    ) -> None:
        self.apps = apps
        self.files = files
        self._counters = counters
        self._board = board
        self._workers = workers
        self.settled = False
        """Whether there are readings by now: workers have told what they had counted before this control."""
        self._cores = float(len(os.sched_getaffinity(0)))
        self._left: int | None = None
        self._left_at = 0.0
        self._began = time.time()
        self._settled_at = 0.0
        self._zero = time.monotonic()
        """What is younger has been counted from nothing: its first seconds are no less known than the others."""
        self._told: set[tuple[int, str]] = set()
        self._sums: dict[Key, _Sum] = {}
        self._seen: dict[Key, _Seen] = {}
        self._apps: dict[str, _App] = {}
        self._needs: dict[tuple[str, str], float] = {}
        self._globs: dict[str, tuple[tuple[str, ...], ...]] = {}

    def __repr__(self) -> str:
        settled = "" if self.settled else ", not settled"
        return f"<Readings of {len(self._seen)} instances, {len(self._apps)} apps{settled}>"

    # --- for who looks ---------------------------------------------------------------------------------

    def instance(self, app: str, name: str) -> Thinned | None:
        """Its readings since it became ready; None: it is not ready, or there is none yet."""
        found = self._seen.get((app, name))
        return found.series if found is not None else None

    def app(self, app: str) -> Thinned | None:
        found = self._apps.get(app)
        return found.series if found is not None else None

    def extra(self) -> dict[Key, dict[str, object]]:
        """What recorded points have of this, by app and instance ("*" for the app): fields of store.Point."""
        found: dict[Key, dict[str, object]] = {}
        for (app, name), seen in self._seen.items():
            last = seen.series.last
            if last is None:
                continue
            longest, seen.longest = seen.longest, 0.0
            found[app, name] = {
                "oldest_wait": round(longest, 3),
                "memory_limit": last.memory_limit,
                "cpu_limit": last.cpu_limit,
                "descriptors": last.descriptors,
                "descriptor_limit": last.descriptor_limit,
            }
            whole = found.setdefault((app, ALL), {"oldest_wait": 0.0})
            whole["oldest_wait"] = max(round(longest, 3), whole["oldest_wait"])  # type: ignore[call-overload]
        for app, known in self._apps.items():
            last = known.series.last
            if last is not None:
                found.setdefault((app, ALL), {}).update(
                    memory_limit=last.memory_limit, cpu_limit=last.cpu_limit, descriptor_limit=last.descriptor_limit,
                    files=last.files, unhealthy=last.unhealthy,
                )  # fmt: skip
        return found

    def need(self, owner: str, app: str, seconds: float) -> None:
        """`owner` looks back so far in `app`, from now on."""
        self._needs[owner, app] = seconds

    def watch_files(self, app: str, globs: Iterable[tuple[str, ...]]) -> None:
        """Files that rules of `app` look at, besides those of process.watch."""
        self._globs[app] = tuple(dict.fromkeys(globs))

    # --- once a second ---------------------------------------------------------------------------------

    def tick(self, now: float, unix: float | None = None) -> None:
        """All of it at once. `now` is monotonic, `unix` the same moment on the clock of the wall."""
        for _ in self.work(now, unix):
            pass

    def work(self, now: float, unix: float | None = None) -> Iterator[None]:
        """The same in parts."""
        unix = time.time() if unix is None else unix
        if not self._settle(now):
            return
        rows = self._counters.by_instance()
        if now - self._left_at >= LEFT_EVERY:
            self._left, self._left_at = room.free(), now
        yield
        sums: dict[Key, _Sum] = {}
        for key, found in rows.items():
            sums[key] = _sum(self._sums.get(key), found)
            yield
        self._sums = sums
        totals = self._totals()
        yield
        present: set[Key] = set()
        for name, app in list(self.apps.items()):
            need = max((need for (_, of), need in self._needs.items() if of == name), default=0.0)
            keep = max(KEEP, need)
            made: list[Reading] = []
            used = 0.0
            for state in list(app.instances.values()):
                if state.lifecycle is Lifecycle.READY:
                    present.add((name, state.name))
                    reading, cpu = self._instance(app, state, now, unix, keep)
                    made.append(reading)
                    used += cpu
                    yield
            self._app(app, totals.get(name) or _Sum(), made, used, now, unix, keep)
            yield
        for key in [key for key in self._seen if key not in present]:
            del self._seen[key]
        for name in [name for name in self._apps if name not in self.apps]:
            del self._apps[name]
            self._globs.pop(name, None)
            self._needs = {(owner, of): need for (owner, of), need in self._needs.items() if of != name}

    def _settle(self, now: float) -> bool:
        """Whether counts of this tick can be told from what workers had counted before this control."""
        told = {(slot, stats.epoch) for slot, stats in self._counters.stats.items()}
        started = {worker.slot: worker.started_at for worker in self._workers()}
        if any(started.get(slot, 0.0) < self._began for slot, _ in told - self._told):
            rows = sum(len(app.instances) + 2 for app in self.apps.values())
            self._settled_at = self._zero = now + SETTLE + rows / PER_SECOND
            self._clear()
        self._told = told
        self.settled = bool(told) and now >= self._settled_at
        return self.settled

    def _clear(self) -> None:
        self._sums.clear()
        self._seen.clear()
        for app in self._apps.values():
            app.series.clear()

    def _totals(self) -> dict[str, _Sum]:
        """Of each app, over all its instances, those that are gone, and what reached none."""
        found: dict[str, _Sum] = {}
        for (app, _), one in self._sums.items():
            total = found.get(app)
            if total is None:
                total = found[app] = _Sum(faults={}, watched={})
            total.requests += one.requests
            total.answers += one.answers
            total.classes = tuple(map(int.__add__, total.classes, one.classes))
            for into, counts in ((total.faults, one.faults), (total.watched, one.watched)):
                assert isinstance(into, dict)
                for name, count in counts.items():
                    into[name] = into.get(name, 0) + count
        return found

    def _instance(
        self, app: AppState, state: InstanceState, now: float, unix: float, keep: float
    ) -> tuple[Reading, float]:
        """Its reading, and the CPU seconds it used since the one before."""
        key = (app.name, state.name)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(Thinned(keep))
            if state.ready_since >= self._zero:
                seen.answers = 0
                seen.series.add(Reading(at=state.ready_since, unix=unix + state.ready_since - now))
        seen.series.keep = keep
        one = self._sums.get(key) or _Sum()
        waits = self._counters.oldest_wait(app.name, state.name)
        self._note_answers(app, state, seen, one, now)
        seen.longest = max(seen.longest, waits)
        if waits:
            if not seen.waited_at or now - seen.waited_at > GAP:
                seen.waiting_since = now - waits
            seen.waited_at = now
        usage, used = state.usage, 0.0
        if usage is not None and usage.at > seen.usage_at:
            used = usage.cpu * min(usage.at - seen.usage_at, 60.0) if seen.usage_at else 0.0
            seen.usage_at = usage.at
            seen.cpu_seconds += used
        slots = app.config.max_inflight
        memory, left = usage.rss if usage is not None and usage.rss else None, self._left
        limit = state.memory_limit or (memory + left if memory is not None and left is not None else None)
        if usage is not None and memory and not state.limited_by.startswith("cgroup"):
            memory = seen.closely.memory(memory, limit, usage.pids, now)
            limit = state.memory_limit or (memory + left if left is not None else None)
        before = seen.series.last
        waiting = now - seen.waiting_since if seen.waited_at and now - seen.waited_at <= GAP else 0.0
        reading = Reading(
            at=now,
            unix=unix,
            requests=one.requests,
            classes=one.classes,
            faults=_same(before.faults if before is not None else NOTHING, one.faults),
            watched=_same(before.watched if before is not None else NOTHING, one.watched),
            answers=one.answers,
            answered=seen.answered,
            inflight=max(0, self._board.total(state.row)),
            slots=slots if isinstance(slots, int) else 0,
            oldest_wait=waits,
            waiting=waiting,
            memory=memory,
            memory_limit=limit,
            cpu=usage.cpu if usage is not None else None,
            cpu_seconds=seen.cpu_seconds if usage is not None else None,
            cpu_limit=state.cpu_limit or self._cores,
            descriptors=usage.descriptors_most if usage is not None else None,
            descriptor_limit=self._descriptor_limit(state, seen, now),
            age=max(0.0, now - state.ready_since) if state.ready_since else 0.0,
            probes_failed=state.probes_failed,
        )
        seen.series.add(reading)
        return reading, used

    def _note_answers(self, app: AppState, state: InstanceState, seen: _Seen, one: _Sum, now: float) -> None:
        """Every sign that it answers: a response head, content while others wait, a probe that read an answer."""
        if one.answers > seen.answers:
            if one.answers and seen.answers >= 0:
                seen.answered = now
            seen.answers = one.answers
        seen.answered = max(seen.answered, self._counters.heard(app.name, state.name))
        if state.probe is not seen.probe:
            seen.probe = state.probe
            if state.probe is not None and state.probe.ok and app.config.health.path is not None:
                seen.answered = now

    @staticmethod
    def _descriptor_limit(state: InstanceState, seen: _Seen, now: float) -> int | None:
        if not state.pid:
            return None
        pid, at = seen.limit_of
        if pid != state.pid or now - at > 60.0:
            seen.limit_of = (state.pid, now)
            seen.limit = _soft_limit(state.pid)
        return seen.limit

    def _app(
        self, app: AppState, total: _Sum, made: Sequence[Reading], used: float, now: float, unix: float, keep: float
    ) -> None:
        seen = self._apps.get(app.name)
        if seen is None:
            seen = self._apps[app.name] = _App(Thinned(keep))
            if self._zero < now - 1.0 and not self._settled_at:
                seen.series.add(Reading(at=now - 1.0, unix=unix - 1.0))
        seen.series.keep = keep
        seen.exits += _unplanned(app, seen)
        seen.cpu_seconds += used / len(made) if made else 0.0
        self._note_changes(app, seen, now)
        healthy = sum(one.admission is Admission.ADMITTING and not one.failing for one in app.ready)
        before = seen.series.last
        seen.series.add(
            Reading(
                at=now,
                unix=unix,
                requests=total.requests,
                classes=total.classes,
                faults=_same(before.faults if before is not None else NOTHING, total.faults),
                watched=_same(before.watched if before is not None else NOTHING, total.watched),
                answers=total.answers,
                answered=max((one.answered for one in made), default=0.0),
                inflight=sum(one.inflight for one in made),
                slots=sum(one.slots for one in made),
                queue=max(0, self._board.waiting(app.row)),
                oldest_wait=max((one.oldest_wait for one in made), default=0.0),
                waiting=max((one.waiting for one in made), default=0.0),
                memory=_whole(_mean(one.memory for one in made)),
                memory_limit=_whole(_mean(one.memory_limit for one in made)),
                cpu=_mean(one.cpu for one in made),
                cpu_seconds=seen.cpu_seconds if any(one.cpu is not None for one in made) else None,
                cpu_limit=_mean(one.cpu_limit for one in made),
                descriptors=_whole(_mean(one.descriptors for one in made)),
                descriptor_limit=_whole(_mean(one.descriptor_limit for one in made)),
                age=max((one.age for one in made), default=0.0),
                probes_failed=max((one.probes_failed for one in made), default=0),
                unhealthy=max(0, app.wanted - healthy),
                instances=app.wanted,
                exits=seen.exits,
                files=seen.states.get(FILES, ""),
                config=seen.states.get(CONFIG, ""),
                changes=seen.changes,
            )
        )

    def _note_changes(self, app: AppState, seen: _App, now: float) -> None:
        states = {FILES: self.files(app.name, ()), CONFIG: repr(app.config.process)}
        for globs in self._globs.get(app.name, ()):
            states["\n".join(globs)] = self.files(app.name, globs)
        changed = {
            name: now
            for name, state in states.items()
            if state and seen.states.get(name) and seen.states[name] != state
        }
        if changed:
            seen.changes = {**seen.changes, **changed}
        seen.states = {name: state or seen.states.get(name, "") for name, state in states.items()}


def _sum(known: _Sum | None, rows: Sequence[Row]) -> _Sum:
    """Rows are replaced when they change, never written to: the same ones have the same sum."""
    if known is not None and len(known.rows) == len(rows) and all(map(_is, known.rows, rows)):
        return known
    faults: dict[str, int] = {}
    watched: dict[str, int] = {}
    for row in rows:
        for into, counts in ((faults, row.faults), (watched, row.watched)):
            for name, count in counts.items():
                into[name] = into.get(name, 0) + count
    return _Sum(
        rows,
        sum(row.requests for row in rows),
        sum(sum(row.wait.values()) for row in rows),
        tuple(map(sum, zip(*(row.classes for row in rows), strict=True))),
        faults,
        watched,
    )


def _is(one: Row, other: Row) -> bool:
    return one is other


def _same(known: Mapping[str, int], found: Mapping[str, int]) -> Mapping[str, int]:
    """The one that is known already if they are equal: a quiet instance's readings share it."""
    return known if known == found else found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _unplanned(app: AppState, seen: _App) -> int:
    """Ends since the last look that nobody had asked for."""
    count = 0
    for ended in reversed(app.ended):
        if ended is seen.last_exit:
            break
        count += not ended.ours
    seen.last_exit = app.ended[-1] if app.ended else None
    if not seen.begun:  # those of a former control were looked at by it
        seen.begun = True
        return 0
    return count


def _soft_limit(pid: int) -> int | None:
    """Of descriptors."""
    try:
        with open(f"/proc/{pid}/limits") as file:
            for line in file:
                if line.startswith("Max open files"):
                    return int(line.split()[3])
    except (OSError, ValueError, IndexError):
        pass
    return None
