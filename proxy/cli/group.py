"""The command's frame: verbs grouped in the help as the work goes, and one way to fail.

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 no gateway there.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn, ParamSpec

import click
import orjson

from proxy.cli import show
from proxy.cli.client import ApiError, Gateway, NotThere
from proxy.cli.find import NoGateway, SeveralGateways, find

FAILED: Final = 1
USAGE: Final = 2
NO_GATEWAY: Final = 3

SECTIONS: Final = {
    "run": ("serve", "run", "check", "reload", "upgrade"),
    "observe": (
        "status", "top", "requests", "events", "operations", "logs", "exceptions", "incidents", "metrics", "alerts",
        "open",
    ),
    "collect and analyze": ("why", "diagnose", "sessions", "report"),
    "mitigate": (
        "restart", "recycle", "eject", "admit", "start", "stop", "scale", "hold", "release", "autoheal",
        "mute", "exec",
    ),
}  # fmt: skip
"""The order of the work. A section with no verb yet is not shown."""

P = ParamSpec("P")


LATER: Final = {
    "top": "top:top", "logs": "logs:logs", "exceptions": "exceptions:exceptions", "incidents": "incidents:incidents",
    "metrics": "metrics:metrics", "alerts": "alerts:alerts", "open": "opening:open_", "mute": "alerts:mute",
    "diagnose": "diagnose:diagnose", "sessions": "sessions:sessions", "report": "sessions:report",
}  # fmt: skip
"""Verbs that are imported when they are asked for, so that the others start as fast without them: module, name."""


class Verbs(click.Group):
    """A group that lists its verbs by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *LATER})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LATER and cmd_name not in self.commands:
            module, _, name = LATER[cmd_name].partition(":")
            self.add_command(getattr(importlib.import_module(f"proxy.cli.{module}"), name))
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in SECTIONS.items():
            rows = [
                (name, command.get_short_help_str(80))
                for name in names
                if (command := self.get_command(ctx, name)) is not None and not command.hidden
            ]
            if rows:
                with formatter.section(section.capitalize()):
                    formatter.write_dl(rows)


def json_option(function: Callable[P, Any]) -> Callable[P, Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, times in UTC.")(function)


def gateway_options(function: Callable[P, Any]) -> Callable[P, Any]:
    """Where the gateway is, and --json; failures are printed and become exit codes."""

    @functools.wraps(function)
    def careful(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt:
            sys.exit(130)
        except NoGateway as error:
            none_there(error, as_json=bool(kwargs.get("as_json")))
        except SeveralGateways as error:
            where = "\n".join(f"  --url {address}" for address in error.addresses)
            fail("Several gateways run here. Say which one:", where, as_json=bool(kwargs.get("as_json")))
        except NotThere as error:
            fail(
                "The gateway did not answer:",
                str(error),
                as_json=bool(kwargs.get("as_json")),
                code=NO_GATEWAY,
            )
        except ApiError as error:
            refused(error, as_json=bool(kwargs.get("as_json")))

    decorated: Callable[P, Any] = careful
    for decorate in (
        click.option("-c", "config", metavar="FILE", default="", help="The config of the gateway to ask."),
        click.option("--token", metavar="TOKEN", default="", help="Its token (TRIAGE_TOKEN)."),
        click.option(
            "--url", metavar="URL", default="", help="Its admin API, http://… or unix:/PATH (TRIAGE_URL)."
        ),
        json_option,
    ):
        decorated = decorate(decorated)
    return decorated


def reach(url: str, token: str, config: str) -> Gateway:
    """The gateway, connected; a bad address is a usage error."""
    try:
        return find(url, token, config)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def refused(error: ApiError, *, as_json: bool) -> NoReturn:
    """What the gateway said, as it said it."""
    if as_json:
        print_json(error.document or {"title": error.title, "status": error.status, "detail": error.detail})
    else:
        for line in error.lines():
            click.echo(show.clean(line), err=True)
    sys.exit(FAILED)


def none_there(error: NoGateway, *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"title": "No gateway answers", "tried": [{"where": w, "why": y} for w, y in error.tried]})
        sys.exit(NO_GATEWAY)
    click.echo("No gateway answers. Tried, in this order:", err=True)
    for where, why in error.tried:
        click.echo(f"  {where}: {why}", err=True)
    click.echo(
        "Start one with `triage serve -c config.toml` or `triage run -- COMMAND`, or say --url.", err=True
    )
    sys.exit(NO_GATEWAY)


def fail(*lines: str, as_json: bool = False, code: int = FAILED) -> NoReturn:
    """Say why on standard error (with --json: as JSON), and end."""
    if as_json:
        print_json({"title": lines[0], "detail": "\n".join(lines[1:])})
    else:
        for line in lines:
            click.echo(line, err=True)
    sys.exit(code)
