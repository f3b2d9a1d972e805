"""What keeps a rule whose condition is met from acting, one function each, in the order in which they are asked. Pure.

Each says why, and until when where that is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.control.autoheal.rules import Memory, Rule, pause

UNAVAILABLE: Final = frozenset({"recycle", "restart", "eject"})
"""Acts that take an instance out of service, if only for a moment. `run` may: nobody knows what it does."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Of one rule and one target at one moment; times are monotonic seconds."""

    now: float
    unix: float
    target: str  # an instance, "" for the app
    ready_since: float = 0.0  # of the target; 0.0: of an app, or it is not ready
    state: str = "up"  # of the app
    stopping: bool = False
    off: str = ""  # what a person set that forbids it, who and why; "" when nothing does
    off_until: float = 0.0  # Unix seconds; 0.0: until it is ended
    busy: str = ""  # an operation that runs on the target (for the app: on any of it): "op-7, by hand"
    acting: int = 0  # instances of the app that operations or rules have under way
    wanted: int = 1
    lost_if_ejected: bool = False  # no other instance would serve
    trial: str = ""  # why the others wait for the first; "" when they do not
    trial_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A rule is kept from acting."""

    guard: str
    why: str
    until: float = 0.0  # monotonic; 0.0: not known, or not by time alone


@dataclass(frozen=True, slots=True)
class Guard:
    name: str
    about: str  # for docs/mending.md
    ask: Callable[[Rule, Memory, Situation], Hold | None]


def unavailable(rule: Rule) -> bool:
    """Whether it takes instances out of service."""
    return any(step.act in UNAVAILABLE for step in rule.steps)


def allowed(rule: Rule, wanted: int) -> int:
    """Instances that may be under way at once."""
    return max(1, math.floor(rule.max_unavailable * wanted))


def _off(rule: Rule, memory: Memory, at: Situation) -> Hold | None:
    if not at.off or rule.only_looks:
        return None
    return Hold("off", at.off, at.now + at.off_until - at.unix if at.off_until else 0.0)


def _down(rule: Rule, memory: Memory, at: Situation) -> Hold | None:
    if at.stopping:
        return Hold("stopped", "Triage stops")
    return None if at.state == "up" else Hold("stopped", f"the app is {at.state}")


def _age(rule: Rule, memory: Memory, at: Situation) -> Hold | None:
    if not at.target or not at.ready_since:
        return None
    until = at.ready_since + rule.min_age
    if at.now >= until:
        return None
    age = units.duration(at.now - at.ready_since)
    return Hold("min_age", f"{at.target} is only {age} old, {units.duration(rule.min_age)} are needed", until)


def _cooldown(rule: Rule, memory: Memory, at: Situation) -> Hold | None:
    if at.now >= memory.until or not memory.group_at or memory.in_group(at.target, at.ready_since):
        return None
    why = f"it fired {units.duration(at.now - memory.group_at)} ago, cooldown {units.duration(rule.cooldown)}"
    if memory.streak and pause(rule, memory.streak) > rule.cooldown:
        why += f"; it keeps firing, so it backs off to {units.duration(pause(rule, memory.streak))}"
    return Hold("cooldown", why, memory.until)


def _per_hour(rule: Rule, memory: Memory, at: Situation) -> Hold | None:
    if memory.lately(at.now) < rule.max_per_hour:
        return None
    times = "once" if rule.max_per_hour == 1 else f"{rule.max_per_hour} times"
    return Hold("max_per_hour", f"it fired {times} in the last hour", memory.fired[-rule.max_per_hour] + 3600.0)


def _busy(rule: Rule, memory: Memory, at: Situation) -> Hold | None:
    return Hold("busy", f"it waits for {at.busy}") if at.busy else None


def _one_first(rule: Rule, memory: Memory, at: Situation) -> Hold | None:
    return Hold("one_first", at.trial, at.trial_until) if rule.one_first and at.trial else None


def _unavailable(rule: Rule, memory: Memory, at: Situation) -> Hold | None:
    if not unavailable(rule):
        return None
    most = allowed(rule, at.wanted)
    if at.acting >= most:
        verb = "is" if at.acting == 1 else "are"
        return Hold("max_unavailable", f"{at.acting} of {at.wanted} instances {verb} under way, {most} may be at once")
    if at.lost_if_ejected and all(step.act not in ("recycle", "restart") for step in rule.steps):
        return Hold("max_unavailable", f"{at.target} is the last one that serves")
    return None


GUARDS: Final[tuple[Guard, ...]] = (
    Guard(
        "off",
        "A person switched the app's rules off (`triage autoheal off APP`, `--for 1h`), or ejected the instance. What"
        " they would have done is counted and said; nothing is done. Rules that only `diagnose` go on.",
        _off,
    ),
    Guard(
        "stopped", "The app is stopped or held by a person, or Triage stops: there is nothing to mend meanwhile.", _down
    ),
    Guard(
        "min_age",
        "A younger instance is left alone: it may still be warming up. Of conditions that look at one instance.",
        _age,
    ),
    Guard(
        "cooldown",
        "Time between two firings. Instances that were there when the rule fired are mended in the same go; their"
        " replacements, and the app as a whole, are left alone until it has passed. A rule that fires again soon after"
        " doubles it each time, up to 3 h, and says so; quiet times halve it again.",
        _cooldown,
    ),
    Guard("max_per_hour", "So often in an hour at most, each instance that is acted on counted.", _per_hour),
    Guard(
        "busy",
        "An operation runs on the instance already, asked by hand or by another rule: the rule waits for it, and looks"
        " again when it is over.",
        _busy,
    ),
    Guard(
        "one_first",
        "Of the built-in `hung` and `slow`: if no instance is well, one is recycled, and the others only if that one"
        " gets well: a database that does not answer is not mended by restarts.",
        _one_first,
    ),
    Guard(
        "max_unavailable",
        "Share of the app's instances, one at least, that recycles, restarts and ejections may have under way at once,"
        " whoever asked for them. The last instance that serves is never ejected.",
        _unavailable,
    ),
)


def first(rule: Rule, memory: Memory, at: Situation) -> Hold | None:
    """The first guard that keeps it from acting; None: it may act."""
    for guard in GUARDS:
        hold = guard.ask(rule, memory, at)
        if hold is not None:
            return hold
    return None
