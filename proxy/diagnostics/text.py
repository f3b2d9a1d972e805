"""Blocks of an answer to text: at most 30 lines of 96 columns, whatever came from outside made harmless."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from proxy import masking

LINES: Final = 30
COLUMNS: Final = 96
INDENT: Final = 7
BLOCKS: Final = ("why", "cause", "lost", "now", "done", "do", "evidence")
_PARTED: Final = ("now", "evidence")
"""An empty line stands before these."""
_CUT_FIRST: Final = ("evidence", "done", "cause", "do", "now", "lost", "why")
"""Where lines are taken from when there are too many."""
_LOCAL: Final = 1
"""How much longer a time may become when the command shows it as local time."""
_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")

_QUERY: Final = re.compile(r"([?&][\w.%\[\]-]{1,64}=)[^&\s\"'<>…]+")
"""Apps print the targets they get, and a query may hold a secret."""


def stamp(at: float) -> str:
    """UTC to the second; the command shows it as local time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clean(text: str, most: int = 400) -> str:
    """One line, without what could write to a terminal, without values of queries and secrets, and not too long."""
    text = masking.text(_QUERY.sub(r"\1…", _CONTROL.sub("?", text[:4000].expandtabs(4))))
    return text if len(text) <= most else text[: most - 1] + "…"


def target(text: str, most: int = 48) -> str:
    """A target without the values of its query: those may be secrets."""
    path, mark, _ = text.partition("?")
    return clean(path, most - 2) + "?…" if mark else clean(path, most)


def wrapped(text: str, width: int, hang: str = "") -> list[str]:
    """Lines of at most `width`, also after local time has taken the place of UTC."""
    stamps = len(_STAMP.findall(text))
    lines = textwrap.wrap(
        clean(text, 1000),
        width - _LOCAL * min(stamps, 3),
        subsequent_indent=hang,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
    return lines or [""]


def render(title: str, blocks: Mapping[str, Sequence[str]]) -> str:
    """The whole screen. Too long a one loses whole sentences from the end of its blocks, least important first."""
    rows: dict[str, list[list[str]]] = {}
    for name in BLOCKS:
        rows[name] = []
        for item in blocks[name]:
            if name == "evidence":
                rows[name].append(wrapped(item, COLUMNS, " " * 12))
            else:
                labelled = name == "do" and item[5:7] == "  "
                rows[name].append(wrapped(item, COLUMNS - INDENT, " " * 7 if labelled else ""))
    fixed = 2 + len(_PARTED) + 1  # the title and the empty lines, EVIDENCE's own heading
    for least, shortest in ((3, 99), (2, 99), (1, 99), (1, 2), (1, 1)):
        for name in _CUT_FIRST:
            while _height(rows) + fixed > LINES and len(rows[name]) > least:
                rows[name].pop()
            if _height(rows) + fixed > LINES:
                rows[name] = [_shortened(item, shortest) for item in rows[name]]
    lines = [title, ""]
    for name in BLOCKS:
        if name in _PARTED:
            lines.append("")
        found = [line for item in rows[name] for line in item]
        if name == "evidence":
            lines += ["EVIDENCE", *found]
        else:
            lines += [
                ((name.upper() if number == 0 else "").ljust(INDENT) + line).rstrip()
                for number, line in enumerate(found)
            ]
    return "\n".join(lines) + "\n"


def _height(rows: Mapping[str, list[list[str]]]) -> int:
    return sum(len(item) for items in rows.values() for item in items)


def _shortened(item: list[str], most: int) -> list[str]:
    return item if len(item) <= most else [*item[: most - 1], item[most - 1][: COLUMNS - INDENT - 4] + " …"]
