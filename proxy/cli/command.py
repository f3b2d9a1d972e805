"""The `triage` command: all verbs, put together. `main` gives it what starts a gateway."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from proxy import __version__
from proxy.cli import acts
from proxy.cli.autoheal import autoheal
from proxy.cli.check import check
from proxy.cli.events import events
from proxy.cli.group import FAILED, Verbs, examples, fail, json_option
from proxy.cli.observe import reload, requests, status, why
from proxy.cli.operations import operations
from proxy.cli.upgrade import upgrade

if TYPE_CHECKING:
    from proxy.cli.start import Prepared


@dataclass(frozen=True, slots=True)
class Wiring:
    """What of the other parts the command needs."""

    launch: Callable[[Prepared], NoReturn]
    holder: Callable[[int], str]  # of a port


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
@click.version_option(__version__, prog_name="triage")
def triage() -> None:
    """A reverse-proxy gateway that keeps web apps answering, and says why when they don't."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that the terminal lacks is no reason to fail
            stream.reconfigure(errors="replace")


@triage.command(epilog=examples("triage serve -c config.toml"))
@click.option(
    "-c", "config", metavar="FILE", default="config.toml", show_default=True, help="The config to serve."
)
@json_option
@click.pass_obj
def serve(wiring: Wiring, config: str, as_json: bool) -> None:
    """Serve a config file: start the instances and answer for them."""
    from proxy.cli import start

    begin(wiring, lambda: start.for_serve(config), as_json=as_json)


@triage.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples("triage run -- uvicorn app:app --port {port}", "triage run --instances 4 -- python app.py"),
)
@click.option(
    "--instances", metavar="N", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many."
)
@click.option(
    "--listen", metavar="ADDR", default="127.0.0.1:8080", show_default=True, help="Where clients come in."
)
@click.option(
    "--admin", metavar="ADDR", help="Where the admin API listens; default: 127.0.0.1:9900, or any free port."
)
@click.option("--name", metavar="NAME", help="Name of the state's folder; default: the name of this folder.")
@click.option("--print-config", is_flag=True, help="Print the config file that does the same, and end.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@json_option
@click.pass_obj
def run(wiring: Wiring, /, as_json: bool, print_config: bool, **options: Any) -> None:
    """Run a command as an app, without a config.

    COMMAND is started without a shell; {port} in it, and $PORT in its environment, say where to listen.
    """
    from proxy.cli import start

    if print_config:
        begin(wiring, lambda: start.for_run(**options), as_json=as_json, only_print=True)
    begin(wiring, lambda: start.for_run(**options, holder=wiring.holder), as_json=as_json)


def begin(
    wiring: Wiring, prepare: Callable[[], Prepared], *, as_json: bool, only_print: bool = False
) -> NoReturn:
    """Say what is about to be, then be it; whatever is wrong ends in one message."""
    from proxy.cli import start
    from proxy.config import ConfigProblems

    try:
        prepared = prepare()
        if only_print:
            click.echo(prepared.text, nl=False)
            raise SystemExit(0)
        start.announce(prepared, as_json=as_json)
        wiring.launch(prepared)
    except ConfigProblems as problems:
        fail(*str(problems).splitlines(), as_json=as_json)
    except start.Refused as refused:
        fail(*refused.lines, as_json=as_json)
    except OSError as error:
        fail(f"{error.filename or 'Triage'}: {error.strerror or error}", as_json=as_json)
    raise SystemExit(FAILED)


for verb in (
    check, reload, upgrade, status, requests, events, operations, why,
    acts.restart, acts.recycle, acts.eject, acts.admit, acts.start, acts.stop, acts.scale, acts.hold, acts.release,
    autoheal,
):  # fmt: skip
    triage.add_command(verb)
