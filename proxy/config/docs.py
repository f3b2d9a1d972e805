"""docs/configuration.md from the schema: `python -m proxy.config.docs > docs/configuration.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct

from proxy.config import conditions, schema
from proxy.config.conditions import AMOUNTS, KINDS, OWN_KEYS
from proxy.config.walk import Spec, spec_of
from proxy.config.write import plain

_INTRO: Final = """# Configuration

Made from the schema in `proxy/config/schema.py` by `make docs`; do not edit by hand.

One TOML file, `config.toml` unless `-c` says otherwise. Two lines are enough:

```toml
[apps.web.process]
command = "uvicorn app:app --port {port}"
```

- Durations are texts with a unit: `"250ms"`, `"5s"`, `"10m"`, `"1h"`, `"90d"`. Sizes too: `"64KiB"` is 65,536
  bytes, `"512MB"` is 512,000,000. Ratios are written `"20%"`.
- `${NAME}` in a text takes an environment variable, `${NAME:-default}` too, with what stands in if it is not
  set or empty; `$${` stands for `${`.
- Paths are relative to the config file, some (it is said) to `gateway.data_dir`.
- `triage check` prints all problems at once, each with file and line, and exits 1. A reload (SIGHUP,
  `triage reload`) is checked whole first: a bad file changes nothing. It applies everything but
  `gateway.data_dir` and `admin.listen`, for which it says "at next start".
