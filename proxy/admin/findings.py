"""Findings for an answer: of the sessions near its time, and drawn at once from what control knows.

What a session found goes before what is drawn now: it has seen more. A folder is read in a thread, and once; what is
drawn now is drawn at most each FRESH seconds for an app.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from proxy.admin.hanging import Hanging
from proxy.control.incidents.incident import Incident
from proxy.control.sessions.known import gather
from proxy.control.sessions.seconds import REST
from proxy.control.sessions.session import Session
from proxy.control.state import AppState
from proxy.diagnostics.analyze import Gathered, run
from proxy.diagnostics.analyzers import ANALYZERS
from proxy.diagnostics.analyzers.contract import SURE, Analysis, Finding
from proxy.diagnostics.verdict import for_request, order, roots
from proxy.link.messages import Record
from proxy.link.session import FINDINGS, Known

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

BEFORE: Final = 900.0
"""Seconds before a session that its evidence reaches back: rings and flight recorder."""
AFTER: Final = 300.0
"""Seconds after it for which its findings still account for what fails alike."""
LASTS: Final = 30.0
"""Seconds after its last sign for which something is still wrong with an app."""
NEAR: Final = 4
"""Sessions that are looked at for one answer, the nearest first."""
READ: Final = 32
"""Sessions whose findings are kept in memory."""
DISK: Final = 2.0
"""Seconds for reading them."""
FRESH: Final = 5.0
WITHIN: Final = 0.6
"""Seconds that drawing them now may take: an answer is there within one, with the stacks that are taken meanwhile."""


class Told(NamedTuple):
    """A finding; `session` is where it was found, "" where it was drawn now. `at`: Unix seconds."""

    finding: Finding
    session: str
    at: float


class Findings:
    """One for the admin API; `gateway.sessions` is asked for what there is."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._read: OrderedDict[Path, tuple[int, list[Finding]]] = OrderedDict()
        self.hanging = Hanging(gateway.stacks)
        self._drawn: dict[str, tuple[float, asyncio.Future[list[Finding]]]] = {}

    def __repr__(self) -> str:
        return f"<Findings of {len(self._read)} sessions>"

    async def of_request(self, record: Record) -> Told | None:
        """The one that accounts for it, the surest of all that do; None: none does."""
        found: list[Told] = []
        for session, findings in await self._near(record.app, record.time):
            until = session.ended or time.time()
            one = for_request([_stretched(each, until) for each in findings], record)
            if one is not None:
                found.append(Told(one, session.id, session.began))
        if not any(SURE[told.finding.certainty] for told in found):
            state = self._gateway.apps.get(record.app)
            one = for_request(await self._now(state), record) if state is not None else None
            if one is not None:
                found.append(Told(one, "", time.time()))
        return max(found, key=lambda told: SURE[told.finding.certainty], default=None)

    async def of_app(self, state: AppState) -> Told | None:
        """What lies behind what is wrong with it now; None: nothing is known to be."""
        now = time.time()
        for session, findings in await self._near(state.name, now):
            ended = session.ended or now
            lasting = [each for each in findings if now <= (_stretched(each, ended).until or now) + LASTS]
            if now - ended <= AFTER and (first := _first(lasting)) is not None:
                return Told(first, session.id, session.began)
        first = _first(one for one in await self._now(state) if now <= (one.until or now) + LASTS)
        return Told(first, "", now) if first is not None else None

    async def of_incident(self, incident: Incident) -> Told | None:
        """What the session found that it began, or another one in its span."""
        app = incident.subject.app
        near = await self._near(app, incident.began) if app else []
        near.sort(key=lambda each: each[0].trigger.incident != incident.id)
        for session, findings in near:
            if (first := _first(findings)) is not None:
                return Told(first, session.id, session.began)
        return None

    def running(self, app: str) -> str:
        """Id of the session that is under way; "" if there is none."""
        return next((one.id for one in self._gateway.sessions.list(app) if one.active), "")

    async def _near(self, app: str, at: float) -> list[tuple[Session, list[Finding]]]:
        """Sessions whose evidence may be about that time, the nearest first, with what they found."""
        now = time.time()
        fitting = [
            one for one in self._gateway.sessions.list(app) if one.began - BEFORE <= at <= (one.ended or now) + AFTER
        ]
        fitting.sort(key=lambda one: (max(0.0, one.began - at), abs(one.began - at)))
        folders = [(one, self._gateway.sessions.folder(one)) for one in fitting[:NEAR]]
        try:
            return await self._gateway.sessions.in_thread(
                lambda: [(one, self._findings(folder)) for one, folder in folders], DISK
            )
        except TimeoutError:
            return []

    def _findings(self, folder: Path) -> list[Finding]:
        """In a thread."""
        path = folder / FINDINGS
        try:
            stamp = path.stat().st_mtime_ns
            known = self._read.get(folder)
            if known is None or known[0] != stamp:
                analysis = msgspec.json.decode(path.read_bytes(), type=Analysis)
                known = (stamp, analysis.findings)
                self._read[folder] = known
                while len(self._read) > READ:
                    self._read.popitem(last=False)
            return known[1]
        except (OSError, msgspec.MsgspecError):
            return []

    async def _now(self, state: AppState) -> list[Finding]:
        """Drawn from what control knows, without a session."""
        at, task = self._drawn.get(state.name, (0.0, None))
        if task is None or (task.done() and time.monotonic() - at > FRESH):
            task = asyncio.ensure_future(self._draw(state))
            self._drawn[state.name] = (time.monotonic(), task)
        done, _ = await asyncio.wait([task], timeout=WITHIN)
        return task.result() if done and task.exception() is None else []

    async def _draw(self, state: AppState) -> list[Finding]:
        taken = await gather(self._gateway, state)
        return await asyncio.to_thread(lambda: drawn(taken.whole()))


def drawn(known: Known) -> list[Finding]:
    """What analyzers conclude from that alone, in order."""
    gathered = Gathered()
    gathered.known = known
    found: list[Finding] = []
    for analyzer in ANALYZERS:
        found += run(analyzer, gathered)[1]
        time.sleep(REST)
    return order(found)


def _first(findings: Iterable[Finding]) -> Finding | None:
    return next(iter(roots(findings)), None)


def _stretched(finding: Finding, ended: float) -> Finding:
    """What went on at the session's end accounts for what failed alike soon afterwards."""
    if not finding.until or finding.until >= ended - 5.0:
        return msgspec.structs.replace(finding, until=ended + AFTER)
    return finding
