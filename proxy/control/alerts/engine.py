"""All of alerts: rules, who is told of which incident, and the ways out. `gateway.alerts`.

It subscribes to `incidents.listeners`; what it knows of an incident goes along in the ledger with what is unsent. What
the API shows of it is in views.py.

Always true:
  - an incident concerns a notifier because a rule that names it is on the incident, or because a built-in one is,
    which concerns all of them; it goes on concerning it until it is over;
  - while an app is muted its incidents are recorded, and nobody is told, not of their end either: all of that comes
    when the mute ends;
  - what a notifier's failures lead to is said and shown, and never a signal: telling of it would fail too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

import proxy
from proxy.config import Config
from proxy.control.alerts import builtin, views
from proxy.control.alerts.builtin import OF_RULES
from proxy.control.alerts.message import Kind, Message, of
from proxy.control.alerts.notifiers import make
from proxy.control.alerts.notifiers.contract import Failed, Place
from proxy.control.alerts.outbox import Done, Outbox
from proxy.control.alerts.rules import Metrics, Rules
from proxy.control.alerts.telling import Track, due
from proxy.control.autoheal.readings import Readings
from proxy.control.autoheal.spread import Spread
from proxy.control.by_hand import MUTED
from proxy.control.incidents.engine import Incidents
from proxy.control.incidents.incident import Incident
from proxy.control.shared import Shared
from proxy.control.state import AppState
from proxy.control.store.messages import SHOWN
from proxy.control.store.messages import Message as Row

TRACKS: Final = 500


class Store(Protocol):
    def message(self, row: Row) -> None: ...

    async def messages(self, incident: int = 0, limit: int = SHOWN) -> list[Row]: ...


class Alerts:
    """`base` gives the address that links begin with, `keep` has the ledger written soon."""

    def __init__(
        self,
        shared: Shared,
        apps: Mapping[str, AppState],
        readings: Readings,
        incidents: Incidents,
        metrics: Metrics,
        store: Store,
        base: Callable[[], str],
        keep: Callable[[], None],
    ) -> None:
        self.shared = shared
        self.outboxes: dict[str, Outbox] = {}
        self.rules = Rules(apps, readings, metrics, incidents, lambda: shared.events, shared.event, self._kept)
        self.config = Config()
        self.incidents = incidents
        self.store = store
        self._base = base
        self._keep = keep
        self._begun = False
        self.tracks: dict[int, Track] = {}
        self.fired: dict[str, float] = {}  # of built-in ones, Unix seconds
        self.sent: deque[Row] = deque(maxlen=SHOWN)
        self._last = 0  # id of the last message
        self._loaded: dict[str, Any] = {}
        self._spread = Spread(self._broke)
        self._told_defect = ""
        self._host = socket.gethostname()
        incidents.listeners.append(self._heard)
        shared.events.listeners.append(self.rules.on_event)

    def __repr__(self) -> str:
        return f"<Alerts {len(self.rules.rules)} rules, {len(self.outboxes)} notifiers, {len(self.tracks)} incidents>"

    # --- its life -----------------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        """At the start, and after each reload: what waits for a notifier that is still there goes on waiting."""
        before, self.config = self.config, config
        self.rules.configure(config)
        for name in [name for name in self.outboxes if name not in config.notify]:
            outbox = self.outboxes.pop(name)
            outbox.drop_all("it is not in the config any more")
            self._later(outbox.close())
        path = self.shared.plan["config_path"]
        place = Place(os.path.dirname(os.path.abspath(path)) if path else "", self._host, proxy.__version__)
        for name, notify in config.notify.items():
            if name not in self.outboxes:
                made = Outbox(name, make(name, notify, place), self._done, self._kept, self.shared.event)
                made.load(self._loaded.get("outboxes", {}).get(name, {}))
                self.outboxes[name] = made
            elif before.notify.get(name) != notify:
                self.outboxes[name].use(make(name, notify, place))
        self._kept()

    async def close(self, within: float = 0.0) -> None:
        """Control ends; the next one goes on from the ledger. What is on its way has so many seconds to arrive."""
        await asyncio.gather(*(outbox.close(within) for outbox in self.outboxes.values()))

    def _kept(self) -> None:
        """Not before the first tick: until then the ledger knows more than control does."""
        if self._begun:
            self._keep()

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def dump(self) -> dict[str, Any]:
        """For the ledger; {} where nothing is to be remembered."""
        found: dict[str, Any] = {
            "tracks": [track.dump() for track in self.tracks.values()],
            "rules": self.rules.dump(),
            "outboxes": {name: outbox.dump() for name, outbox in self.outboxes.items()},
            "fired": self.fired,
            "last": self._last,
        }
        return {name: value for name, value in found.items() if value}

    def load(self, raw: dict[str, Any]) -> None:
        self._loaded = raw
        self.tracks = {one["number"]: Track.load(one) for one in raw.get("tracks", ())}
        self.fired = dict(raw.get("fired", {}))
        self._last = int(raw.get("last", 0))
        self.rules.load(raw.get("rules", {}))

    # --- once a second ------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """`now` is monotonic."""
        if self.shared.stopping:
            return
        if not self._begun:
            self._begun = True
            for outbox in self.outboxes.values():
                outbox.start()
            self._kept()
        self._spread.start(self._work(now, time.time()))

    def _work(self, now: float, unix: float) -> Iterator[None]:
        yield from self.rules.work(now, unix)
        for incident in list(self.incidents.open.values()):
            track = self._track(incident, now)
            track.see(incident.signals, now)
            track.want(self._concerned(incident, track, now, unix), now)
            self._tell(incident.subject.app, track, incident, now)
            yield
        for track in list(self.tracks.values()):
            if track.closed:
                self._tell((track.closing or {}).get("app", ""), track, None, now)
                if track.over(now):
                    del self.tracks[track.number]
                yield

    def _broke(self, error: Exception) -> None:
        """A defect here must not end control; the same one is told once."""
        if repr(error) != self._told_defect:
            self._told_defect = repr(error)
            where = "".join(traceback.format_exception(error))[-2000:]
            self.shared.log.error("defect", f"alerts failed: {error!r}", traceback=where)

    # --- incidents ----------------------------------------------------------------------------------------

    def _heard(self, word: str, incident: Incident) -> None:
        """A listener: what has become of an incident."""
        now = time.monotonic()
        match word:
            case "opened":
                self._track(incident, now)
            case "reopened":
                track = self.tracks.get(incident.number) or self._track(incident, now)
                track.reopen(now)
            case "cause":
                self._track(incident, now).changed = now
            case "closed":
                if incident.number not in self.tracks and not incident.told:
                    return
                track = self._track(incident, now)
                track.close(now)
                track.closing = self._message(incident, "closed").dump()
            case _:
                return
        self._kept()

    def _track(self, incident: Incident, now: float) -> Track:
        track = self.tracks.get(incident.number)
        if track is None:
            track = Track(incident.number, changed=now)
            for name in incident.told:  # before a start of everything: the ledger has ended with it, the store has not
                told = track.tell(name, "opened", self._number(), incident.signal, incident.severity, now)
                told.alert = self._named(incident, name)
            while len(self.tracks) >= TRACKS:
                del self.tracks[next(iter(self.tracks))]
            self.tracks[incident.number] = track
        return track

    def _concerned(self, incident: Incident, track: Track, now: float, unix: float) -> Iterator[str]:
        """Notifiers."""
        for rule in self.config.alerts:
            if rule.name in incident.rules and OF_RULES + rule.name in incident.seen:
                yield from (name for name in rule.notify if name in self.outboxes)
        for one, lasted in builtin.meant(track.signals, incident.severity, now):
            if lasted and not builtin.replaced(self.config, one.name, incident.subject.app):
                self.fired[one.name] = unix
                yield from self.outboxes

    def _tell(self, app: str, track: Track, incident: Incident | None, now: float) -> None:
        """What is due, of an open incident or of one that is over (None)."""
        if self.muted_until(app) is not None:
            return
        for name in {**track.wanted, **track.told}:
            outbox = self.outboxes.get(name)
            if outbox is None:
                track.told.pop(name, None)
                track.wanted.pop(name, None)
                continue
            closing = Message.load(track.closing) if incident is None and track.closing else None
            signal, severity = (
                (incident.signal, incident.severity) if incident is not None
                else (closing.signal, closing.severity) if closing is not None else ("", "")
            )  # fmt: skip
            repeat = self.config.notify[name].repeat
            repeat = max(repeat, builtin.seldom(track.signals)) if repeat else 0.0
            kind = due(track, name, signal, severity, repeat, now)
            if kind is None:
                continue
            told = track.told.get(name)
            if incident is not None:
                message = self._message(incident, kind)
            elif closing is not None:
                message = replace(closing, id=self._number(), at=time.time())
            else:
                continue
            was = tuple(told.severities) if told is not None and severity not in told.severities else ()
            new = told is None
            told = track.tell(name, kind, message.id, signal, severity, now)
            if new and incident is not None:
                told.alert = self._named(incident, name)
                told.instance = incident.instances[0] if len(incident.instances) == 1 else ""
            outbox.put(replace(message, was=was, first=told.first, alert=told.alert, instance=told.instance))

    def _message(self, incident: Incident, kind: Kind) -> Message:
        return of(incident, id=self._number(), kind=kind, at=time.time(), host=self._host, base=self._base())

    def _named(self, incident: Incident, notifier: str) -> str:
        """What a notifier is told it is: its own rule on the incident, else what explains it best."""
        rules = (rule.name for rule in self.config.alerts if notifier in rule.notify and rule.name in incident.rules)
        return next(rules, incident.signal.removeprefix(OF_RULES))

    def _number(self) -> int:
        """Grows over restarts too: milliseconds since 1970."""
        self._last = max(self._last + 1, int(time.time() * 1000))
        return self._last

    def _done(self, done: Done) -> None:
        """A message was taken, or will never be."""
        message = done.message
        row = Row(
            message.id, done.at, message.number, done.notifier, done.state, message.kind, done.tries, done.error,
            message.title,
        )  # fmt: skip
        self.sent.append(row)
        self.store.message(row)
        if message.kind == "test":
            return
        if done.state != "sent":
            text = f"{done.notifier} was not told of {message.incident} ({message.kind}): {done.error}"
            self.shared.event("notify-lost", text, notifier=done.notifier, incident=message.incident)
            return
        incident = self.incidents.get(message.number)
        if incident is not None:
            if done.notifier not in incident.told:
                incident.told.append(done.notifier)
            self.incidents.note(incident.subject, "told", f"{done.notifier} was told: {message.title}")

    # --- mute ---------------------------------------------------------------------------------------------

    def muted_until(self, app: str) -> float | None:
        """Unix seconds; None: it is not muted."""
        entry = self.shared.by_hand.apps.get(app, {}).get(MUTED) if app else None
        return entry.until if entry is not None else None

    # --- for who looks; more is in views.py ----------------------------------------------------------------

    async def test(self, name: str) -> tuple[Message, str, str]:
        """Send a real message now: the message, what was answered, and what went wrong ("": nothing). KeyError."""
        outbox = self.outboxes[name]
        unix = time.time()
        id, why = self._number(), f"someone asked Triage on {self._host} to send it"
        message = Message(
            id, "test", unix, 0, "gateway", "", "degraded", "test", why, "", unix, host=self._host,
            base=self._base(), alert="test", first=id,
        )  # fmt: skip
        try:
            return message, await outbox.test(message), ""
        except Failed as error:
            return message, "", str(error)

    def notifiers(self) -> list[dict[str, Any]]:
        """As they do."""
        return views.notifiers(self)

    def notices(self) -> Iterator[str]:
        """What an operator should know, and would not look for."""
        return views.notices(self)
