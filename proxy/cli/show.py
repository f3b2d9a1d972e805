"""Tables, times and figures for people.

On a terminal a table fits its width (the flexible column is cut) and states have colours; anywhere else it
is plain text and nothing is cut, so that it can be searched. Text from outside (targets, log lines) is
cleaned of control characters: a request must not be able to write to an operator's terminal.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from proxy import units

WIDEST: Final = 96
CAP: Final = 40  # a flexible column is padded so far; longer text stands out
NARROWEST: Final = 12  # that a flexible column may become
STYLES: Final = {
    "up": "green", "ready": "green", "degraded": "yellow", "down": "bold red", "failed": "bold red",
    "backoff": "red", "stopped": "dim", "held": "yellow", "failing": "yellow", "ejected": "yellow",
    "starting": "cyan", "warming": "cyan", "draining": "cyan", "stopping": "cyan",
}  # fmt: skip

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STAMP: Final = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


@dataclass(frozen=True, slots=True)
class Column:
    """`right` for figures; the `flexible` one gives way."""

    title: str
    right: bool = False
    flexible: bool = False


def on_terminal() -> bool:
    return sys.stdout.isatty()


def clean(text: str) -> str:
    """Without control characters; newlines and tabs stay."""
    return _CONTROL.sub("?", text)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; a column that is empty in all rows is left out."""
    kept = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    columns = [columns[at] for at in kept]
    rows = [[clean(row[at]) for at in kept] for row in rows]
    if on_terminal():
        _rich(columns, rows)
    else:
        sys.stdout.write("\n".join(plain(columns, rows)) + "\n")


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
    from rich.table import Table
    from rich.text import Text

    widths = fitted(columns, rows, width())
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column, wide in zip(columns, widths, strict=True):
        made.add_column(column.title, justify="right" if column.right else "left", no_wrap=True, width=wide)
    for row in rows:
        cells = (
            cell if len(cell) <= wide else cell[: wide - 1] + "…"
            for cell, wide in zip(row, widths, strict=True)
        )
        made.add_row(*(Text(cell, style=STYLES.get(cell.split(" ")[0], "")) for cell in cells))
    Console(width=sum(widths) + 2 * len(widths)).print(made)


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths that fill no more than `room`, if the flexible column can give way so far."""
    widths = [max(len(column.title), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    over = sum(widths) + 2 * (len(widths) - 1) - room
    for at, column in enumerate(columns):
        if column.flexible and over > 0:
            widths[at] = max(NARROWEST, widths[at] - over)
    return widths


def width() -> int:
    return max(shutil.get_terminal_size((WIDEST, 24)).columns, 60)


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


def localized(text: str) -> str:
    """Each UTC time stamp in a text, in local time."""
    return _STAMP.sub(lambda match: clock(match[0]), text)
