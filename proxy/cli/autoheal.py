"""`triage autoheal`: rules, how far each is from a firing, what they did; off, on, and replay."""

from __future__ import annotations

import textwrap
from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.acts import act_options, app_path, for_option, lasting, perform
from proxy.cli.client import Gateway, segment
from proxy.cli.group import calls, examples, print_json, reach
from proxy.cli.show import Column
from proxy.cli.watching import watchable

WORDS: Final = ("off", "on", "replay")

COLUMNS: Final = (
    Column("rule"),
    Column("on"),
    Column("nearest"),
    Column("distance"),
    Column("last fired"),
    Column("state", flexible=True),
)


@click.command(
    epilog=examples(
        "triage autoheal web",
        "triage autoheal off web --for 1h",
        "triage autoheal replay web slow --since 6h",
    )
)
@click.argument("words", nargs=-1, metavar="[APP] | off APP | on APP | replay APP RULE")
@for_option("on")
@click.option("--since", metavar="TIME", help="With replay: how far back; default: 24h.")
@act_options
@watchable(unless=lambda given: "off, on and replay are done once" if {*given["words"][:1]} & {*WORDS} else "")
@calls("POST /api/v1/apps/{app}/autoheal", "POST /api/v1/autoheal/replay")
def autoheal(words: tuple[str, ...], for_: str | None, since: str | None, **given: Any) -> None:
    """Rules, and how far each is from a firing; off, on, replay.

    off and on are kept over reloads and restarts, and shown as `by hand`. A replay says when a RULE, by its name,
    would have fired, going by what was recorded.
    """
    verb = words[0] if words and words[0] in WORDS else ""
    rest = words[1:] if verb else words
    most, least = {"": (1, 0), "replay": (2, 2)}.get(verb, (1, 1))
    if not least <= len(rest) <= most:
        wanted = {"": "[APP]", "replay": "replay APP RULE"}.get(verb, f"{verb} APP")
        raise click.UsageError(f"expected: triage autoheal {wanted}")
    if for_ is not None and verb != "off":
        raise click.UsageError("--for goes with off")
    if since is not None and verb != "replay":
        raise click.UsageError("--since goes with replay")
    gateway = reach(given["at"])
    match verb:
        case "off" | "on":
            fields = {"enabled": verb == "on", **lasting(for_)}
            perform(gateway, app_path(rest[0], "autoheal"), fields, given)
        case "replay":
            replay(gateway, rest[0], rest[1], since, as_json=given["as_json"])
        case _:
            show_rules(gateway, rest[0] if rest else "", as_json=given["as_json"])


def show_rules(gateway: Gateway, app: str, *, as_json: bool) -> None:
    answer = gateway.get(f"apps/{segment(app)}/autoheal") if app else gateway.get("autoheal")
    if as_json:
        print_json(answer)
        return
    for number, one in enumerate([answer] if app else answer["items"]):
        if number:
            click.echo()
        print_app(one)
    if app:
        print_meanings(answer)
        print_history(answer)


def print_app(app: dict[str, Any]) -> None:
    acting = [rule for rule in app["rules"] if rule["state"] != "off"]
    click.echo(show.clean(f"{app['id']}  {state_of(app)}, {len(acting)} rule{'' if len(acting) == 1 else 's'}"))
    if app["rules"]:
        show.table(COLUMNS, [row(rule, enabled=app["enabled"]) for rule in app["rules"]])


def print_meanings(app: dict[str, Any]) -> None:
    """What each rule looks for and does, or why it does nothing."""
    rules = app["rules"]
    if rules:
        click.echo("\nwhat they are")
        wide = max(len(rule["id"]) for rule in rules)
        for rule in rules:
            does = f"{rule['when'].rstrip('.')}: {', then '.join(rule['then'])}"
            said = f"{rule['id']:<{wide}}  {rule['why'] if rule['state'] == 'off' else does}"
            click.echo("\n".join(textwrap.wrap(show.clean(said), show.width(), subsequent_indent=" " * (wide + 2))))


def state_of(app: dict[str, Any]) -> str:
    if app["enabled"]:
        return "autoheal is on"
    setting = app["by_hand"]
    until = f" until {show.clock(setting['until'])}" if setting["until"] else ""
    why = f": {setting['why']}" if setting["why"] else ""
    return f"autoheal is off {setting['by']}{until}, since {show.clock(setting['time'])}{why}"


def row(rule: dict[str, Any], *, enabled: bool) -> list[str]:
    nearest = rule["nearest"] or {}
    on = "off" if rule["state"] == "off" or not enabled else "dry run" if rule["dry_run"] else "on"
    fired = rule["last_fired"] or (rule["last_would_have_fired"] if rule["dry_run"] else None)
    return [
        rule["id"],
        on,
        nearest.get("instance", ""),
        nearest.get("distance", ""),
        show.clock(fired, with_offset=False) if fired else "",
        state(rule, nearest),
    ]


def state(rule: dict[str, Any], nearest: dict[str, Any]) -> str:
    """Where it is more than watching, why; the condition where there is nothing to tell."""
    said = rule["state"]
    if rule["state"] == "acting" or (rule["state"] == "off" and not show.on_terminal()):
        said += f": {rule['why']}"
    elif rule["state"] == "suppressed":
        until = f" until {show.clock(rule['suppressed_until'], with_offset=False)}" if rule["suppressed_until"] else ""
        said += f"{until}: {nearest.get('why') or rule['why']}"
    elif not nearest:
        said += f": {rule['why']}"
    if rule["would_have_fired"]:
        said += f"; would have fired {rule['would_have_fired']} times"
    return f"{said}; {rule['backing_off']}" if rule["backing_off"] else said


def print_history(app: dict[str, Any]) -> None:
    if app["history"]:
        click.echo("\nwhat they did, newest first")
    for one in app["history"]:
        click.echo(show.clean(f"{show.clock(one['time'])}  {firing(one)}"))
    if app["history_problem"]:
        click.echo(show.clean(f"older ones can't be read: {app['history_problem']}"), err=True)


def firing(one: dict[str, Any]) -> str:
    target = f"{one['app']}/{one['instance']}" if one["instance"] else one["app"]
    came = ", ".join(outcome(each) for each in one["outcomes"])
    would = "would have acted" if one["dry"] else one["state"]
    operation = f"  {one['operation']}" if one["operation"] else ""
    return f"{one['rule']} on {target}: {one['value']}: {came or would}{operation}"


def outcome(one: dict[str, Any]) -> str:
    why = f" ({one['why']})" if one["why"] else ""
    return f"{one['act']} {one['state']}{why}"


def replay(gateway: Gateway, app: str, rule: str, since: str | None, *, as_json: bool) -> None:
    answer = gateway.post("autoheal/replay", {"app": app, "rule": rule} | ({"since": since} if since else {}))
    if as_json:
        print_json(answer)
        return
    looked = f"looked at {answer['points']:,} points of {units.duration(answer['step_s'])}" if answer["points"] else ""
    since = f"since {show.clock(answer['since'])}" if answer["since"] else "from the beginning"
    click.echo(show.clean(f"{answer['rule']} of {app}: {answer['verdict']}"))
    click.echo(show.clean(f"{since}; {looked}" if looked else since))
    for one in answer["fired"]:
        on = f"{one['instance']}: " if one["instance"] else ""
        click.echo(show.clean(f"{show.clock(one['time'])}  {on}{one['words']}"))
    for guard, times in answer["kept_from"].items():
        click.echo(f"kept from acting by {guard}: {times} times")
    for said in answer["not_known"]:
        click.echo(show.clean(f"NOT KNOWN: {said}"))
