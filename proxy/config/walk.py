"""Raw tables to frozen values, by the schema, with every problem reported and none raised.

Always true: a value is given to msgspec only when its reader accepted it; what was refused is reported
exactly once and its default stands in for it, so that the checks over several keys can still run.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from proxy import units
from proxy.config.conditions import AMOUNTS, KINDS, OWN_KEYS, Condition
from proxy.config.problems import Bad, Keys, Report, nearest, said
from proxy.config.readers import READERS, RESOLVED, Place, quoted, text

BROKEN: Final = object()
"""Stands for a value that was reported already."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", re.ASCII)
_WRITE: Final = {
    "duration": units.write_duration,
    "size": lambda n: units.write_size(int(n)),
    "ratio": units.write_ratio,
}


@dataclass(frozen=True, slots=True)
class Spec:
    """What the schema says of one value: its type without wrappings, and all that its Metas say."""

    type: Any
    extra: dict[str, Any]
    description: str = ""
    example: str = ""

    @property
    def kind(self) -> str:
        return str(self.extra.get("kind", ""))


@functools.cache
def spec_of(annotation: Any) -> Spec:
    extra: dict[str, Any] = {}
    description = example = ""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *metas = get_args(annotation)
            for meta in metas:
                if isinstance(meta, Meta):
                    extra = {**(meta.extra or {}), **extra}
                    description = description or meta.description or ""
                    example = example or (meta.examples or [""])[0]
        elif origin in (Union, types.UnionType) and type(None) in get_args(annotation):
            left = [arg for arg in get_args(annotation) if arg is not type(None)]
            if len(left) > 1:
                return Spec(annotation, extra, description, example)
            annotation = left[0]
        else:
            return Spec(annotation, extra, description, example)


