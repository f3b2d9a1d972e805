"""A rule as it stands now, for the API, the command and the dashboard. Pure.

Always true: `share` is 1.0 if and only if the condition is met and has been for as long as `for` says.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from proxy import units
from proxy.control.autoheal import words
from proxy.control.autoheal.contract import Seen
from proxy.control.autoheal.guards import Hold
from proxy.control.autoheal.rules import Memory, Rule, pause

HALF = 0.5


@dataclass(frozen=True, slots=True)
class TargetView:
    """How far an instance, or the app ("") is from a firing."""

    instance: str
    value: float | None  # in the rule's unit
    words: str  # what is seen
    share: float  # 0.0 to 1.0
    distance: str  # "12 of 20", "93 % of 90 %, for 12 s of 30 s"
    met: bool
    held: float = 0.0  # seconds that it has been met
    guard: str = ""  # which keeps the rule from acting on it now
    why: str = ""
    until: float | None = None  # Unix seconds


@dataclass(frozen=True, slots=True)
class RuleView:
    """Times are Unix seconds. `nearest` is the target that is nearest to a firing."""

    name: str
    app: str
    builtin: bool
    kind: str
    scope: str
    when: str
    then: tuple[str, ...]
    dry_run: bool
    state: str  # "watching" | "met" | "suppressed" | "acting" | "off"
    why: str  # of that state, in one line
    threshold: float | None
    unit: str
    nearest: TargetView | None
    targets: tuple[TargetView, ...]  # the nearest ones first, 20 at most
    suppressed_until: float | None
    last_fired: float | None
    last_operation: str
    fired_last_hour: int
    would_have_fired: int  # under dry_run, or while a person has autoheal off
    last_would_have_fired: float | None
    backing_off: str  # "" if it does not
    guards: dict[str, float | int | bool] = field(default_factory=dict)


TARGETS = 20


@dataclass(slots=True)
class Status:
    """What the last tick saw of a rule."""

    seen: dict[str, tuple[Seen, float]] = field(default_factory=dict)  # by target: and for how long it is met
    holds: dict[str, Hold] = field(default_factory=dict)
    acting: str = ""  # on what it acts now
    said: dict[str, str] = field(default_factory=dict)  # target to the guard that was told of
    waits: str = ""  # why nothing can be seen yet


def share(rule: Rule, seen: Seen, held: float) -> float:
    """How near it is to a firing: half of it is the value, half the time, where `for` asks for time."""
    lasting = rule.condition.for_
    if seen.met and held >= lasting:
        return 1.0
    if seen.met:
        return HALF + HALF * held / lasting
    near = min(0.99, _near(seen))
    return near * HALF if lasting else near


def _near(seen: Seen) -> float:
    value, threshold = seen.value, seen.threshold
    if value is None:
        return 0.0
    if seen.below:
        return min(1.0, threshold / value) if value > 0 else 1.0
    if threshold <= 0:
        return 0.0
    return max(0.0, value / threshold)


def distance(rule: Rule, seen: Seen, held: float) -> str:
    if rule.kind.name == "schedule":
        return seen.words
    said = f"{words.shown(seen.value, seen.unit)} of {words.shown(seen.threshold, seen.unit)}"
    if seen.below:
        said = f"{words.shown(seen.value, seen.unit)}, below {words.shown(seen.threshold, seen.unit)} it fires"
    lasting = rule.condition.for_
    if lasting and seen.met:
        said += f", for {units.duration(min(held, lasting))} of {units.duration(lasting)}"
    elif lasting:
        said += f", and that for {units.duration(lasting)}"
    return said


def view(rule: Rule, memory: Memory, status: Status, now: float, unix: float) -> RuleView:
    """`now` is monotonic, `unix` the same moment."""

    def wall(moment: float) -> float | None:
        return unix + moment - now if moment else None

    def rank(one: tuple[str, tuple[Seen, float]]) -> tuple[float, str]:
        return -share(rule, *one[1]), one[0]

    targets = []
    for name, (seen, held) in heapq.nsmallest(TARGETS, status.seen.items(), rank):  # words for a thousand take long
        hold = status.holds.get(name)
        targets.append(
            TargetView(
                name, seen.value, seen.words, share(rule, seen, held), distance(rule, seen, held),
                seen.met and held >= rule.condition.for_, held,
                hold.guard if hold else "", hold.why if hold else "", wall(hold.until) if hold else None,
            )
        )  # fmt: skip
    nearest = targets[0] if targets else None
    threshold = next((seen.threshold for seen, _ in status.seen.values()), None)
    unit = next((seen.unit for seen, _ in status.seen.values()), "")
    state, why = _state(rule, status, nearest)
    cooling = memory.until if memory.group_at and now < memory.until else 0.0
    held_until = nearest.until if nearest is not None and nearest.guard else None
    backing = pause(rule, memory.streak)
    return RuleView(
        name=rule.name, app=rule.app, builtin=rule.builtin, kind=rule.kind.name, scope=rule.kind.scope,
        when=rule.about or words.described(rule.condition),
        then=tuple(words.step(one) for one in rule.steps), dry_run=rule.dry_run, state=state, why=why,
        threshold=threshold, unit=unit, nearest=nearest, targets=tuple(targets),
        suppressed_until=held_until or wall(cooling), last_fired=memory.fired_unix or None,
        last_operation=memory.operation, fired_last_hour=memory.lately(now), would_have_fired=memory.would,
        last_would_have_fired=memory.would_unix or None,
        backing_off=(
            f"it keeps firing: its cooldown is {units.duration(backing)} now, not {units.duration(rule.cooldown)}"
            if cooling and backing > rule.cooldown else ""
        ),
        guards={
            "min_age": rule.min_age, "for": rule.condition.for_, "cooldown": rule.cooldown,
            "max_per_hour": rule.max_per_hour, "max_unavailable": rule.max_unavailable, "dry_run": rule.dry_run,
        },
    )  # fmt: skip


def _state(rule: Rule, status: Status, nearest: TargetView | None) -> tuple[str, str]:
    if rule.off:
        return "off", rule.off
    if status.acting:
        return "acting", status.acting
    if status.waits:
        return "watching", status.waits
    if nearest is None:
        return "watching", "no instance is ready"
    on = f"{nearest.instance}: " if nearest.instance else ""
    if nearest.guard:
        return "suppressed", f"{on}{nearest.words}; {nearest.why}"
    if nearest.share >= HALF and nearest.held:
        return "met", f"{on}{nearest.words}"
    return "watching", f"{on}{nearest.words}"
