"""Conditions, actions and values as people read them."""

from __future__ import annotations

from typing import Any

from proxy import units
from proxy.config.conditions import Condition, Step
from proxy.config.write import plain, quoted


def described(condition: Condition) -> str:
    """As in the config, without its signs: "slow above 5s, count 20, within 1m"."""
    keys: dict[str, Any] = plain(condition)[condition.kind]
    said = ", ".join(f"{key} {_value(value)}" for key, value in keys.items())
    return f"{condition.kind} {said}" if said else condition.kind


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def step(one: Step) -> str:
    if one.act == "run":
        return f"run {quoted(one.run)}"
    return f"scale by {one.by:+d}" if one.act == "scale" else one.act


def steps(chain: tuple[Step, ...]) -> str:
    """ "collect, then recycle"."""
    return ", then ".join(step(one) for one in chain)


def shown(value: float | None, unit: str) -> str:
    """A value in its unit."""
    if value is None:
        return "not known"
    match unit:
        case "ratio":
            return units.percent(value)
        case "bytes":
            return units.size(value)
        case "s":
            return units.duration(value)
        case "cores":
            return f"{value:.2f} cores"
        case _:
            pass
    return units.count(value) if value == int(value) else f"{value:.1f}"
