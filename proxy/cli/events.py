"""How `triage events` prints: oldest first, like a log; with -f also as they come."""

from __future__ import annotations

from itertools import chain
from typing import Any

import click
import orjson

from proxy.cli import following, show
from proxy.cli.completing import app_names
from proxy.cli.find import Where
from proxy.cli.group import examples, gateway_options, print_json, reach
from proxy.cli.watching import watchable


@click.command(epilog=examples("triage events --since 1h", "triage events --kind audit", "triage events --app web -f"))
@click.option("--app", metavar="APP", shell_complete=app_names, help="Only of this app.")
@click.option("--instance", metavar="INSTANCE", help="Only of this instance.")
@click.option("--kind", metavar="KIND", help="Only of this kind: ready, exited, ejected, recycle, …")
@click.option("--since", metavar="TIME", help='How far back ("5m"), or a time (ISO 8601).')
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("-f", "--follow", is_flag=True, help="Go on: print new ones as they come.")
@gateway_options
@watchable(unless=following.followed)
def events(at: Where, as_json: bool, follow: bool, limit: int, **filters: str | None) -> None:
    """Everything that happened, the newest last.

    Starts and ends of instances, ejections, acts, rules, changes of the config.
    """
    gateway = reach(at)
    if not follow:
        answer = gateway.get("events", limit=limit, **filters)
        if as_json:
            print_json(answer)
            return
        if not answer["items"]:
            click.echo("No such event is kept.")
        for item in reversed(answer["items"]):
            print_event(item)
        return
    found, last = following.backlog(gateway, "events", limit, filters)
    filters.pop("since")
    for item in chain(found, (message.data for message in following.coming(gateway, "events", last, filters))):
        click.echo(orjson.dumps(item)) if as_json else print_event(item)


def print_event(item: dict[str, Any]) -> None:
    who = item["instance"] or item["app"]
    said = item["words"] if who and who in item["words"] else f"{who}: {item['words']}" if who else item["words"]
    click.echo(show.clean(f"{show.clock(item['time'])}  {item['kind']:<16}  {said}"))
