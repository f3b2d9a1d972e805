"""Alertmanager's webhook, version 4, signed: what PagerDuty, Opsgenie, Grafana OnCall and many more can read.

An incident is one group (`groupKey`) with one alert in it, whose labels stay the same until it is resolved. Only its
severity may become worse: then the alert with the former severity is sent along as resolved, as Alertmanager would.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import replace
from typing import Any, Final

import orjson

from proxy.config import Notify
from proxy.control.alerts.message import Message, iso
from proxy.control.alerts.notifiers.contract import TRY, Notifier, Place
from proxy.control.alerts.notifiers.lane import Lane
from proxy.control.alerts.notifiers.post import post, shown

NEVER: Final = "0001-01-01T00:00:00Z"
"""`endsAt` of an alert that is firing."""


class Webhook:
    limit = TRY

    def __init__(self, name: str, url: str, secret: str, place: Place) -> None:
        self.name = name
        self.target = shown(url)
        self._url = url
        self._secret = secret
        self._place = place
        self._lane = Lane(name)

    async def send(self, message: Message) -> str:
        said = await self._send(message, message.name)
        if message.kind == "test":  # and its end: nobody shall be called out for a test
            said = await self._send(replace(message, ended=time.time()), f"{message.name}-over")
        return said

    async def _send(self, message: Message, id: str) -> str:
        content = orjson.dumps(body(message, self.name))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"Triage/{self._place.version}",
            "X-Triage-Id": id,
        }
        if self._secret:
            timestamp = str(int(time.time()))
            headers["X-Triage-Timestamp"] = timestamp
            headers["X-Triage-Signature"] = signature(self._secret, timestamp, content)
        return await post(self._lane, self._url, content, headers)


def make(name: str, notify: Notify, place: Place) -> Notifier:
    assert notify.webhook is not None
    return Webhook(name, notify.webhook, notify.secret or "", place)


def signature(secret: str, timestamp: str, content: bytes) -> str:
    """HMAC-SHA256 over `timestamp.content`: a receiver that checks the timestamp too can't be sent an old one again."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()


def body(message: Message, receiver: str) -> dict[str, Any]:
    """As Alertmanager makes it."""
    status = "firing" if message.open else "resolved"
    alerts = [_alert(message, message.severity, status)]
    alerts += [_alert(message, severity, "resolved") for severity in message.was if severity != message.severity]
    group = {"alertname": message.alert, **({"incident": message.incident} if message.incident else {})}
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{message.alert}", incident="{message.incident}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": receiver,
        "groupLabels": group,
        "commonLabels": _common(alerts, "labels"),
        "commonAnnotations": _common(alerts, "annotations"),
        "externalURL": message.base,
        "alerts": alerts,
    }


def _alert(message: Message, severity: str, status: str) -> dict[str, Any]:
    labels = {
        "alertname": message.alert,
        **({"incident": message.incident} if message.incident else {}),
        "severity": severity,
        "scope": message.scope,
        "host": message.host,
        **({"app": message.app} if message.app else {}),
        **({"instance": message.instance} if message.instance else {}),
    }
    annotations = {
        "summary": message.summary,
        "description": message.text(),
        "event": message.kind,
        "cause": message.cause,
        "certainty": message.certainty,
        "hit": message.whom,
        "done": "\n".join(text for _, text in message.done),
        "now": message.now,
        "command": message.command,
        "link": message.link,
    }
    return {
        "status": status,
        "labels": labels,
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": iso(message.began),
        "endsAt": NEVER if status == "firing" else iso(message.ended or message.at),
        "generatorURL": message.link,
        "fingerprint": _fingerprint(labels),
    }


def _fingerprint(labels: dict[str, str]) -> str:
    """16 hex digits, the same for the same labels."""
    text = "\xff".join(f"{name}\xff{value}" for name, value in sorted(labels.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _common(alerts: list[dict[str, Any]], what: str) -> dict[str, str]:
    first, *others = (alert[what] for alert in alerts)
    return {name: text for name, text in first.items() if all(other.get(name) == text for other in others)}
