"""`triage processes` and `triage kill`: what runs, as a tree; and one of them ended."""

from __future__ import annotations

from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.acts import act_options, perform
from proxy.cli.completing import instance_names
from proxy.cli.facts import print_facts
from proxy.cli.find import Where
from proxy.cli.group import calls, examples, gateway_options, print_json, reach
from proxy.cli.inside import path_of
from proxy.cli.naming import instance_path
from proxy.cli.show import Column
from proxy.cli.watching import watchable

COLUMNS: Final = (
    Column("process"),
    Column("pid", right=True),
    Column("state"),
    Column("CPU", right=True),
    Column("CPU time", right=True),
    Column("memory", right=True),
    Column("private", right=True),
    Column("threads", right=True),
    Column("files", right=True),
    Column("sockets", right=True),
    Column("user"),
    Column("since"),
    Column("command", flexible=True),
)
THREADS: Final = (
    Column("thread", right=True),
    Column("name"),
    Column("state"),
    Column("CPU", right=True),
    Column("CPU time", right=True),
    Column("in call"),
    Column("waits on", flexible=True),
)
FILES: Final = (
    Column("fd", right=True),
    Column("kind"),
    Column("mode"),
    Column("size", right=True),
    Column("at", right=True),
    Column("what", flexible=True),
)
CONNECTIONS: Final = (
    Column("pid", right=True),
    Column("fd", right=True),
    Column("kind"),
    Column("state"),
    Column("side"),
    Column("local"),
    Column("remote"),
    Column("usually"),
    Column("to read", right=True),
    Column("to send", right=True),
    Column("peer", flexible=True),
)
SIGNALS: Final = ("TERM", "KILL", "INT", "QUIT", "ABRT", "HUP", "USR1", "USR2")
MAIN: Final = "main"
"""What stands for the instance's own process."""


@click.command(epilog=examples(
    "triage processes web/web-1 --watch", "triage processes web/web-1 --threads",
    "triage processes web/web-1 --files 812", "triage processes",
))  # fmt: skip
@click.argument("instance", metavar="[APP/INSTANCE]", default="", shell_complete=instance_names)
@click.option("--threads", metavar="[PID]", is_flag=False, flag_value=MAIN, help="Its threads, of one process.")
@click.option("--files", metavar="[PID]", is_flag=False, flag_value=MAIN, help="Files that it has open.")
@click.option("--connections", metavar="[PID]", is_flag=False, flag_value=MAIN, help="Its sockets, and to where.")
@click.option("--pid", metavar="PID", type=click.IntRange(1), help="All about this one process.")
@gateway_options
@watchable()
def processes(
    instance: str, threads: str | None, files: str | None, connections: str | None, pid: int | None, at: Where,
    as_json: bool,
) -> None:  # fmt: skip
    """The processes of an instance, or of Triage itself, as a tree.

    Of one of them its threads, open files or connections; without a PID, of the instance's own process, and connections
    of all.
    """
    asked = {"threads": threads, "files": files, "connections": connections}
    chosen = {name: value for name, value in asked.items() if value is not None}
    if len(chosen) + (pid is not None) > 1:
        raise click.UsageError("one of --threads, --files, --connections and --pid at a time")
    if (chosen or pid) and not instance:
        raise click.UsageError("say of which APP/INSTANCE")
    gateway = reach(at)
    if pid is not None:
        answer = gateway.get(path_of(gateway, instance, f"processes/{pid}"))
        print_json(answer) if as_json else print_facts(answer)
        return
    for name, value in chosen.items():
        answer = gateway.get(path_of(gateway, instance, name), pid=None if value == MAIN else number(value, name))
        print_json(answer) if as_json else print_list(name, answer)
        return
    answer = gateway.get(path_of(gateway, instance, "processes") if instance else "processes")
    print_json(answer) if as_json else print_tree(answer)


def number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise click.BadParameter(f"{text!r} is no process id; say APP/INSTANCE before it", param_hint=f"--{name}")
    return int(text)


def print_tree(answer: dict[str, Any]) -> None:
    """Parents before their children; then what could not be seen."""
    if not answer["items"]:
        click.echo("No process runs.")
    else:
        show.table(COLUMNS, [row(one) for one in answer["items"]])
    if answer.get("group_memory"):
        click.echo(f"together {units.size(answer['group_memory'])}: the working set of its cgroup")
    print_rest(answer)


