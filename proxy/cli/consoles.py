"""`triage consoles`: the terminals that are open, by whom, and where; one of them ended."""

from __future__ import annotations

from typing import Any, Final

import click

from proxy.cli import show
from proxy.cli.client import segment
from proxy.cli.completing import console_ids
from proxy.cli.find import Where
from proxy.cli.group import calls, examples, gateway_options, print_json, reach
from proxy.cli.show import Column
from proxy.cli.watching import watchable

COLUMNS: Final = (
    Column("id"),
    Column("by"),
    Column("in"),
    Column("began"),
    Column("idle", right=True),
    Column("pid", right=True),
    Column("way", flexible=True),
)


@click.command(epilog=examples("triage consoles", "triage consoles --end c-3"))
@click.option("--end", metavar="ID", shell_complete=console_ids, help="End this one, with all that runs in it.")
@gateway_options
@watchable(unless=lambda given: "--end is done once" if given["end"] else "")
@calls("DELETE /api/v1/consoles/{id}")
def consoles(end: str | None, at: Where, as_json: bool) -> None:
    """Terminals that are open: whose, where, for how long idle.

    `triage exec APP` opens one. --end takes one away from whoever has it.
    """
    gateway = reach(at)
    if end is not None:
        gateway.call("DELETE", f"consoles/{segment(end)}", {})
        print_json({"id": end, "ended": True}) if as_json else click.echo(show.clean(f"{end} has ended."))
        return
    answer = gateway.get("consoles")
    if as_json:
        print_json(answer)
    elif answer["items"]:
        show.table(COLUMNS, [row(one) for one in answer["items"]])
    else:
        click.echo("No terminal is open.")


def row(one: dict[str, Any]) -> list[str]:
    place = f"{one['app']}/{one['instance']}" if one.get("instance") else one.get("app") or "gateway"
    return [
        str(one["id"]), one.get("by") or "", place,
        show.clock(one["began"], with_offset=False) if one.get("began") else "", show.seconds(one.get("idle_s")),
        str(one.get("pid") or ""), one.get("way") or "",
    ]  # fmt: skip
