"""Fields of a call's JSON content: what each may be, how it is read, and how the table describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from proxy import units
from proxy.control.inside.kill import SIGNALS

LONGEST_TEXT: Final = 1 << 20
LONGEST_REASON: Final = 500
MOST_NAMES: Final = 50
MOST_ARGUMENTS: Final = 1000
MOST_CORES: Final = 4096  # as apps.NAME.process.cpus
MOST_INSTANCES: Final = 1000  # as apps.NAME.process.instances

Kind = Literal[
    "text", "reason", "flag", "count", "size", "cores", "duration", "pause", "rule", "names", "role", "signal", "whole",
    "command",
]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: a sentence about it, and what it may be. That one is `required` its handler says best."""

    about: str
    kind: Kind = "text"
    required: bool = False


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
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (value == 0 or 0.01 <= value <= MOST_CORES):
        raise ValueError('expected a number of cores such as 1.5, 0.01 to 4096, or "auto" for what the config says')
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


def _role(value: Any) -> str:
    if value not in ("viewer", "operator", "admin"):
        raise ValueError("expected viewer, operator or admin")
    return str(value)


def _signal(value: Any) -> str:
    """Its name, without SIG."""
    name = value.removeprefix("SIG") if isinstance(value, str) else ""
    if name not in SIGNALS:
        raise ValueError(f"expected one of {', '.join(SIGNALS)}")
    return name


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError("expected a whole number")
    return value


def _command(value: Any) -> str | list[str]:
    """Text as it is, for who runs it to split."""
    if isinstance(value, list) and 0 < len(value) <= MOST_ARGUMENTS and all(isinstance(one, str) for one in value):
        return list(value)
    if isinstance(value, str) and value.strip() and len(value) <= LONGEST_TEXT:
        return value
    raise ValueError(f'expected a list of at most {MOST_ARGUMENTS:,} texts such as ["ls", "-l"], or a text')


_READ: Final[Mapping[Kind, Callable[[Any], Any]]] = MappingProxyType(
    {
        "text": _text, "reason": _reason, "flag": _flag, "count": _count, "size": _size, "cores": _cores,
        "duration": _duration, "pause": _pause, "rule": _rule, "names": _names, "role": _role,
        "signal": _signal, "whole": _whole, "command": _command,
    }
)  # fmt: skip

_SIZE: Final = r"^(auto|[0-9]{1,20}(\.[0-9]{1,9})? ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB))$"
_DURATION: Final = r"^[0-9]{1,20}(\.[0-9]{1,9})? ?(ms|s|m|h|d)$"
_SCHEMAS: Final[Mapping[Kind, dict[str, Any]]] = MappingProxyType(
    {
        "text": {"type": "string", "maxLength": LONGEST_TEXT},
        "reason": {"type": "string", "maxLength": LONGEST_REASON},
        "flag": {"type": "boolean"},
        "count": {"type": "integer", "minimum": 0, "maximum": MOST_INSTANCES},
        "size": {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _SIZE}]},
        "cores": {"oneOf": [{"type": "number", "minimum": 0.01, "maximum": MOST_CORES}, {"enum": ["auto", 0]}]},
        "duration": {"oneOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": _DURATION}]},
        "pause": {"oneOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _DURATION}]},
        "rule": {"oneOf": [{"type": "string", "minLength": 1}, {"type": "object"}]},
        "names": {"type": "array", "items": {"type": "string"}, "maxItems": MOST_NAMES},
        "role": {"enum": ["viewer", "operator", "admin"]},
        "command": {
            "oneOf": [
                {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_ARGUMENTS},
            ]
        },
        "signal": {"type": "string", "pattern": f"^(SIG)?({'|'.join(SIGNALS)})$"},
        "whole": {"type": "integer", "minimum": 0, "maximum": (1 << 53) - 1},
    }
)
