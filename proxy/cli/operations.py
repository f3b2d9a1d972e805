"""Operations as the command shows them: begun, followed step by step to the end, listed."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.client import ApiError, Gateway, NotThere, segment
from proxy.cli.completing import app_names, operation_ids
from proxy.cli.find import Where
from proxy.cli.following import AGAIN, PATIENCE
from proxy.cli.group import FAILED, examples, gateway_options, print_json, reach
from proxy.cli.show import Column
from proxy.cli.watching import watchable

WAIT: Final = "20s"  # of one call; below the client's time limit

COLUMNS: Final = (
    Column("id"),
    Column("began"),
    Column("act"),
    Column("target"),
    Column("state"),
    Column("took", right=True),
    Column("by"),
    Column("what came of it", flexible=True),
)


@click.command(epilog=examples("triage operations --app web", "triage operations op-41 -f"))
@click.argument("id", required=False, shell_complete=operation_ids)
@click.option("--app", metavar="APP", shell_complete=app_names, help="Only of this app.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("-f", "--follow", "follow_it", is_flag=True, help="With an ID: print each step until it ends.")
@gateway_options
@watchable(unless=lambda given: "-f goes on by itself" if given["follow_it"] else "")
def operations(
    id: str | None, app: str | None, limit: int, follow_it: bool, at: Where, as_json: bool
) -> None:
    """What was asked for, and how it went.

    Newest first; with an ID one of them, step by step.
    """
    gateway = reach(at)
    if id is None:
        if follow_it:
            raise click.UsageError("-f follows one operation: say its ID")
        answer = gateway.get("operations", app=app, limit=limit)
        print_json(answer) if as_json else print_operations(answer["items"])
        return
    found = gateway.get(f"operations/{segment(id)}")
    if follow_it:
        finish(gateway, found, as_json=as_json)
    elif as_json:
        print_json(found)
    else:
        Teller(found).tell(found)


def print_operations(items: list[dict[str, Any]]) -> None:
    if not items:
        click.echo("Nothing was asked for yet.")
        return
    show.table(COLUMNS, [row(item) for item in items])


def row(item: dict[str, Any]) -> list[str]:
    came = item["why"] if item["state"] != "running" else (item["steps"] or [{"text": ""}])[-1]["text"]
    return [
        item["id"], show.clock(item["time"], with_offset=False), item["act"], item["target"], item["state"],
        units.duration(item["took_s"]), item["by"], came,
    ]  # fmt: skip


def finish(gateway: Gateway, operation: dict[str, Any], *, as_json: bool) -> None:
    """Follow it to its end, print each step (with JSON only the end); exits with 1 when it failed."""
    try:
        teller = None if as_json else Teller(operation)
        while True:
            if teller is not None:
                teller.tell(operation)
            if operation["state"] != "running":
                break
            operation = moved(gateway, operation)
    except KeyboardInterrupt:
        id = operation["id"]
        click.echo(f"\n{id} goes on. To follow it again: triage operations {id} -f", err=True)
        sys.exit(130)
    if as_json:
        print_json(operation)
    if operation["state"] == "failed":
        sys.exit(FAILED)


def moved(gateway: Gateway, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation as soon as there is news of it, or after WAIT. A control that is started anew is waited for."""
    path, asked = f"operations/{segment(operation['id'])}", {"wait": WAIT, "seen": operation["told"]}
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer: dict[str, Any] = gateway.get(path, **asked)
            return answer
        except NotThere:
            if time.monotonic() > deadline:
                raise
        except ApiError as error:
            if error.status != 503:
                raise
            asked = {}  # too many wait: look again, now and then
            time.sleep(1.0)
        time.sleep(AGAIN)


class Teller:
    """Prints what is new of an operation; the offset of its times stands once, in the first line."""

    def __init__(self, operation: dict[str, Any]) -> None:
        self.seen = 0
        self.last: dict[str, Any] | None = None
        self.first = show.clock(operation["time"])
        said = f"{operation['id']}: {operation['act']} of {operation['target']}, {operation['by']}"
        if operation["reason"] and operation["reason"] != operation["by"]:
            said += f": {operation['reason']}"
        click.echo(show.clean(f"{self.first}  {said}"))

    def tell(self, operation: dict[str, Any]) -> None:
        steps = self.fresh(operation["steps"])
        missing = operation["told"] - self.seen - len(steps)
        if steps and missing > 0:
            self.line(steps[0]["time"], f"… {missing} steps are not kept")
        for step in steps:
            self.line(step["time"], step["text"])
            self.last = step
        self.seen = operation["told"]
        if operation["state"] == "running":
            return
        why = f": {operation['why']}" if operation["why"] else ""
        said = f"{operation['state']} after {units.duration(operation['took_s'])}{why}"
        self.line(operation["ended"], said, err=operation["state"] == "failed")
        if operation["evidence"] and not any(operation["evidence"] in step["text"] for step in operation["steps"]):
            click.echo(show.clean(f"{'evidence':<{len(self.first)}}  {operation['evidence']}"))

    def fresh(self, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those after the last one that was printed, which a control that was killed may not have handed on."""
        if self.last is None:
            return steps
        if self.last in steps:
            at = len(steps) - steps[::-1].index(self.last)
            return steps[at:]
        return [step for step in steps if step["time"] > self.last["time"]]

    def line(self, moment: str, text: str, *, err: bool = False) -> None:
        sys.stdout.flush()
        time_of_day = show.clock(moment, with_offset=False)
        click.echo(show.clean(f"{time_of_day:<{len(self.first)}}  {text}"), err=err)
