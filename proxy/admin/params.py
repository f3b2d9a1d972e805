"""Query parameters of a call: what each may be, as the table describes it. Reading them is query.py's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

Kind = Literal["text", "whole", "flag", "choice", "duration", "moment", "cursor"]

MOST: Final = 1000
"""Items of a page."""
LONGEST_CURSOR: Final = 300


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: a sentence about it, and what it may be."""

    about: str
    kind: Kind = "text"
    least: int = 0
    most: int = 0  # 0: no bound
    default: int | str | None = None
    words: tuple[str, ...] = ()  # of a choice
    required: bool = False
    example: str = ""


LIMIT: Final = Param("most items, 1 to 1000; default 100", "whole", 1, MOST, 100)
CURSOR: Final = Param("the `next` of the page before", "cursor")
PAGE: Final[Mapping[str, Param]] = MappingProxyType({"limit": LIMIT, "cursor": CURSOR})
"""Of every list."""
WHOLE_PAGE: Final[Mapping[str, Param]] = MappingProxyType(
    {"limit": Param("most items, 1 to 1000; default 1000", "whole", 1, MOST, MOST), "cursor": CURSOR}
)
"""Of lists that are short as a rule."""
FOLLOW: Final = Param("true: go on without end", "flag")
SINCE: Final = Param('how far back ("5m"), or a time (ISO 8601, or Unix seconds)', "moment", example="15m")

_BY_NAME: Final[Mapping[str, Kind]] = MappingProxyType(
    {"limit": "whole", "cursor": "cursor", "follow": "flag", "since": "moment", "until": "moment"}
)
"""What parameters of these names are, where the table has only a sentence about them."""


def param(name: str, said: str | Param) -> Param:
    """The parameter itself, whether the table has a sentence or all of it."""
    if isinstance(said, Param):
        return said
    kind = _BY_NAME.get(name, "text")
    return Param(said, kind, 1, MOST) if kind == "whole" else Param(said, kind)


def schema(one: Param) -> dict[str, Any]:
    """Of OpenAPI."""
    found: dict[str, Any]
    match one.kind:
        case "whole":
            found = {"type": "integer", "minimum": one.least} | ({"maximum": one.most} if one.most else {})
        case "flag":
            found = {"type": "boolean", "default": False}
        case "choice":
            found = {"type": "string", "enum": list(one.words)}
        case "duration":
            found = {"type": "string", "pattern": r"^([0-9]{1,9}(\.[0-9]{1,3})? ?(ms|s|m|h|d)?)?$"}
        case "moment":
            found = {"type": "string"}
        case "cursor":
            found = {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{1,{LONGEST_CURSOR}}}$"}
        case "text":
            found = {"type": "string"}
    if one.default is not None:
        found["default"] = one.default
    if one.example:
        found["examples"] = [one.example]
    return found
