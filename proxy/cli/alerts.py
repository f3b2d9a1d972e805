"""`triage alerts` and `triage mute`: what somebody is told of, who, and for how long nobody is."""

from __future__ import annotations

from typing import Any, Final

import click

from proxy.cli import show
from proxy.cli.acts import act, act_options, app_path, lasting
from proxy.cli.completing import app_names
from proxy.cli.find import Where
from proxy.cli.group import FAILED, calls, examples, gateway_options, print_json, reach
from proxy.cli.show import Column
from proxy.cli.watching import watchable

RULES: Final = (
    Column("rule"),
    Column("app"),
    Column("state"),
    Column("now", flexible=True),
    Column("last fired"),
    Column("notify"),
)
NOTIFIERS: Final = (
    Column("notifier"),
    Column("kind"),
    Column("target"),
    Column("state"),
    Column("waiting", right=True),
    Column("dropped", right=True),
    Column("last"),
    Column("error", flexible=True),
)
MESSAGES: Final = (
    Column("message"),
    Column("incident"),
    Column("notifier"),
    Column("state"),
    Column("attempts", right=True),
    Column("error", flexible=True),
)
SHOWN: Final = 10
"""Messages in the table; --json has all that the gateway told."""


@click.command(epilog=examples("triage alerts", "triage alerts test ops"))
@click.argument("words", nargs=-1, metavar="[test NOTIFIER]")
@gateway_options
@watchable(unless=lambda given: "a test is sent once" if given["words"] else "")
@calls("POST /api/v1/alerts/test")
def alerts(words: tuple[str, ...], at: Where, as_json: bool) -> None:
    """What somebody is told of, who, and what was sent.

    test sends a real message, and says what came of it.
    """
    if words and (words[0] != "test" or len(words) > 2):
        raise click.UsageError("expected: triage alerts, or triage alerts test NOTIFIER")
    gateway = reach(at)
    if words:
        answer = gateway.post("alerts/test", {"notifier": words[1]} if len(words) == 2 else {})
        print_json(answer) if as_json else print_test(answer)
        if not answer["ok"]:
            raise SystemExit(FAILED)
        return
    answer = gateway.get("alerts")
    print_json(answer) if as_json else print_alerts(answer)


def print_test(answer: dict[str, Any]) -> None:
    said = answer["words"] if answer["ok"] else answer["error"] or answer["words"]
    how = "took it" if answer["ok"] else "did not take it"
    click.echo(
        show.clean(f"{answer['notifier']} ({answer['target']}) {how} after {show.ms(answer['took_ms'])}: {said}"),
        err=not answer["ok"],
    )


def print_alerts(answer: dict[str, Any]) -> None:
    if answer.get("words"):
        click.echo(show.clean(answer["words"]))
    parts = (
        (RULES, [rule(one) for one in answer["items"]]),
        (NOTIFIERS, [notifier(one) for one in answer["notifiers"]]),
        (MESSAGES, [message(one) for one in answer["messages"][:SHOWN]]),
    )
    for number, (columns, rows) in enumerate(part for part in parts if part[1]):
        if number or answer.get("words"):
            click.echo()
        show.table(columns, rows)


def rule(one: dict[str, Any]) -> list[str]:
    muted = f"muted until {show.clock(one['muted_until'])}" if one.get("muted_until") else ""
    now = "; ".join(filter(None, [one.get("words") or str(one.get("value") or ""), muted]))
    return [
        one["name"] + (" (built in)" if one.get("builtin") else ""), one.get("app") or "", one["state"], now,
        show.clock(one["last_fired"], with_offset=False) if one.get("last_fired") else "",
        ", ".join(one.get("notify") or ()),
    ]  # fmt: skip


def notifier(one: dict[str, Any]) -> list[str]:
    return [
        one["id"], one["kind"], one["target"], one["state"], str(one["waiting"] or ""), str(one["dropped"] or ""),
        show.clock(one["last"], with_offset=False) if one.get("last") else "", one.get("error") or "",
    ]  # fmt: skip


def message(one: dict[str, Any]) -> list[str]:
    return [
        show.clock(one["time"], with_offset=False), str(one.get("incident") or ""), one["notifier"], one["state"],
        str(one["attempts"]), one.get("error") or "",
    ]  # fmt: skip


@click.command(epilog=examples('triage mute web --for 1h --note "deploy"', "triage mute web --end"))
@click.argument("app", shell_complete=app_names)
@click.option("--for", "for_", metavar="DURATION", help='So long: "1h".')
@click.option("--end", is_flag=True, help="End it now.")
@act_options
@calls("POST /api/v1/apps/{app}/mute")
def mute(app: str, for_: str | None, end: bool, **given: Any) -> None:
    """Tell nobody of APP's incidents for a while.

    They are recorded all the same; of those that are open when it ends everybody is told.
    """
    if end == (for_ is not None):
        raise click.UsageError("say --for how long, or --end")
    act(app_path(app, "mute"), {"unmute": True} if end else lasting(for_), given)
