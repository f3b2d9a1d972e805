"""The config's `[[alerts]]`, looked at once a second; what is met is a signal on an incident.

Always true:
  - a rule keeps its signal up as long as it is met, and HOLD seconds longer, so that one that flickers is one alert;
  - events are counted in as much memory as the rule's `count` has; of a metric or a reading that is not known nothing
    is met.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from proxy import units
from proxy.config import Alert, Condition, Config
from proxy.control.alerts.builtin import OF_RULES
from proxy.control.autoheal import conditions, words
from proxy.control.autoheal.contract import Seen
from proxy.control.autoheal.readings import Readings
from proxy.control.autoheal.spell import Spell
from proxy.control.incidents.incident import Subject
from proxy.control.state import AppState, Event, Lifecycle

HOLD: Final = 10.0
"""Seconds: one check of an incident."""
SAY_EVERY: Final = 60.0
EACH: Final = frozenset({"memory", "cpu", "descriptors", "stuck", "age"})
"""Kinds that are about one instance: with `above` the worst of the app's instances counts, not their mean."""
GATEWAY: Final = Subject("gateway")


class Incidents(Protocol):
    """What the rules need of them."""

    def signal(
        self, subject: Subject, name: str, says: str, *, severity: Any = ..., certainty: str = ..., since: float = ...,
        instances: tuple[str, ...] = ..., rule: str = ...,
    ) -> Any: ...  # fmt: skip

    def clear(self, subject: Subject, name: str) -> None: ...


class Metrics(Protocol):
    """Any metric of the table."""

    def scope(self, name: str) -> str:
        """Whose it is: "app", "gateway" or "host"; "" for one that is not known."""

    def look(self, condition: Condition, subject: Subject, now: float) -> Seen: ...


@dataclass(slots=True)
class Status:
    """Of a rule and one subject."""

    spell: Spell = field(default_factory=Spell)
    seen: Seen | None = None
    instance: str = ""
    says: str = ""  # what it saw when it was met last
    held: float = 0.0
    met_at: float = 0.0  # monotonic, when it was met for long enough last
    firing: bool = False
    fired_unix: float = 0.0
    said: float = 0.0  # monotonic, of the last event
    times: deque[float] | None = None  # monotonic, of the newest events that are counted

    @property
    def state(self) -> str:
        if self.firing:
            return "firing"
        return "met" if self.seen is not None and self.seen.met else "watching"


