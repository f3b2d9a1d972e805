"""The command's frame: verbs grouped in the help as the work goes, where the gateway is, and one way to fail.

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 no gateway there; 130 after Ctrl-C, 141 when who read has left.
Each verb that acts declares the routes that it calls (`calls`): by these the dashboard, the API and the command are
held in step.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn, ParamSpec

import click
import orjson

from proxy.cli import show
from proxy.cli.client import ApiError, Gateway, NotThere
from proxy.cli.find import NoGateway, SeveralGateways, Where, find, token_of
from proxy.cli.wording import here

FAILED: Final = 1
USAGE: Final = 2
NO_GATEWAY: Final = 3
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it
READER_LEFT: Final = 141  # 128 + SIGPIPE

SECTIONS: Final = {
    "run": ("serve", "run", "check", "reload", "upgrade", "token", "whoami", "completion"),
    "observe": (
        "status", "top", "requests", "events", "operations", "logs", "exceptions", "incidents", "metrics", "alerts",
        "environment", "processes", "open",
    ),
    "collect and analyze": (
        "why", "diagnose", "sessions", "report", "stacks", "profile", "memory-dump", "files",
    ),
    "mitigate": (
        "restart", "recycle", "eject", "admit", "start", "stop", "scale", "hold", "release", "autoheal",
        "mute", "kill", "exec", "consoles",
    ),
}  # fmt: skip
"""The order of the work. A section with no verb yet is not shown."""

P = ParamSpec("P")
_reached: Final[list[Gateway]] = []
"""Gateways whose connections are open."""

LATER: Final = {
    "top": "top:top", "logs": "logs:logs", "exceptions": "exceptions:exceptions", "incidents": "incidents:incidents",
    "metrics": "metrics:metrics", "alerts": "alerts:alerts", "open": "opening:open_", "mute": "alerts:mute",
    "diagnose": "diagnose:diagnose", "sessions": "sessions:sessions", "report": "sessions:report",
    "token": "tokens:token", "whoami": "tokens:whoami", "environment": "inside:environment",
    "processes": "processes:processes", "kill": "processes:kill", "stacks": "inside:stacks",
    "profile": "inside:profile", "memory-dump": "inside:memory_dump", "files": "files:files",
    "exec": "executing:exec_", "consoles": "consoles:consoles", "completion": "completing:completion",
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


def calls(*routes: str) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Declares what a verb asks the gateway to do: "POST /api/v1/apps/{app}/restart"."""

    def declared(function: Callable[P, Any]) -> Callable[P, Any]:
        function.calls = routes  # type: ignore[attr-defined]
        return function

    return declared


def examples(*lines: str) -> str:
    """The epilog of a verb's help: what one types. The first word of each is `triage`."""
    return "\b\n" + "\n".join(["Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


def json_option(function: Callable[P, Any]) -> Callable[P, Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, times in UTC.")(function)


def gateway_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the gateway is (`at`), and --json; failures are printed and become exit codes."""

    @functools.wraps(function)
    def careful(url: str, token: str, token_file: str, ca: str, config: str, **kwargs: Any) -> Any:
        as_json = bool(kwargs.get("as_json"))
        if token and token_file:
            raise click.UsageError("one of --token and --token-file")
        try:
            given = token_of(token_file, "--token-file") if token_file else token
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        try:
            answer = function(at=Where(url, given, config, ca), **kwargs)
            sys.stdout.flush()
            return answer
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            reader_left()
        except NoGateway as error:
            none_there(error, as_json=as_json)
        except SeveralGateways as error:
            where = [f"  --url {address}" for address in error.addresses]
            fail("Several gateways run here. Say which one:", *where, as_json=as_json)
        except NotThere as error:
            fail("The gateway did not answer:", str(error), as_json=as_json, code=NO_GATEWAY)
        except ApiError as error:
            refused(error, as_json=as_json)
        finally:
            let_go()

    decorated: Callable[..., Any] = careful
    for decorate in (
        click.option(
            "-c", "config", metavar="FILE", type=click.Path(), default="", help="The config of the gateway to ask."
        ),
        click.option(
            "--ca", metavar="FILE", type=click.Path(), default="",
            help="Certificates to trust, for https:// (TRIAGE_CA).",
        ),
        click.option("--token", metavar="TOKEN", default="", help="Its token; others here can see it in `ps`."),
        click.option(
            "--token-file", metavar="FILE", type=click.Path(), default="",
            help="Read it there; or TRIAGE_TOKEN[_FILE] has it.",
        ),
        click.option(
            "--url", metavar="URL", default="", help="Its admin API, http(s)://… or unix:/PATH (TRIAGE_URL)."
        ),
        json_option,
    ):  # fmt: skip
        decorated = decorate(decorated)
    return decorated


def reach(at: Where) -> Gateway:
    """The gateway, connected; a bad address is a usage error."""
    try:
        gateway = find(at)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _reached.append(gateway)
    if gateway.token and gateway.in_the_open:
        said = f"The token goes to {gateway.address} unencrypted: anybody on the way can read it."
        click.echo(show.clean(said), err=True)
    return gateway


def let_go() -> None:
    """Close what was reached."""
    while _reached:
        _reached.pop().close()


def reader_left() -> NoReturn:
    """`triage events | head`: nobody reads any more, and that is no failure to tell of."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered still goes somewhere
    sys.exit(READER_LEFT)


def print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def refused(error: ApiError, *, as_json: bool) -> NoReturn:
    """What the gateway said, as it said it; and what the command can add."""
    if as_json:
        print_json(error.document or {"title": error.title, "status": error.status, "detail": error.detail})
    else:
        for line in filter(None, [*map(here, error.lines()), *added(error)]):
            click.echo(show.clean(line), err=True)
    sys.exit(FAILED)


def added(error: ApiError) -> list[str]:
    """What to type, where a token is missing or may not do it."""
    if error.status == 401:
        return ["To give one: --token-file FILE, or TRIAGE_TOKEN in the environment."]
    if error.status == 403 and error.document.get("type", "").endswith("role-too-low"):
        return ["Who you are here: triage whoami. An admin makes tokens: triage token make NAME --role ROLE."]
    return []


def none_there(error: NoGateway, *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"title": "No gateway answers", "tried": [{"where": w, "why": y} for w, y in error.tried]})
        sys.exit(NO_GATEWAY)
    click.echo("No gateway answers. Tried, in this order:", err=True)
    for where, why in error.tried:
        click.echo(show.clean(f"  {where}: {why}"), err=True)
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
            click.echo(show.clean(line), err=True)
    sys.exit(code)
