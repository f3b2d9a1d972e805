"""`triage check`: is this config good, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.cli import show
from proxy.cli.group import FAILED, examples, json_option, print_json

if TYPE_CHECKING:
    from proxy.config import Config


@click.command(epilog=examples("triage check -c config.toml"))
@click.option(
    "-c", "config", metavar="FILE", default="config.toml", show_default=True, help="The config to check."
)
@json_option
def check(config: str, as_json: bool) -> None:
    """Is the config good? All its problems at once."""
    from proxy.config import ConfigProblems, load, warnings

    try:
        loaded = load(config)
    except ConfigProblems as problems:
        if as_json:
            print_json(
                {"ok": False, "problems": [str(problem) for problem in problems.problems], "warnings": []}
            )
        else:
            click.echo(show.clean(str(problems)), err=True)
        raise SystemExit(FAILED) from None
    warned = warnings(loaded)
    if as_json:
        print_json({"ok": True, "problems": [], "warnings": warned})
        return
    click.echo(f"{config}: good. {summary(loaded)}")
    for line in warned:
        click.echo(show.clean(line))


def summary(config: Config) -> str:
    """1 app, 2 instances, listens on http://127.0.0.1:8080"""
    instances = sum(
        app.process.instances if app.process else len(app.addresses) for app in config.apps.values()
    )
    listen = ", ".join(str(listen) for listen in config.gateway.listen)
    return f"{plural(len(config.apps), 'app')}, {plural(instances, 'instance')}, listens on {listen}"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
