"""Who gets no requests for a while: one mechanism for failing probes and for faults, with one cap.

Pure: `now` and the random source are arguments. It keeps what it needs to know of each ready instance in a `Watch`
and answers with decisions; applying them is the caller's.

Always true:
  - an ejected instance's lifecycle stays `ready`;
  - `_out` holds the watches that are ejected, so that news of one of a thousand costs the same as of one of four;
  - not more than `max_ejected` of the ready instances are ejected, a lone one never, unless it cannot be connected
    to: what stays for that reason is `failing`. A hand is not bound by that, but what it ejected counts;
  - an ejection by probes ends by a passed probe, one by faults by a good answer in its trial, one by hand by hand or
    with its time, one for a recycle when that says so.

Durations double from `first` to `max` (Envoy's outlier detection: base_ejection_time × count), with jitter so that
instances ejected together do not come back together.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from proxy.control.state import Admission, Ejection

FORGET: Final = 60.0
"""Seconds of good behaviour that take one ejection off the count."""
JITTER: Final = 0.1
HELD_OUT: Final = ("hand", "recycle")
"""Who ejected it also says when it comes back: neither probes nor faults nor the cap do."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The app's `ejection` table, and from `health` how many probes count. 0 is "not looked at"."""

    consecutive: int = 5
    ratio: float = 0.5
    min_requests: int = 20
    window: float = 10.0
    first: float = 5.0
    max: float = 300.0
    max_ejected: float = 0.5
    dry_run: bool = False
    fails: int = 3
    passes: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an instance."""

    name: str
    admission: Admission
    failing: bool
    by: str = ""  # "probe" | "faults" | "hand" | "rule" | "recycle"
    reason: str = ""  # for people
    until: float = 0.0
    dry: bool = False  # would have been ejected


@dataclass(slots=True)
class Watch:
    """What is known of one ready instance."""

    name: str
    admission: Admission = Admission.ADMITTING
    failing: bool = False
    by: str = ""
    reason: str = ""
    until: float = 0.0
    count: int = 0  # ejections of late
    admitted_at: float = 0.0
    refused: bool = False  # it cannot be connected to
    was_refused: bool = False  # when it was ejected
    probes_failed: int = 0
    probe_words: str = ""
    probes_passed: int = 0
    probes_since: float = 0.0  # monotonic: until one that began then or later has ended, nothing is known of it
    streaks: dict[int, int] = field(default_factory=dict)  # by worker
    last_fault: str = ""
    window: deque[tuple[float, int, int]] = field(default_factory=deque)  # (time, requests, faults)
    trial_good: bool = False
    trial_fault: bool = False
    dry_said: bool = False


class Ejector:
    """The policy of one app."""

    def __init__(self, rules: Rules, rng: random.Random | None = None) -> None:
        self.rules = rules
        self.watches: dict[str, Watch] = {}
        self._out: dict[str, Watch] = {}
        self._rng = rng or random.Random()

    # --- what comes in -------------------------------------------------------------------------------

    def keep(self, names: Iterable[str], now: float) -> None:
        """The ready instances there are now."""
        wanted = set(names)
        for name in list(self.watches):
            if name not in wanted:
                del self.watches[name]
                self._out.pop(name, None)
        for name in wanted:
            if name not in self.watches:
                self.watches[name] = Watch(name, admitted_at=now)

    def restore(self, name: str, admission: Admission, failing: bool, ejection: Ejection, now: float) -> None:
        """Go on where a former control stood."""
        self.watches[name] = watch = Watch(name, admitted_at=now, failing=failing)
        watch.by, watch.reason, watch.count = ejection.by, ejection.reason, ejection.count
        watch.until = ejection.until
        self._set(watch, admission)

    def probed(self, name: str, ok: bool, words: str, refused: bool, began: float = math.inf) -> None:
        """A probe ended that had begun then (monotonic)."""
        watch = self.watches.get(name)
        if watch is None or began < watch.probes_since:
            return
        watch.probes_since = 0.0
        if ok:
            watch.probes_passed += 1
            watch.probes_failed = 0
            watch.refused = False
        else:
            watch.probes_failed += 1
            watch.probes_passed = 0
            watch.probe_words = words
            if refused:
                watch.refused = True

    def learned(self, name: str, worker: int, good: int, faults: dict[str, int], streak: int, refused: bool) -> None:
        """A worker's news. A good answer in any worker ends the row of faults of all."""
        watch = self.watches.get(name)
        if watch is None:
            return
        if good:
            watch.streaks.clear()
            watch.refused = False
            watch.trial_good = True
        if faults:
            watch.last_fault = max(faults, key=lambda fault: faults[fault])
            if streak or not good:  # a 5xx of the app's own makes no streak, but is no good answer either
                watch.trial_fault = True
        if streak:
            watch.streaks[worker] = streak
        else:
            watch.streaks.pop(worker, None)
        if refused:
            watch.refused = True

    def counted(self, name: str, now: float, requests: int, faults: int) -> None:
        """What one worker counted since its last word."""
        watch = self.watches.get(name)
        if watch is not None and requests:
            watch.window.append((now, requests, min(faults, requests)))

    def worker_gone(self, worker: int) -> None:
        """Its streaks with it."""
        for watch in self.watches.values():
            watch.streaks.pop(worker, None)

    # --- what is asked for ---------------------------------------------------------------------------

    def allowed(self, name: str) -> bool:
        """Whether the cap lets it be ejected now."""
        return name in self._out or len(self._out) + 1 <= self._allowed()

    def eject(self, name: str, by: str, reason: str, until: float, now: float) -> Decision:
        """At once; `until` 0.0 is without an end. Raises KeyError for one that is not ready."""
        watch = self.watches[name]
        self._set(watch, Admission.EJECTED)
        watch.failing = False
        watch.by, watch.reason, watch.until = by, reason, until
        watch.count = max(1, watch.count)
        watch.was_refused = False
        self._clear(watch)
        return Decision(name, watch.admission, False, by, reason, until)

    def admit(self, name: str, reason: str, now: float) -> Decision:
        """At once, and what led to its ejection is forgotten. Raises KeyError."""
        watch = self.watches[name]
        watch.probes_failed = watch.count = 0
        watch.refused = False
        decisions: list[Decision] = []
        self._admit(watch, now, reason, decisions)
        return decisions[0]

    def leave_to_probes(self, name: str, reason: str, now: float) -> None:
        """One that is held out comes back when probes pass that begin from now on."""
        watch = self.watches.get(name)
        if watch is not None and watch.admission is Admission.EJECTED:
            watch.by, watch.reason, watch.until = "probe", reason, 0.0
            watch.probes_passed, watch.probes_since = 0, now

    # --- what comes out ------------------------------------------------------------------------------

    def decide(self, now: float, name: str = "") -> list[Decision]:
        """What changes now: after news of `name`, or of all, once a second, for what only time ends."""
        decisions: list[Decision] = []
        watches = [self.watches[name]] if name in self.watches else list(self.watches.values())
        before = {watch.name: (watch.admission, watch.failing) for watch in (*watches, *self._out.values())}
        for watch in watches:
            if watch.admission is not Admission.ADMITTING:
                self._end_or_prolong(watch, now, decisions)
        for watch in watches:
            if watch.admission is Admission.ADMITTING:
                self._begin(watch, now, decisions)
        self._obey_cap(now, decisions)
        last = {decision.name: decision for decision in decisions}  # one may have been moved twice
        return [one for one in last.values() if one.dry or before[one.name] != (one.admission, one.failing)]

    def _reason(self, watch: Watch, now: float) -> tuple[str, str]:
        """(by, reason), or ("", "")."""
        rules = self.rules
        if watch.probes_failed >= rules.fails:
            return "probe", f"{watch.probes_failed} probes in a row failed: {watch.probe_words}"
        row = sum(watch.streaks.values())
        if rules.consecutive and row >= rules.consecutive:
            return "faults", f"{row} faults in a row, the last one {watch.last_fault}"
        requests, faults = self._in_window(watch, now)
        if rules.ratio and requests >= rules.min_requests and faults >= rules.ratio * requests:
            return "faults", f"{faults} of {requests} requests in {rules.window:g} s failed"
        return "", ""

    def _in_window(self, watch: Watch, now: float) -> tuple[int, int]:
        window = watch.window
        if not window:
            return 0, 0
        while window and window[0][0] <= now - self.rules.window:
            window.popleft()
        return sum(entry[1] for entry in window), sum(entry[2] for entry in window)

    def _allowed(self) -> int:
        total = len(self.watches)
        return 0 if total <= 1 else int(self.rules.max_ejected * total)

    def _set(self, watch: Watch, admission: Admission) -> None:
        watch.admission = admission
        if admission is Admission.EJECTED:
            self._out[watch.name] = watch
        else:
            self._out.pop(watch.name, None)

    def _begin(self, watch: Watch, now: float, decisions: list[Decision]) -> None:
        by, reason = self._reason(watch, now)
        if not by:
            if watch.failing and not watch.streaks:
                watch.failing = False
                decisions.append(Decision(watch.name, watch.admission, False, reason="well again"))
            watch.dry_said = False
            return
        if self.rules.dry_run:
            if not watch.dry_said:
                watch.dry_said = True
                decisions.append(Decision(watch.name, watch.admission, watch.failing, by, reason, dry=True))
            return
        if watch.refused or len(self._out) + 1 <= self._allowed():
            self._eject(watch, by, reason, now, decisions)
        elif not watch.failing:
            watch.failing = True
            watch.by, watch.reason = by, reason
            decisions.append(Decision(watch.name, watch.admission, True, by, reason))

    def _eject(self, watch: Watch, by: str, reason: str, now: float, decisions: list[Decision]) -> None:
        rules = self.rules
        watch.count = max(0, watch.count - int((now - watch.admitted_at) / FORGET)) + 1
        lasts = min(rules.max, rules.first * 2.0 ** min(30, watch.count - 1))
        watch.until = now + lasts * (1 + JITTER * self._rng.random())
        self._set(watch, Admission.EJECTED)
        watch.failing = False
        watch.by, watch.reason = by, reason
        watch.was_refused = watch.refused
        self._clear(watch)
        decisions.append(Decision(watch.name, watch.admission, False, by, reason, watch.until))

    @staticmethod
    def _clear(watch: Watch) -> None:
        """What led to the decision has been answered."""
        watch.streaks.clear()
        watch.window.clear()
        watch.trial_good = watch.trial_fault = False

    def _end_or_prolong(self, watch: Watch, now: float, decisions: list[Decision]) -> None:
        rules = self.rules
        probes_well = watch.probes_failed == 0 and watch.probes_passed >= rules.passes
        if watch.admission is Admission.TRIAL:
            if watch.trial_fault:
                self._eject(watch, "faults", f"its trial request failed: {watch.last_fault}", now, decisions)
            elif watch.probes_failed >= rules.fails:
                self._eject(watch, "probe", f"probes fail: {watch.probe_words}", now, decisions)
            elif watch.trial_good:
                self._admit(watch, now, "its trial request went well", decisions)
        elif watch.by in HELD_OUT:
            if watch.until and now >= watch.until:
                self._admit(watch, now, "it was ejected until now", decisions)
        elif watch.by == "probe":
            if probes_well:
                self._admit(watch, now, "its probes pass again", decisions)
        elif now >= watch.until or (probes_well and watch.was_refused):
            self._set(watch, Admission.TRIAL)
            watch.trial_good = watch.trial_fault = False
            decisions.append(Decision(watch.name, watch.admission, False, watch.by, "one trial request decides"))

    def _admit(self, watch: Watch, now: float, reason: str, decisions: list[Decision]) -> None:
        self._set(watch, Admission.ADMITTING)
        watch.admitted_at = now
        watch.by = watch.reason = ""
        watch.failing = False
        self._clear(watch)
        decisions.append(Decision(watch.name, watch.admission, False, reason=reason))

    def _obey_cap(self, now: float, decisions: list[Decision]) -> None:
        """The pool may have shrunk: those who then would be too many come back, as failing."""
        excess = len(self._out) - self._allowed()
        if excess <= 0:
            return
        movable = (w for w in self._out.values() if not w.refused and not w.probes_since and w.by not in HELD_OUT)
        for watch in sorted(movable, key=lambda w: w.until)[:excess]:
            self._set(watch, Admission.ADMITTING)
            watch.admitted_at = now
            watch.failing = True
            reason = f"{watch.reason}; but too few others are left"
            decisions.append(Decision(watch.name, watch.admission, True, watch.by, reason))
