"""`triage exec`: a command on the gateway's machine, its output as it comes; or a terminal there."""

from __future__ import annotations

import sys
from typing import Any, Final, NoReturn

import click
import orjson

from proxy import units
from proxy.cli import show
from proxy.cli.client import Gateway, NotThere
from proxy.cli.completing import app_or_instance_names, remote_paths
from proxy.cli.find import Where
from proxy.cli.group import calls, examples, gateway_options, reach
from proxy.cli.naming import app_or_instance

NOT_KNOWN: Final = 125
"""Exit code where how it ended is not known; `docker exec` and `env` have the same for their own failures."""


class Exec(click.Command):
    """All that stands after -- is the command, options of its own included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, ctx.meta["triage.command"] = args[:at], args[at + 1 :]
            if not ctx.meta["triage.command"]:
                raise click.UsageError("after -- comes a command", ctx)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra" in error.message:
                said = f"{error.message}. Before a command stands --: triage exec APP -- COMMAND"
                raise click.UsageError(said, ctx) from None
            raise

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] [APP | APP/INSTANCE] [-- COMMAND …]")


@click.command("exec", cls=Exec, epilog=examples(
    "triage exec web/web-1", "triage exec web -- ls -l", "triage exec web/web-1 --timeout 5m -- python manage.py check",
    "triage exec -- df -h",
))  # fmt: skip
@click.argument("what", metavar="[APP | APP/INSTANCE]", default="", shell_complete=app_or_instance_names)
@click.option("--timeout", metavar="DURATION", help="With a command: it is ended then. Default 60s, 1h at most.")
@click.option(
    "--dir", "folder", metavar="ROOT[/PATH]", shell_complete=remote_paths,
    help="Begin in this folder instead; `triage files ls` lists the roots.",
)  # fmt: skip
@click.option("--note", "--reason", "note", metavar="TEXT", help="With a command: why, for the events.")
@gateway_options
@calls("POST /api/v1/command", "GET /api/v1/console")
def exec_(
    what: str, timeout: str | None, folder: str | None, note: str | None, at: Where, as_json: bool
) -> None:
    """Run a COMMAND on the gateway's machine, or without one open a terminal there.

    It has the environment, folder and user of APP's instances, or without APP the gateway's. No shell reads COMMAND,
    and it has no standard input: for pipes and patterns, -- sh -c '…'. Needs an admin's token and admin.console = true.

    Ends with the exit code of what ran (128 + N: ended by signal N); 125 where that is not known. What Triage itself
    refuses is 1, 2 or 3, as everywhere, and is told on standard error.

    In a terminal every key goes through, Ctrl-C too; Enter ~ . leaves at once.
    """
    words = click.get_current_context().meta.get("triage.command")
    if timeout is not None:
        try:
            units.parse_duration(timeout)
        except ValueError:
            raise click.BadParameter(f'{timeout!r}: expected a duration such as "5m"', param_hint="--timeout") from None
    if words is None and (as_json or timeout or note):
        raise click.UsageError("--json, --timeout and --note go with a command: triage exec APP -- COMMAND")
    if words is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("a terminal needs a terminal; for a command: triage exec APP -- COMMAND")
    gateway = reach(at)
    app, instance = app_or_instance(gateway, what) if what else ("", "")
    root, _, below = (folder or "").strip("/").partition("/")
    where = {"app": app, "instance": instance, "root": root, "dir": below}
    place = {name: value for name, value in where.items() if value}
    if words is None:
        terminal(gateway, place)
    asked = {"command": words, **place, "timeout": timeout, "reason": note}
    command(gateway, {name: value for name, value in asked.items() if value is not None}, as_json=as_json)


def command(gateway: Gateway, asked: dict[str, Any], *, as_json: bool) -> NoReturn:
    """Run it, its output to the descriptors that it wrote it to; ends with its exit code."""
    begun = False
    try:
        for message in gateway.stream("command", body=asked):
            begun = True
            if as_json:
                sys.stdout.buffer.write(orjson.dumps({message.kind: message.data}, option=orjson.OPT_APPEND_NEWLINE))
                sys.stdout.buffer.flush()
            elif message.kind in ("out", "err"):
                stream = sys.stdout.buffer if message.kind == "out" else sys.stderr.buffer
                stream.write(str(message.data).encode("utf-8", "replace"))
                stream.flush()
            elif message.kind == "dropped":
                click.echo(show.clean(f"… {dropped(message.data)}"), err=True)
            if message.kind == "exit":
                ended(message.data, as_json=as_json)
    except NotThere as error:
        if not begun:
            raise
        click.echo(show.clean(f"triage: how it ended is not known: {error}"), err=True)
    sys.exit(NOT_KNOWN)


def dropped(data: Any) -> str:
    if not isinstance(data, dict):
        return "some output was left out"
    size = data.get("bytes", data.get("dropped"))
    return str(data.get("words") or f"{units.size(size) if isinstance(size, int) else 'some'} of its output left out")


def ended(data: dict[str, Any], *, as_json: bool) -> NoReturn:
    """With its code; of anything but an ordinary end it is said how it ended."""
    words = str(data.get("words") or "")
    if not as_json and words and (data.get("code") is None or data.get("late") or data.get("left")):
        click.echo(show.clean(f"triage: {words}"), err=True)
    sys.exit(exit_code(data.get("code"), data.get("signal")))


def exit_code(code: Any, signal: Any) -> int:
    """As a shell has it: 128 + N for signal N."""
    if isinstance(code, int):
        return code & 0xFF
    return 128 + signal if isinstance(signal, int) else NOT_KNOWN


def terminal(gateway: Gateway, place: dict[str, str]) -> NoReturn:
    """This terminal becomes one there, until either side ends it."""
    from proxy.cli import terminal as here

    def told(begun: Any) -> None:
        about = begun if isinstance(begun, dict) else {}
        user = f" as {about['user']}" if about.get("user") else ""
        said = f"{about.get('id', '')}: terminal in {about.get('where', 'the gateway')}{user}; Enter ~ . leaves"
        sys.stderr.write(show.word(said) + "\r\n")
        sys.stderr.flush()

    outcome = here.talk(gateway, place, told)
    if outcome.left:
        click.echo("\nleft; what ran there is ended", err=True)
    elif outcome.code is None:
        click.echo(show.clean(f"triage: {outcome.words}"), err=True)
    sys.exit(exit_code(outcome.code, outcome.signal))
