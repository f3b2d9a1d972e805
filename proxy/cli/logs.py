"""`triage logs`: what instances print, as `web-1 | line`; with -f also as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click
import orjson

from proxy.cli import following, show
from proxy.cli.client import Gateway
from proxy.cli.completing import app_or_instance_names
from proxy.cli.find import Where
from proxy.cli.group import examples, gateway_options, print_json, reach
from proxy.cli.observe import maybe_app
from proxy.cli.watching import watchable


@click.command(epilog=examples("triage logs web -f", "triage logs web/web-1 --grep Traceback --since 1h"))
@click.argument("what", metavar="[APP | [APP/]INSTANCE]", default="", shell_complete=app_or_instance_names)
@click.option("-f", "--follow", is_flag=True, help="Go on: print new lines as they come.")
@click.option("--grep", metavar="TEXT", help="Only lines with this in them.")
@click.option("--since", metavar="TIME", help='How far back ("5m"), or a time (ISO 8601).')
@click.option("--stream", metavar="STREAM", help="out, err, triage, or file:PATH of a log file.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@click.option("--time", "with_time", is_flag=True, help="Print the time of each line.")
@gateway_options
@watchable(unless=following.followed)
def logs(
    what: str,
    follow: bool,
    limit: int,
    with_time: bool,
    at: Where,
    as_json: bool,
    **filters: str | None,
) -> None:
    """What instances print and write to their log files, the newest last.

    A traceback stands together, whoever else printed meanwhile.
    """
    gateway = reach(at)
    asked = {**filters, **whose(gateway, what)}
    if not follow:
        answer = gateway.get("logs", limit=limit, **asked)
        if as_json:
            print_json(answer)
            return
        if not answer["items"]:
            click.echo("No such line is kept.")
        print_lines(together(list(reversed(answer["items"]))), with_time=with_time)
        return
    found, last = following.backlog(gateway, "logs", limit, asked)
    asked.pop("since")
    if as_json:
        for item in found:
            click.echo(orjson.dumps(item))
        for message in following.coming(gateway, "logs", last, asked):
            click.echo(orjson.dumps(message.data))
        return
    width = print_lines(together(found), with_time=with_time)
    for message in following.coming(gateway, "logs", last, asked):
        width = print_lines([message.data], with_time=with_time, width=width)


def whose(gateway: Gateway, what: str) -> dict[str, str | None]:
    """Which lines: of an app, of one of its instances, of an instance alone, of all."""
    app, slash, instance = what.partition("/")
    if slash and app and ":" not in app:
        return {"app": app, "instance": instance}
    if not what:
        return {}
    return {"app": what} if maybe_app(gateway, what) is not None else {"instance": what}


def together(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """In order, but what follows of a traceback comes right after its beginning."""
    done: set[int] = set()
    for at, item in enumerate(items):
        if at in done:
            continue
        yield item
        if not item.get("exception"):
            continue
        for later in range(at + 1, len(items)):
            other = items[later]
            if (other["instance"], other["stream"]) != (item["instance"], item["stream"]) or later in done:
                continue
            if other.get("exception") != item["exception"]:
                break
            done.add(later)
            yield other


def print_lines(items: Iterable[dict[str, Any]], *, with_time: bool, width: int = 0) -> int:
    """How wide the names were so far; those that come later stand under them."""
    found = list(items)
    width = max([width, *(len(who(item)) for item in found)])
    for item in found:
        prefix = f"{show.clock(item['time'])}  " if with_time else ""
        prefix += f"{who(item):<{width}} | "
        bad = bool(item.get("exception"))
        for line in str(item["line"]).split("\n"):
            said = show.clean(line)
            click.echo(show.clean(prefix) + (show.colour(said, "red") if bad else said))
    return width


def who(item: dict[str, Any]) -> str:
    """web-1, or of a file of its own: web-1 log/app.log."""
    stream = str(item["stream"])
    name = item["instance"] or item["app"]
    return f"{name} {stream.removeprefix('file:')}" if stream.startswith("file:") else str(name)
