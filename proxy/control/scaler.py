"""The scaling rules at work: what each app's rules see, once a second, and the steps that follow.

The deciding is pure (scaling.py); a step is an act like any other (mend.py), by "rule scale", and sets
`AppState.scaled`. A step waits for three things: the one before it is done and all wanted instances are ready, the
cooldown is over, and nobody has set the count by hand. What rules would have done meanwhile is shown, and an event at
each change of mind.

Always true:
  - an app with a `scale` table wants a number within its bounds, unless a person set another; when that ends, rules go
    on from that number, so that nothing is taken away only to be started again;
  - rules of an app that is stopped or held do nothing: what waits there waits by an operator's word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy import units
from proxy.config.conditions import Condition
from proxy.config.schema import Scale
from proxy.control.autoheal.conditions import look, reach
from proxy.control.autoheal.contract import Seen
from proxy.control.autoheal.readings import Readings
from proxy.control.autoheal.spell import Spell
from proxy.control.operations import Asked, Operation
from proxy.control.refusal import NotPossible
from proxy.control.scaling import Decision, Rule, decide, within
from proxy.control.shared import Shared
from proxy.control.state import AppState

BY: Final = "rule scale"
SEEN_WITHIN: Final = 2.5
"""Seconds until readings show a change: they come once a second."""
FORGOTTEN: Final = 60.0
"""Seconds without a wish, after which the same one is told again."""

Act = Callable[..., Operation]


@dataclass(slots=True)
class _App:
    """What is remembered of one app's rules."""

    table: Scale
    spells: dict[Condition, Spell] = field(default_factory=dict)
    until: float = 0.0  # monotonic; of the cooldown
    busy: float = 0.0  # monotonic; when something was under way last that changes what rules see
    scaled: int | None = None  # as of the last look
    mind: str = ""  # what they would do and may not: told at each change
    minded: float = 0.0  # monotonic; when they would have done it last
    words: str = ""  # "" until the first look
    out: list[Rule] = field(default_factory=list)
    in_: list[Rule] = field(default_factory=list)


