"""Tables, times and figures for people.

On a terminal a table fits its width (the flexible column is cut; where that is not enough, columns from the right are
left out, and it is said) and states have colours, unless NO_COLOR is set; anywhere else it is plain text and nothing
is cut, so that it can be searched. Text from outside (targets, log lines, names of files) is cleaned of what acts on a
terminal or turns letters round: a request must not be able to write to an operator's screen.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from proxy import units

if TYPE_CHECKING:
    from rich.table import Table

WIDEST: Final = 96
CAP: Final = 40  # a flexible column is padded so far; longer text stands out
LEAST: Final = 30  # columns of a terminal that are reckoned with
NARROWEST: Final = 12  # that a flexible column may become
STYLES: Final = {
    "up": "green", "ready": "green", "degraded": "yellow", "down": "bold red", "failed": "bold red",
    "backoff": "red", "stopped": "dim", "held": "yellow", "failing": "yellow", "ejected": "yellow",
    "starting": "cyan", "warming": "cyan", "draining": "cyan", "stopping": "cyan", "trial": "cyan", "open": "bold red",
}  # fmt: skip

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_STAMP: Final = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


@dataclass(frozen=True, slots=True)
class Column:
    """`right` for figures; the `flexible` one gives way."""

    title: str
    right: bool = False
    flexible: bool = False


def on_terminal() -> bool:
    return sys.stdout.isatty()


def colour(text: str, fg: str) -> str:
    """Coloured where that is wanted (no-color.org)."""
    import click

    return click.style(text, fg=fg) if on_terminal() and not os.environ.get("NO_COLOR") else text


def clean(text: str) -> str:
    """Without control characters, and those that turn the direction of text; newlines and tabs stay."""
    return _CONTROL.sub("?", text)


def word(text: str) -> str:
    """In one line."""
    return clean(text).replace("\n", "?").replace("\t", " ")


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; a column that is empty in all rows is left out."""
    columns, rows = told(columns, rows)
    if on_terminal():
        _rich(columns, rows)
    else:
        sys.stdout.write("\n".join(plain(columns, rows)) + "\n")


def told(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> tuple[list[Column], list[list[str]]]:
    """Without the columns that say nothing, and cleaned."""
    kept = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    return [columns[at] for at in kept], [[word(row[at]) for at in kept] for row in rows]


def plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(column.title), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    widths = [
        min(width, CAP) if column.flexible else width for width, column in zip(widths, columns, strict=True)
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [line([column.title for column in columns]), *map(line, rows)]


def _rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # a tenth of a second: only a terminal pays

    columns, rows, missing = narrowed(columns, rows, width())
    widths = fitted(columns, rows, width())
    console = Console(width=max(sum(widths) + 2 * len(widths), NARROWEST))
    console.print(drawn(columns, rows, widths))
    if missing:
        console.print(f"[dim]… a wider window shows {', '.join(missing)}[/dim]", highlight=False)


def narrowed(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int
) -> tuple[Sequence[Column], Sequence[Sequence[str]], list[str]]:
    """What fits with a quarter for the flexible one: the others give way from the right, but never the first.

    Third: the titles of those that were left out."""
    least_wide = max(NARROWEST, room // 4)
    natural = [max(len(column.title), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    wide = [
        min(width, least_wide) if column.flexible else width for width, column in zip(natural, columns, strict=True)
    ]
    kept = list(range(len(columns)))
    missing: list[str] = []
    while sum(wide[at] for at in kept) + 2 * (len(kept) - 1) > room:
        least = next((at for at in reversed(kept[1:]) if not columns[at].flexible), None)
        if least is None:
            break
        kept.remove(least)
        missing.insert(0, columns[least].title)
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows], missing


def drawn(columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Table:
    """For a terminal; cells wider than their column are cut."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column, wide in zip(columns, widths, strict=True):
        made.add_column(column.title, justify="right" if column.right else "left", no_wrap=True, width=wide)
    for row in rows:
        row = [word(cell) for cell in row]
        cells = (
            cell if len(cell) <= wide else cell[: wide - 1] + "…"
            for cell, wide in zip(row, widths, strict=True)
        )
        made.add_row(*(Text(cell, style=STYLES.get(cell.split(" ")[0], "")) for cell in cells))
    return made


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths that fill no more than `room`, if the flexible column can give way so far."""
    widths = [max(len(column.title), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    over = sum(widths) + 2 * (len(widths) - 1) - room
    for at, column in enumerate(columns):
        if column.flexible and over > 0:
            widths[at] = max(NARROWEST, widths[at] - over)
    return widths


def width() -> int:
    return max(shutil.get_terminal_size((WIDEST, 24)).columns, LEAST)


def headline(text: str, state: str) -> None:
    """The verdict: the first thing one reads."""
    if on_terminal():
        from rich.console import Console
        from rich.text import Text

        Console(width=width(), highlight=False).print(Text(clean(text), style=STYLES.get(state, "bold")))
    else:
        sys.stdout.write(clean(text) + "\n")


def ms(value: Any) -> str:
    """A duration of the API, given in milliseconds; "" when it was not reached."""
    return "" if value is None else units.duration(float(value) / 1000)


def seconds(value: Any) -> str:
    return "" if value is None else units.duration(float(value))


def parse_time(text: str) -> datetime | None:
    """A time of the API, in local time."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except ValueError:
        return None


def now() -> datetime:
    return datetime.now(UTC).astimezone()


def offset(moment: datetime) -> str:
    """ "+01:00" """
    return moment.isoformat()[-6:]


def clock(text: str, *, with_offset: bool = True) -> str:
    """ "03:07:41 +01:00" today, "01-05 03:07:41 +01:00" on another day."""
    moment = parse_time(text)
    if moment is None:
        return text
    day = "" if moment.date() == now().date() else f"{moment:%m-%d} "
    return f"{day}{moment:%H:%M:%S}" + (f" {offset(moment)}" if with_offset else "")


def date(text: str) -> str:
    """ "2026-01-05 03:07": of what may lie a year away, such as the end of a token."""
    moment = parse_time(text)
    return text if moment is None else f"{moment:%Y-%m-%d %H:%M}"


SPARKS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], wide: int = 40) -> str:
    """A line of blocks from 0 to the largest; a gap where nothing is known. `wide` characters at most."""
    if len(values) > wide:
        parts = [values[len(values) * at // wide : len(values) * (at + 1) // wide] for at in range(wide)]
        values = [max((value for value in part if value is not None), default=None) for part in parts]
    top = max((value for value in values if value is not None), default=0.0)
    last = len(SPARKS) - 1
    return "".join(
        " " if value is None else SPARKS[min(last, max(0, round(value / top * last)))] if top > 0 else SPARKS[0]
        for value in values
    )


def localized(text: str) -> str:
    """Each UTC time stamp in a text, in local time."""
    return _STAMP.sub(lambda match: clock(match[0]), text)
