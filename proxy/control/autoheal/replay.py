"""A rule over recorded history: when it would have fired, and what the record cannot tell. Pure.

History goes on as it was: it does not know that an instance would have been replaced. So the first firing is what would
have happened, and the later ones are what would have followed had it not helped.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.config.problems import ConfigProblems, Report
from proxy.config.readers import Place
from proxy.config.schema import Autoheal
from proxy.config.walk import BROKEN, Walker
from proxy.control.autoheal import guards, views, words
from proxy.control.autoheal.guards import Situation
from proxy.control.autoheal.recorded import Points, Recorded, known_since
from proxy.control.autoheal.rules import Memory, Rule

ALL: Final = "*"
MOST: Final = 500
"""Firings that are listed."""


@dataclass(frozen=True, slots=True)
class Fired:
    """Times are Unix seconds."""

    at: float
    instance: str  # "": the app as a whole
    value: float | None
    words: str


@dataclass(slots=True)
class Replay:
    app: str
    rule: str
    when: str
    since: float  # Unix seconds; what was looked at begins there, or later
    until: float
    step: float = 0.0  # seconds of a point, as most of them are
    points: int = 0
    fired: list[Fired] = field(default_factory=list)
    kept_from: dict[str, int] = field(default_factory=dict)  # guard to how often it kept the rule from acting
    nearest: Fired | None = None  # where it came nearest to a firing
    share: float = 0.0  # how near that was; 1.0: it was met
    not_known: list[str] = field(default_factory=list)

    @property
    def words(self) -> str:
        """In one line."""
        if not self.points:
            return "nothing is recorded of that time"
        if self.fired:
            count = len(self.fired)
            return f"it would have fired {'once' if count == 1 else f'{count} times'}; first: {self.fired[0].words}"
        if self.kept_from:
            kept = ", ".join(f"{guard} ({count} times)" for guard, count in self.kept_from.items())
            return f"it was met, and kept from acting by {kept}"
        near = f"; nearest: {self.nearest.words}" if self.nearest is not None else ""
        return f"it would not have fired{near}"


def parse(rule: str | Mapping[str, Any], folder: str) -> Autoheal:
    """A rule as a table, or as the TOML of one, with or without its `[[apps.NAME.autoheal]]`. Without a name or `then`
    it has some. Raises ConfigProblems, tomllib.TOMLDecodeError."""
    raw: Any = tomllib.loads(rule) if isinstance(rule, str) else dict(rule)
    if isinstance(raw.get("apps"), dict):
        tables = [one for app in raw["apps"].values() if isinstance(app, dict) for one in app.get("autoheal", ())]
        raw = tables[0] if tables else {}
    report = Report("rule", {})
    found = Walker(report, Place(folder, folder)).table(Autoheal, {"name": "replay", "then": ["recycle"], **raw}, ())
    if found is BROKEN or report.found:
        raise ConfigProblems(report.problems())
    assert isinstance(found, Autoheal)
    return found


def run(rule: Rule, points: Mapping[str, Points], since: float, until: float) -> Replay:
    """`points` by instance, "*" for the app as a whole; each in order."""
    when = rule.about or words.described(rule.condition)
    found = Replay(rule.app, rule.name, when, since, until)
    watches = rule.kind.watches(rule.condition)
    known = known_since(watches, points.get(ALL, ()))
    whole = rule.kind.scope == "app"
    keep = max(120.0, rule.condition.within)
    series = {
        name: Recorded(watches, known, keep, whole) for name in points if (name == ALL) == whole
    }
    moments = sorted(((at, name, point) for name in series for at, point in points[name]), key=lambda one: one[:2])
    wanted = {at: point.instances for at, point in points.get(ALL, ())}
    memory, kept = Memory(), Counter[str]()
    found.step = Counter(point.seconds for _, _, point in moments).most_common(1)[0][0] if moments else 0.0
    gap = max(20.0, 2.5 * found.step)
    for at, name, point in moments:
        reading = series[name].add(at, point)
        if reading is None:
            continue
        found.points += 1
        seen = rule.kind.look(rule.condition, series[name].series, at)
        target = "" if whole else name
        fresh = not rule.kind.once or seen.token > memory.handled
        held = memory.held(target, seen.met and fresh, seen.token, at, gap)
        near = views.share(rule, seen, held)
        if found.nearest is None or near > found.share:
            found.nearest, found.share = Fired(at, target, seen.value, seen.words), near
        if not (seen.met and fresh and held >= rule.condition.for_):
            continue
        ready = at - point.age if not whole else 0.0
        situation = Situation(now=at, unix=at, target=target, ready_since=ready, wanted=wanted.get(at, 1) or 1)
        hold = guards.first(rule, memory, situation)
        if hold is not None:
            kept[hold.guard] += 1
            continue
        if rule.kind.once:
            memory.handled = seen.token
        memory.fire(rule, target, at, at, ready)
        if len(found.fired) < MOST:
            found.fired.append(Fired(at, target, seen.value, seen.words))
    found.kept_from = dict(kept)
    _say_unknown(found, rule, points, known)
    return found


def _say_unknown(found: Replay, rule: Rule, points: Mapping[str, Points], known: Mapping[str, float]) -> None:
    first = min((at for one in points.values() for at, _ in one), default=0)
    if first and first - found.since > max(60.0, 2 * found.step):
        found.not_known.append("nothing is recorded of the time before the first point")
        found.since = float(first)
    missing = rule.kind.recorded(rule.condition)
    keys = [watch.key for watch in rule.kind.watches(rule.condition)]
    if missing and (not keys or any(known.get(key, float("inf")) > first for key in keys)):
        found.not_known.append(f"{missing} are not known")
    if rule.kind.name == "schedule":
        found.not_known.append("a schedule is looked at once per point, so each minute only where points are of 10 s")
    if rule.condition.for_ and found.step > rule.condition.for_:
        found.not_known.append(f"what happened within a point: each is of {found.step:.0f} s")

