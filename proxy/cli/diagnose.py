"""`triage diagnose`: a session begun, followed collector by collector, and what it found.

On a terminal the steps are a table that moves; anywhere else each step is a line when it is over.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.client import ApiError, Gateway, NotThere, segment
from proxy.cli.completing import app_or_instance_names
from proxy.cli.find import Where
from proxy.cli.following import AGAIN, PATIENCE
from proxy.cli.group import FAILED, calls, examples, gateway_options, print_json, reach

EVERY: Final = 0.4
"""Seconds between two looks."""
FINDINGS: Final = 3
BAR: Final = 40
OVER: Final = ("done", "cancelled", "failed", "lost")
_QUIET: Final = ("waiting", "running")


@click.command(
    epilog=examples(
        "triage diagnose web",
        "triage diagnose web/web-1 --for 10s --collect stacks",
        "triage diagnose web --collect list",
    )
)
@click.argument("target", metavar="[APP[/INSTANCE]]", required=False, shell_complete=app_or_instance_names)
@click.option("--for", "for_", metavar="DURATION", default="30s", show_default=True, help="Gather for so long.")
@click.option("--collect", "chosen", metavar="NAME", multiple=True, help="Only this; repeatable. `list` lists them.")
@click.option(
    "--mode", type=click.Choice(["collect", "analyze", "recycle"]), default="analyze", show_default=True,
    help="collect; collect and analyze; or recycle in between.",
)  # fmt: skip
@click.option("--request", metavar="ID", help="It is about this request.")
@click.option("--note", "--reason", "note", metavar="TEXT", help="Why, for the events.")
@click.option("--no-wait", "wait", is_flag=True, flag_value=False, default=True, help="Begin it, and end.")
@gateway_options
@calls("POST /api/v1/sessions")
def diagnose(
    target: str | None, for_: str, chosen: tuple[str, ...], mode: str, request: str | None, note: str | None,
    wait: bool, at: Where, as_json: bool,
) -> None:  # fmt: skip
    """Look into an app or an instance: gather, analyze, report.

    Ends with what was found, and where the report lies. The app goes on as it is, but with --mode recycle.
    """
    gateway = reach(at)
    if chosen == ("list",):
        list_collectors(gateway, as_json)
        return
    try:
        units.parse_duration(for_)
    except ValueError:
        raise click.BadParameter(f'{for_!r}: expected a duration such as "30s"', param_hint="--for") from None
    app, _, instance = (target or "").partition("/")
    asked = {"app": app, "instance": instance, "request": request, "reason": note, "collectors": list(chosen)}
    body = {"seconds": for_, "mode": mode, **{name: value for name, value in asked.items() if value}}
    session = gateway.post("sessions", body)
    if not wait:
        if as_json:
            print_json(session)
        else:
            click.echo(f"{session['id']} began. What comes of it: triage sessions {session['id']} --follow")
        return
    finish(gateway, session, as_json=as_json)


def list_collectors(gateway: Gateway, as_json: bool) -> None:
    answer = gateway.get("collectors")
    if as_json:
        print_json(answer)
        return
    columns = (show.Column("collector"), show.Column("of"), show.Column("on"), show.Column("cost"),
               show.Column("what", flexible=True))  # fmt: skip
    rows = [
        [one["id"], one["of"], "by default" if one["default"] else "when asked for", one["cost"], one["title"]]
        for one in answer["items"]
    ]
    show.table(columns, rows)


def finish(gateway: Gateway, session: dict[str, Any], *, as_json: bool, wanted: str = "done") -> None:
    """Follow it to its end, say what it found; exits with 1 unless that is done, or what was `wanted`."""
    try:
        if as_json:
            *_, last = looks(gateway, session["id"])
        elif show.on_terminal():
            last = watched(gateway, session["id"])
        else:
            last = told(gateway, session["id"])
    except KeyboardInterrupt:
        id = session["id"]
        click.echo(f"\n{id} goes on. To follow it again: triage sessions {id} --follow; "
                   f"to end it: triage sessions {id} --cancel", err=True)  # fmt: skip
        sys.exit(130)
    analysis = found(gateway, last)
    if as_json:
        print_json({**last, "analysis": analysis})
    else:
        print_end(last, analysis)
    if last["state"] not in ("done", wanted):
        sys.exit(FAILED)


def looks(gateway: Gateway, id: str) -> Iterator[dict[str, Any]]:
    """As it is, again and again, to its end. A control that is started anew is waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            session: dict[str, Any] = gateway.get(f"sessions/{segment(id)}")
        except NotThere:
            if time.monotonic() > deadline:
                raise
            time.sleep(AGAIN)
            continue
        deadline = time.monotonic() + PATIENCE
        yield session
        if session["state"] in OVER:
            return
        time.sleep(EVERY)