class Rules:
    """`events` are those of the past, for a rule that is new; `say` is Shared.event, `keep` has the ledger written."""

    def __init__(
        self,
        apps: Mapping[str, AppState],
        readings: Readings,
        metrics: Metrics,
        incidents: Incidents,
        events: Callable[[], Iterable[Event]],
        say: Callable[..., Any],
        keep: Callable[[], None],
    ) -> None:
        self.rules: tuple[Alert, ...] = ()
        self.status: dict[tuple[str, Subject], Status] = {}
        self._apps = apps
        self._readings = readings
        self._metrics = metrics
        self._incidents = incidents
        self._events = events
        self._say = say
        self._keep = keep
        self._loaded: dict[str, Any] = {}

    def __repr__(self) -> str:
        firing = sum(status.firing for status in self.status.values())
        return f"<Rules {len(self.rules)}, {firing} firing>"

    def configure(self, config: Config) -> None:
        """At the start, and after each reload. A rule that reads as before goes on as it was."""
        before = {rule.name: rule.when for rule in self.rules}
        same = {rule.name for rule in config.alerts if before.get(rule.name) == rule.when}
        for (name, subject), status in list(self.status.items()):
            rule = next((one for one in config.alerts if one.name == name), None)
            if rule is None or name not in same or (rule.apps and subject.app not in rule.apps):
                if status.firing:
                    self._incidents.clear(subject, OF_RULES + name)
                del self.status[name, subject]
        self.rules = config.alerts

    def on_event(self, event: Event) -> None:
        """Quick: one look at each rule about events."""
        for rule in self.rules:
            if rule.when.kind == "event" and event.kind in rule.when.kinds:
                subject = Subject("app", event.app) if event.app in self._apps else GATEWAY
                if not rule.apps or subject.app in rule.apps:
                    known = self.status.get((rule.name, subject))
                    times = (known or self._status(rule, subject)).times
                    if known is not None and times is not None:  # a new one has it from the events of the past
                        times.append(time.monotonic())

    # --- once a second ------------------------------------------------------------------------------------

    def work(self, now: float, unix: float) -> Iterator[None]:
        """All rules; each part is short. `now` is monotonic, `unix` the same moment on the wall."""
        for rule in self.rules:
            for subject in list(self.subjects(rule)):
                self._look(rule, subject, now, unix)
                yield
        present = set(self._apps)
        for key in [key for key in self.status if key[1].app and key[1].app not in present]:
            del self.status[key]

    def subjects(self, rule: Alert) -> Iterator[Subject]:
        """Those that it looks at."""
        if rule.when.kind == "metric" and (scope := self._metrics.scope(rule.when.name)) != "app":
            if scope and not rule.apps:
                yield Subject("host" if scope == "host" else "gateway")
            return
        for name in self._apps:
            if not rule.apps or name in rule.apps:
                yield Subject("app", name)
        if rule.when.kind == "event" and not rule.apps:
            yield GATEWAY

    def _look(self, rule: Alert, subject: Subject, now: float, unix: float) -> None:
        status = self._status(rule, subject)
        status.seen, status.instance = self._see(rule.when, subject, status, now)
        known = bool(status.spell.since)
        status.held = status.spell.update(status.seen.met, now)
        if status.seen.met and not known and rule.when.for_:
            self._keep()
        name = OF_RULES + rule.name
        if status.seen.met and status.held >= rule.when.for_:
            status.met_at, status.says = now, status.seen.words
            if not status.firing:
                status.firing, status.fired_unix = True, unix
                self._keep()
                if now - status.said >= SAY_EVERY or not status.said:
                    status.said = now
                    text = f"alert {rule.name}: {status.seen.words}"
                    self._say("alert", text, subject.app, status.instance, rule=rule.name)
        elif status.firing and now - status.met_at >= HOLD:
            status.firing = False
            self._incidents.clear(subject, name)
            self._keep()
        if status.firing:
            self._incidents.signal(
                subject, name, f"{name}: {status.says}", severity="degraded", certainty="certain",
                since=min(unix, unix - status.held), instances=(status.instance,) if status.instance else (),
                rule=rule.name,
            )  # fmt: skip

    def _see(self, condition: Condition, subject: Subject, status: Status, now: float) -> tuple[Seen, str]:
        """What it sees, and of which instance."""
        if condition.kind == "event":
            assert status.times is not None
            return _counted(condition, status.times, now), ""
        if condition.kind == "metric":
            return self._metrics.look(condition, subject, now), ""
        if not self._readings.settled:
            return _nothing(condition, "control has just started: there is no reading long enough"), ""
        if condition.kind in EACH and condition.above is not None:
            return self._worst(condition, subject.app, now)
        series = self._readings.app(subject.app)
        if series is None or series.last is None:
            return _nothing(condition, "no reading yet"), ""
        return conditions.look(condition, series, now), ""

    def _worst(self, condition: Condition, app: str, now: float) -> tuple[Seen, str]:
        found: list[tuple[Seen, str]] = []
        for one in self._apps[app].instances.values():
            series = self._readings.instance(app, one.name) if one.lifecycle is Lifecycle.READY else None
            if series is not None and series.last is not None:
                found.append((conditions.look(condition, series, now), one.name))
        if not found:
            return _nothing(condition, "no instance is ready"), ""
        seen, name = max(found, key=lambda one: (one[0].met, one[0].value or 0.0))
        said = Seen(seen.met, seen.value, seen.threshold, seen.unit, f"{name}: {seen.words}", seen.below)
        return said, name if seen.met else ""

    def _status(self, rule: Alert, subject: Subject) -> Status:
        status = self.status.get((rule.name, subject))
        if status is None:
            status = self.status[rule.name, subject] = Status()
            before = self._loaded.pop(_key(rule, subject), None)
            if before is not None:
                status.spell = Spell(**before["spell"])
                status.firing, status.fired_unix = before["firing"], before["fired"]
                status.met_at, status.said, status.says = before["met_at"], before["said"], before["says"]
            if rule.when.kind == "event":
                status.times = deque(maxlen=rule.when.count)
                self._recall(rule.when, subject, status.times)
        return status

    def _recall(self, condition: Condition, subject: Subject, times: deque[float]) -> None:
        """Events of the past, which a former control has seen too."""
        unix, now = time.time(), time.monotonic()
        for event in self._events():
            app = event.app if event.app in self._apps else ""
            if event.kind in condition.kinds and app == subject.app and 0.0 <= unix - event.at <= condition.within:
                times.append(now - (unix - event.at))

    # --- the ledger ---------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        found = {}
        for rule in self.rules:
            for (name, subject), one in self.status.items():
                if name == rule.name and (one.firing or one.spell.since or one.fired_unix):
                    found[_key(rule, subject)] = {
                        "spell": asdict(one.spell), "firing": one.firing, "fired": one.fired_unix,
                        "met_at": one.met_at, "said": one.said, "says": one.says,
                    }  # fmt: skip
        return found

    def load(self, raw: dict[str, Any]) -> None:
        self._loaded = dict(raw)


def _key(rule: Alert, subject: Subject) -> str:
    """Another condition is another rule."""
    return f"{rule.name}\n{subject}\n{words.described(rule.when)}"


def _nothing(condition: Condition, said: str) -> Seen:
    threshold = condition.above if condition.above is not None else condition.below or 0.0
    return Seen(False, None, threshold, "", said, condition.below is not None)


def _counted(condition: Condition, times: deque[float], now: float) -> Seen:
    """`times` has room for as many as are asked for."""
    number = sum(now - at <= condition.within for at in times)
    kinds = ", ".join(condition.kinds)
    more = " or more" if number == times.maxlen and number > 1 else ""
    said = f"{units.count(number)}{more} × {kinds} in the last {units.write_duration(condition.within)}"
    return Seen(number >= condition.count, float(number), float(condition.count), "", said)
