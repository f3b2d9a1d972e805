"""Where the app runs, with what, how it is configured, and what changed of late; values masked by their names."""

from __future__ import annotations

from typing import Any, Final

from proxy import masking, units
from proxy.diagnostics.artifacts import Changes, Environment, Runtime
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, cut, facts, fold, join, moment, quiet, table, tag
from proxy.link.session import App

VARIABLES: Final = 150
FILES: Final = 60
LINES: Final = 120
INSTANCES: Final = 12


def data(contents: Contents) -> Data:
    changes = contents.one(Changes)
    return {
        "app": _app(contents.known.app) if contents.is_known else None,
        "changes": _changes(changes) if changes else None,
        "instances": [_environment(name, one) for name, one in list(contents.each(Environment).items())[:INSTANCES]],
    }


def _app(one: App) -> Data:
    return {
        "state": one.state, "wanted": one.wanted, "ready": one.ready,
        "command": cut(" ".join(masking.arguments(one.command)), 400),
        "cwd": one.cwd, "bind": one.bind, "balance": one.balance, "max_inflight": one.max_inflight,
        "queue_size": one.queue_size,
        "queue_timeout": one.queue_timeout, "connect": one.connect, "first_byte": one.first_byte, "idle": one.idle,
        "total": one.total, "retries": one.retries, "health_path": one.health_path,
        "health_interval": one.health_interval,
        "memory_limit": one.memory_limit, "cpu_limit": one.cpu_limit, "version": cut(one.version, 80),
        "by_hand": {cut(name, 60): cut(value, 200) for name, value in list(one.by_hand.items())[:20]},
        "mending": [cut(rule, 200) for rule in one.mending[:30]],
        "suspects": [cut(each, 200) for each in one.suspects[:20]],
    }  # fmt: skip


def _changes(one: Changes) -> Data:
    return {
        "note": cut(one.note, 400), "looked_at": one.looked_at, "config_at": one.config_at,
        "commit": cut(one.commit, 80),
        "files": [{"path": cut(each.path, 300), "at": each.at, "size": each.size} for each in one.files[:FILES]],
        "config": [cut(line, 300) for line in one.config[:LINES]],
        "commits": [{"at": at, "subject": cut(subject, 200)} for at, subject in one.commits[:20]],
    }  # fmt: skip


def _environment(name: str, one: Environment) -> Data:
    return {
        "instance": name, "note": cut(one.note, 400), "gateway": _pairs(one.gateway), "host": _pairs(one.host),
        "variables": {cut(key, 120): cut(masking.masked(key, value), 300) for key,
            value in list(one.variables.items())[:VARIABLES]},
        "limits": {cut(key, 60): list(limit) for key, limit in list(one.limits.items())[:30]},
        "runtimes": [_runtime(each) for each in one.runtimes[:8]],
    }  # fmt: skip


def _runtime(one: Runtime) -> Data:
    return {
        "pid": one.pid, "name": one.name, "version": one.version, "server": one.server,
        "server_version": one.server_version,
        "workers": one.workers, "packages": _pairs(one.packages), "settings": _pairs(one.settings),
    }  # fmt: skip


def _pairs(given: dict[str, str]) -> dict[str, str]:
    return {cut(name, 120): cut(masking.masked(name, value), 300) for name, value in list(given.items())[:80]}


# --- HTML --------------------------------------------------------------------------------------------


def html(data: Data) -> Html:
    return join(
        _of_changes(data["changes"]), _of_app(data["app"]),
        *(fold(f"{one['instance']}: environment", _of_instance(one)) for one in data["instances"]),
    )  # fmt: skip


def _of_changes(one: dict[str, Any] | None) -> Html:
    if one is None:
        return quiet("What changed was not looked at.")
    files = [
        (moment(each["at"], day=True), tag("code", each["path"]), units.size(each["size"])) for each in one["files"]
    ]
    commits = [(moment(each["at"], day=True), each["subject"]) for each in one["commits"]]
    since = join(" since ", moment(one["config_at"], day=True)) if one["config_at"] else None
    return join(
        quiet(f"Looked at: {units.several(one['looked_at'], 'file')}. {one['note']}"),
        tag("p", "Commit ", tag("code", one["commit"])) if one["commit"] else None,
        table(("Changed", "File", "Size"), files, num=(2,),
            wide=1) if files else quiet("No file of the app changed of late."),
        fold("Commits", table(("When", "Subject"), commits, wide=1)) if commits else None,
        fold(join("Change of the config", since), tag("pre", "\n".join(one["config"]))) if one["config"] else None,
    )  # fmt: skip


def _of_app(one: dict[str, Any] | None) -> Html | None:
    if one is None:
        return None
    pairs = [
        ("Instances", f"{one['ready']} ready of {one['wanted']}"),
        ("Command", tag("code", one["command"]) if one["command"] else ""),
        ("Folder", one["cwd"]), ("Balance", one["balance"]), ("In flight at most, each", one["max_inflight"] or ""),
        ("Queue", f"{one['queue_size']} for {units.duration(one['queue_timeout'])}" if one["queue_size"] else ""),
        *((f"Limit: {label}", units.duration(one[name]) if one[name] else "") for name, label in (
            ("connect", "connecting"), ("first_byte", "first byte"), ("idle", "silence within a body"),
            ("total", "whole request"))),
        ("Health check", f"{one['health_path'] or 'by connecting'} each {units.duration(one['health_interval'])}"),
        ("Memory at most", units.size(one["memory_limit"]) if one["memory_limit"] else ""),
        ("CPU at most", f"{one['cpu_limit']:g} cores" if one["cpu_limit"] else ""), ("Version", one["version"]),
        ("Suspect requests", ", ".join(one["suspects"])), ("Rules of autoheal", "; ".join(one["mending"])),
        *((f"By hand: {name}", value) for name, value in one["by_hand"].items()),
    ]  # fmt: skip
    return fold("How the app is configured", facts(pairs))


def _of_instance(one: dict[str, Any]) -> Html:
    parts: list[Html | None] = [quiet(one["note"]) if one["note"] else None]
    for each in one["runtimes"]:
        title = " ".join(
            part for part in (each["name"], each["version"], each["server"], each["server_version"]) if part
        )
        pairs = [("Workers", each["workers"]), *each["settings"].items(), *each["packages"].items()]
        parts += [tag("h3", f"Process {each['pid']}: {title}"), facts(pairs)]
    parts += [facts([*one["host"].items(), *one["gateway"].items()])]
    rows = [(tag("code", name), value) for name, value in one["variables"].items()]
    parts.append(
        fold(units.several(len(rows), "variable"), table(("Variable", "Value"), rows, wide=1)) if rows else None
    )
    limits = [(name, *limit) for name, limit in one["limits"].items() if len(limit) == 2]
    parts.append(fold("Limits", table(("Limit", "Soft", "Hard"), limits, num=(1, 2))) if limits else None)
    return join(*parts)
