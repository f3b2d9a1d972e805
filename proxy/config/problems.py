"""What is wrong with a config: every problem has a file, a line, a key path, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

Keys = tuple[str | int, ...]
"""A key path: names, and an index for each array passed."""

ARROW: Final = " - "


class Bad(ValueError):
    """A reader refuses a value; the text says what was wrong - what would be right."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend. `line` is 0 when nothing more than the file is known."""

    file: str
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (where, self.path, self.text) if part)


class ConfigProblems(Exception):
    """A config was refused. `str()` is what `triage check` prints."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        number = len(self.problems)
        closing = f"{number} problem{'' if number == 1 else 's'}; nothing was changed."
        return "\n".join([*map(str, self.problems), closing])


@dataclass(slots=True)
class Report:
    """Gathers problems, of all stages, so that one run shows them all."""

    file: str
    lines: dict[Keys, int]
    found: dict[Keys, list[str]] = field(default_factory=dict)

    def add(self, keys: Keys, text: str) -> None:
        self.found.setdefault(keys, []).append(text)

    def wrong(self, keys: Keys) -> bool:
        """Something around, at or below `keys` was refused, so what it means is not known."""
        return any(known[: len(keys)] == keys[: len(known)] for known in self.found)

    def refused(self, keys: Keys) -> bool:
        """The key itself, or what it stands in, was refused."""
        return any(keys[:end] in self.found for end in range(len(keys) + 1))

    def line(self, keys: Keys) -> int:
        """Of the key, or of the nearest table around it that the text names."""
        for end in range(len(keys), 0, -1):
            if line := self.lines.get(keys[:end]):
                return line
        return 0

    def problems(self) -> list[Problem]:
        made = [
            Problem(self.file, self.line(keys), shown(keys), text)
            for keys, texts in self.found.items()
            for text in texts
        ]
        return sorted(made, key=lambda problem: problem.line)


def shown(keys: Keys) -> str:
    """apps.web.autoheal[0].when, with quotes where TOML needs them."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            bare = key and all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in key)
            text += ("." if text else "") + (key if bare else said(key))
    return text


def said(value: object) -> str:
    """A value as the file has it, short enough for a line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = value if len(value) <= 60 else value[:57] + "..."
            text = "".join(letter if letter.isprintable() else "?" for letter in text)
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case dict():
            return "a table"
        case list():
            return "an array"
        case int() if value.bit_length() > 64:
            return "a number of more than 64 bits"
        case _:
            return str(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """' - did you mean "interval"?', or the choice, if there is one worth reading."""
    names = list(known)
    lowered = name.lower().replace("-", "_")
    close = difflib.get_close_matches(lowered[:60], names, n=1, cutoff=0.6)
    if close:
        return f"{ARROW}did you mean {said(close[0])}?"
    return f"{ARROW}known here: {', '.join(names)}" if len(names) <= 24 else ""
