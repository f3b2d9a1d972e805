"""What a notifier is, and how a try fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from proxy.control.alerts.message import Message

TRY: float = 10.0
"""Seconds of one try."""


class Failed(Exception):
    """A try that did not bring the message; the text has no secret in it.

    `again`: whether another try may. `after`: seconds that the receiver asks to be left alone."""

    def __init__(self, text: str, *, again: bool = True, after: float = 0.0) -> None:
        super().__init__(text)
        self.again = again
        self.after = after


@dataclass(frozen=True, slots=True)
class Place:
    """Where it runs."""

    folder: str  # that commands start in
    host: str  # this machine's name
    version: str


class Notifier(Protocol):
    """Made anew when its config changes."""

    @property
    def target(self) -> str:
        """Who is told, for people: without secrets."""

    @property
    def limit(self) -> float:
        """Seconds that a try may take; then it is ended."""

    async def send(self, message: Message) -> str:
        """What came of it, in a few words. Raises Failed; cancelled at `limit` it leaves nothing behind."""
