"""How `triage events` prints: oldest first, like a log; with -f also as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import click
import orjson

from proxy.cli import show
from proxy.cli.client import Gateway, Message, NotThere
from proxy.cli.group import gateway_options, print_json, reach

PATIENCE: Final = 30.0  # seconds without a gateway, under -f: control may be started anew
AGAIN: Final = 0.3


@click.command()
@click.option("--app", metavar="APP", help="Only of this app.")
@click.option("--instance", metavar="INSTANCE", help="Only of this instance.")
@click.option("--kind", metavar="KIND", help="Only of this kind: ready, exited, ejected, recycle, …")
@click.option("--since", metavar="TIME", help='How far back ("5m"), or a time (ISO 8601).')
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("-f", "--follow", is_flag=True, help="Go on: print new ones as they come.")
@gateway_options
def events(url: str, token: str, config: str, as_json: bool, follow: bool, limit: int, **filters: str | None) -> None:
    """Everything that happened, the newest last.

    Starts and ends of instances, ejections, acts, rules, changes of the config.
    """
    gateway = reach(url, token, config)
    newest = gateway.get("events", limit=1)["items"] if follow else []
    answer = gateway.get("events", limit=limit, **filters)
    if not follow:
        if as_json:
            print_json(answer)
            return
        if not answer["items"]:
            click.echo("No such event is kept.")
        for item in reversed(answer["items"]):
            print_event(item)
        return
    filters.pop("since")
    for item in reversed(answer["items"]):
        click.echo(orjson.dumps(item)) if as_json else print_event(item)
    last = max((int(item["id"]) for item in (*newest, *answer["items"])), default=0)
    for message in coming(gateway, str(last), filters):
        if message.kind == "dropped":
            click.echo(f"… {message.data['dropped']} events were not seen: this reads too slowly", err=True)
        elif as_json:
            click.echo(orjson.dumps(message.data))
        else:
            print_event(message.data)


def coming(gateway: Gateway, last: str, filters: dict[str, str | None]) -> Iterator[Message]:
    """Without end, over a control that is started anew. Raises NotThere when none comes back."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            for message in gateway.stream("events", last=last, follow="true", **filters):
                last = message.id or last
                deadline = time.monotonic() + PATIENCE
                if message.data is not None:
                    yield message
        except NotThere:
            if time.monotonic() > deadline:
                raise
            time.sleep(AGAIN)


def print_event(item: dict[str, Any]) -> None:
    who = item["instance"] or item["app"]
    said = item["words"] if who and who in item["words"] else f"{who}: {item['words']}" if who else item["words"]
    click.echo(show.clean(f"{show.clock(item['time'])}  {item['kind']:<16}  {said}"))
