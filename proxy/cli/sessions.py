"""`triage sessions` and `triage report`: what was looked into, what was found, and its files."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.client import Gateway, segment
from proxy.cli.completing import app_names, session_ids
from proxy.cli.diagnose import about, finish, found, print_end
from proxy.cli.find import Where
from proxy.cli.group import calls, examples, fail, gateway_options, print_json, reach
from proxy.cli.show import Column
from proxy.cli.watching import watchable

COLUMNS: Final = (
    Column("id"),
    Column("state"),
    Column("of"),
    Column("began"),
    Column("took", right=True),
    Column("by"),
    Column("certainty"),
    Column("size", right=True),
    Column("what was found", flexible=True),
)


def acting(given: dict[str, Any]) -> str:
    """Why it is no list that could be watched."""
    asked = [name for name in ("follow", "cancel", "analyze", "delete") if given[name]]
    return f"--{asked[0]} is done once" if asked else ""


@click.command(epilog=examples("triage sessions --app web", "triage sessions S-12 --follow"))
@click.argument("id", metavar="[SESSION]", required=False, shell_complete=session_ids)
@click.option("--app", metavar="APP", shell_complete=app_names, help="Only of this app.")
@click.option("--state", metavar="STATE", help="Only in this state; `active`: those under way.")
@click.option("--since", metavar="TIME", help='Under way then or later: "24h", or a time (ISO 8601).')
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("-f", "--follow", is_flag=True, help="With a SESSION: follow it to its end.")
@click.option("--cancel", is_flag=True, help="With a SESSION: gather no more; what there is is analyzed.")
@click.option("--analyze", is_flag=True, help="With a SESSION: analyze what it gathered once more.")
@click.option("--delete", is_flag=True, help="With a SESSION: remove it and all its files.")
@click.option("--note", "--reason", "note", metavar="TEXT", help="With --cancel: why, for the events.")
@gateway_options
@watchable(unless=acting)
@calls("POST /api/v1/sessions/{id}/cancel", "POST /api/v1/sessions/{id}/analyze", "DELETE /api/v1/sessions/{id}")
def sessions(
    id: str | None, app: str | None, state: str | None, since: str | None, limit: int, follow: bool, cancel: bool,
    analyze: bool, delete: bool, note: str | None, at: Where, as_json: bool,
) -> None:  # fmt: skip
    """What was looked into, and what was found, newest first.

    With a SESSION, as S-12 or `latest`: how it went, and what it found.
    """
    gateway = reach(at)
    acts = sum((follow, cancel, analyze, delete))
    if id is None:
        if acts:
            raise click.UsageError("say which SESSION")
        answer = gateway.get("sessions", app=app, state=state, since=since, limit=limit)
        if as_json:
            print_json(answer)
        elif answer["items"]:
            show.table(COLUMNS, [row(one) for one in answer["items"]])
        else:
            click.echo("No such session is kept. `triage diagnose APP` begins one.")
        return
    if note is not None and not cancel:
        raise click.UsageError("--note goes with --cancel")
    if acts > 1:
        raise click.UsageError("one of --follow, --cancel, --analyze and --delete at a time")
    path = f"sessions/{segment(id)}"
    if delete:
        gateway.call("DELETE", path, {})
        print_json({"id": id, "deleted": True}) if as_json else click.echo(f"{id} is removed.")
        return
    if cancel:
        gateway.post(f"{path}/cancel", {"reason": note} if note else {})
    if analyze:
        gateway.post(f"{path}/analyze")
    one = gateway.get(path)
    if follow or cancel or analyze:
        finish(gateway, one, as_json=as_json, wanted="cancelled" if cancel else "done")
        return
    analysis = found(gateway, one)
    print_json({**one, "analysis": analysis}) if as_json else print_end(one, analysis)


def row(one: dict[str, Any]) -> list[str]:
    trigger = one["trigger"]
    by = trigger["incident"] or trigger["by"]
    if trigger["operation"]:
        by = f"{trigger['operation']}, {trigger['by']}"
    return [
        one["id"], one["state"], about(one),
        show.clock(one["began"], with_offset=False), units.duration(one["took_s"]), by, one["certainty"],
        units.size(one["size"]) if one["size"] else "", one["verdict"] or one["why"] or trigger["reason"],
    ]  # fmt: skip


@click.command(
    epilog=examples(
        "triage report latest",
        "triage report S-12 -o report.html",
        "triage report S-12 --bundle bundle.zip",
    )
)
@click.argument("id", metavar="SESSION", default="latest", shell_complete=session_ids)
@click.option("-o", "output", metavar="FILE", type=click.Path(), help="Save the report: one HTML page; `-` prints it.")
@click.option("--bundle", metavar="FILE", type=click.Path(), help="Save all that support would ask for, as a zip.")
@click.option("--memory", is_flag=True, help="With --bundle: memory dumps too, which hold all secrets of a process.")
@gateway_options
def report(
    id: str, output: str | None, bundle: str | None, memory: bool, at: Where, as_json: bool
) -> None:
    """The report of a SESSION, as S-12 or `latest`: where it lies, or saved.

    It is one page that opens in any browser, offline.
    """
    if memory and bundle is None:
        raise click.UsageError("--memory goes with --bundle")
    gateway = reach(at)
    path = f"sessions/{segment(id)}"
    one = gateway.get(path)
    saved = {}
    if output is not None:
        saved["report"] = save(gateway, f"{path}/report", output, {}, as_json)
    if bundle is not None:
        saved["bundle"] = save(gateway, f"{path}/bundle", bundle, {"memory": "true"} if memory else {}, as_json)
    if as_json:
        print_json({**saved, "session": one} if saved else gateway.get(f"{path}/report", form="json"))
    elif not saved:
        print_end(one, found(gateway, one))
    elif output != "-":
        for name, size in saved.items():
            click.echo(f"{name}: {output if name == 'report' else bundle} ({units.size(size)})")


def save(gateway: Gateway, path: str, file: str, query: dict[str, str], as_json: bool) -> int:
    """Bytes that were written; whole, or not at all. "-" is standard output."""
    if file == "-":
        return gateway.download(path, sys.stdout.buffer, **query)
    part = ""
    try:
        number, part = tempfile.mkstemp(prefix=f"{os.path.basename(file)}.", dir=os.path.dirname(file) or ".")
        with open(number, "wb") as opened:  # its owner's alone: a bundle may hold secrets
            size = gateway.download(path, opened, **query)
        os.replace(part, file)
        return size
    except OSError as error:
        fail(f"{file}: {error.strerror or error}", as_json=as_json)
    finally:
        if part and os.path.exists(part):
            os.unlink(part)
