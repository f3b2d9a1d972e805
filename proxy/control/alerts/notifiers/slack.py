"""Slack's incoming webhooks: a text for notifications, and blocks."""

from __future__ import annotations

from typing import Any, Final

import orjson

from proxy.config import Notify
from proxy.control.alerts.message import Message
from proxy.control.alerts.notifiers.contract import TRY, Notifier, Place
from proxy.control.alerts.notifiers.lane import Lane
from proxy.control.alerts.notifiers.post import post, shown

HEADER: Final = 150
SECTION: Final = 3000
"""Characters that Slack takes; a longer one is refused as a whole."""


class Slack:
    limit = TRY

    def __init__(self, name: str, url: str, place: Place) -> None:
        self.target = shown(url)
        self._url = url
        self._place = place
        self._lane = Lane(name)

    async def send(self, message: Message) -> str:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"Triage/{self._place.version}",
            "X-Triage-Id": message.name,
        }
        return await post(self._lane, self._url, orjson.dumps(body(message)), headers)


def make(name: str, notify: Notify, place: Place) -> Notifier:
    assert notify.slack is not None
    return Slack(name, notify.slack, place)


def body(message: Message) -> dict[str, Any]:
    lines, before = [], ""
    for word, line in message.lines():
        if word != "LOOK":
            lines.append(f"{'' if word == before else f'*{word}* '}{escaped(line)}")
            before = word
    link = f"`{escaped(message.command)}`   <{message.link}|{message.incident or 'Triage'}>"
    return {
        "text": _cut(escaped(message.summary), SECTION),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": _cut(message.title, HEADER)}},
            {"type": "section", "text": {"type": "mrkdwn", "text": _cut("\n".join(lines), SECTION)}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": _cut(link, SECTION)}]},
        ],
    }


def escaped(text: str) -> str:
    """The three letters that mean something: no line of an app calls `<!channel>`."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
