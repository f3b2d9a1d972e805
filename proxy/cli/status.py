"""How `triage status` prints: the verdict, a table for each app, the workers, the gateway."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from proxy import units
from proxy.cli import show
from proxy.cli.show import Column

COLUMNS = (
    Column("instance"),
    Column("state"),
    Column("since", right=True),
    Column("in flight", right=True),
    Column("req/s", right=True),
    Column("p50", right=True),
    Column("p99", right=True),
    Column("memory", right=True),
    Column("CPU", right=True),
    Column("restarts", right=True),
    Column("version"),
    Column("why", flexible=True),
)

VERSION = 12  # of a version: enough of a commit
LAST_WORDS = 3  # lines of one that does not start


def print_status(status: dict[str, Any]) -> None:
    show.headline(status["verdict"], status.get("state", ""))
    for app in status["apps"]:
        print_app(app)
    click.echo()
    print_gateway(status["gateway"])


def print_app(app: dict[str, Any]) -> None:
    click.echo()
    show.headline(app_line(app), app["state"])
    if app["instances"]:
        mixed = len({instance.get("version") for instance in app["instances"]}) > 1
        show.table(COLUMNS, [instance_row(instance, mixed=mixed) for instance in app["instances"]])
    print_last_words(app)
    print_limits(app)
    print_notes(app)
    print_mending(app)


def print_instance(instance: dict[str, Any]) -> None:
    """One alone: how it stands, how it came to this, and what it printed last."""
    show.headline(f"{instance['app']}/{instance['id']} is {state(instance)}", state(instance))
    show.table(COLUMNS, [instance_row(instance, mixed=True)])
    print_limits({"instances": [instance]})
    click.echo("path")
    for one in instance.get("path") or []:
        click.echo(show.clean(f"  {show.clock(one['time'])}  {one['lifecycle']:<9} {one['why']}"))
    if lines := instance.get("last_lines"):
        click.echo("last lines")
        for line in lines:
            click.echo(show.clean(f"  {line}"))


def app_line(app: dict[str, Any]) -> str:
    """web  up  2 of 2 ready  88.4 requests/s  3 of 200 in flight"""
    slots = f" of {app['slots']}" if app.get("slots") else ""
    parts = [
        app["id"],
        app["state"],
        f"{app['ready']} of {app['wanted']} ready",
        f"{rate(app['requests_per_s'])} requests/s",
        f"{app['in_flight']}{slots} in flight",
    ]
    if app.get("waiting"):
        oldest = app.get("oldest_wait_ms")
        parts.append(f"{app['waiting']} waiting" + (f", the oldest for {show.ms(oldest)}" if oldest else ""))
    if app.get("suspects"):
        parts.append(f"suspects: {', '.join(app['suspects'])}")
    return "  ".join(map(str, parts))


def print_last_words(app: dict[str, Any]) -> None:
    """Of those that do not start: what they printed before they ended."""
    for instance in app["instances"]:
        last = instance.get("last_exit") or {}
        if instance["lifecycle"] in ("backoff", "failed") and last.get("last_lines"):
            note(f"{instance['id']} ended: {last['words']}. It printed last:")
            for line in last["last_lines"][-LAST_WORDS:]:
                note(f"  {line}")


def print_limits(app: dict[str, Any]) -> None:
    """How memory and CPU of its instances are limited, each way once."""
    found = {}
    for one in app["instances"]:
        limits = [f"memory {units.size(one['memory_limit'])}"] if one.get("memory_limit") else []
        limits += [f"{one['cpu_limit']:g} core{'' if one['cpu_limit'] == 1 else 's'}"] if one.get("cpu_limit") else []
        if limits:
            why = f" ({one['limits_why']})" if one.get("limits_why") else ""
            found[f"{', '.join(limits)}: {one.get('limited_by') or 'not in force yet'}{why}"] = True
    for said in found:
        note(f"limits     {said}")


def print_notes(app: dict[str, Any]) -> None:
    """What differs from the config, and what is under way."""
    for key, one in (app.get("by_hand") or {}).items():
        note(f"by hand    {setting(key, one)}")
    for one in app.get("operations") or []:
        last = f": {one['last']}" if one.get("last") else ""
        began = show.clock(one["time"])
        note(f"under way  {one['id']} {one['act']} of {one['target']}, {one['by']}, since {began}{last}")


def print_mending(app: dict[str, Any]) -> None:
    """Rules that act, are kept from acting, or are close to it; what scaling waits for."""
    rules = app.get("autoheal") or {}
    for one in rules.get("acting") or []:
        note(f"autoheal   {one['rule']}: {one['why']}")
    held = rules.get("suppressed") or []
    for one in held:
        until = f" until {show.clock(one['until'])}" if one.get("until") else ""
        note(f"autoheal   {one['rule']} is suppressed{until}: {one['why']}")
    near = rules.get("nearest")
    if near and near["rule"] not in [one["rule"] for one in (*held, *(rules.get("acting") or []))]:
        on = f"{near['instance']}: " if near["instance"] else ""
        note(f"autoheal   {near['rule']} is near: {on}{near['distance']}")
    scaler = app.get("scaler")
    if scaler:
        note(f"scaling    {scaler['count']} of {scaler['min']} to {scaler['max']}: {scaler['words']}")


def setting(key: str, one: dict[str, Any]) -> str:
    """ "count 3, until 04:00:00 +01:00, set 03:07:41 +01:00: a sale" """
    value = one["value"]
    if key.startswith("ejected "):
        said = key
    elif key == "memory":
        said = f"memory {units.size(value)}"
    else:
        said = f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
    until = f", until {show.clock(one['until'])}" if one.get("until") else ""
    why = f": {one['why']}" if one.get("why") and one["why"] != one["by"] else ""
    return f"{said}{until}, set {show.clock(one['time'])}{why}"


def note(text: str) -> None:
    """On a terminal folded, so that what belongs together stands together."""
    said = show.clean(f"  {text}")
    if show.on_terminal():
        said = "\n".join(textwrap.wrap(said, show.width(), subsequent_indent=" " * 13, drop_whitespace=True))
    click.echo(said)


def instance_row(instance: dict[str, Any], *, mixed: bool) -> list[str]:
    """`mixed`: not all are of the same version, so each is said."""
    response = instance.get("response_ms") or {}
    slots = f"/{instance['slots']}" if instance.get("slots") else ""
    memory, cpu = instance.get("memory"), instance.get("cpu")
    return [
        instance["id"],
        state(instance),
        show.seconds(instance.get("uptime_s")),
        f"{instance['in_flight']}{slots}",
        rate(instance.get("requests_per_s") or 0),
        show.ms(response.get("p50")),
        show.ms(response.get("p99")),
        units.size(memory) if memory else "",
        f"{cpu:.2f}" if cpu is not None else "",
        str(instance["restarts"]) if instance.get("restarts") else "",
        str(instance.get("version") or "")[:VERSION] if mixed else "",
        why(instance),
    ]


def state(instance: dict[str, Any]) -> str:
    """One word: the lifecycle, or what is more telling of one that is ready."""
    if instance["lifecycle"] != "ready":
        return str(instance["lifecycle"])
    if instance.get("admission", "admitting") != "admitting":
        return str(instance["admission"])
    return "failing" if instance.get("failing") else "ready"


def why(instance: dict[str, Any]) -> str:
    """Why it is not simply ready, or how the one before it ended."""
    if instance.get("why") and state(instance) != "ready":
        return str(instance["why"])
    if instance.get("ejected_by"):
        return f"by {instance['ejected_by']}"
    health = instance.get("health") or {}
    if health and not health.get("ok", True):
        return f"check: {health.get('words', 'failed')}"
    if last := instance.get("last_exit"):
        return f"before: {last['words']}"
    return ""


def print_gateway(gateway: dict[str, Any]) -> None:
    workers = gateway.get("workers") or []
    if workers:
        click.echo("workers  " + " · ".join(map(worker, workers)))
    config, clock = gateway.get("config") or {}, show.clock
    where = f"{config['path']} loaded {clock(config['loaded'])}" if config.get("path") else "no config file"
    click.echo(
        f"gateway  Triage {gateway['version']}, pid {gateway['pid']}, up "
        f"{units.duration(gateway['uptime_s'])}, {', '.join(gateway['listen'])}, admin {gateway['admin']}"
        + (", draining" if gateway.get("draining") else "")
    )
    click.echo(f"config   {where}")
    if config.get("error"):
        click.echo(show.clean(f"         the last reload was refused: {config['error']}"))
    for notice in gateway.get("notices") or []:
        click.echo(show.clean(f"notice   {notice}"))


def worker(worker: dict[str, Any]) -> str:
    said = [f"{worker['id']} {worker['state']}", f"{worker['connections']} connections"]
    if worker.get("tunnels"):
        said.append(f"{worker['tunnels']} tunnels")
    said.append(f"lag {show.ms(worker.get('lag_max_ms') or 0)}")
    if worker.get("memory"):
        said.append(units.size(worker["memory"]))
    if worker.get("shedding"):
        said.append(f"shedding: {worker['shedding']}")
    return show.clean(", ".join(said))


def rate(per_second: float) -> str:
    return f"{per_second:,.1f}" if per_second < 99.95 else units.count(per_second)