- `triage check` also names the keys that are accepted and checked, but do nothing yet in this version.
"""

_SECTIONS: Final[tuple[tuple[str, type[Struct], str], ...]] = (
    ("[gateway]", schema.Gateway, "The data plane: where clients connect, and what they may ask for."),
    ("[[gateway.certificates]]", schema.Certificate, "For `https://` listeners, any number."),
    ("[admin]", schema.Admin, "The admin API and the dashboard."),
    ("[apps.NAME]", schema.App, "A web application. It needs either `process` or `addresses`."),
    ("[apps.NAME.process]", schema.Process, "Triage runs the instances."),
    (
        "addresses of [apps.NAME]",
        schema.Address,
        "Or it is given them: each a URL, or a table of these keys.",
    ),
    ("[apps.NAME.recycle]", schema.Recycle, "How a given address is recycled."),
    ("[apps.NAME.health]", schema.Health, "Probes: the health checks of each instance."),
    (
        "[apps.NAME.ejection]",
        schema.Ejection,
        "Taking an instance that fails out of the balancing for a while.",
    ),
    ("[[apps.NAME.autoheal]]", schema.Autoheal, "Rules: when this is seen, do that."),
    ("[apps.NAME.scale]", schema.Scale, "Instances by load."),
    ("[[alerts]]", schema.Alert, "Who is told of what."),
    ("[notify.NAME]", schema.Notify, "Exactly one of these."),
    ("[keep]", schema.Keep, "How long, how much."),
    ("[traces]", schema.Traces, "Requests and attempts as OpenTelemetry spans. Off without `otlp`."),
)
_OWN: Final = frozenset(cls for _, cls, _ in _SECTIONS)

_KINDS: Final = {
    "duration": "duration", "size": "size", "ratio": "ratio", "path": "path", "file": "file",
    "folder": "folder",
    "under-data": "path", "listen": "address", "admin-listen": "address", "address": "URL", "url": "URL",
    "email": "address", "host": "host", "host-field": "host", "target": "path", "prefix": "prefix",
    "path-pattern": "pattern", "network": "network", "command": "command", "arguments": "array of texts",
    "env": "table of texts", "fields": "table of texts",
    "variable": "name", "user": "user", "signal": "signal", "statuses": "statuses",
    "auto": '`"auto"` or number', "inflight": '`"adaptive"` or number', "cron": "schedule", "glob": "pattern",
    "step": "act", "heal": "condition", "scaling": "condition", "alarm": "condition", "fault": "fault",
    "amount": "by kind", "version": "text",
}  # fmt: skip


def markdown() -> str:
    """The whole page."""
    lines = [_INTRO]
    for title, cls, what in _SECTIONS:
        lines += [f"## `{title}`" if title.startswith("[") else f"## {title}", "", what, ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|", *_rows(cls, ""), ""]
    lines += _conditions()
    return "\n".join(lines)


def _rows(cls: type[Struct], prefix: str) -> Iterator[str]:
    for field in msgspec.structs.fields(cls):
        spec = spec_of(field.type)
        name = prefix + field.encode_name
        inner = _struct(spec)
        default = _default(field, spec)
        if (
            inner is not None
            and inner not in _OWN
            and get_origin(spec.type) is None
            and not spec.extra.get("short")
        ):
            if field.default is None:
                yield _row(name, "table", "not set", spec)
            yield from _rows(inner, name + ".")
            continue
        if inner is not None and inner in _OWN and inner is not schema.Address:
            continue  # has a section of its own
        yield _row(name, _type(spec), default, spec)
        if inner is not None and inner not in _OWN:
            mark = "[]." if get_origin(spec.type) is tuple else "."
            yield from _rows(inner, name + mark)


def _row(name: str, kind: str, default: str, spec: Spec) -> str:
    meaning = spec.description[:1].upper() + spec.description[1:]
    if spec.example:
        meaning += f". Example: `{spec.example}`"
    cells = (f"`{name}`", kind, default, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: msgspec.structs.FieldInfo, spec: Spec) -> str:
    if field.required:
        return "needed"
    if field.default is None or (spec.kind == "statuses" and not field.default) or field.default == "":
        return "not set"
    value = field.default if field.default is not NODEFAULT else field.default_factory()
    written = plain(value, spec)
    if spec.extra.get("off") and isinstance(written, dict):
        written = written["path"]
    return f"`{_toml(written)}`"


def _toml(value: Any) -> str:
    if isinstance(value, float) and value == int(value):
        value = int(value)
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _type(spec: Spec) -> str:
    if spec.kind in _KINDS:
        return _KINDS[spec.kind]
    if get_origin(spec.type) is tuple:
        return f"array of {_plural(_type(spec_of(get_args(spec.type)[0])))}"
    if get_origin(spec.type) is Literal:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in get_args(spec.type))
    if "off" in spec.extra:
        return "path, `false` or table"
    known: dict[Any, str] = {str: "text", bool: "true or false", int: "number", float: "number"}
    return known.get(spec.type, "table")


def _plural(kind: str) -> str:
    if (kind.endswith("s") and kind != "address") or kind.startswith("`"):
        return kind
    return kind + ("es" if kind.endswith(("s", "x")) else "s")


def _struct(spec: Spec) -> type[Struct] | None:
    """The table behind a key, an array of them included."""
    found = spec.type
    if get_origin(found) is tuple:
        inner = spec_of(get_args(found)[0])
        if inner.kind:
            return None
        found = inner.type
    return found if not spec.kind and isinstance(found, type) and issubclass(found, Struct) else None


def _conditions() -> list[str]:
    lines = [
        "## Conditions",
        "",
        "One grammar in autoheal, scale, alerts: `{ KIND = { above | below, for, within, count, path } }`.",
        "",
        "| kind | `above`, `below` | key of its own | autoheal | scale | alerts |",
        "|---|---|---|---|---|---|",
    ]
    for name, amounts in AMOUNTS.items():
        places = " | ".join("yes" if name in KINDS[where] else "" for where in ("heal", "scaling", "alarm"))
        own = f"`{OWN_KEYS[name]}`" if name in OWN_KEYS else ""
        lines.append(f"| `{name}` | {' or '.join(amounts)} | {own} | {places} |")
    lines += ["", "| key | type | default | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(conditions.Condition):
        spec = spec_of(field.type)
        if spec.description:
            lines.append(_row(field.encode_name, _type(spec), _default(field, spec), spec))
    return [*lines, ""]


if __name__ == "__main__":
    print(markdown(), end="")