class Scaler:
    """`act` is the mender's; `wake` has an app's pool look again at how many are wanted."""

    def __init__(
        self,
        shared: Shared,
        apps: Mapping[str, AppState],
        act: Act,
        readings: Readings,
        wake: Callable[[str], None] = lambda app: None,
    ) -> None:
        self.shared = shared
        self.apps = apps
        self._act = act
        self._readings = readings
        self._wake = wake
        self._known: dict[str, _App] = {}
        self._loaded: dict[str, dict[str, Any]] = {}

    def __repr__(self) -> str:
        return f"<Scaler of {', '.join(self._known) or 'no app'}>"

    # --- once a second ---------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """`now` is monotonic."""
        for app in self.apps.values():
            self.settle(app)
            known = self._of(app)
            if known is not None:
                self._tick(app, known, now)
        for name in [name for name in self._known if name not in self.apps]:
            del self._known[name]

    def settle(self, app: AppState) -> None:
        """Pull the number into the bounds of the config in force; when its `scale` table goes, it is the config's."""
        table, process = app.config.scale, app.config.process
        if table is None or process is None:
            if self._known.pop(app.name, None) is not None and app.scaled is not None:
                app.scaled = None
                self._wake(app.name)
                self.shared.changed()
            return
        if "count" in app.by_hand:
            app.scaled = within(table, app.by_hand["count"].value)  # when that ends, rules go on from there
            return
        count = process.instances if app.scaled is None else app.scaled
        wanted = within(table, count)
        if wanted == count:
            return
        app.scaled = wanted
        bound = f"scale.min is {table.min}" if wanted > count else f"scale.max is {table.max}"
        text = f"{app.name}: {wanted} instances instead of {count}: {bound}"
        self.shared.event("scale-bounds", text, app.name, count=count, wanted=wanted)
        self._wake(app.name)
        self.shared.changed()

    def _tick(self, app: AppState, known: _App, now: float) -> None:
        if app.scaled != known.scaled:  # an autoheal rule has scaled, or a bound: there is one cooldown for all
            known.scaled, known.until = app.scaled, now + known.table.cooldown
        known.out = self._rules(app.name, known, known.table.out, now)
        known.in_ = self._rules(app.name, known, known.table.in_, now)
        if app.state != "up":
            known.words = f"the app is {app.state} by hand"
            return
        decision = decide(known.table, known.out, known.in_, app.wanted)
        way = _way(decision, app.wanted)
        waits = self._waits(app, known, way or decision.held_back, now)
        if not way:
            known.words = decision.words
            if decision.held_back and not waits:
                self._minds(app, known, f"{decision.held_back}: held back", decision, now)
            elif known.mind and now - known.minded > max(FORGOTTEN, known.table.cooldown):
                known.mind = ""
            return
        hand = app.by_hand.get("count")
        if hand is not None:
            why = f" ({hand.why})" if hand.why else ""
            would = f"would scale {way} to {decision.to}, but {hand.value} are set {hand.by}{why}"
            known.words = f"{would}; {decision.words}"
            if not waits:
                self._minds(app, known, f"{way}: by hand", decision, now)
            return
        known.mind = ""
        if waits:
            known.words = f"scales {way} to {decision.to} {waits}; {decision.words}"
            return
        self._step(app, known, way, decision, now)

    def _rules(self, app: str, known: _App, conditions: Iterable[Condition], now: float) -> list[Rule]:
        found = []
        for condition in conditions:
            seen = self._look(app, condition, now)
            spell = known.spells.setdefault(condition, Spell())
            found.append(Rule(condition, seen, spell.update(seen.met, now)))
        return found

    def _look(self, app: str, condition: Condition, now: float) -> Seen:
        series = self._readings.app(app)
        if series is None or series.last is None:
            return Seen(False, None, 0.0, "", "no reading yet", condition.below is not None)
        return look(condition, series, now)

    def _waits(self, app: AppState, known: _App, way: str, now: float) -> str:
        """What a step waits for, or "". One in may take an instance that does not get ready."""
        running = self.shared.operations.running(app.name)
        missing = way == "out" and len(app.ready) < app.wanted
        if missing or running:
            known.busy = now
        if any(one.act == "scale" for one in running):
            return "when the step before it is done"
        if way == "in" and running:
            return f"when the {running[0].act} is done"
        if missing:
            return f"when all are ready: {len(app.ready)} of {app.wanted} are"
        if now - known.busy < SEEN_WITHIN:
            return "as soon as is seen what the last change came to"
        if now < known.until:
            return f"in {units.duration(known.until - now)}, after the cooldown"
        return ""

    def _step(self, app: AppState, known: _App, way: str, decision: Decision, now: float) -> None:
        rule = decision.by.name if decision.by is not None else ""
        value = decision.by.seen.words if decision.by is not None else ""
        reason = f"{way} from {app.wanted} to {decision.to}: {decision.words}"
        try:
            self._act("scale", app.name, "", Asked(BY, reason, rule, value, collect=False), instances=decision.to)
        except NotPossible as error:
            known.words = f"can't scale {way} to {decision.to}: {error}; {decision.words}"
            self._minds(app, known, f"{way}: {error.kind}", decision, now)
            return
        known.scaled, known.until = app.scaled, now + known.table.cooldown
        known.words = f"scales {reason}"

    def _minds(self, app: AppState, known: _App, mind: str, decision: Decision, now: float) -> None:
        """One event at each change of what they would do and may not; a moment without a wish is none."""
        known.minded = now
        if known.mind == mind:
            return
        known.mind = mind
        text = f"{app.name} is not scaled: {known.words}"
        rule = decision.by.name if decision.by is not None else ""
        self.shared.event("would-scale", text, app.name, rule=rule, to=decision.to)

    def _of(self, app: AppState) -> _App | None:
        table = app.config.scale
        known = self._known.get(app.name)
        if table is None or app.config.process is None:
            return None
        if known is None:
            before = self._loaded.pop(app.name, {})
            until, mind = float(before.get("until", 0.0)), str(before.get("mind", ""))
            known = _App(table, until=until, scaled=app.scaled, mind=mind)
            self._known[app.name] = known
        elif known.table == table and known.words:
            return known
        conditions = {*table.out, *table.in_}  # what goes on as it was goes on counting
        known.spells = {one: spell for one, spell in known.spells.items() if one in conditions}
        known.table = table
        known.words = known.words or "not looked at yet"
        self._readings.need("scale", app.name, max(map(reach, conditions), default=0.0))
        return known

    # --- for others ------------------------------------------------------------------------------------

    def view(self, app: str) -> dict[str, Any] | None:
        """For people and the API; None: it has no scaling rules. `distance`: how far the value is from being met."""
        known, state = self._known.get(app), self.apps[app]
        if known is None:
            return None
        left = known.until - time.monotonic()
        return {
            "count": state.wanted,
            "min": known.table.min,
            "max": known.table.max,
            "by_hand": "count" in state.by_hand,
            "cooldown_until": time.time() + left if left > 0 else None,
            "words": known.words,
            "rules": [
                *({"way": "out", **_shown(rule)} for rule in known.out),
                *({"way": "in", **_shown(rule)} for rule in known.in_),
            ],
        }

    # --- for a successor -------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Of each app the end of its cooldown, and what was told last."""
        return {name: {"until": one.until, "mind": one.mind} for name, one in self._known.items()}

    def load(self, raw: dict[str, Any]) -> None:
        self._loaded = dict(raw)


def _way(decision: Decision, count: int) -> str:
    return "out" if decision.to > count else "in" if decision.to < count else ""


def _shown(rule: Rule) -> dict[str, Any]:
    seen = rule.seen
    distance = None
    if seen.value is not None:
        distance = seen.value - seen.threshold if seen.below else seen.threshold - seen.value
    return {
        "rule": rule.name,
        "value": seen.value,
        "threshold": seen.threshold,
        "unit": seen.unit,
        "distance": distance,
        "met": seen.met,
        "held": rule.held,
        "for": rule.condition.for_,
        "says": rule.says,
        "words": seen.words,
    }
