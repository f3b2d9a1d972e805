"""Alerts as people and the API see them: rules, notifiers, messages. Times are Unix seconds, 0.0 means never."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from proxy import units
from proxy.control.alerts import builtin
from proxy.control.alerts.builtin import BUILTIN, DEFAULT, DOWN
from proxy.control.alerts.notifiers import way
from proxy.control.autoheal import words
from proxy.control.store.messages import SHOWN
from proxy.control.store.reader import NotReadable

if TYPE_CHECKING:
    from proxy.control.alerts.engine import Alerts


def rules(alerts: Alerts) -> list[dict[str, Any]]:
    """Rules, configured ones first: of each its subjects."""
    found = []
    for rule in alerts.rules.rules:
        subjects = [*alerts.rules.subjects(rule)]
        for subject in subjects:
            status = alerts.rules.status.get((rule.name, subject))
            seen = status.seen if status is not None else None
            found.append(
                {
                    "id": f"{rule.name}/{subject.app or subject.scope}", "name": rule.name, "app": subject.app,
                    "scope": subject.scope, "builtin": False, "when": words.described(rule.when),
                    "notify": list(rule.notify), "state": status.state if status is not None else "watching",
                    "value": seen.value if seen is not None else None,
                    "words": seen.words if seen is not None else "not looked at yet",
                    "last_fired": status.fired_unix if status is not None else 0.0,
                    "muted_until": alerts.muted_until(subject.app) or 0.0,
                }
            )  # fmt: skip
        if not subjects:
            found.append(
                {
                    "id": rule.name, "name": rule.name, "app": "", "scope": "gateway", "builtin": False,
                    "when": words.described(rule.when), "notify": list(rule.notify), "state": "watching",
                    "value": None, "words": "there is nothing that it looks at", "last_fired": 0.0,
                    "muted_until": 0.0,
                }
            )  # fmt: skip
    return found + [_builtin(alerts, one) for one in (DOWN, *BUILTIN, DEFAULT)]


def _builtin(alerts: Alerts, one: builtin.Builtin) -> dict[str, Any]:
    now, state, says = time.monotonic(), "watching", ""
    for incident in alerts.incidents.open.values():
        track = alerts.tracks.get(incident.number)
        if track is None or builtin.replaced(alerts.config, one.name, incident.subject.app):
            continue
        for met, lasted in builtin.meant(track.signals, incident.severity, now):
            if met.name == one.name and (not says or lasted):
                says = f"{incident.id}: {incident.cause}"
                state = "firing" if lasted else "met"
    if builtin.replaced(alerts.config, one.name, ""):
        says = f"[[alerts]] {one.name} takes its place"
    return {
        "id": f"builtin/{one.name}", "name": one.name, "app": "", "scope": "", "builtin": True, "when": one.about,
        "notify": list(alerts.outboxes) if one.after is not None else [], "state": state, "value": None,
        "words": says, "last_fired": alerts.fired.get(one.name, 0.0), "muted_until": 0.0,
    }  # fmt: skip


def notifiers(alerts: Alerts) -> list[dict[str, Any]]:
    """As they do."""
    return [
        {
            "id": name, "kind": way(alerts.config.notify[name]), "target": outbox.notifier.target,
            "state": outbox.state, "last": outbox.condition.sent_at, "error": outbox.condition.error,
            "failing_since": outbox.condition.failing_since, "waiting": outbox.waiting,
            "sent": outbox.condition.sent, "dropped": outbox.condition.lost,
        }
        for name, outbox in alerts.outboxes.items()
    ]  # fmt: skip


async def messages(alerts: Alerts) -> list[dict[str, Any]]:
    """The newest, those on their way first."""
    waiting = [
        _shown(one.message.id, one.message.at, one.message.number, name, state, one.tries, one.error,
               one.message.kind, one.message.title)
        for name, outbox in alerts.outboxes.items()
        for one, state in outbox.messages()
    ]  # fmt: skip
    rows = {row.id: row for row in alerts.sent}
    if len(rows) < SHOWN:
        try:
            rows = {row.id: row for row in await alerts.store.messages(limit=SHOWN)} | rows
        except NotReadable:
            pass  # what is in memory has to do
    ended = [
        _shown(row.id, row.at, row.incident, row.notifier, row.state, row.tries, row.error, row.kind, row.title)
        for row in sorted(rows.values(), key=lambda row: -row.id)
    ]
    return (sorted(waiting, key=lambda one: str(one["id"]), reverse=True) + ended)[:SHOWN]


def notices(alerts: Alerts) -> Iterator[str]:
    """What an operator should know, and would not look for."""
    for name, outbox in alerts.outboxes.items():
        condition = outbox.condition
        if outbox.state == "failing" and condition.said:
            since = units.duration(max(0.0, time.time() - condition.failing_since))
            lost = f", {condition.lost} lost" if condition.lost else ""
            yield f"{name} can't be told of alerts, for {since}: {condition.error} ({outbox.waiting} wait{lost})"


def _shown(
    id: int, at: float, incident: int, notifier: str, state: str, tries: int, error: str, kind: str, title: str
) -> dict[str, Any]:
    return {
        "id": f"msg-{id}", "time": at, "incident": f"INC-{incident}" if incident else "", "notifier": notifier,
        "state": state, "attempts": tries, "error": error, "event": kind, "title": title,
    }  # fmt: skip

