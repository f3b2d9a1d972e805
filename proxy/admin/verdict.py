"""Up, degraded or down, and why, in one line. Pure: counts and states in, words out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.control.incidents.incident import Incident
from proxy.control.state import Admission, AppState, InstanceState, Lifecycle
from proxy.faults import FAULTS, Origin

LOOK_BACK: Final = 300.0
FAILING_SHARE: Final = 0.05
FAILING_LEAST: Final = 5
"""So many faults of the last minute, and so large a share of its requests, make an app degraded by themselves."""


@dataclass(frozen=True, slots=True)
class Verdict:
    state: str  # up degraded down stopped held
    line: str


def serious(faults: Mapping[str, int]) -> dict[str, int]:
    """Those that are not the clients' own doing."""
    return {name: n for name, n in faults.items() if name not in FAULTS or FAULTS[name].origin is not Origin.CLIENT}


def of_app(app: AppState, recent: Mapping[str, int], minute: int, requests: int) -> Verdict:
    """`recent`: faults of 5 minutes by name; `minute`: serious ones of the last one, of `requests`."""
    ready, serving = len(app.ready), len(app.serving)
    count = f"{ready} of {app.wanted} ready"
    faults = _faults(serious(recent))
    if app.state == "stopped":
        return Verdict("stopped", f"{app.name} is stopped by hand")
    if app.state == "held":
        return Verdict("held", f"{app.name} is held by hand: its requests wait; {count}")
    if app.wanted == 0 and not app.instances:
        return Verdict("down", f"{app.name} is down: it is set to have no instance")
    reasons = _reasons(app, starting=ready < app.wanted)
    if not serving and app.gap:
        return Verdict("degraded", f"{app.name} is degraded: {count}; its requests wait for the replacement")
    if not serving:
        return Verdict("down", f"{app.name} is down: {count}; {'; '.join(reasons[:3]) or faults}")
    failing = minute >= FAILING_LEAST and minute >= FAILING_SHARE * max(requests, 1)
    if failing:
        reasons.append(f"{units.percent(min(1.0, minute / max(requests, 1)))} of the last minute's requests failed")
    if app.degraded and not reasons:
        reasons.append(app.degraded.removeprefix(f"{app.name}: "))
    if reasons or ready < app.wanted:
        return Verdict("degraded", f"{app.name} is degraded: {'; '.join([count, *reasons[:3], faults])}")
    return Verdict("up", f"{app.name} is up: {count}, {faults}")


def beside(found: Verdict, incident: Incident | None) -> Verdict:
    """Not better than what an open incident still sees."""
    if incident is None or not incident.signals or found.state != "up":
        return found
    who = incident.subject.app or f"the {incident.subject.scope}"
    return Verdict("degraded", f"{who} is degraded: {incident.cause} ({incident.id})")


def _reasons(app: AppState, *, starting: bool) -> list[str]:
    """`starting`: whether one that starts is needed, and not a replacement beside those that serve."""
    said = []
    coming = () if starting else (Lifecycle.STARTING, Lifecycle.WARMING)
    for instance in app.instances.values():
        if instance.lifecycle is Lifecycle.READY:
            if instance.admission is not Admission.ADMITTING:
                reason = instance.ejection.reason or instance.ejection.by
                said.append(f"{instance.name} is {instance.admission}{f' ({reason})' if reason else ''}")
            elif instance.failing:
                said.append(f"{instance.name} fails its checks but is the last, so it still serves")
        elif instance.lifecycle not in (*coming, Lifecycle.DRAINING, Lifecycle.STOPPING, Lifecycle.STOPPED):
            reason = f": {instance.why}" if instance.why else ""
            said.append(f"{instance.name} is {instance.lifecycle}{reason}{_after(instance)}")
    return said


def _after(instance: InstanceState) -> str:
    """How the one that it replaces ended, when nobody here wanted that."""
    last = instance.last_exit
    if last is None or last.ours or not last.name or last.words in instance.why:
        return ""
    return f", after {last.name} ended: {last.words}"


def _faults(recent: Mapping[str, int]) -> str:
    total = sum(recent.values())
    if not total:
        return "no fault in the last 5 min"
    name = max(recent, key=lambda one: recent[one])
    if len(recent) == 1:
        return f"{units.count(total)} {name} in the last 5 min"
    return f"{units.count(total)} faults in the last 5 min, most often {name}"


def of_gateway(apps: Sequence[tuple[str, Verdict]], draining: bool) -> Verdict:
    """The worst of the apps comes first."""
    if draining:
        return Verdict("degraded", "Triage is draining: it finishes what runs and takes nothing new")
    if not apps:
        return Verdict("down", "no app is configured")
    if len(apps) == 1:
        return apps[0][1]
    bad = [verdict for _, verdict in apps if verdict.state in ("down", "degraded")]
    bad.sort(key=lambda verdict: verdict.state != "down")
    if not bad:
        quiet = [name for name, verdict in apps if verdict.state in ("stopped", "held")]
        by_hand = f", {', '.join(quiet)} by hand not" if quiet else ""
        return Verdict("up", f"{len(apps) - len(quiet)} of {len(apps)} apps are up{by_hand}")
    more = f"; {len(bad) - 1} more not well" if len(bad) > 1 else ""
    down = all(verdict.state == "down" for _, verdict in apps)
    return Verdict("down" if down else "degraded", f"{bad[0].line}{more}")
