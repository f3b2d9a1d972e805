"""`triage exceptions`: tracebacks and panics that apps printed, and exceptions that agents saw raised, grouped; one of
them with a sample."""

from __future__ import annotations

from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.client import segment
from proxy.cli.completing import app_names, exception_ids
from proxy.cli.find import Where
from proxy.cli.group import examples, gateway_options, print_json, reach
from proxy.cli.show import Column
from proxy.cli.watching import watchable

COLUMNS: Final = (
    Column("id"),
    Column("app"),
    Column("seen"),
    Column("count", right=True),
    Column("last hour", right=True),
    Column("last"),
    Column("type"),
    Column("where"),
    Column("message", flexible=True),
)


@click.command(epilog=examples("triage exceptions --app web --since 24h"))
@click.argument("id", metavar="[EXCEPTION]", required=False, shell_complete=exception_ids)
@click.option("--app", metavar="APP", shell_complete=app_names, help="Only of this app.")
@click.option("--since", metavar="TIME", help='Seen then or later: "24h", or a time (ISO 8601).')
@click.option("--limit", type=click.IntRange(1, 1000), default=30, show_default=True, help="At most so many.")
@gateway_options
@watchable()
def exceptions(
    id: str | None, app: str | None, since: str | None, limit: int, at: Where, as_json: bool
) -> None:
    """Tracebacks and panics that apps printed, and exceptions that agents saw raised, the newest first.

    The same one is one line, however often it came. With an EXCEPTION: its text, where and since when.
    """
    gateway = reach(at)
    if id is not None:
        one = gateway.get(f"exceptions/{segment(id)}", app=app)
        print_json(one) if as_json else print_exception(one)
        return
    answer = gateway.get("exceptions", app=app, since=since, limit=limit)
    if as_json:
        print_json(answer)
    elif answer["items"]:
        show.table(COLUMNS, [row(one) for one in answer["items"]])
    else:
        click.echo("No such exception is known.")


def row(one: dict[str, Any]) -> list[str]:
    return [
        one["id"], one["app"], seen(one), units.count(one["count"]),
        units.count(one["in_last_hour"]) if one.get("in_last_hour") else "",
        show.clock(one["last"], with_offset=False), one["type"], one["where"] or "", one["message"],
    ]  # fmt: skip


def seen(one: dict[str, Any]) -> str:
    """In the log, or by the agent as it was raised; and whether the app's own code caught it."""
    if not one.get("raised"):
        return "printed"
    count, caught = one["count"], one.get("caught") or 0
    if one.get("uncaught"):
        return "raised, not caught"
    if caught >= count:
        return "raised, caught"
    return "raised, left the app's code" if not caught else "raised, caught at times"


def told(one: dict[str, Any]) -> str:
    """The same with its counts; "" for one that was printed."""
    if not one.get("raised"):
        return ""
    return (
        f"{seen(one)}: {units.count(one.get('caught') or 0)} by the app's own code, "
        f"{units.count(one.get('uncaught') or 0)} by nobody"
    )


def print_exception(one: dict[str, Any]) -> None:
    show.headline(f"{one['type']}: {one['message']}" if one["message"] else one["type"], "")
    facts = {
        "app": f"{one['app']} ({one['runtime']})",
        "where": one["where"] or "",
        "seen as": told(one),
        "count": f"{units.count(one['count'])}, {units.count(one.get('in_last_hour') or 0)} in the last hour",
        "seen": f"{show.clock(one['first'])} to {show.clock(one['last'])}",
        "instances": ", ".join(map(str, one.get("instances") or ())),
        "versions": ", ".join(map(str, one.get("versions") or ())),
    }
    for name, text in facts.items():
        if text:
            click.echo(show.clean(f"{name:<10} {text}"))
    click.echo()
    for line in one.get("sample") or ():
        click.echo(show.clean(f"  {line}"))
