"""Service health, put together: the self-check, who looks, the incidents, the status page. One call each second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import psutil

from proxy.control.incidents.engine import Incidents
from proxy.control.incidents.look import Look
from proxy.control.incidents.numbers import IncidentNumbers
from proxy.control.one_task import OneTask
from proxy.control.self_check import SelfCheck
from proxy.control.status_page import StatusPage

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

BEGIN_EVERY: Final = 10.0
"""Seconds between two tries to read from the store what was open before this start."""


class Health:
    """`fresh`: everything starts now, and not this control alone."""

    def __init__(self, gateway: Gateway, fresh: bool) -> None:
        self._gateway = gateway
        self._numbers = IncidentNumbers(gateway.shared.numbers)
        self._begun = 0.0
        self._beginning = OneTask("incidents-begin", self._broke)
        self.look = Look(gateway, fresh, self._broke)
        self.self_check = SelfCheck(
            lambda: gateway.listeners, lambda: gateway.worker_set.tls, lambda: gateway.config.gateway,
            self._answering, self._broke,
        )  # fmt: skip
        self.incidents = Incidents(
            say=gateway.shared.event,
            keep=gateway.shared.noted,
            store=gateway.store,
            number=self._numbers.take,
            scenes=self.look.scenes,
            broke=self._broke,
            events=lambda: gateway.events.ring,
        )
        self.incidents.paused = lambda: gateway.stopping
        self.incidents.check = lambda: self.self_check.last
        self.page = StatusPage(gateway, self.incidents, self._broke)
        gateway.events.listeners += [self.look.on_event, self.incidents.on_event]
        self.incidents.listeners.append(self.page.on_incident)
        self._told = ""

    async def begin(self, next_number: int) -> None:
        """After the store was opened."""
        self._numbers.at_least(next_number)
        await self.incidents.begin(self._launched())

    def tick(self, now: float) -> None:
        """Once a second; `now` is monotonic."""
        if self._gateway.stopping:
            return
        if not self.incidents.begun and now - self._begun >= BEGIN_EVERY and not self._beginning.running:
            self._begun = now
            self._beginning.start(self.incidents.begin(self._launched()))
        self.self_check.tick(now)
        self.incidents.tick(now)
        self.page.tick(now)

    async def close(self) -> None:
        """What is open stays open: who comes next goes on with it, or closes it with the time of this end."""
        self.incidents.leave()
        await self._beginning.close()
        await self.self_check.close()
        await self.look.close()
        await self.page.close()

    def _answering(self) -> bool:
        """Somebody has a table; a worker that dies later leaves its backlog to the next."""
        return any(worker.acked for worker in self._gateway.workers)

    def _launched(self) -> float:
        """Unix seconds of the launcher's start."""
        try:
            return psutil.Process(self._gateway.launcher_pid).create_time()
        except psutil.Error:
            return time.time()

    def _broke(self, error: Exception) -> None:
        """A defect: said once, and looking goes on."""
        text = f"looking for incidents failed: {error!r}"
        if text != self._told:
            self._told = text
            self._gateway.log.error("defect", text)

    def dump(self) -> dict[str, Any]:
        return self.incidents.dump()

    def load(self, raw: dict[str, Any]) -> None:
        self.incidents.load(raw)
