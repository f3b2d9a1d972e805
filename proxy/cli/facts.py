"""How facts print whose names are the gateway's: sections of names and values, and tables of whatever there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.show import Column

INDENT: Final = "  "
LONG: Final = 28
"""Characters of a name that values stand beside; longer names stand out."""
SIZES: Final = frozenset({"private", "swap", "size", "available", "free", "position"})
TITLES: Final = {"cpu_s": "CPU time", "cpu": "CPU %", "limits": "limits (soft, hard)", "io": "bytes in and out"}
_QUIET: Final = ("id", "href", "start")  # numbers that only a program needs


def print_facts(facts: Mapping[str, Any], depth: int = 0, of: str = "") -> None:
    """Plain values first, then each section under its name. `of`: the section that these are."""
    plain = {
        titled(name): said(name, value, of)
        for name, value in facts.items()
        if not nested(value) and value not in (None, "", []) and (depth or name not in _QUIET)
    }
    wide = min(max(map(len, plain), default=0), LONG)
    for title, text in plain.items():
        click.echo(show.word(f"{INDENT * depth}{title:<{wide}}  {text}"))
    for name, value in facts.items():
        if nested(value) and value:
            if not depth:
                click.echo()
            click.echo(show.word(f"{INDENT * depth}{titled(name)}"))
            if isinstance(value, Mapping):
                print_facts(value, depth + 1, name)
            else:
                print_items(value, depth + 1)


def print_items(items: Sequence[Any], depth: int) -> None:
    """A list of tables is a table, or where they have tables in them a block each; one of words is a line each."""
    if all(isinstance(one, Mapping) for one in items):
        if not any(nested(value) for one in items for value in one.values()):
            print_table(items)
            return
        for number, one in enumerate(items):
            if number:
                click.echo()
            print_facts(one, depth)
        return
    for one in items:
        click.echo(show.word(f"{INDENT * depth}{said('', one)}"))


def print_table(items: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()) -> None:
    """A column for each name that one of them has, as they come; the widest of words gives way."""
    names = [
        name for name in dict.fromkeys(name for one in items for name in one)
        if name not in (*_QUIET, *left_out)
    ]  # fmt: skip
    if not names:
        return
    rows = [[said(name, one.get(name)) for name in names] for one in items]
    figures = {name for name in names if all(isinstance(one.get(name), (int, float, type(None))) for one in items)}
    longest = [max(len(row[at]) for row in rows) if name not in figures else 0 for at, name in enumerate(names)]
    flexible = longest.index(max(longest))
    columns = [Column(titled(name), name in figures, at == flexible) for at, name in enumerate(names)]
    show.table(columns, rows)


def nested(value: Any) -> bool:
    """Whether it needs lines of its own."""
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(one, (Mapping, list)) for one in value)
    )


def titled(name: str) -> str:
    """ "cpu" from "cpu_s": the unit stands with the value."""
    if name in TITLES:
        return TITLES[name]
    bare = name.removesuffix("_ms").removesuffix("_s")
    return bare.replace("_", " ") if bare.islower() else bare


def said(name: str, value: Any, of: str = "") -> str:
    """A value as a person reads it, going by the unit in its name, or in that of its section."""
    if value is None:
        return "unlimited" if of == "limits" else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if name.endswith("_ms"):
            return show.ms(value)
        if name.endswith("_s"):
            return units.duration(float(value))
        if name in SIZES or "memory" in (name.split("_")[0], of.split("_")[0]) or name.endswith("bytes"):
            return units.size(value)
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    if isinstance(value, list):
        return ", ".join(said("", one, of) for one in value)
    text = str(value)
    return show.clock(text) if text[:4].isdigit() and text.endswith("Z") and "T" in text else text
