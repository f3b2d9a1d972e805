"""`triage top`: the verdict, apps and instances, each second; as the gateway's stream tells it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from proxy import units
from proxy.cli import following, show
from proxy.cli.find import Where
from proxy.cli.group import examples, gateway_options, reach
from proxy.cli.show import Column

if TYPE_CHECKING:
    from rich.console import RenderableType

    from proxy.cli.client import Gateway, Message

APPS: Final = (
    Column("app"),
    Column("state"),
    Column("ready", right=True),
    Column("req/s", right=True),
    Column("faults/s", right=True),
    Column("in flight", right=True),
    Column("waiting", right=True),
    Column("p50", right=True),
    Column("p99", right=True),
    Column("verdict", flexible=True),
)
INSTANCES: Final = (
    Column("instance"),
    Column("state"),
    Column("since", right=True),
    Column("req/s", right=True),
    Column("faults/s", right=True),
    Column("in flight", right=True),
    Column("p50", right=True),
    Column("p99", right=True),
    Column("CPU", right=True),
    Column("memory", right=True),
    Column("restarts", right=True),
    Column("why", flexible=True),
)


class Seen:
    """The whole, put together from messages of which each says what changed."""

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}
        self.instances: dict[tuple[str, str], dict[str, Any]] = {}
        self.lost = ""
        """Why nothing comes now."""

    def apply(self, message: Message) -> bool:
        """Whether there is something to show."""
        if message.kind not in ("whole", "tick"):
            return False
        data = message.data
        if message.kind == "whole":
            self.instances.clear()
        for key in [key for key in self.instances if key[1] in (data.get("gone") or ())]:
            del self.instances[key]
        for one in data.get("instances") or ():
            self.instances[one["app"], one["id"]] = one
        self.head = {name: value for name, value in data.items() if name not in ("instances", "gone")}
        self.lost = ""
        return message.kind == "whole" or bool(self.instances) or bool(self.head)

    @property
    def whole(self) -> dict[str, Any]:
        return {**self.head, "instances": list(self.instances.values())}


@click.command(epilog=examples("triage top", "triage top --once"))
@click.option("--once", is_flag=True, help="Print it once, and end.")
@gateway_options
def top(once: bool, at: Where, as_json: bool) -> None:
    """How it stands, each second: verdict, apps, instances.

    Without a terminal it is printed once. With --json one line a second. Figures are of the last 5 s.
    """
    gateway = reach(at)
    seen = Seen()
    if as_json:
        for _ in news(gateway, seen):
            click.echo(orjson.dumps(seen.whole))
            if once:
                return
    elif once or not show.on_terminal():
        next(news(gateway, seen))
        print_once(seen)
    else:
        live(gateway, seen)


def news(gateway: Gateway, seen: Seen) -> Iterator[Seen]:
    """Each time that there is something new; also when the gateway is lost."""
    for message in following.coming(gateway, "metrics/stream", "", {}):
        if seen.apply(message):
            yield seen


def print_once(seen: Seen) -> None:
    head = seen.head
    show.headline(head["verdict"], head.get("state", ""))
    for line in about(head):
        click.echo(show.clean(line))
    for columns, rows in tables(seen):
        if rows:
            click.echo()
            show.table(columns, rows)


def live(gateway: Gateway, seen: Seen) -> None:
    """On the whole terminal, until it is interrupted."""
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as shown:

        def lost(why: str) -> None:
            seen.lost = why
            shown.update(screen(seen), refresh=True)

        for message in following.coming(gateway, "metrics/stream", "", {}, lost):
            if seen.apply(message):
                shown.update(screen(seen), refresh=True)


def screen(seen: Seen) -> RenderableType:
    """As much as fits: the verdict, then apps, then instances."""
    from rich.console import Group
    from rich.text import Text

    room = shutil.get_terminal_size((show.WIDEST, 24))
    if not seen.head:
        return Text(f"no answer: {show.clean(seen.lost)}; trying again", style="yellow")
    head = seen.head
    parts: list[RenderableType] = [Text(show.clean(head["verdict"]), style=show.STYLES.get(head["state"], "bold"))]
    parts += [Text(show.clean(line), overflow="ellipsis", no_wrap=True) for line in about(head)]
    if seen.lost:
        since = show.clock(head["time"])
        parts.append(Text(f"no news since {since}: {show.clean(seen.lost)}; trying again", style="yellow"))
    left = room.lines - len(parts)
    for columns, rows in tables(seen):
        if not rows or left < 4:
            continue
        fit = left - 3 if len(rows) > left - 2 else len(rows)
        wide = max(room.columns - 1, show.LEAST)
        kept, cells, _ = show.narrowed(*show.told(columns, rows[:fit]), wide)
        parts += [Text(), show.drawn(kept, cells, show.fitted(kept, cells, wide))]
        left -= len(cells) + 2
        if fit < len(rows):
            parts.append(Text(f"… {len(rows) - fit} more: a taller window shows them", style="dim"))
            left -= 1
    return Group(*parts)


def about(head: dict[str, Any]) -> list[str]:
    """The gateway in a line, who is at fault, and what is open."""
    own = head["gateway"]
    said = [
        f"{show.clock(head['time'])}  {rate(own['requests_per_s'])} requests/s  {rate(own['faults_per_s'])} faults/s  "
        f"{own['in_flight']} in flight  {own['connections']} connections"
    ]
    cost = [f"adds {show.ms(own['own_ms'])}" if own.get("own_ms") is not None else ""]
    cost += [f"lag {show.ms(own['lag_ms'])}" if own.get("lag_ms") is not None else ""]
    cost += [f"CPU {own['cpu']:.2f}" if own.get("cpu") is not None else ""]
    cost += [f"memory {units.size(own['memory'])}" if own.get("memory") else ""]
    check = head.get("self_check") or {}
    said.append("gateway  " + ", ".join(filter(None, [*cost, check.get("words", "")])))
    if head.get("is_it"):
        said.append(f"it is the {head['is_it']}: {head['is_it_words']}")
    for one in head.get("incidents") or ():
        who = one["app"] or f"({one['scope']})"
        share = f", {units.percent(one['share'])} of requests hit" if one.get("share") else ""
        said.append(f"{one['id']}  {who} {one['severity']} since {show.clock(one['began'])}{share}: {one['cause']}")
    return said


def tables(seen: Seen) -> list[tuple[tuple[Column, ...], list[list[str]]]]:
    """Instances that are not simply ready first: where not all fit, those are seen."""
    from proxy.cli.status import state

    order = {one["id"]: at for at, one in enumerate(seen.head["apps"])}
    instances = sorted(
        seen.instances.values(),
        key=lambda one: (state(one) == "ready", order.get(one["app"], len(order)), natural(one["id"])),
    )
    return [
        (APPS, [app_row(one) for one in seen.head["apps"]]),
        (INSTANCES, [instance_row(one) for one in instances]),
    ]


def natural(name: str) -> tuple[str, int]:
    """web-9 before web-10."""
    word, _, number = name.rpartition("-")
    return (word, int(number)) if number.isdecimal() else (name, 0)


def app_row(one: dict[str, Any]) -> list[str]:
    muted = f"muted until {show.clock(one['muted_until'])}; " if one.get("muted_until") else ""
    return [
        one["id"], one["state"], f"{one['ready']}/{one['wanted']}", rate(one["requests_per_s"]),
        rate(one["faults_per_s"]) if one["faults_per_s"] else "", of(one["in_flight"], one.get("slots")),
        str(one["waiting"]) if one["waiting"] else "", show.ms(one["p50_ms"]), show.ms(one["p99_ms"]),
        f"{muted}{one['verdict']}",
    ]  # fmt: skip


def instance_row(one: dict[str, Any]) -> list[str]:
    from proxy.cli.status import state

    how = state(one)
    memory, limit = one.get("memory"), one.get("memory_limit")
    return [
        one["id"], how, show.seconds(one.get("uptime_s")), rate(one["requests_per_s"]),
        rate(one["faults_per_s"]) if one["faults_per_s"] else "", of(one["in_flight"], one.get("slots")),
        show.ms(one["p50_ms"]), show.ms(one["p99_ms"]), f"{one['cpu']:.2f}" if one.get("cpu") is not None else "",
        (units.size(memory) + (f" ({units.percent(memory / limit)})" if limit else "")) if memory else "",
        str(one["restarts"]) if one.get("restarts") else "", (one.get("why") or "") if how != "ready" else "",
    ]  # fmt: skip


def of(number: int, most: int | None) -> str:
    return f"{number}/{most}" if most else str(number)


def rate(per_second: float) -> str:
    from proxy.cli.status import rate

    return rate(per_second)
