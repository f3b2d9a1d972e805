"""`triage open`: the dashboard in a browser, logged in."""

from __future__ import annotations

import os
import re
import sys
from typing import Final
from urllib.parse import quote

import click

from proxy.cli import show
from proxy.cli.find import Where
from proxy.cli.group import calls, examples, gateway_options, print_json, reach

_INCIDENT: Final = re.compile(r"inc-\d+", re.IGNORECASE)
_OPERATION: Final = re.compile(r"op-\d+")
_REQUEST: Final = re.compile(r"[0-9a-f]{16}")
PAGES: Final = frozenset({"metrics", "incidents", "requests", "logs", "exceptions", "events", "analyze", "mitigate"})


@click.command("open", epilog=examples("triage open web", "triage open INC-31 --print"))
@click.argument("what", metavar="[PAGE | APP | APP/INSTANCE | INCIDENT | REQUEST]", default="")
@click.option("--print", "only_print", is_flag=True, help="Print the address, and open nothing.")
@gateway_options
@calls("POST /api/v1/login-links")
def open_(what: str, only_print: bool, at: Where, as_json: bool) -> None:
    """Open the dashboard in a browser, logged in.

    PAGE is metrics, incidents, requests, logs, exceptions or events. The address works once, within a minute.
    """
    answer = reach(at).post("login-links", {"to": page(what)})
    if as_json:
        print_json(answer)
        return
    if only_print or not has_display() or not opened(answer["url"]):
        click.echo(show.clean(answer["url"]))


def page(what: str) -> str:
    """Where it is in the dashboard."""
    if what.startswith("#/"):
        return what
    if what in PAGES or not what:
        return f"#/{what}"
    if _INCIDENT.fullmatch(what):
        return f"#/incidents/{what.upper()}"
    if _OPERATION.fullmatch(what):
        return f"#/operations/{what}"
    if _REQUEST.fullmatch(what):
        return f"#/requests/{what}"
    return "#/apps/" + "/".join(quote(part, safe="") for part in what.split("/", 1))


def has_display() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def opened(url: str) -> bool:
    """Whether a browser took it."""
    import webbrowser  # looks for browsers when it is imported: only this verb pays

    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False
