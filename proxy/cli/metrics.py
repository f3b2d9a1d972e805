"""`triage metrics`: what can be asked for; with a name, how it was over time."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, Final

import click

from proxy import units
from proxy.cli import show
from proxy.cli.completing import app_names, metric_names
from proxy.cli.find import Where
from proxy.cli.group import examples, gateway_options, print_json, reach
from proxy.cli.show import Column
from proxy.cli.watching import watchable

ALL: Final = (
    Column("metric"),
    Column("unit"),
    Column("of"),
    Column("stats"),
    Column("meaning", flexible=True),
)
RANGE: Final = "15m"
ROWS: Final = 24
"""Points of a series, where no step is given: a screenful."""
SERIES: Final = 6
"""That a table has beside each other."""
PERCENTILES: Final = frozenset({"p50", "p90", "p99", "p999"})
"""Of which a mean would say nothing."""
STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 604800)


@click.command(epilog=examples("triage metrics", "triage metrics response_time --app web --stat p99 --since 1h"))
@click.argument("names", metavar="[NAME[,NAME…]]", default="", shell_complete=metric_names)
@click.option(
    "--app", metavar="APP", shell_complete=app_names, help="Of this app; `each`: of each one. Default: of all of them."
)
@click.option("--instance", metavar="INSTANCE", help="Of this instance; `each`: of each one of the app.")
@click.option("--fault", metavar="FAULT", help="With `faults`: only those of this name.")
@click.option("--stat", metavar="STAT", help="rate, sum; mean, max, last; p50, p90, p99, p999, mean, max, count.")
@click.option("--since", metavar="TIME", default=RANGE, show_default=True, help="How far back, or a time (ISO 8601).")
@click.option("--step", metavar="DURATION", help='Of one point: "10s", "1m". Default: what makes a screenful.')
@gateway_options
@watchable()
def metrics(
    names: str, since: str, step: str | None, at: Where, as_json: bool, **which: str | None
) -> None:
    """What is measured; with a NAME, how it was.

    Times in the table are of the end of each step. Percentiles are of all requests of a step.
    """
    gateway = reach(at)
    if not names:
        answer = gateway.get("metrics")
        print_json(answer) if as_json else show.table(ALL, [row(one) for one in answer["items"]])
        return
    if which["stat"] == "heatmap" and not as_json:
        raise click.UsageError("a heatmap has no table: add --json, or see the dashboard")
    query = {**which, "name": names, "from": since, "step": step or step_of(since)}
    answer = gateway.get("metrics/query", **query)
    print_json(answer) if as_json else print_series(answer)


def row(one: dict[str, Any]) -> list[str]:
    stats = [f"*{stat}" if stat == one["default_stat"] else stat for stat in one["stats"]]
    return [one["id"], one["unit"], " ".join(one["of"]), " ".join(stats), one["meaning"]]


def step_of(since: str) -> str | None:
    """What makes a screenful of a range; None: the gateway may say."""
    try:
        span = units.parse_duration(since)
    except ValueError:
        try:
            span = time.time() - datetime.fromisoformat(since.replace("Z", "+00:00")).timestamp()
        except ValueError:
            return None
    return f"{next((step for step in STEPS if step * ROWS >= span), STEPS[-1])}s"


def print_series(answer: dict[str, Any]) -> None:
    series = answer["series"]
    if not series:
        click.echo("Nothing of that was recorded.")
        return
    summary = [Column("of"), Column("metric"), *((Column(""),) if show.on_terminal() else ())]
    summary += [Column(name, right=True) for name in ("now", "mean", "min", "max")]
    rows = []
    for one in series:
        values = [value for _, value in one["points"]]
        known = [value for value in values if value is not None]
        mean = None if not known or one["stat"] in PERCENTILES else sum(known) / len(known)
        figures = [known[-1], mean, min(known), max(known)] if known else [None] * 4
        line = [show.sparkline(values)] if show.on_terminal() else []
        rows.append([whose(one), f"{one['name']} {one['stat']}", *line, *(said(one, value) for value in figures)])
    show.table(summary, rows)
    if len(series) > SERIES:
        click.echo(f"{len(series)} series; --json has their points.")
        return
    known = [at for one in series for at, value in one["points"] if value is not None]
    times = sorted({at for one in series for at, _ in one["points"] if known and at >= min(known)})
    if not times:
        return
    click.echo()
    by_time = [dict(map(tuple, one["points"])) for one in series]
    alike = len({(one["app"], one["instance"]) for one in series}) == 1
    several = len({one["name"] for one in series}) > 1 or alike
    titles = [" ".join(filter(None, ["" if alike else whose(one), one["name"] if several else ""])) for one in series]
    zone = show.offset(datetime.fromtimestamp(times[0]).astimezone())
    head = [Column(f"time {zone}"), *(Column(title, right=True) for title in titles)]
    day = len({datetime.fromtimestamp(at).date() for at in times}) > 1
    form = "%m-%d %H:%M:%S" if day else "%H:%M:%S"
    lines = []
    for at in times:
        cells = [said(one, found.get(at)) for one, found in zip(series, by_time, strict=True)]
        lines.append([datetime.fromtimestamp(at).strftime(form), *cells])
    show.table(head, lines)
    click.echo(f"each of {units.duration(answer['step_s'])}, from points of {answer['source']}")


def whose(one: dict[str, Any]) -> str:
    app, instance = one.get("app") or "", one.get("instance") or ""
    return instance or app or "all"


def said(one: dict[str, Any], value: float | None) -> str:
    """With its unit, as a person reads it."""
    if value is None:
        return ""
    unit, per = one["unit"], "/s" if one["stat"] == "rate" else ""
    if one["stat"] == "count":
        return units.count(value)
    if unit.startswith("second"):
        return units.duration(value) + per
    if unit.startswith("byte"):
        return units.size(value) + per
    return (f"{value:,.2f}" if abs(value) < 9.995 and value != int(value) else f"{value:,.0f}") + per
