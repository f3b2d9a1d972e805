"""What is followed as it happens: a list's newest, then a stream that goes on over a control that is started anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from proxy.cli import show
from proxy.cli.client import Gateway, Message, NotThere

PATIENCE: Final = 30.0
"""Seconds without a gateway: control may be started anew."""
AGAIN: Final = 0.3
"""Seconds between two tries."""


def followed(given: dict[str, Any]) -> str:
    """Why a verb that has -f need not be watched too."""
    return "-f goes on by itself" if given["follow"] else ""


def backlog(gateway: Gateway, path: str, limit: int, filters: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """What there is, oldest first, and the id after which what comes is new."""
    newest = gateway.get(path, limit=1)["items"]
    found = gateway.get(path, limit=limit, **filters)["items"]
    last = max((int(item["id"]) for item in (*newest, *found)), default=0)
    return list(reversed(found)), str(last)


def coming(
    gateway: Gateway,
    path: str,
    last: str,
    filters: dict[str, Any],
    lost: Callable[[str], None] = lambda why: None,
) -> Iterator[Message]:
    """What comes after the one with the id `last`, without end; of `dropped` it is said on standard error.

    `lost` is called each time that nobody answers. Raises NotThere when that lasts, ApiError when it is refused."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            for message in gateway.stream(path, last=last, follow="true", **filters):
                last = message.id or last
                deadline = time.monotonic() + PATIENCE
                if message.kind == "dropped" and message.data is not None:
                    click.echo(show.clean(f"… {dropped(message.data)}"), err=True)
                elif message.data is not None:
                    yield message
        except NotThere as error:
            if time.monotonic() > deadline:
                raise
            lost(str(error))
            time.sleep(AGAIN)


def dropped(data: dict[str, Any]) -> str:
    """What was not seen, in words."""
    said = data.get("words") or f"{data.get('dropped', 'some')} were not seen: this reads too slowly"
    where = data.get("instance")
    return f"{where}: {said}" if where and where not in said else str(said)
