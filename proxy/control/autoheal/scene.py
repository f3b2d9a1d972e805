"""What guards are told of an app: what is under way on it, and whether any of its instances is well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.control.autoheal import builtin, guards, rules
from proxy.control.autoheal.contract import Reading
from proxy.control.autoheal.firing import Firing
from proxy.control.autoheal.guards import Situation
from proxy.control.autoheal.readings import Readings
from proxy.control.autoheal.rules import Memory, Rule
from proxy.control.autoheal.views import Status
from proxy.control.by_hand import EJECTED
from proxy.control.shared import Shared
from proxy.control.state import Admission, AppState

LATELY: Final = 10.0
"""Seconds within which an instance has answered if it is well, where first_byte is shorter."""


class Scene:
    """`running` are the chains under way, by id."""

    def __init__(self, shared: Shared, readings: Readings, running: Mapping[str, Firing]) -> None:
        self._shared = shared
        self._readings = readings
        self._running = running

    def situation(
        self, app: AppState, rule: Rule, memory: Memory, status: Status, target: str, now: float, unix: float
    ) -> Situation:
        state = app.instances.get(target) if target else None
        off, off_until = _by_hand(app, target)
        trial = self._trial(app, rule, memory, status, target, now) if rule.one_first else ""
        return Situation(
            now=now,
            unix=unix,
            target=target,
            ready_since=state.ready_since if state is not None else 0.0,
            state=app.state,
            stopping=self._shared.stopping,
            off=off,
            off_until=off_until,
            busy=self._busy(app, rule, target),
            acting=len(self._under_way(app) - {target}),
            wanted=app.wanted,
            lost_if_ejected=not any(one.name != target and not one.failing for one in app.serving),
            trial=trial,
            trial_until=memory.until if trial else 0.0,
        )

    def _last(self, app: AppState, instance: str) -> Reading | None:
        series = self._readings.instance(app.name, instance) if instance else None
        return series.last if series is not None else None

    def _busy(self, app: AppState, rule: Rule, target: str) -> str:
        """What is under way on the target; of an app as a whole, whatever a restart would collide with."""
        whole = not target or any(step.act == "restart" for step in rule.steps)
        for one in self._shared.operations.running(app.name, "" if whole else target):
            if one.act in guards.UNAVAILABLE or one.act in ("collect", "stop"):
                return f"{one.id}, {one.act} of {one.target}, {one.asked.by}"
        for firing in self._running.values():
            looks = all(step.act == "diagnose" for step in firing.steps)  # that is in nobody's way
            if firing.app == app.name and not looks and (whole or firing.instance in ("", target)):
                return f"{firing.id}, {firing.title} on {firing.target}"
        return ""

    def crowded(self, app: AppState, firing: Firing) -> str:
        """Why a chain that has come to its act has to wait; "" if it has not."""
        others = self._under_way(app, chains=False) - {firing.instance}
        most = max(1, int(firing.batch * app.wanted))
        if len(others) < (most if firing.instance else 1):
            return ""
        return f"{len(others)} of {app.wanted} instances are under way"

    def _under_way(self, app: AppState, chains: bool = True) -> set[str]:
        """Instances that are being replaced, were ejected by a rule, or (`chains`) are about to be."""
        found = {one.name for one in app.ready if one.admission is Admission.EJECTED and one.ejection.by == "rule"}
        for operation in self._shared.operations.running(app.name):
            if operation.act in guards.UNAVAILABLE:
                found.update(name for name in operation.targets if name in app.instances)
        for firing in self._running.values():
            if chains and firing.app == app.name and firing.takes_out(guards.UNAVAILABLE):
                found.update((firing.instance,) if firing.instance else firing.targets or tuple(app.instances))
        return found

    # --- is anybody well --------------------------------------------------------------------------------

    def _trial(self, app: AppState, rule: Rule, memory: Memory, status: Status, target: str, now: float) -> str:
        """Why `target` has to wait for the one that was recycled first; "" if it has not."""
        if not memory.group_at or now >= memory.until or self._someone_is_well(app, memory, status, target, now):
            return ""
        first = memory.acted[0] if memory.acted else "one"
        return f"no instance is well, so {first} was recycled first: the others follow if its replacement gets well"

    def _someone_is_well(self, app: AppState, memory: Memory, status: Status, target: str, now: float) -> bool:
        """Whether another instance shows that instances can be well now: then it is not what all of them depend on."""
        first_byte = app.config.timeouts.first_byte
        for name, (seen, _) in status.seen.items():
            state, last = app.instances.get(name), self._last(app, name)
            if name == target or seen.met or state is None or last is None:
                continue
            replacement = bool(memory.group_at) and state.ready_since > memory.group_at
            if replacement and now - state.ready_since < first_byte + builtin.GETS_WELL:
                continue  # too early to say
            if last.answered and now - last.answered <= max(first_byte, LATELY):
                return True
        return False


def _by_hand(app: AppState, target: str) -> tuple[str, float]:
    """What a person set that no rule undoes, and until when (Unix seconds, 0.0: open)."""
    switched, ejected = f"autoheal of {app.name} was switched off", f"{target} was ejected"
    for key, said in (("autoheal", switched), (EJECTED + target, ejected)):
        entry = app.by_hand.get(key)
        if entry is not None:
            return f"{said} {entry.by}{f': {entry.why}' if entry.why else ''}", entry.until
    return "", 0.0


def reason(rule: Rule, status: Status, target: str) -> str:
    """Why it acts on this target."""
    said = rules.reason(rule)
    met = [name for name, (seen, _) in status.seen.items() if seen.met]
    if rule.one_first and len(met) > 1 and len(met) == len(status.seen):
        said += f", and so do all {len(met)} instances: {target} is recycled first, the others follow if that helps"
    return said


def unhealthy(app: AppState) -> tuple[str, ...]:
    """Instances that a rule about unhealthy ones acts on."""
    return tuple(
        one.name
        for one in app.instances.values()
        if not (one.serving and not one.failing and one.admission is Admission.ADMITTING)
    )
