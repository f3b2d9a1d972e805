"""`triage incidents`: spans in which something was not well; one of them with its timeline."""

from __future__ import annotations

from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.client import segment
from proxy.cli.completing import app_names, incident_ids
from proxy.cli.find import Where
from proxy.cli.group import examples, gateway_options, print_json, reach
from proxy.cli.show import Column
from proxy.cli.watching import watchable

COLUMNS: Final = (
    Column("id"),
    Column("state"),
    Column("severity"),
    Column("who"),
    Column("began"),
    Column("lasted", right=True),
    Column("hit", right=True),
    Column("told"),
    Column("cause", flexible=True),
)


@click.command(epilog=examples("triage incidents --since 24h", "triage incidents latest"))
@click.argument("id", metavar="[INCIDENT]", required=False, shell_complete=incident_ids)
@click.option("--app", metavar="APP", shell_complete=app_names, help="Only of this app.")
@click.option("--open", "only_open", is_flag=True, help="Only those that go on.")
@click.option("--since", metavar="TIME", help='That went on then or later: "24h", or a time (ISO 8601).')
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@gateway_options
@watchable()
def incidents(
    id: str | None,
    app: str | None,
    only_open: bool,
    since: str | None,
    limit: int,
    at: Where,
    as_json: bool,
) -> None:
    """When an app, the gateway or the host was not well, newest first.

    With an INCIDENT, as INC-31 or `latest`: its timeline, and who was told. triage why INC-31 says why.
    """
    gateway = reach(at)
    if id is not None:
        one = gateway.get(f"incidents/{segment(id)}")
        print_json(one) if as_json else print_incident(one)
        return
    asked = {"app": app, "open": "true" if only_open else None, "since": since, "limit": limit}
    answer = gateway.get("incidents", **asked)
    if as_json:
        print_json(answer)
    elif answer["items"]:
        show.table(COLUMNS, [row(one) for one in answer["items"]])
    else:
        click.echo("No incident is open." if only_open else "No such incident is kept.")


def row(one: dict[str, Any]) -> list[str]:
    return [
        one["id"], one["state"] + (", muted" if one.get("muted") else ""), one["severity"], who(one),
        show.clock(one["began"], with_offset=False), show.seconds(one["lasted_s"]), hit(one),
        ", ".join(one["told"]), one["cause"],
    ]  # fmt: skip


def who(one: dict[str, Any]) -> str:
    return str(one["app"] or f"({one['scope']})")


def hit(one: dict[str, Any]) -> str:
    return units.percent(one["share"]) if one["requests"] else ""


def print_incident(one: dict[str, Any]) -> None:
    ended = f" to {show.clock(one['ended'])}" if one.get("ended") else ", goes on"
    show.headline(f"{one['id']}: {who(one)} {one['severity']}: {one['cause']}", one["severity"])
    span = f"{show.clock(one['began'])}{ended} ({show.seconds(one['lasted_s'])})"
    faults = ", ".join(f"{units.count(number)} {name}" for name, number in one["faults"].items())
    share = f"{units.count(one['hit'])} of {units.several(one['requests'], 'request')} ({units.percent(one['share'])})"
    facts = {
        "span": span,
        "certainty": one["certainty"],
        "hit": share + (f": {faults}" if faults else "") if one["requests"] else "no request",
        "instances": ", ".join(one["instances"]),
        "signals": "; ".join(f"{name}: {says}" if says else name for name, says in one["signals"].items()),
        "rules": ", ".join(one["rules"]),
        "told": ", ".join(one["told"]) or "nobody",
        "frozen": f"the 15 min before it: number {one['frozen']}" if one.get("frozen") else "",
        "muted": "nobody is told of it now" if one.get("muted") else "",
    }
    for name, text in facts.items():
        if text:
            click.echo(show.clean(f"{name:<10} {text}"))
    click.echo("timeline")
    for step in one["steps"]:
        click.echo(show.clean(f"  {show.clock(step['time'])}  {step['kind']:<9} {step['text']}"))
    if messages := one.get("messages"):
        click.echo("messages")
        for each in messages:
            error = f": {each['error']}" if each.get("error") else ""
            click.echo(show.clean(f"  {show.clock(each['time'])}  {each['notifier']} {each['state']}{error}"))
    click.echo(f"why        triage why {one['id']}")
