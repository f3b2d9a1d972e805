"""Who of an app's ready instances gets requests: the policy (ejection.py) and the hand, applied to the state.

Always true:
  - what a hand ejected is in `by_hand` as long as it lasts, and no longer;
  - each change is an event with its reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from proxy import units
from proxy.config import App as AppConfig
from proxy.control import ejection
from proxy.control.by_hand import EJECTED
from proxy.control.ejection import Decision, Ejector
from proxy.control.shared import Shared
from proxy.control.state import Admission, AppState, InstanceState


class Admissions:
    """Of one app. `assess` is called when the app may be better or worse off."""

    def __init__(self, shared: Shared, app: AppState, assess: Callable[[], None]) -> None:
        self.shared = shared
        self.app = app
        self.ejector = Ejector(rules(app.config))
        self._assess = assess

    def configure(self, config: AppConfig) -> None:
        self.ejector.rules = rules(config)

    def restore(self, state: InstanceState) -> None:
        """Go on where a former control stood."""
        self.ejector.restore(state.name, state.admission, state.failing, state.ejection, time.monotonic())

    def keep(self, ready: Iterable[str]) -> None:
        """These are ready now."""
        self.ejector.keep(ready, time.monotonic())
        self._obey_hand()

    def eject(self, name: str, by: str, reason: str, until: float = 0.0) -> None:
        """Keep requests off a ready instance, until monotonic `until` or until it is said. Raises KeyError."""
        self._apply(self.app.instances[name], self.ejector.eject(name, by, reason, until, time.monotonic()))
        self.shared.changed()

    def admit(self, name: str, reason: str) -> None:
        """Raises KeyError for one that is not ready."""
        self._apply(self.app.instances[name], self.ejector.admit(name, reason, time.monotonic()))
        self.shared.changed()

    def _obey_hand(self) -> None:
        """What was ejected by hand is so again after a restart of everything."""
        for key, entry in self.app.by_hand.items():
            name = key.removeprefix(EJECTED)
            watch = self.ejector.watches.get(name) if name != key else None
            if watch is not None and watch.by != "hand":
                until = time.monotonic() + max(0.1, entry.until - time.time()) if entry.until else 0.0
                self.eject(name, "hand", entry.why, until)

    def forget(self, present: set[str]) -> None:
        """An instance that is gone takes with it what was set for it alone."""
        for key in list(self.app.by_hand):
            if key.startswith(EJECTED) and key.removeprefix(EJECTED) not in present:
                self.shared.by_hand.end(self.app.name, key)

    def decide(self, name: str = "") -> None:
        """Apply what the policy says now, of one instance or of all."""
        now = time.monotonic()
        for decision in self.ejector.decide(now, name):
            state = self.app.instances.get(decision.name)
            if state is not None:
                self._apply(state, decision)
                self.shared.changed()

    def _apply(self, state: InstanceState, decision: Decision) -> None:
        now = time.monotonic()
        if decision.dry:
            state.ejection.dry = decision.reason
            text = f"{state.name} would be ejected (dry_run): {decision.reason}"
            self.shared.event("would-eject", text, state.app, state.name, by=decision.by)
            return
        before, was_failing = state.admission, state.failing
        state.admission, state.failing = decision.admission, decision.failing
        ejected = state.ejection
        match decision.admission:
            case Admission.EJECTED:
                watch = self.ejector.watches[state.name]
                ejected.count, ejected.until = watch.count, decision.until
                ejected.by, ejected.reason = decision.by, decision.reason
                state.why = f"ejected: {decision.reason}"
                end = _lasts(decision, now)
                text = f"{state.name} ejected {end}: {decision.reason}"
                self.shared.event("ejected", text, state.app, state.name, by=decision.by, count=watch.count)
            case Admission.TRIAL:
                state.why = "in trial: the next request decides"
                self.shared.event("trial", f"{state.name} is in trial: {decision.reason}", state.app, state.name)
            case Admission.ADMITTING if decision.failing:
                state.why = f"failing, but still serving, for too few others are left: {decision.reason}"
                self.shared.event("failing", f"{state.name} is {state.why}", state.app, state.name, by=decision.by)
            case Admission.ADMITTING:
                if before is not Admission.ADMITTING:
                    state.admitted = now
                state.why = decision.reason
                if EJECTED + state.name in self.app.by_hand:
                    self.shared.by_hand.end(self.app.name, EJECTED + state.name)
                kind = "well" if was_failing else "admitted"
                self.shared.event(kind, f"{state.name} admitted again: {decision.reason}", state.app, state.name)
        self._assess()


def rules(config: AppConfig) -> ejection.Rules:
    """The app's rules, from its `ejection` and `health` tables."""
    table = config.ejection
    return ejection.Rules(
        consecutive=table.consecutive,
        ratio=table.ratio,
        min_requests=table.min_requests,
        window=table.window,
        first=table.first,
        max=table.max,
        max_ejected=table.max_ejected,
        dry_run=table.dry_run,
        fails=config.health.fails,
        passes=config.health.passes,
    )


def _lasts(decision: Decision, now: float) -> str:
    """Until when it is ejected, in words."""
    lasts = f"for {units.duration(decision.until - now)}" if decision.until else ""
    match decision.by:
        case "probe":
            return "until its probes pass"
        case "hand":
            return f"by hand {lasts or 'until it is admitted'}"
        case "recycle":
            return "for its recycle"
        case _:
            return f"{lasts}, then one trial request"
