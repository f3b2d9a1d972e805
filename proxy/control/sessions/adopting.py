"""Sessions that a former control had begun: what runs goes on, what ended meanwhile is ended, what is gone is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from proxy.control.sessions import folders
from proxy.control.sessions.run import KIND, Run
from proxy.control.sessions.session import Session
from proxy.link.spawn import ChildState

if TYPE_CHECKING:
    from proxy.control.sessions.engine import Sessions

NUMBERS: Final = "(sessions)"
"""No app can be called so."""
SCAN: Final = 60.0
"""Seconds for the list of what was kept."""
SCAN_WITHIN: Final = 3.0
"""Seconds that a start waits for it."""


class Adoption:
    """At the start of control, once. `running`: children of the launcher by the session that they are of."""

    def __init__(self, sessions: Sessions, children: Iterable[ChildState]) -> None:
        self._sessions = sessions
        self._running = {str((one["note"] or {}).get("session", "")): one for one in children if one["kind"] == KIND}

    async def run(self) -> None:
        """Those of the ledger now; those that only their folders tell of as soon as the disk answers."""
        sessions = self._sessions
        scan = asyncio.ensure_future(sessions.in_thread(lambda: folders.read_all(sessions.parent), SCAN))
        await asyncio.wait([scan], timeout=SCAN_WITHIN)
        if scan.done():
            self._scanned(scan)
        else:
            sessions.shared.numbers.at_least(NUMBERS, int(time.time()))  # a number is never given twice
            scan.add_done_callback(self._scanned)
        for session in sessions.every():
            self._go_on(session)
        for child in self._running.values():
            if not any(run.session.child == child["name"] for run in sessions.runs.values()):
                sessions.task(self._end_child(child["name"]))

    def _scanned(self, scan: asyncio.Future[list[Session]]) -> None:
        if scan.cancelled() or scan.exception() is not None:
            return
        for session in scan.result():
            self._sessions.shared.numbers.at_least(NUMBERS, session.number + 1)
            if self._sessions.remember(session):
                self._go_on(session)

    def _go_on(self, session: Session) -> None:
        sessions = self._sessions
        if not session.active or session.number in sessions.runs:
            return
        child = self._running.get(session.id)
        run = sessions.runs[session.number] = Run(sessions, session)
        if child is not None:
            session.child = child["name"]
            sessions.task(run.follow())
        elif session.child and (record := sessions.early_exit(session.child)) is not None:
            run.exited(record)
            sessions.task(run.follow())
        else:
            sessions.task(run.lost())

    async def _end_child(self, name: str) -> None:
        """Nobody knows what it is."""
        with contextlib.suppress(Exception):
            await self._sessions.shared.launcher.signal(name, 9, to="group")
