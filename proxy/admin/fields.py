"""Fields of a call's JSON content: what each may be, how it is read, and how the table describes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from proxy import units

LONGEST_TEXT: Final = 1 << 20
LONGEST_REASON: Final = 500
MOST_NAMES: Final = 50
MOST_INSTANCES: Final = 1000  # as apps.NAME.process.instances

Kind = Literal["text", "reason", "flag", "count", "size", "cores", "duration", "pause", "rule", "names"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: a sentence about it, and what it may be."""

    about: str
    kind: Kind = "text"


def read(field: Field, value: Any) -> Any:
    """The value as a handler wants it. Raises ValueError with what was expected."""
    return _READ[field.kind](value)


def schema(field: Field) -> dict[str, Any]:
    """Of OpenAPI."""
    return {**_SCHEMAS[field.kind], "description": field.about}


# --- reading -----------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"expected at most {LONGEST_TEXT:,} characters")
    return value


def _reason(value: Any) -> str:
    """Words of a person, for events and logs: one line, and nothing in it that acts on a terminal."""
    if len(text := _text(value)) > LONGEST_REASON:
        raise ValueError(f"expected at most {LONGEST_REASON} characters")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_INSTANCES:
        raise ValueError(f"expected a whole number, 0 to {MOST_INSTANCES:,}")
    return value


def _size(value: Any) -> int:
    """Bytes; 0 for "auto"."""
    if value == "auto":
        return 0
    if isinstance(value, str):
        try:
            value = units.parse_size(value)
        except ValueError:
            value = None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= units.LARGEST:
        raise ValueError('expected bytes, a size such as "512MB", or "auto" for what the config says')
    return value


def _cores(value: Any) -> float:
    """0.0 for "auto"."""
    if value == "auto":
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError('expected a number of cores such as 1.5, or "auto" for what the config says')
    return float(value)


def _duration(value: Any) -> float:
    """Seconds."""
    if isinstance(value, str):
        try:
            value = units.parse_duration(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= units.LONGEST:
        raise ValueError('expected a duration such as "10m", or seconds; more than 0')
    return float(value)


def _pause(value: Any) -> float:
    """Seconds; 0.0: none."""
    return 0.0 if value == 0 and not isinstance(value, bool) else _duration(value)


def _rule(value: Any) -> str | dict[str, Any]:
    """The name of a rule, or a rule as the config has it."""
    if isinstance(value, dict) or (isinstance(value, str) and value):
        return value
    raise ValueError("expected the name of a rule, or a rule as an object with `when`")


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_NAMES or not all(isinstance(one, str) for one in value):
        raise ValueError(f"expected a list of names, {MOST_NAMES} at most")
    return tuple(dict.fromkeys(one[:100] for one in value))


_READ: Final[Mapping[Kind, Callable[[Any], Any]]] = MappingProxyType(
    {
        "text": _text, "reason": _reason, "flag": _flag, "count": _count, "size": _size, "cores": _cores,
        "duration": _duration, "pause": _pause, "rule": _rule, "names": _names,
    }
)  # fmt: skip

_SCHEMAS: Final[Mapping[Kind, dict[str, Any]]] = MappingProxyType(
    {
        "text": {"type": "string"},
        "reason": {"type": "string", "maxLength": LONGEST_REASON},
        "flag": {"type": "boolean"},
        "count": {"type": "integer", "minimum": 0, "maximum": MOST_INSTANCES},
        "size": {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["512MB", "auto"]}]},
        "cores": {"oneOf": [{"type": "number", "minimum": 0}, {"const": "auto"}]},
        "duration": {"oneOf": [{"type": "number"}, {"type": "string", "examples": ["10m"]}]},
        "pause": {"oneOf": [{"type": "number", "minimum": 0}, {"type": "string", "examples": ["1h"]}]},
        "rule": {"oneOf": [{"type": "string"}, {"type": "object"}]},
        "names": {"type": "array", "items": {"type": "string"}, "maxItems": MOST_NAMES},
    }
)
