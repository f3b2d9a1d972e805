"""Whether one more session may begin: of those that run, of a day, soon after another. Pure; `now` is Unix seconds.

Evidence before an act is not held back by any of this: it is bounded by its own places (engine.PLACES).

Always true: what is remembered is bounded, DAY's starts of an app and one row for each kind of trigger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from proxy import units
from proxy.control.sessions.session import Session, Trigger

AT_ONCE: Final = 2
"""Sessions over all apps; evidence before acts comes beside them."""
COOLDOWN: Final = 300.0
"""Seconds in which one kind of trigger starts one session of an app. It doubles as long as it goes on."""
LONGEST: Final = 4 * units.HOURS
APART: Final = 60.0
"""Seconds between the starts of two that nobody asked for, of one app, whatever started them."""


@dataclass(frozen=True, slots=True)
class No:
    """Why not. `until`: when it may be tried again, Unix seconds; 0.0: not by time alone."""

    kind: str  # "session-active" | "too-many-sessions" | "cooldown" | "per-day"
    text: str
    hint: str = ""
    until: float = 0.0


@dataclass(slots=True)
class Quiet:
    """Of one kind of trigger."""

    until: float = 0.0
    pause: float = 0.0


@dataclass(slots=True)
class Book:
    """What is remembered of starts; for the ledger as it is."""

    starts: dict[str, list[float]] = field(default_factory=dict)  # by app: those of the last day
    quiet: dict[str, Quiet] = field(default_factory=dict)  # by app and kind of trigger

    def lately(self, app: str, now: float) -> list[float]:
        """Starts of the last 24 hours; those that lie ahead are of a clock that was wrong."""
        kept = [at for at in self.starts.get(app, ()) if now - units.DAYS < at <= now]
        if kept:
            self.starts[app] = kept
        else:
            self.starts.pop(app, None)
        return kept

    def started(self, app: str, trigger: Trigger, now: float) -> None:
        """One that nobody asked for begins."""
        self.starts.setdefault(app, []).append(now)
        one = self.quiet.setdefault(_key(app, trigger), Quiet())
        again = one.pause > 0 and now - one.until < one.pause
        one.pause = min(LONGEST, one.pause * 2) if again else COOLDOWN
        one.until = now + one.pause

    def refuse(self, app: str, trigger: Trigger, per_day: int, now: float) -> No | None:
        """Of one that nobody asked for."""
        starts = self.lately(app, now)
        if not per_day:
            return No("per-day", f"apps.{app}.diagnose.per_day is 0", "one by hand may begin at any time")
        if len(starts) >= per_day:
            until = starts[-per_day] + units.DAYS
            return No(
                "per-day", f"{per_day} sessions of {app} started by themselves in 24 hours, as many as may",
                f"again {_in(until, now)}, or by hand; apps.{app}.diagnose.per_day says how many", until,
            )  # fmt: skip
        one = self.quiet.get(_key(app, trigger))
        if one is not None and now < one.until <= now + LONGEST:
            what = trigger.rule or trigger.kind
            return No("cooldown", f"a session of {app} began by the same ({what}) not long ago",
                      f"again {_in(one.until, now)}, or by hand", one.until)  # fmt: skip
        if starts and now - starts[-1] < APART:
            until = starts[-1] + APART
            return No("cooldown", f"a session of {app} started by itself {units.duration(now - starts[-1])} ago",
                      f"again {_in(until, now)}, or by hand", until)  # fmt: skip
        return None

    def forget(self, apps: Sequence[str], now: float) -> None:
        """Apps that are gone, and what no longer holds."""
        self.starts = {app: found for app, found in self.starts.items() if app in apps}
        self.quiet = {
            key: one for key, one in self.quiet.items()
            if key.split("\n")[0] in apps and now - one.until < 2 * max(one.pause, COOLDOWN)
        }  # fmt: skip

    def dump(self) -> dict[str, Any]:
        return {
            "starts": self.starts,
            "quiet": {key: [one.until, one.pause] for key, one in self.quiet.items()},
        }

    def load(self, raw: dict[str, Any]) -> None:
        self.starts = {str(app): [float(at) for at in found] for app, found in raw.get("starts", {}).items()}
        self.quiet = {str(key): Quiet(float(one[0]), float(one[1])) for key, one in raw.get("quiet", {}).items()}


def first(app: str, active: Sequence[Session], now: float) -> No | None:
    """What holds for everyone. `active` are sessions that run, those that take evidence for an act left out."""
    mine = next((one for one in active if one.app == app), None)
    if mine is not None:
        left = f", {units.duration(mine.until - now)} to go" if mine.until > now else ""
        return No(
            "session-active", f"{mine.id} of {app} is under way: {mine.state}{left}, {mine.trigger.by}",
            f"wait for it (triage report {mine.id}), or end it: triage sessions {mine.id} --cancel", mine.until,
        )  # fmt: skip
    if len(active) >= AT_ONCE:
        names = ", ".join(f"{one.id} of {one.app}" for one in active)
        until = min(one.until for one in active)
        return No("too-many-sessions", f"{len(active)} sessions run, as many as may at once: {names}",
                  f"again {_in(until, now)}", until)  # fmt: skip
    return None


def _key(app: str, trigger: Trigger) -> str:
    return f"{app}\n{trigger.kind}\n{trigger.rule}"


def _in(until: float, now: float) -> str:
    return f"in {units.duration(max(1.0, until - now))}"
