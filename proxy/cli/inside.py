"""Looking inside: the environment of gateway or instance, stacks, a profile, a memory dump."""

from __future__ import annotations

from typing import Any, Final

import click

from proxy import units
from proxy.cli import diagnose, show
from proxy.cli.acts import on_terminal
from proxy.cli.client import Gateway, segment
from proxy.cli.completing import instance_names
from proxy.cli.facts import print_facts
from proxy.cli.find import Where
from proxy.cli.group import calls, examples, fail, gateway_options, print_json, reach
from proxy.cli.naming import instance_of
from proxy.cli.sessions import save
from proxy.cli.watching import watchable

DUMP: Final = "It holds all that the process has in memory: passwords, tokens, personal data."


@click.command(epilog=examples("triage environment", "triage environment web/web-1"))
@click.argument("instance", metavar="[APP/INSTANCE]", default="", shell_complete=instance_names)
@gateway_options
def environment(instance: str, at: Where, as_json: bool) -> None:
    """Versions, settings, limits of gateway and host, or of an instance.

    What is secret is masked: the value never leaves the gateway.
    """
    gateway = reach(at)
    answer = gateway.get(path_of(gateway, instance, "environment") if instance else "environment")
    print_json(answer) if as_json else print_facts(answer)


@click.command(epilog=examples("triage stacks web/web-1"))
@click.argument("instance", metavar="APP/INSTANCE", shell_complete=instance_names)
@gateway_options
@watchable()
def stacks(instance: str, at: Where, as_json: bool) -> None:
    """What an instance runs at this moment, thread by thread.

    It is not stopped for longer than the look takes. `triage diagnose` takes three, and says what they mean.
    """
    gateway = reach(at)
    answer = gateway.get(path_of(gateway, instance, "stacks"))
    if as_json:
        print_json(answer)
        return
    click.echo(show.clean(f"{answer['id']} at {show.clock(answer['time'])}"))
    click.echo(show.clean(str(answer["stacks"])).rstrip("\n"))
    for note in answer.get("notes") or ():
        click.echo(show.clean(f"note  {note}"))


def path_of(gateway: Gateway, text: str, verb: str) -> str:
    """Of an instance; where an app has one alone, its name will do."""
    app, instance = instance_of(gateway, text, or_only=True)
    return f"apps/{segment(app)}/instances/{segment(instance)}/{verb}"


@click.command(epilog=examples("triage profile web/web-1 --for 10s", "triage profile web/web-1 -o profile.json"))
@click.argument("instance", metavar="APP/INSTANCE", shell_complete=instance_names)
@click.option("--for", "for_", metavar="DURATION", default="10s", show_default=True, help="Look for so long.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(), help="Save what was gathered there; `-` prints it.")
@click.option("--note", "--reason", "note", metavar="TEXT", help="Why, for the events.")
@click.option("--no-wait", "wait", is_flag=True, flag_value=False, default=True, help="Begin it, and end.")
@gateway_options
@calls("POST /api/v1/apps/{app}/instances/{instance}/profile")
def profile(
    instance: str, for_: str, output: str | None, note: str | None, wait: bool, at: Where, as_json: bool
) -> None:
    """Where an instance spends its CPU time.

    A session with this one collector; what is hot is among its findings, the whole in its report.
    """
    try:
        units.parse_duration(for_)
    except ValueError:
        raise click.BadParameter(f'{for_!r}: expected a duration such as "10s"', param_hint="--for") from None
    gateway = reach(at)
    body = {"seconds": for_, **({"reason": note} if note else {})}
    take(gateway, path_of(gateway, instance, "profile"), body, output, wait=wait, as_json=as_json)


@click.command("memory-dump", epilog=examples(
    'triage memory-dump web/web-1 --note "it holds 4 GB"', "triage memory-dump web/web-1 -o web-1.core.gz",
))  # fmt: skip
@click.argument("instance", metavar="APP/INSTANCE", shell_complete=instance_names)
@click.option("-o", "--output", metavar="FILE", type=click.Path(), help="Save it there, for its owner alone.")
@click.option("--note", "--reason", "note", metavar="TEXT", help="Why, for the events.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", "wait", is_flag=True, flag_value=False, default=True, help="Begin it, and end.")
@gateway_options
@calls("POST /api/v1/apps/{app}/instances/{instance}/memory-dump")
def memory_dump(
    instance: str, output: str | None, note: str | None, yes: bool, wait: bool, at: Where, as_json: bool
) -> None:
    """Write down the whole memory of an instance, compressed.

    It stands still meanwhile: a second or so for each gigabyte. The dump holds every secret of the process.
    """
    gateway = reach(at)
    path = path_of(gateway, instance, "memory-dump")
    if on_terminal() and not as_json and not yes:
        click.echo(show.clean(f"memory dump of {instance}: it answers nothing while it is written. {DUMP}"))
        if not click.confirm("Go on?", default=False):
            fail("Nothing was done.")
    take(gateway, path, {"reason": note} if note else {}, output, wait=wait, as_json=as_json)


def take(
    gateway: Gateway, path: str, body: dict[str, Any], output: str | None, *, wait: bool, as_json: bool
) -> None:
    """A session of one collector: begun, followed, and what it gathered saved where that was asked."""
    session = gateway.post(path, body)
    if not wait:
        if as_json:
            print_json(session)
        else:
            click.echo(f"{session['id']} began. What comes of it: triage sessions {session['id']} --follow")
        return
    diagnose.finish(gateway, session, as_json=as_json)
    if output is None:
        return
    ended = gateway.get(f"sessions/{segment(session['id'])}")
    files = [file for file in ended["files"] if gathered(file)]
    if not files:
        fail(f"{session['id']} gathered no file that could be saved: {ended['why'] or 'its steps say why'}")
    largest = max(files, key=lambda file: int(file["size"]))
    size = save(gateway, f"sessions/{segment(session['id'])}/artifacts/{largest['name']}", output, {}, as_json)
    if output != "-" and not as_json:
        click.echo(show.clean(f"{largest['name']}: {output} ({units.size(size)})"))


def gathered(file: dict[str, Any]) -> bool:
    """Whether a collector wrote it, and not what came of it later."""
    return bool(file["name"].count("/")) or file["name"] not in ("report.html", "findings.json", "session.json")


