"""How `triage requests` prints: newest first, one line each; with -f as they come, oldest first."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.client import Gateway
from proxy.cli.show import Column

LOOK: Final = 1.0  # seconds between two looks under -f; records come from the workers twice a second
PAGE: Final = 200  # most in one look
SEEN: Final = 10_000  # ids remembered under -f, so that none is printed twice
ID: Final = 8  # of an id on a terminal: the part that counts up, and a little more

TIMINGS: Final = ("head", "queue", "connect", "tls", "wait", "body")


def columns(items: list[dict[str, Any]]) -> tuple[Column, ...]:
    """The offset stands in the head of the first column, once."""
    first = show.parse_time(items[0]["time"]) if items else None
    zone = f" {show.offset(first)}" if first else ""
    return (
        Column(f"time{zone}"),
        Column("id"),
        Column("method"),
        Column("target", flexible=True),
        Column("status"),
        Column("fault"),
        Column("instance"),
        Column("total", right=True),
        Column("where"),
    )


def print_requests(items: list[dict[str, Any]]) -> None:
    if not items:
        click.echo("No such request is kept. Kept are faults, 5xx and slow ones; the access log has all.")
        return
    show.table(columns(items), [row(item) for item in items])


def row(item: dict[str, Any]) -> list[str]:
    timings = item.get("timings") or {}
    return [
        show.clock(item["time"], with_offset=False),
        item["id"][:ID] if show.on_terminal() else item["id"],
        item["method"],
        item["target"],
        str(item["status"] or "cut"),
        item.get("fault") or "",
        item.get("instance") or item.get("app") or "",
        show.ms(timings.get("total_ms")),
        where(timings),
    ]


def where(timings: dict[str, Any]) -> str:
    """What took longest, if it is worth a word: "wait 687 ms"."""
    spent = [(timings.get(f"{name}_ms") or 0.0, name) for name in TIMINGS]
    longest, name = max(spent)
    return f"{name} {units.duration(longest / 1000)}" if longest >= 1 else ""


def follow(gateway: Gateway, filters: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Batches of new requests, oldest first, without end."""
    seen: deque[str] = deque(maxlen=SEEN)
    first = True
    while True:
        items = gateway.get("requests", **{**filters, "limit": filters["limit"] if first else PAGE})["items"]
        fresh = [item for item in reversed(items) if item["id"] not in seen]
        seen.extend(item["id"] for item in fresh)
        if fresh:
            yield fresh
        first = False
        time.sleep(LOOK)


def print_line(item: dict[str, Any]) -> None:
    """One request under -f, where no table can know its widths."""
    cells = row(item)
    cells[0] = show.clock(item["time"])
    click.echo(show.clean("  ".join(cell for cell in cells if cell)))
