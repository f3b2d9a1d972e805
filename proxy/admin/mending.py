"""What was asked, what was set and what watches, as JSON shapes: operations, settings by hand, rules in short."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxy.admin.times import iso
from proxy.control.autoheal.views import RuleView
from proxy.control.operations import Operation
from proxy.control.state import AppState, ByHand, InstanceState

CLOSE: Final = 0.5
"""A rule that is nearer than this to a firing is worth a line in `status`."""


def operation(one: Operation) -> dict[str, Any]:
    asked = one.asked
    return {
        "id": one.id,
        "act": one.act,
        "target": one.target,
        "app": one.app,
        "instance": one.instance,
        "state": one.state,
        "why": one.why,
        "time": iso(one.began),
        "ended": iso(one.ended),
        "took_s": round(max(0.0, (one.ended or time.time()) - one.began), 3),
        "by": asked.by,
        "way": asked.way,
        "reason": asked.reason or asked.by,
        "rule": asked.rule,
        "value": asked.value,
        "targets": list(one.targets),
        "evidence": one.evidence,
        "steps": [{"time": iso(step.at), "text": step.text} for step in one.steps],
        "told": max(one.told, len(one.steps)),
        "details": {name: value for name, value in one.details.items() if name != "target"},
    }


def brief(one: Operation) -> dict[str, Any]:
    """In an app or instance: enough to see that it goes on, and with what."""
    return {
        "id": one.id,
        "act": one.act,
        "target": one.target,
        "by": one.asked.by,
        "time": iso(one.began),
        "last": one.steps[-1].text if one.steps else "",
    }


def path(state: InstanceState) -> list[dict[str, Any]]:
    """Through the lifecycle, newest last."""
    return [{"time": iso(move.at), "lifecycle": move.state, "why": move.why} for move in state.moves]


def by_hand(app: AppState) -> dict[str, Any]:
    """All that a person set, by its key; empty where the config holds throughout."""
    return {key: setting(one) for key, one in app.by_hand.items()}


def of_instance(app: AppState, instance: str) -> dict[str, Any] | None:
    one = app.by_hand.get(f"ejected {instance}")
    return {"ejected": setting(one)} if one is not None else None


def setting(one: ByHand) -> dict[str, Any]:
    return {"value": one.value, "by": one.by, "time": iso(one.at), "why": one.why, "until": iso(one.until)}


def rules(state: AppState, rules: Sequence[RuleView]) -> dict[str, Any]:
    """Of an app: only what one wants to see without asking."""
    live = [one for one in rules if one.state != "off" and not one.dry_run]
    near = [one for one in live if one.nearest is not None and one.nearest.share > CLOSE]
    nearest = max(near, key=lambda one: one.nearest.share if one.nearest else 0.0, default=None)
    return {
        "enabled": "autoheal" not in state.by_hand,
        "rules": sum(one.state != "off" for one in rules),
        "nearest": _short(nearest) if nearest is not None else None,
        "suppressed": [_short(one) for one in live if one.state == "suppressed"],
        "acting": [_short(one) for one in live if one.state == "acting"],
    }


def _short(rule: RuleView) -> dict[str, Any]:
    nearest = rule.nearest
    return {
        "rule": rule.name,
        "builtin": rule.builtin,
        "instance": nearest.instance if nearest is not None else "",
        "share": round(nearest.share, 3) if nearest is not None else 0.0,
        "distance": nearest.distance if nearest is not None else "",
        "why": rule.why,
        "until": iso(rule.suppressed_until or 0.0),
    }


def scaler(view: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What scaling rules see and wait for; None without any."""
    return {**view, "cooldown_until": iso(view["cooldown_until"] or 0.0)} if view is not None else None
