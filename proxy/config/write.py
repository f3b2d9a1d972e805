"""A Config back to what a file says: plain JSON-able values, with secrets masked when they are shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from proxy import units
from proxy.config.conditions import AMOUNTS, Condition, Step
from proxy.config.listen import Listen
from proxy.config.schema import Config
from proxy.config.walk import Spec, spec_of

MASK: Final = "***"

_SECRET: Final = re.compile(
    r"PASS|PWD|TOKEN|SECRET|KEY|DSN|CREDENTIAL|AUTH|PRIVATE|COOKIE|SIGNATURE|SALT|CERT", re.IGNORECASE
)
_IN_URL: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s/?#@:]*):([^\s/?#]*)@|([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@:]{16,}@"
)
_OPTION: Final = re.compile(r"(--?[A-Za-z0-9_-]+|[A-Za-z0-9_]+)=(.*)", re.DOTALL)


def shown(config: Config) -> dict[str, Any]:
    """For GET /api/v1/config: as the file would say it, every default written out, secrets as "***"."""
    tables: dict[str, Any] = plain(config)
    for app in tables["apps"].values():
        if process := app["process"]:
            process["env"] = {name: masked(name, value) for name, value in process["env"].items()}
            process["command"] = quoted(_masked_arguments(shlex.split(process["command"])))
        if app["recycle"]:
            app["recycle"]["command"] = _masked_arguments(app["recycle"]["command"])
        for rule in app["autoheal"]:
            for step in rule["then"]:
                if isinstance(step, dict) and "run" in step:
                    step["run"] = _masked_arguments(step["run"])
    for notify in tables["notify"].values():
        for way in ("webhook", "slack"):  # such an address is itself the credential
            if notify[way]:
                notify[way] = re.sub(r"(https?://)(?:[^/?#]*@)?([^/?#]*).*", rf"\1\2/{MASK}", notify[way])
        if notify["command"]:
            notify["command"] = _masked_arguments(notify["command"])
    return tables


def masked(name: str, value: str) -> str:
    """The value of a variable, unless its name looks secret; a password within a URL is masked alone."""
    if value and _SECRET.search(name):
        return MASK
    return _IN_URL.sub(
        lambda match: f"{match[1]}{match[2]}:{MASK}@" if match[1] else f"{match[4]}{MASK}@", value
    )


def _masked_arguments(arguments: list[str]) -> list[str]:
    out: list[str] = []
    secret = False  # the argument is the value of the option before it
    for argument in arguments:
        option = _OPTION.fullmatch(argument)
        if secret and not argument.startswith("-"):
            out.append(MASK)
        elif option and _SECRET.search(option[1]):
            out.append(f"{option[1]}={MASK}")
        else:
            out.append(masked("", argument))
        secret = argument.startswith("-") and not option and bool(_SECRET.search(argument))
    return out


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
