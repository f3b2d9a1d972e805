"""A Config back to what a file says: plain JSON-able values, with secrets masked when they are shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from proxy import masking, units
from proxy.config.conditions import AMOUNTS, Condition, Step
from proxy.config.listen import Listen
from proxy.config.schema import Config
from proxy.config.walk import Spec, spec_of


def shown(config: Config) -> dict[str, Any]:
    """For GET /api/v1/config: as the file would say it, every default written out, secrets as "***"."""
    tables: dict[str, Any] = plain(config)
    for app in tables["apps"].values():
        if process := app["process"]:
            process["env"] = {name: masking.masked(name, value) for name, value in process["env"].items()}
            process["command"] = quoted(masking.arguments(shlex.split(process["command"])))
        if app["recycle"]:
            app["recycle"]["command"] = masking.arguments(app["recycle"]["command"])
        for rule in app["autoheal"]:
            for step in rule["then"]:
                if isinstance(step, dict) and "run" in step:
                    step["run"] = masking.arguments(step["run"])
    traces = tables["traces"]
    traces["headers"] = dict.fromkeys(traces["headers"], masking.MASK)
    if traces["otlp"]:
        traces["otlp"] = masking.masked("", traces["otlp"])
    for notify in tables["notify"].values():
        for way in ("webhook", "slack"):  # such an address is itself the credential
            if notify[way]:
                notify[way] = re.sub(r"(https?://)(?:[^/?#]*@)?([^/?#]*).*", rf"\1\2/{masking.MASK}", notify[way])
        if notify["command"]:
            notify["command"] = masking.arguments(notify["command"])
        if notify["secret"]:
            notify["secret"] = masking.MASK
        if notify["smtp"]:
            notify["smtp"] = masking.masked("", notify["smtp"])
    return tables


def plain(value: Any, spec: Spec | None = None) -> Any:
    """Durations, sizes, ratios, commands, conditions as their text; what is absent as None."""
    if isinstance(value, Listen):
        return value.text
    if isinstance(value, Condition):
        return _condition(value)
    if isinstance(value, Step):
        return {"run": list(value.run)} if value.run else {"scale": value.by} if value.by else value.act
    if spec is not None and value is not None and spec.kind in _WRITERS:
        return _WRITERS[spec.kind](value)
    if isinstance(value, Struct):
        return {
            field.encode_name: plain(getattr(value, field.name), spec_of(field.type))
            for field in msgspec.structs.fields(value)
        }
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def quoted(arguments: Any) -> str:
    """Like shlex.join, but {port} stays readable."""
    return " ".join(
        argument if re.fullmatch(r"[\w@%+=:,./{}-]+", argument, re.ASCII) else shlex.quote(argument)
        for argument in arguments
    )


def statuses(ranges: tuple[tuple[int, int], ...]) -> str:
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _condition(condition: Condition) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for field in msgspec.structs.fields(Condition):
        value = getattr(condition, field.name)
        if field.name in ("kind", "relative") or value == field.default:
            continue
        if field.name in ("above", "below"):
            unit = "ratio" if condition.relative else AMOUNTS[condition.kind][0]
            if unit in ("size", "number") and value == int(value):
                value = int(value)  # a threshold is a float, whatever it was read from
            inner[field.name] = _WRITERS[unit](value) if unit in _WRITERS else value
        else:
            inner[field.encode_name] = plain(value, spec_of(field.type))
    return {condition.kind: inner}


_WRITERS: Final[dict[str, Callable[[Any], Any]]] = {
    "duration": units.write_duration,
    "size": units.write_size,
    "ratio": units.write_ratio,
    "command": quoted,
    "statuses": statuses,
}
