"""The registry of ways, in the order of the docs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.config import Notify
from proxy.control.alerts.notifiers import command, email, slack, webhook
from proxy.control.alerts.notifiers.contract import Notifier, Place

WAYS: Final[dict[str, Callable[[str, Notify, Place], Notifier]]] = {
    "webhook": webhook.make,
    "slack": slack.make,
    "email": email.make,
    "command": command.make,
}


def way(notify: Notify) -> str:
    """Its key in the config; exactly one is set."""
    return next(name for name in WAYS if getattr(notify, name) is not None)


def make(name: str, notify: Notify, place: Place) -> Notifier:
    return WAYS[way(notify)](name, notify, place)
