"""The verbs that act on an app or an instance. Each says first what will happen, then does it and prints each step.

On a terminal a person is asked when capacity or requests are at stake; anywhere else, and with --yes, nobody is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec

import click

from proxy import units
from proxy.cli import show
from proxy.cli.client import Gateway, segment
from proxy.cli.completing import app_names, instance_names
from proxy.cli.group import calls, examples, fail, gateway_options, print_json, reach
from proxy.cli.naming import instance_path
from proxy.cli.operations import finish

P = ParamSpec("P")

def act_options(function: Callable[P, Any]) -> Callable[P, Any]:
    """What every act takes, and where the gateway is."""
    decorated = gateway_options(function)
    for decorate in (
        click.option("--preview", "foresee", is_flag=True, help="Only say what would happen."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--no-wait", "wait", is_flag=True, flag_value=False, default=True, help="Begin it, and end."),
        click.option("--note", "--reason", "note", metavar="TEXT", help="Why, for the events."),
    ):
        decorated = decorate(decorated)
    return decorated


def collecting(function: Callable[P, Any]) -> Callable[P, Any]:
    return click.option(
        "--no-collect", "collect", is_flag=True, flag_value=False, default=True,
        help="Take no evidence before an instance ends.",
    )(function)  # fmt: skip


def for_option(ended_by: str) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    return click.option("--for", "for_", metavar="DURATION", help=f'So long: "10m"; without it until `{ended_by}`.')


def lasting(text: str | None) -> dict[str, Any]:
    """The field `for` of an act."""
    if text is None:
        return {}
    try:
        units.parse_duration(text)
    except ValueError:
        raise click.BadParameter(f'{text!r}: expected a duration such as "10m"', param_hint="--for") from None
    return {"for": text}


def act(path: str, fields: dict[str, Any], given: dict[str, Any]) -> None:
    """POST it below `apps/`, and follow it; `given` are the options of the verb."""
    perform(reach(given["at"]), path, fields, given)


def perform(gateway: Gateway, path: str, fields: dict[str, Any], given: dict[str, Any]) -> None:
    as_json = given["as_json"]
    asked = on_terminal() and not as_json and not given["yes"]
    if given["foresee"] or asked:
        foreseen = gateway.post(path, {**fields, "preview": True})
        if given["foresee"]:
            print_json(foreseen) if as_json else print_foreseen(foreseen)
            return
        print_foreseen(foreseen)
        if foreseen["at_stake"] and not click.confirm("Go on?", default=False):
            fail("Nothing was done.")
    body = {**fields, "reason": given["note"]} if given["note"] else fields
    operation = gateway.post(path, body)
    if given["wait"]:
        finish(gateway, operation, as_json=as_json)
    elif as_json:
        print_json(operation)
    else:
        click.echo(f"{operation['id']} began. To follow it: triage operations {operation['id']} -f")


def print_foreseen(foreseen: dict[str, Any]) -> None:
    click.echo(f"{foreseen['act']} of {foreseen['target']}. What will happen:")
    for line in foreseen["will"] or ["nothing: it is so already"]:
        click.echo(show.clean(f"  {line}"))


def on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def app_path(app: str, verb: str) -> str:
    return f"apps/{segment(app)}/{verb}"


# --- of an app ---------------------------------------------------------------------------------------


@click.command(epilog=examples('triage restart web --note "new settings"'))
@click.argument("app", shell_complete=app_names)
@collecting
@act_options
@calls("POST /api/v1/apps/{app}/restart")
def restart(app: str, collect: bool, **given: Any) -> None:
    """Replace each instance of APP by a fresh one, rolling."""
    act(app_path(app, "restart"), {} if collect else {"collect": False}, given)


@click.command(epilog=examples("triage start web"))
@click.argument("app", shell_complete=app_names)
@act_options
@calls("POST /api/v1/apps/{app}/start")
def start(app: str, **given: Any) -> None:
    """End a stop by hand; try instances that failed at once."""
    act(app_path(app, "start"), {}, given)


@click.command(epilog=examples("triage stop web --for 1h"))
@click.argument("app", shell_complete=app_names)
@for_option("start")
@act_options
@calls("POST /api/v1/apps/{app}/stop")
def stop(app: str, for_: str | None, **given: Any) -> None:
    """Let the instances of APP finish and end; its requests get a 503."""
    act(app_path(app, "stop"), lasting(for_), given)


@click.command(epilog=examples("triage hold web --for 5m"))
@click.argument("app", shell_complete=app_names)
@for_option("release")
@act_options
@calls("POST /api/v1/apps/{app}/hold")
def hold(app: str, for_: str | None, **given: Any) -> None:
    """Let new requests of APP wait in its queue."""
    act(app_path(app, "hold"), lasting(for_), given)


@click.command(epilog=examples("triage release web"))
@click.argument("app", shell_complete=app_names)
@act_options
@calls("POST /api/v1/apps/{app}/release")
def release(app: str, **given: Any) -> None:
    """End a hold: what waits is served."""
    act(app_path(app, "release"), {}, given)


@click.command(
    epilog=examples(
        "triage scale web 4 --for 2h",
        "triage scale web auto",
        "triage scale web --memory 1GB --cpus 2",
    )
)
@click.argument("app", shell_complete=app_names)
@click.argument("count", metavar="[N | auto]", required=False)
@click.option("--memory", metavar="SIZE", help='Of each instance: "1GB"; "auto": as the config says.')
@click.option("--cpus", metavar="N", help='Cores of each instance; "auto": as the config says.')
@for_option("scale APP auto")
@collecting
@act_options
@calls("POST /api/v1/apps/{app}/scale")
def scale(
    app: str, count: str | None, memory: str | None, cpus: str | None, for_: str | None, collect: bool, **given: Any
) -> None:
    """How many instances APP has, and how much each may use.

    N stays until `auto`, which is what the config and its scaling rules say.
    """
    fields: dict[str, Any] = {} if collect else {"collect": False}
    if count == "auto":
        fields["auto"] = True
    elif count is not None:
        if not (count.isascii() and count.isdigit()):
            raise click.BadParameter(f"{count!r} is neither a number nor `auto`", param_hint="N")
        fields["instances"] = int(count)
    if memory is not None:
        fields["memory"] = sized(memory)
    if cpus is not None:
        fields["cpus"] = cored(cpus)
    if not fields.keys() - {"collect"}:
        raise click.UsageError("say how many instances, --memory or --cpus")
    act(app_path(app, "scale"), fields | lasting(for_), given)


def sized(text: str) -> str:
    if text != "auto":
        try:
            units.parse_size(text)
        except ValueError:
            raise click.BadParameter(f'{text!r}: expected "512MB", "1GiB" or "auto"', param_hint="--memory") from None
    return text


def cored(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f'{text!r}: expected a number or "auto"', param_hint="--cpus") from None


# --- of an instance ----------------------------------------------------------------------------------


@click.command(epilog=examples('triage recycle web/web-1 --note "it leaks"'))
@click.argument("instance", metavar="[APP/]INSTANCE", shell_complete=instance_names)
@collecting
@act_options
@calls("POST /api/v1/apps/{app}/instances/{instance}/recycle")
def recycle(instance: str, collect: bool, **given: Any) -> None:
    """Replace one instance by a fresh one, ready before the old one drains."""
    gateway = reach(given["at"])
    fields = {} if collect else {"collect": False}
    perform(gateway, instance_path(gateway, instance, "recycle"), fields, given)


@click.command(epilog=examples("triage eject web/web-1 --for 10m"))
@click.argument("instance", metavar="[APP/]INSTANCE", shell_complete=instance_names)
@for_option("admit")
@click.option("--force", is_flag=True, help="Also when it is the last that serves.")
@act_options
@calls("POST /api/v1/apps/{app}/instances/{instance}/eject")
def eject(instance: str, for_: str | None, force: bool, **given: Any) -> None:
    """Send no more requests to an instance; it goes on running."""
    gateway = reach(given["at"])
    fields = lasting(for_)
    if force:
        fields["force"] = True
    perform(gateway, instance_path(gateway, instance, "eject"), fields, given)


@click.command(epilog=examples("triage admit web/web-1"))
@click.argument("instance", metavar="[APP/]INSTANCE", shell_complete=instance_names)
@act_options
@calls("POST /api/v1/apps/{app}/instances/{instance}/admit")
def admit(instance: str, **given: Any) -> None:
    """End an ejection, whoever made it."""
    gateway = reach(given["at"])
    perform(gateway, instance_path(gateway, instance, "admit"), {}, given)