def print_rest(answer: dict[str, Any]) -> None:
    """What is not shown, and why."""
    more = (answer.get("total") or 0) - len(answer["items"])
    if more > 0:
        click.echo(f"… {more} more; --json has `next`", err=True)
    for note in answer.get("notes") or ():
        click.echo(show.clean(f"note  {note}"))


def row(one: dict[str, Any]) -> list[str]:
    known = one.get("of") or (one["role"] if one.get("role") not in ("child", "process") else "")
    said = f"{one['name']} ({known})" if known else one["name"]
    return [
        "  " * one["depth"] + said, str(one["pid"]), one.get("state") or "",
        f"{one['cpu']:.0f}%" if one.get("cpu") is not None else "", show.seconds(one.get("cpu_s")),
        sized(one.get("memory")), sized(one.get("private")), counted(one.get("threads")), counted(one.get("files")),
        counted(one.get("sockets")), str(one.get("user") or ""),
        show.clock(one["began"], with_offset=False) if one.get("began") else "", one.get("command") or "",
    ]  # fmt: skip


def sized(value: int | None) -> str:
    return units.size(value) if value else ""


def counted(value: int | None) -> str:
    return "" if value is None else str(value)


def print_list(name: str, answer: dict[str, Any]) -> None:
    """Threads, files or connections."""
    columns, told = {
        "threads": (THREADS, thread), "files": (FILES, file), "connections": (CONNECTIONS, connection)
    }[name]  # fmt: skip
    if answer["items"]:
        show.table(columns, [told(one) for one in answer["items"]])
    else:
        click.echo(f"It has no {name}.")
    for count in (answer.get("by_kind") or answer.get("by_state") or {}).items():
        click.echo(show.clean(f"{count[1]:>6} {count[0]}"))
    print_rest(answer)


def thread(one: dict[str, Any]) -> list[str]:
    return [
        str(one["tid"]), one["name"] + (" (main)" if one.get("main") else ""), one.get("state") or "",
        f"{one['cpu']:.0f}%" if one.get("cpu") is not None else "", show.seconds(one.get("cpu_s")),
        one.get("call") or one.get("wait_channel") or "", ", ".join(one.get("waits_on") or ()),
    ]  # fmt: skip


def file(one: dict[str, Any]) -> list[str]:
    return [
        str(one["fd"]), one["kind"], one.get("mode") or "", sized(one.get("size")),
        sized(one.get("position")), (one.get("target") or "") + (" (deleted)" if one.get("deleted") else ""),
    ]  # fmt: skip


def connection(one: dict[str, Any]) -> list[str]:
    peer = one.get("peer") or {}
    return [
        str(one.get("pid") or ""), str(one.get("fd") or ""), one["kind"], (one.get("state") or "").lower(),
        one.get("side") or "", one.get("local") or "", one.get("remote") or "", one.get("name") or "",
        sized(one.get("receive")), sized(one.get("send")),
        (peer.get("of") or f"{peer.get('name', '')} {peer.get('pid', '')}").strip(),
    ]  # fmt: skip


@click.command(epilog=examples(
    "triage kill web/web-1 812 --preview", 'triage kill web/web-1 812 --signal KILL --note "it hangs in a child"',
))  # fmt: skip
@click.argument("instance", metavar="APP/INSTANCE", shell_complete=instance_names)
@click.argument("pid", type=click.IntRange(1))
@click.option(
    "--signal", "signal_", type=click.Choice(SIGNALS, case_sensitive=False), default="TERM", show_default=True,
    help="What it is sent.",
)  # fmt: skip
@act_options
@calls("POST /api/v1/apps/{app}/instances/{instance}/processes/{pid}/kill")
def kill(instance: str, pid: int, signal_: str, **given: Any) -> None:
    """Send a signal to one process of an instance, a stuck child say.

    For the instance as a whole `triage recycle` is better: a fresh one is ready before it ends.
    """
    gateway = reach(given["at"])
    path = instance_path(gateway, instance, f"processes/{pid}")
    meant = gateway.get(path)["start"]  # another that gets the number while one thinks about it is left alone
    perform(gateway, f"{path}/kill", {"signal": signal_.upper(), "start": meant}, given)
