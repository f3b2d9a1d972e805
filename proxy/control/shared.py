"""What control's parts have in common: each gets this instead of the root object.

The two callables that matter most:
  - `changed()` says that something workers or a successor must know has changed: a new table and a new ledger follow,
    once per turn of the loop however often it is called. `noted()` says it of what only a successor must know;
  - `left()` waits until every live worker has acknowledged the newest table.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.control.by_hand import Book
from proxy.control.dns import Watcher
from proxy.control.fate import OomWatch
from proxy.control.launcher import Launcher
from proxy.control.limits import Limits
from proxy.control.log import Log
from proxy.control.logs.writer import LogWriter
from proxy.control.names import Numbers, Rows
from proxy.control.operations import Asked, Operation, Operations
from proxy.control.state import AppState, Event, Events, InstanceState
from proxy.link import messages as link
from proxy.link.board import Board
from proxy.link.spawn import Plan

if TYPE_CHECKING:
    from proxy.control.logs.book import LogBook


@dataclass(slots=True)
class Shared:
    launcher: Launcher
    plan: Plan
    log: Log
    events: Events
    board: Board
    numbers: Numbers
    rows: Rows
    logs: LogWriter
    dns: Watcher
    oom: OomWatch
    limits: Limits
    changed: Callable[[], None]
    noted: Callable[[], None]
    left: Callable[[], Awaitable[None]]
    broadcast: Callable[[link.ToWorker], None]  # to all workers
    operations: Operations = field(init=False)
    by_hand: Book = field(init=False)
    logbook: LogBook = field(init=False)
    collect: Callable[[AppState, InstanceState, Operation], Awaitable[str]] | None = None
    """Takes evidence before an instance ends, in bounded time; never raises; answers what came of it in words."""
    diagnose: Callable[[AppState, str, Asked], Awaitable[str]] | None = None
    """A session of an app or an instance, until it has gathered; what came of it. Raises NotPossible."""
    ports: set[int] = field(default_factory=set)  # given to instances
    stopping: bool = False
    stop_by: float = math.inf  # monotonic; when Triage stops, instances are killed then

    @property
    def data_dir(self) -> Path:
        return Path(self.plan["data_dir"])

    def __post_init__(self) -> None:
        self.operations = Operations(self.event, self.noted)
        self.by_hand = Book(self.data_dir / "by_hand.json", self.event, self.noted)

    def event(self, kind: str, text: str, app: str = "", instance: str = "", **details: Any) -> Event:
        """Remember it, and write it to Triage's log."""
        bad = kind in _WARNINGS
        (self.log.warning if bad else self.log.info)(kind, text, app=app, instance=instance, **details)
        return self.events.add(kind, text, app, instance, **details)


_WARNINGS = frozenset(
    {"exited", "backoff", "failed", "ejected", "failing", "too-slow", "hint", "drain-cut", "worker-died", "suspect",
     "worker-silent", "worker-protocol", "reload-refused", "control-restarted", "will-not-end", "dns",
     "launcher-refused", "would-eject", "watch-refused", "watch-cut", "watch-unrest",
     "watch-often", "aborted", "killed", "not-replaced", "by-hand-lost", "by-hand-unsaved",
     "store-failing", "store-set-aside", "incident-opened", "incident-reopened",
     "incident-cause", "status-page", "notify-failing", "notify-lost", "agent",
     "tokens-damaged", "token-weak", "login-refused", "certificate-not-read"}
)  # fmt: skip
