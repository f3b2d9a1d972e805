"""Tables for a terminal and for Markdown, and the place in a document they are written to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

Row = Sequence[str]


def plain(head: Row, rows: Sequence[Row]) -> str:
    """Columns aligned by spaces: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Row) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """The same as a Markdown table."""
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def put(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end of NAME -->`; ValueError without them."""
    document = path.read_text()
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = document.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} has no place for {name}: it needs the lines {start} and {end}")
    new = path.with_suffix(".new")
    new.write_text(f"{before}{start}\n{text.strip()}\n{end}{after}")
    new.rename(path)
