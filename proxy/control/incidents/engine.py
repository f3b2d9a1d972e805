"""Incidents: opened by signals, updated while they last, closed when all is well again.

Longer than most: it is the one place where signals, the timeline, the ledger and the store meet. What is wrong is
decided in signals/, what is looked at in look.py.

Always true:
  - of one subject at most one incident is open; it closes after CLEAN checks, EVERY seconds apart, without any signal;
  - its cause is the signal that explains most (the order of signals/ is that order), and gives way to a lesser one only
    when it has not been seen for STALE seconds;
  - a number is never used again; what is open is in the ledger, each change is handed to the store.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from proxy.control.autoheal.spread import Spread
from proxy.control.incidents import hits, saved
from proxy.control.incidents.contract import Found
from proxy.control.incidents.incident import STEPS, Incident, Step, Subject
from proxy.control.incidents.is_it import is_it
from proxy.control.incidents.signals import RANK, SIGNALS, TOUCHING
from proxy.control.self_check import Last
from proxy.control.state import Event
from proxy.control.store.reader import NotReadable

EVERY: Final = 10.0
CLEAN: Final = 3
"""Seconds between two checks, and how many in a row find nothing before it is over."""
AGAIN: Final = 300.0
"""Seconds after its end within which the same signal opens it again rather than another one."""
STALE: Final = 30.0
"""Seconds for which what explains most stands, though only lesser signals are seen."""
RAISED: Final = 5.0
"""Seconds for which a signal that others raise holds without being raised again."""
SPEAK_EVERY: Final = 5.0
"""Seconds between two "updated" of one incident where only its numbers changed."""
FIRST_STEPS: Final = 10
BEFORE: Final = 5.0
"""Seconds before the first sign from which events are its timeline too."""
RECENT: Final = 200
KEPT: Final = 5
"""Closed ones in the ledger, of those that may open again; the store has all."""
SAVE_EVERY: Final = 5.0
"""Seconds between two rows of one incident where only counts and steps have grown."""
INSTANCES: Final = 20

GATEWAY: Final = Subject("gateway")
HOST: Final = Subject("host")

Listed = list[Incident]
Listener = Callable[[str, Incident], None]
"""Called with "opened", "cause", "closed", "reopened" or "updated", right after the change; quick, must not raise."""


class Scene(Protocol):
    """Of one subject in one second; what else signals look at is in scene.py."""

    @property
    def subject(self) -> Subject: ...

    def totals(self, since: float) -> hits.Totals | None:
        """Counted up to the newest reading at or before `since` (Unix seconds); None: nothing is known."""


class Store(Protocol):
    def incident(self, saved: saved.Saved) -> None: ...

    async def incidents(
        self, app: str, open_only: bool, since: float, before: int, limit: int
    ) -> list[Incident]: ...


@dataclass(slots=True)
class _Raised:
    """By another part."""

    found: Found
    at: float  # monotonic
    once: bool


@dataclass(slots=True)
class Track:
    """Of an open incident, what nobody else needs."""

    last_seen: float = 0.0  # Unix seconds, of any signal
    cause_seen: float = 0.0  # the same, of the signal that is its cause
    checked: float = 0.0  # monotonic
    clean: int = 0
    told: float = 0.0  # monotonic, of the last "updated"
    base: hits.Totals | None = None
    dirty: bool = True  # the store should have it as it is now
    grown: bool = False  # soon
    saved_at: float = 0.0  # monotonic
    found: dict[str, Found] = field(default_factory=dict)


class Incidents:
    """`say` is Shared.event, `keep` has the ledger written soon, `number` gives the next number and keeps it."""

    def __init__(
        self,
        say: Callable[..., Event],
        keep: Callable[[], None],
        store: Store,
        number: Callable[[], int],
        scenes: Callable[[float, float], Iterator[Scene | None]],
        broke: Callable[[Exception], None],
        events: Callable[[], Iterable[Event]] = tuple,
    ) -> None:
        self.open: dict[Subject, Incident] = {}
        self.recent: deque[Incident] = deque(maxlen=RECENT)
        """Closed ones, newest last."""
        self.listeners: list[Listener] = []
        self.check: Callable[[], Last] = lambda: Last(0.0, True, None, "")
        """The self-check's last result."""
        self.paused: Callable[[], bool] = lambda: False
        """Whether nothing is looked at: what happens while Triage stops is no trouble."""
        self.freeze: Callable[[str, str], int] | None = None
        """(app, why) to the number of what is frozen; app "" is the gateway."""
        self.started = time.time()
        self._say = say
        self._keep = keep
        self._store = store
        self._number = number
        self._scenes = scenes
        self._events = events
        self._spread = Spread(broke)
        self._tracks: dict[Subject, Track] = {}
        self._found: dict[Subject, dict[str, Found]] = {}
        self._raised: dict[Subject, dict[str, _Raised]] = {}
        self.begun = False
        """Whether it is known what was open before this start."""

    def __repr__(self) -> str:
        return f"<Incidents {len(self.open)} open, {len(self.recent)} recent>"

    # --- for other parts ----------------------------------------------------------------------------------

    def signal(
        self,
        subject: Subject,
        name: str,
        says: str,
        *,
        severity: Any = "degraded",
        certainty: str = "certain",
        since: float = 0.0,
        instances: tuple[str, ...] = (),
        rule: str = "",
        once: bool = False,
    ) -> Incident:
        """Raise a signal, and keep it up: again each second, until `clear`. `once`: it happened, and is over.

        The incident that is open by it."""
        now, unix = time.monotonic(), time.time()
        found = Found(name, says, severity, certainty, since or unix, instances, rule)
        self._raised.setdefault(subject, {})[name] = _Raised(found, now, once)
        if subject not in self.open or name not in self.open[subject].signals:
            self._judge(subject, None, now, unix)
        return self.open[subject]

    def clear(self, subject: Subject, name: str) -> None:
        """It is not seen any more. The incident closes by itself, when nothing else is."""
        raised = self._raised.get(subject, {})
        raised.pop(name, None)
        if not raised:
            self._raised.pop(subject, None)

    def note(self, subject: Subject, kind: str, text: str) -> None:
        """One more step of its incident: the open one, else the one that ended last."""
        incident = self.open.get(subject) or self._last(subject)
        if incident is not None:
            _step(incident, time.time(), kind, text)
            self._changed(incident)

    def is_it(self) -> tuple[str, str]:
        """ "app", "gateway", "host" or "" where all is well, and why, in words."""
        return is_it(self.check(), self.open, TOUCHING)

    def get(self, number: int) -> Incident | None:
        """Open, or closed of late; the store has the others."""
        return next((one for one in (*self.open.values(), *reversed(self.recent)) if one.number == number), None)

    async def found(self, number: int) -> Incident | None:
        """From memory, else from the store. Raises NotReadable."""
        known = self.get(number)
        if known is not None:
            return known
        stored = await self._store.incidents("", False, 0.0, number + 1, 1)
        return stored[0] if stored and stored[0].number == number else None

    async def list(
        self, app: str = "", open_only: bool = False, since: float = 0.0, before: int = 0, limit: int = 100
    ) -> Listed:
        """Newest first; `since`: those that were open then or later (Unix seconds), `before`: with a lower number.

        Raises NotReadable only where memory has none of them."""

        def fits(one: Incident) -> bool:
            return (
                (not app or one.subject.app == app)
                and (not open_only or one.open)
                and (one.open or one.ended >= since)
                and (not before or one.number < before)
            )

        memory = {one.number: one for one in (*self.open.values(), *self.recent)}
        mine = {number: one for number, one in memory.items() if fits(one)}
        if not open_only:
            try:
                stored = await self._store.incidents(app, False, since, before, limit)
            except NotReadable:
                if not mine:
                    raise
                stored = []
            mine |= {one.number: one for one in stored if one.number not in memory}
        return sorted(mine.values(), key=lambda one: -one.number)[:limit]

    # --- its life -----------------------------------------------------------------------------------------

    async def begin(self, launched: float) -> None:
        """What the store says is open, and the ledger does not know: it ended with the Triage before this one.

        `launched`: Unix seconds of the launcher's start; what was seen later goes on. Raises nothing: where the store
        can't be read, `begun` stays False."""
        if self.begun:
            return
        try:
            left = await self._store.incidents("", True, 0.0, 0, RECENT)
        except NotReadable:
            return
        self.begun = True
        unix = time.time()
        for incident in reversed(left):
            if self.get(incident.number) is not None:
                continue
            if incident.updated >= launched and incident.subject not in self.open:
                self.open[incident.subject] = incident
                self._tracks[incident.subject] = Track(unix, unix, time.monotonic())
                continue
            ended = max(incident.opened, min(incident.updated, unix))
            incident.ended = ended
            incident.signals.clear()
            gap = f"Triage was not running from {_clock(ended)} to {_clock(self.started)}"
            _step(incident, unix, "closed", f"{gap}; it was last seen at {_clock(ended)}")
            incident.details["gap"] = [ended, self.started]
            self.recent.append(incident)
            self._save(incident)
            self._say(
                "incident-closed", f"{incident.id} of {incident.subject} is over: {gap}", app=incident.subject.app,
                incident=incident.id,
            )  # fmt: skip
            self._tell("closed", incident)

    def leave(self) -> None:
        """Triage, or this control, ends: what is open was seen until now."""
        for incident in self.open.values():
            incident.updated = time.time()
            self._save(incident)

    def dump(self) -> dict[str, Any]:
        """For the ledger."""
        return {
            "open": [
                {"incident": saved.dump(one), "seen": track.last_seen, "clean": track.clean,
                 "base": track.base.dump() if track.base else None}
                for subject, one in self.open.items()
                for track in (self._tracks[subject],)
            ],
            "recent": [saved.dump(one) for one in list(self.recent)[-KEPT:] if time.time() - one.ended <= AGAIN],
        }  # fmt: skip

    def load(self, raw: dict[str, Any]) -> None:
        now = time.monotonic()
        for one in raw.get("recent", ()):
            self.recent.append(saved.load(one))
        for kept in raw.get("open", ()):
            incident = saved.load(kept["incident"])
            base = hits.Totals.load(kept["base"]) if kept.get("base") else None
            self.open[incident.subject] = incident
            self._tracks[incident.subject] = Track(
                last_seen=kept["seen"], cause_seen=kept["seen"], checked=now, clean=kept["clean"], base=base
            )

    # --- once a second ------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """All subjects, in pieces that leave the loop to others. `now` is monotonic."""
        if not self.paused():
            self._spread.start(self.work(now, time.time()))

    def work(self, now: float, unix: float) -> Iterator[None]:
        """`unix` is the same moment on the clock of the wall."""
        seen: set[Subject] = set()
        for scene in self._scenes(now, unix):
            if scene is not None:
                seen.add(scene.subject)
                found: dict[str, Found] = {}
                for signal in SIGNALS[scene.subject.scope]:
                    one = signal.look(scene)
                    if one is not None:
                        found[one.name] = one
                    yield  # of a thousand instances each takes a millisecond
                self._found[scene.subject] = found
                self._judge(scene.subject, scene, now, unix)
            yield
        for subject in {*self.open, *self._raised} - seen:
            self._found.pop(subject, None)
            self._judge(subject, None, now, unix)
            yield
        for subject in self._found.keys() - seen:
            del self._found[subject]
        for subject, track in self._tracks.items():
            if track.dirty or (track.grown and now - track.saved_at >= SAVE_EVERY):
                track.dirty, track.grown, track.saved_at = False, False, now
                self._save(self.open[subject])
                yield

    def _judge(self, subject: Subject, scene: Scene | None, now: float, unix: float) -> None:
        """Of one subject: open, update, close."""
        found = {**self._found.get(subject, {}), **self._of_others(subject, now)}
        incident = self.open.get(subject)
        if incident is None:
            if not found:
                return
            incident = self._open(subject, found, scene, now, unix)
        track = self._tracks[subject]
        if scene is not None:
            self._count(incident, track, scene, unix)
        if found:
            track.last_seen, track.clean, track.checked = unix, 0, now
            self._update(incident, track, found, now, unix)
            return
        if track.found or incident.signals:
            for name in incident.signals:
                _step(incident, unix, "cleared", f"{name} is not seen any more")
            track.found = {}
            incident.signals.clear()
            incident.updated, track.dirty = unix, True
            self._keep()
        if now - track.checked >= EVERY:
            track.checked = now
            track.clean += 1
            if track.clean >= CLEAN:
                self._close(incident, track, unix)

    def _of_others(self, subject: Subject, now: float) -> dict[str, Found]:
        raised = self._raised.get(subject)
        if not raised:
            return {}
        found = {name: one.found for name, one in raised.items() if now - one.at <= RAISED}
        for name in [name for name, one in raised.items() if one.once or now - one.at > RAISED]:
            self.clear(subject, name)
        return found

    def _open(
        self, subject: Subject, found: Mapping[str, Found], scene: Scene | None, now: float, unix: float
    ) -> Incident:
        best = _best(found)
        says, certainty = self._explained(subject, best)
        began = min(unix, *(one.since for one in found.values()))
        before = self._again(subject, found, unix)
        if before is not None:
            incident, word = before, "reopened"
            self.recent.remove(incident)
            gap = unix - incident.ended
            incident.ended = 0.0
            said = f"{best.name} again {gap:.0f} s after it had ended: {says}"
        else:
            last = self._last(subject)
            began = max(began, last.ended if last is not None else 0.0)
            incident = Incident(
                self._number(), subject, best.severity, best.name, says, certainty, began, unix, unix
            )
            word, said = "opened", says
        incident.signal, incident.cause, incident.certainty, incident.updated = best.name, says, certainty, unix
        track = self._tracks[subject] = Track(last_seen=unix, cause_seen=unix, checked=now)
        if scene is not None:
            track.base = scene.totals(began - 1.0 if word == "opened" else unix)  # a reading is of the second before
        self.open[subject] = incident
        if word == "opened":
            self._past(incident)
        _step(incident, unix, word, said)
        self._note_found(incident, track, found, unix, quiet=True)
        if word == "opened" and self.freeze is not None:
            incident.frozen = self.freeze(subject.app, f"{incident.id}: {best.name}")
        event = self._say(
            f"incident-{word}", f"{incident.id} of {subject}: {incident.cause}", app=subject.app,
            incident=incident.id, signal=incident.signal, severity=incident.severity,
        )  # fmt: skip
        incident.details.setdefault("event", event.id)
        self._changed(incident)
        self._tell(word, incident)
        return incident

    def _last(self, subject: Subject) -> Incident | None:
        """That ended, of late."""
        return next((one for one in reversed(self.recent) if one.subject == subject), None)

    def _again(self, subject: Subject, found: Mapping[str, Found], unix: float) -> Incident | None:
        last = self._last(subject)
        if last is None or not 0.0 <= unix - last.ended <= AGAIN or not any(name in last.seen for name in found):
            return None
        return last

    def _update(
        self, incident: Incident, track: Track, found: Mapping[str, Found], now: float, unix: float
    ) -> None:
        """What is seen now beside what is known."""
        changed = self._note_found(incident, track, found, unix)
        best = _best(found)
        if incident.signal in found:
            track.cause_seen = unix
        worse = incident.signal not in found and unix - track.cause_seen <= STALE
        says, certainty = self._explained(incident.subject, best)
        if best.name != incident.signal and not worse:
            incident.signal, incident.cause, incident.certainty = best.name, says, certainty
            track.cause_seen = unix
            _step(incident, unix, "cause", says)
            self._say(
                "incident-cause", f"{incident.id} of {incident.subject}: {says}", app=incident.subject.app,
                incident=incident.id, signal=best.name,
            )  # fmt: skip
            self._changed(incident)
            self._tell("cause", incident)
            return
        spoke = False
        if best.name == incident.signal and says != incident.cause and now - track.told >= SPEAK_EVERY:
            incident.cause, incident.certainty, spoke = says, certainty, True
        if changed or spoke:
            track.told = now
            self._changed(incident, ledger=changed)
            self._tell("updated", incident)
        elif unix - incident.updated >= EVERY:
            self._changed(incident, ledger=False)

    def _note_found(
        self, incident: Incident, track: Track, found: Mapping[str, Found], unix: float, quiet: bool = False
    ) -> bool:
        """Whether signals, the severity or who has a part in it are others than before."""
        before = (set(incident.signals), incident.severity, len(incident.instances), len(incident.rules))
        for name in [name for name in incident.signals if name not in found]:
            del incident.signals[name]
            _step(incident, unix, "cleared", f"{name} is not seen any more")
        for name, one in found.items():
            if name not in incident.seen:
                incident.seen.append(name)
            if name not in incident.signals and not quiet:
                _step(incident, unix, "signal", one.says)
            incident.signals[name] = one.says
            if one.severity == "down" and incident.severity != "down":
                incident.severity = "down"
            incident.instances += [
                who for who in one.instances if who not in incident.instances and len(incident.instances) < INSTANCES
            ]
            if one.rule and one.rule not in incident.rules:
                incident.rules.append(one.rule)
            if one.since < incident.began and not incident.details.get("gap"):
                last = self._last(incident.subject)
                incident.began = max(one.since, last.ended if last is not None else 0.0)
        track.found = dict(found)
        return before != (set(incident.signals), incident.severity, len(incident.instances), len(incident.rules))

    def _explained(self, subject: Subject, found: Found) -> tuple[str, str]:
        """What it says, and how certain; an app's trouble may be the gateway's or the host's."""
        if subject.scope != "app" or found.name not in TOUCHING["app"]:
            return found.says, found.certainty
        for other in (HOST, GATEWAY):
            above = self.open.get(other)
            if above is not None and any(name in TOUCHING[other.scope] for name in above.signals):
                return f"{found.says}; likely through the {other.scope} ({above.id}): {above.cause}", "likely"
        return found.says, found.certainty

    def _close(self, incident: Incident, track: Track, unix: float) -> None:
        subject = incident.subject
        del self.open[subject], self._tracks[subject]
        incident.ended = max(incident.began, min(unix, track.last_seen))
        incident.updated = unix
        _step(incident, unix, "closed", f"over: {CLEAN} checks, {EVERY:.0f} s apart, found nothing")
        self.recent.append(incident)
        self._save(incident)
        lasted = incident.ended - incident.began
        self._say(
            "incident-closed", f"{incident.id} of {subject} is over after {lasted:.0f} s: {incident.cause}",
            app=subject.app, incident=incident.id, signal=incident.signal,
        )  # fmt: skip
        self._keep()
        self._tell("closed", incident)

    # --- what belongs to it -------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """What happens while it is open is its timeline."""
        for incident in self.open.values():
            if saved.concerns(event, incident.subject):
                _step(incident, event.at, saved.kind(event), event.text)
                self._tracks[incident.subject].grown = True

    def _past(self, incident: Incident) -> None:
        """Events from shortly before the first sign on."""
        since = incident.began - BEFORE
        found: list[Event] = []
        for event in reversed(tuple(self._events())[-500:]):
            if event.at < since or len(found) >= FIRST_STEPS + 10:
                break
            if saved.concerns(event, incident.subject):
                found.append(event)
        for event in reversed(found):
            _step(incident, event.at, saved.kind(event), event.text)

    def _count(self, incident: Incident, track: Track, scene: Scene, unix: float) -> None:
        totals = scene.totals(unix)
        if totals is None:
            return
        if track.base is not None and totals.requests != track.base.requests:
            hits.add(incident, track.base, totals)
            track.grown = True
        track.base = totals

    def _changed(self, incident: Incident, ledger: bool = True) -> None:
        incident.updated = max(incident.updated, time.time()) if incident.open else incident.updated
        track = self._tracks.get(incident.subject)
        if incident.open and track is not None:
            track.dirty = True
        else:
            self._save(incident)
        if ledger:
            self._keep()

    def _save(self, incident: Incident) -> None:
        self._store.incident(saved.save(incident))

    def _tell(self, word: str, incident: Incident) -> None:
        for listener in self.listeners:
            listener(word, incident)


def _best(found: Mapping[str, Found]) -> Found:
    """The one that explains most; what others raised explains least."""
    return min(found.values(), key=lambda one: (RANK.get(one.name, len(RANK)), one.since))


def _step(incident: Incident, at: float, kind: str, text: str) -> None:
    """Bounded: the first ones and the newest stay."""
    incident.steps.append(Step(at, kind, text[:400]))
    while len(incident.steps) > STEPS:
        del incident.steps[FIRST_STEPS]
        incident.details["steps_dropped"] = incident.details.get("steps_dropped", 0) + 1


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