def told(gateway: Gateway, id: str) -> dict[str, Any]:
    """A line for each step that is over."""
    seen: set[tuple[str, str]] = set()
    state, session = "", {}
    for session in looks(gateway, id):
        if not state:
            names = ", ".join(session["targets"]) or "no instance"
            click.echo(show.clean(f"{session['id']} of {about(session)}: {names}"))
        if session["state"] != state and session["state"] not in OVER:
            state = session["state"]
            click.echo(state + (f" for {units.duration(session['seconds'])}" if state == "collecting" else ""))
        for step in session["steps"]:
            key = (step["name"], step["instance"])
            if step["state"] not in _QUIET and key not in seen:
                seen.add(key)
                click.echo(show.clean(f"  {line(step)}"))
        sys.stdout.flush()
    return session


def about(session: dict[str, Any]) -> str:
    """The app, or the one instance of it."""
    return f"{session['app']}/{session['instance']}" if session["instance"] else str(session["app"])


def named(step: dict[str, Any]) -> str:
    of = f" of {step['instance']}" if step["instance"] else ""
    return f"{step['name'].replace('_', ' ')}{of}"


def line(step: dict[str, Any]) -> str:
    why = f": {step['why']}" if step["why"] else ""
    return f"{named(step)}  {step['state']}, {units.duration(step['took_s'])}{why}"


def watched(gateway: Gateway, id: str) -> dict[str, Any]:
    """A table that moves."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    session: dict[str, Any] = {}
    console = Console(width=min(show.width(), show.WIDEST), highlight=False)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        for session in looks(gateway, id):
            head = Text(show.clean(f"{session['id']} of {about(session)}: {session['state']}"), style="bold")
            filled = round(session["progress"] * BAR)
            bar = Text("━" * filled, style="cyan").append("━" * (BAR - filled), style="dim")
            columns = (show.Column("step"), show.Column("of"), show.Column("state"), show.Column("took", right=True),
                       show.Column("why", flexible=True))  # fmt: skip
            room = max(5, console.height - 4)
            rows = [
                [step["title"] or step["name"], step["instance"], step["state"],
                 units.duration(step["took_s"]) if step["took_s"] else "", step["why"]]
                for step in sorted(session["steps"], key=lambda step: step["state"] not in _QUIET)[:room]
            ]  # fmt: skip
            table = show.drawn(columns, rows, show.fitted(columns, rows or [[""] * 5], console.width))
            live.update(Group(head, bar, table))
    return session


def found(gateway: Gateway, session: dict[str, Any]) -> dict[str, Any] | None:
    """Its findings; None: it has none that can be read."""
    try:
        answer: dict[str, Any] = gateway.get(f"sessions/{segment(session['id'])}/findings")
        return answer
    except ApiError:
        return None


def print_end(session: dict[str, Any], analysis: dict[str, Any] | None) -> None:
    """The verdict, the findings in short, where the report lies."""
    why = f": {session['why']}" if session["why"] else ""
    click.echo(show.clean(f"{session['id']} {session['state']} after {units.duration(session['took_s'])}{why}"))
    if session["verdict"]:
        show.headline(session["verdict"], {"critical": "down", "warning": "degraded"}.get(session["severity"], "up"))
    for finding in findings_above_info(analysis)[:FINDINGS]:
        click.echo(show.clean(f"  {finding['severity']}, {finding['certainty']}: {finding['title']}"))
        if finding.get("cause"):
            click.echo(show.clean(f"    {finding['cause']}"))
        for remedy in [one for one in finding.get("remedies", ()) if one.get("command")][:1]:
            dont = "don't  " if remedy.get("dont") else ""
            click.echo(show.clean(f"    {dont}{remedy['command']}"))
    more = len(findings_above_info(analysis)) - FINDINGS
    if more > 0:
        click.echo(f"  {more} more in the report")
    missing = [step for step in session["steps"] if step["state"] not in ("done", "skipped", "not there", *_QUIET)]
    if missing:
        said = ", ".join(named(step) for step in missing[:6])
        click.echo(show.clean(f"not gathered: {said}; the report says why"))
    if session["recycled"]:
        click.echo(show.clean(session["recycled"]))
    if any(file["name"] == "report.html" for file in session["files"]):
        click.echo(show.clean(f"report  {session['folder']}/report.html"))
        click.echo(f"        triage report {session['id']} -o FILE    --bundle FILE for support")
    else:
        click.echo(show.clean(f"files   {session['folder']}"))


def findings_above_info(analysis: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [one for one in (analysis or {}).get("findings", ()) if one.get("severity") != "info"]
