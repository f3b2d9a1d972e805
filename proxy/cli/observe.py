"""The verbs that ask a running gateway: status, requests, why, reload."""

from __future__ import annotations

from typing import Any

import click
import orjson

from proxy.cli import show
from proxy.cli.client import ApiError, Gateway, segment
from proxy.cli.completing import app_names, app_or_instance_names, request_ids, why_names
from proxy.cli.find import Where
from proxy.cli.following import followed
from proxy.cli.group import FAILED, calls, examples, gateway_options, print_json, reach
from proxy.cli.naming import instance_path
from proxy.cli.watching import watchable


@click.command(epilog=examples("triage status", "triage status web --watch", "triage status web/web-1 --json"))
@click.argument("what", metavar="[APP | [APP/]INSTANCE]", default="", shell_complete=app_or_instance_names)
@gateway_options
@watchable()
def status(what: str, at: Where, as_json: bool) -> None:
    """How it stands: the verdict, apps, instances, workers.

    Of an instance also its path through the lifecycle, and what it printed last.
    """
    from proxy.cli.status import print_app, print_instance, print_status

    gateway = reach(at)
    if not what:
        answer = gateway.get("status")
        print_json(answer) if as_json else print_status(answer)
        return
    found = maybe_app(gateway, what) if "/" not in what else None
    if found is not None:
        print_json(found) if as_json else print_app(found)
    else:
        answer = gateway.get(instance_path(gateway, what))
        print_json(answer) if as_json else print_instance(answer)


def maybe_app(gateway: Gateway, name: str) -> Any:
    """The app of that name; None: there is none."""
    try:
        return gateway.get(f"apps/{segment(name)}")
    except ApiError as error:
        if error.status != 404:
            raise
        return None


@click.command(epilog=examples("triage requests --fault any --since 1h", "triage requests --app web --slower 2s -f"))
@click.option("--app", metavar="APP", shell_complete=app_names, help="Only of this app.")
@click.option("--instance", metavar="INSTANCE", help="Only of this instance.")
@click.option("--method", metavar="METHOD", help="GET, POST, …")
@click.option("--path", metavar="PATH", help="Paths that begin so, or a pattern with * and ?.")
@click.option("--fault", metavar="FAULT", help="Name of a fault, or `any`.")
@click.option("--status", metavar="STATUS", help='"502", "5xx", "500-599", ">=500".')
@click.option("--slower", metavar="DURATION", help='Took longer in total: "1s", "250ms".')
@click.option("--since", metavar="TIME", help='How far back ("5m"), or a time (ISO 8601).')
@click.option("--limit", type=click.IntRange(1, 1000), default=30, show_default=True, help="At most so many.")
@click.option("-f", "--follow", is_flag=True, help="Go on: print new ones as they come.")
@click.option(
    "--story", metavar="REQUEST", shell_complete=request_ids,
    help="The whole story of one, if keep.whole asked for it.",
)  # fmt: skip
@gateway_options
@watchable(unless=followed)
def requests(
    at: Where, as_json: bool, follow: bool, story: str | None, **filters: Any
) -> None:
    """Kept requests (faults, 5xx, slow ones), newest first."""
    from proxy.cli import requests as page

    gateway = reach(at)
    if story is not None:
        from proxy.cli.story import print_story

        found = gateway.get(f"requests/{segment(story)}/story")
        print_json(found) if as_json else print_story(found)
        return
    if follow:
        for batch in page.follow(gateway, filters):
            for item in batch:
                click.echo(orjson.dumps(item)) if as_json else page.print_line(item)
        return
    answer = gateway.get("requests", **filters)
    print_json(answer) if as_json else page.print_requests(answer["items"])


@click.command(epilog=examples("triage why", "triage why INC-31", "triage why 7f3a"))
@click.argument("what", metavar="[REQUEST | INCIDENT | APP]", default="latest", shell_complete=why_names)
@gateway_options
def why(what: str, at: Where, as_json: bool) -> None:
    """Why a request ended so, what an incident is about, or how an app is.

    REQUEST is any unambiguous start of an id, INCIDENT is like INC-31; without an argument it is the newest open
    incident, else the newest 5xx or fault.
    """
    answer = ask_why(reach(at), what)
    if as_json:
        print_json(answer)
    else:
        click.echo(show.clean(show.localized(answer["text"])).rstrip("\n"))


def ask_why(gateway: Gateway, what: str) -> Any:
    """An app's name goes before an id that looks like it; what is neither gets the answer about ids."""
    if what == "latest":
        for incident in gateway.get("incidents", open="true", limit=1)["items"]:
            return gateway.get(f"incidents/{segment(incident['id'])}/why")
    elif what.upper().startswith("INC-"):
        return gateway.get(f"incidents/{segment(what)}/why")
    else:
        try:
            return gateway.get(f"apps/{segment(what)}/why")
        except ApiError as error:
            if error.status != 404:
                raise
    return gateway.get(f"requests/{segment(what)}/why")


@click.command(epilog=examples("triage reload --preview", 'triage reload --note "more slots for web"'))
@click.option("--preview", "foresee", is_flag=True, help="Only say whether the file is good.")
@click.option("--note", "--reason", "reason", metavar="TEXT", help="Why, for the events.")
@gateway_options
@calls("POST /api/v1/config/reload", "POST /api/v1/config/check")
def reload(at: Where, as_json: bool, reason: str | None, foresee: bool) -> None:
    """Read the config again and apply it; a bad file changes nothing."""
    gateway = reach(at)
    if foresee:
        check_there(gateway, as_json=as_json)
        return
    answer = gateway.post("config/reload", {"reason": reason} if reason else {})
    if as_json:
        print_json(answer)
        return
    problems = answer.get("problems") or []
    for line in [*problems, *(answer.get("changes") or []), *(answer.get("next_start") or [])]:
        click.echo(show.clean(str(line)), err=bool(problems))
    if problems or answer.get("state") == "failed":
        raise SystemExit(FAILED)
    if not answer.get("changes"):
        click.echo("nothing changed")


def check_there(gateway: Gateway, *, as_json: bool) -> None:
    """The file of the running gateway, as it would read it; exits with 1 where it would be refused."""
    answer = gateway.post("config/check")
    if as_json:
        print_json(answer)
    else:
        for line in [*answer["problems"], *answer["warnings"]]:
            click.echo(show.clean(str(line)), err=not answer["ok"])
        click.echo("It is good: a reload would apply it." if answer["ok"] else "Nothing would be changed.")
    if not answer["ok"]:
        raise SystemExit(FAILED)