class Walker:
    def __init__(self, report: Report, place: Place) -> None:
        self.report = report
        self.place = place

    def table(self, cls: type[Struct], raw: Any, keys: Keys, short: str = "") -> Any:
        """An instance of `cls`, or BROKEN. A text alone stands for a table with the key `short`."""
        if short and isinstance(raw, str):
            raw = {short: raw}
        else:
            short = ""
        if not isinstance(raw, dict):
            return self.refuse(keys, f"expected a table, got {said(raw)}")
        fields = msgspec.structs.fields(cls)
        self.unknown(raw, [field.encode_name for field in fields], keys)
        values: dict[str, Any] = {}
        whole = True
        for field in fields:
            name, spec = field.encode_name, spec_of(field.type)
            if name in raw:
                value = self.value(spec, raw[name], keys if name == short else (*keys, name))
            elif field.required:
                value = self.refuse((*keys, name), f"missing - such as {name} = {spec.example}")
            elif spec.kind in RESOLVED and field.default not in (None, NODEFAULT):
                value = self.value(spec, field.default, (*keys, name))
            elif _is_struct(spec) and field.default is not None:
                value = self.table(spec.type, {}, (*keys, name))
            else:
                continue
            if value is not BROKEN:
                values[name] = value
            elif field.required:
                whole = False
        return self.convert(values, cls, keys) if whole else BROKEN

    def value(self, spec: Spec, raw: Any, keys: Keys) -> Any:
        if raw is BROKEN:
            return BROKEN
        if "off" in spec.extra and not isinstance(raw, (str, dict)):
            return (
                None
                if raw is False
                else self.refuse(keys, f"expected a path, false or a table, got {said(raw)}")
            )
        if spec.kind == "env":
            return self.variables(raw, keys)
        if spec.kind in KINDS:
            return self.condition(spec.kind, raw, keys)
        try:
            if spec.kind in READERS:
                if _broken(raw):
                    return BROKEN
                value = READERS[spec.kind](raw, self.place, spec.extra)
                self.range(value, spec, raw)
                return value
            if _is_struct(spec):
                return self.table(spec.type, raw, keys, spec.extra.get("short", ""))
            origin = get_origin(spec.type)
            if origin is tuple:
                return self.array(spec, raw, keys)
            if origin is dict:
                return self.tables(spec, raw, keys)
            return self.plain(spec, raw)
        except Bad as bad:
            return self.refuse(keys, str(bad))

    def array(self, spec: Spec, raw: Any, keys: Keys) -> Any:
        if not isinstance(raw, list):
            hint = f" - [{said(raw)}]" if isinstance(raw, (str, int, float)) else ""
            raise Bad(f"expected an array, got {said(raw)}{hint}")
        inner = spec_of(get_args(spec.type)[0])
        if "short" in spec.extra:
            inner = Spec(
                inner.type, {**inner.extra, "short": spec.extra["short"]}, inner.description, inner.example
            )
        values = [self.value(inner, item, (*keys, index)) for index, item in enumerate(raw)]
        return BROKEN if BROKEN in values else tuple(values)

    def tables(self, spec: Spec, raw: Any, keys: Keys) -> Any:
        if not isinstance(raw, dict):
            raise Bad(f"expected tables, got {said(raw)}")
        inner = spec_of(get_args(spec.type)[1])
        values = {}
        for name, item in raw.items():
            if not _NAME.fullmatch(name):
                self.refuse((*keys, name), f"{said(name)} is no name - letters, digits, - and _ (40 at most)")
            value = self.value(inner, item, (*keys, name))
            if value is not BROKEN:
                values[name] = value
        return values

    def variables(self, raw: Any, keys: Keys) -> Any:
        if not isinstance(raw, dict):
            return self.refuse(keys, f'expected a table such as {{ LOG_LEVEL = "info" }}, got {said(raw)}')
        for name, content in raw.items():
            if not name or "=" in name or "\0" in name:
                self.refuse((*keys, name), f'{said(name)} is no name of a variable - such as "LOG_LEVEL"')
            elif content is not BROKEN and (not isinstance(content, str) or "\0" in content):
                self.refuse((*keys, name), f"expected a string, got {said(content)}{quoted(content)}")
        return BROKEN if self.report.wrong(keys) else dict(raw)

    def plain(self, spec: Spec, raw: Any) -> Any:
        if get_origin(spec.type) is Literal:
            choice = get_args(spec.type)
            if raw not in choice or not isinstance(raw, str):
                hint = (
                    nearest(raw, choice)
                    if isinstance(raw, str)
                    else f" - one of {', '.join(map(said, choice))}"
                )
                raise Bad(f"unknown value {said(raw)}{hint}")
            return raw
        if spec.type is str:
            return text(raw)
        what = {bool: "true or false", int: "a whole number", float: "a number"}[spec.type]
        allowed = {bool: (bool,), int: (int,), float: (int, float)}[spec.type]
        if not isinstance(raw, allowed) or (spec.type is not bool and isinstance(raw, bool)) or raw != raw:
            raise Bad(f"expected {what}, got {said(raw)}")
        self.range(raw, spec, raw)
        return raw

    def range(self, value: Any, spec: Spec, raw: Any) -> None:
        least, most = spec.extra.get("least"), spec.extra.get("most")
        write = _WRITE.get(
            spec.kind, lambda number: f"{number:g}" if isinstance(number, float) else str(number)
        )
        low = least is not None and value < least
        if low or (most is not None and value > most):
            so = f"{write(least)} to {write(most)}" if most is not None else f"{write(least)} or more"
            raise Bad(
                f"{said(raw)} is {'less than' if low else 'more than'} {write(least if low else most)} - {so}"
            )

    def condition(self, where: str, raw: Any, keys: Keys) -> Any:
        """`{ KIND = { … } }`, with a kind that may stand in `where`."""
        known = KINDS[where]
        if not isinstance(raw, dict) or len(raw) != 1:
            got = f"{len(raw)} keys" if isinstance(raw, dict) else said(raw)
            return self.refuse(
                keys, f'expected one condition such as {{ cpu = {{ above = "70%" }} }}, got {got}'
            )
        ((kind, table),) = raw.items()
        keys = (*keys, kind)
        if kind not in known:
            return self.refuse(keys, f"unknown condition{nearest(kind, known)}")
        if not isinstance(table, dict):
            return self.refuse(keys, f'expected a table such as {{ for = "1m" }}, got {said(table)}')
        amounts, own = AMOUNTS[kind], OWN_KEYS.get(kind)
        names = [
            *(("above", "below") if amounts else ()),
            "for",
            "within",
            "count",
            "path",
            *([own] if own else []),
        ]
        self.unknown(table, names, keys)
        values: dict[str, Any] = {"kind": kind}
        for field in msgspec.structs.fields(Condition):
            name, spec = field.encode_name, spec_of(field.type)
            if name not in table or name not in names:
                continue
            if name in ("above", "below"):
                value = self.amount(amounts, table[name], (*keys, name), values)
            else:
                value = self.value(spec, table[name], (*keys, name))
            if value is BROKEN:
                return BROKEN
            values[name] = value
        if amounts and ("above" in table) == ("below" in table):
            return self.refuse(keys, "needs one of above and below")
        if own and own != "files" and own not in table:
            return self.refuse(keys, f"needs {own}")
        return self.convert(values, Condition, keys)

    def amount(self, kinds: Iterable[str], raw: Any, keys: Keys, values: dict[str, Any]) -> Any:
        refused = ""
        for kind in kinds:
            try:
                if kind == "number":
                    value = self.plain(Spec(float, {"least": 0, "most": 1_000_000_000}), raw)
                else:
                    value = READERS[kind](raw, self.place, {"amount": True}) if not _broken(raw) else BROKEN
                values["relative"] = kind == "ratio"
                return value
            except Bad as bad:
                refused = refused or str(bad)
        also = ' or a ratio such as "80%"' if kinds != ("ratio",) and "ratio" in kinds else ""
        return self.refuse(keys, refused.replace(", got", f"{also}, got"))

    def unknown(self, raw: dict[str, Any], known: list[str], keys: Keys) -> None:
        for name in raw:
            if name not in known:
                self.refuse((*keys, name), f"unknown key{nearest(name, known)}")

    def convert(self, values: dict[str, Any], cls: type[Struct], keys: Keys) -> Any:
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            return self.refuse(keys, str(error))

    def refuse(self, keys: Keys, text: str) -> Any:
        self.report.add(keys, text)
        return BROKEN


def _is_struct(spec: Spec) -> bool:
    return not spec.kind and isinstance(spec.type, type) and issubclass(spec.type, Struct)


def _broken(raw: Any) -> bool:
    if isinstance(raw, dict):
        return any(map(_broken, raw.values()))
    return raw is BROKEN or (isinstance(raw, list) and any(map(_broken, raw)))
