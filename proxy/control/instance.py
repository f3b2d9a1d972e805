"""What both kinds of instance share: a loop over the lifecycle, and probes.

A runner is one task. It looks at the state's lifecycle, does what belongs to it until that ends, and looks again: so
a new control that adopts an instance only has to start a runner on the state it read.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from proxy.config import App as AppConfig
from proxy.control import lifecycle
from proxy.control.health import Target, probe
from proxy.control.lifecycle import Action, Event
from proxy.control.shared import Shared
from proxy.control.state import InstanceState, Lifecycle, ProbeResult
from proxy.link import messages as link

POLL: Final = 0.02
"""Seconds between looks at the board while an instance drains."""


class Owner(Protocol):
    """The pool, as an instance sees it."""

    config: AppConfig

    def probed(self, state: InstanceState, result: ProbeResult) -> None: ...
    def moved(self, state: InstanceState) -> None: ...


class Runner:
    """Base of a process's and an address's task."""

    def __init__(self, shared: Shared, owner: Owner, state: InstanceState) -> None:
        self.shared = shared
        self.owner = owner
        self.state = state
        self.ended = asyncio.Event()
        """Its process has ended; set by who hears of the exit."""
        self.leaving = asyncio.Event()
        """It shall go; `state.stop_reason` says why."""

    def step(self, event: Event, why: str) -> Action:
        """Go on in the lifecycle; raises IllegalTransition."""
        state = self.state
        state.lifecycle, action = lifecycle.step(state.lifecycle, event)
        state.why = why
        state.changed_at = time.time()
        self.owner.moved(state)
        self.shared.changed()
        return action

    def leave(self, reason: str) -> None:
        """Drain it, or stop it at once if nothing can be on it."""
        self.state.stop_reason = self.state.stop_reason or reason
        self.leaving.set()

    async def first(self, timeout: float, *, leaving: bool = True) -> bool:
        """Wait; True if it ended or (with `leaving`) shall go before `timeout` seconds have passed."""
        waits = [self.ended.wait(), *([self.leaving.wait()] if leaving else [])]
        return await _any(waits, max(0.0, timeout))

    async def drained(self, limit: float) -> bool:
        """It has left the table: wait until workers know and nothing is on it. False: the limit passed."""
        deadline = time.monotonic() + limit
        await self.shared.left()
        while not self.ended.is_set():
            if self.shared.board.total(self.state.row) <= 0:  # written by other processes: it can only be looked at
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL)
        return self.ended.is_set()

    async def drain(self, limit: float) -> None:
        """Drain, and cut what outlasts the limit."""
        state = self.state
        if await self.drained(limit):
            return
        count = self.shared.board.total(state.row)
        text = f"{count} request{'s' if count != 1 else ''} on {state.name} outlasted the drain limit and were cut"
        self.shared.event("drain-cut", text, state.app, state.name, count=count)
        self.shared.broadcast(link.Cut(state.row, "instance-recycled"))
        deadline = time.monotonic() + 1.0  # the workers write what they still can
        while (  # noqa: ASYNC110 - the board is memory that other processes write
            self.shared.board.total(state.row) > 0 and time.monotonic() < deadline and not self.ended.is_set()
        ):
            await asyncio.sleep(POLL)

    async def check(self, tls: ssl.SSLContext | None = None, server_name: str = "") -> ProbeResult:
        """One health check of every address it has, until one accepts."""
        state, health = self.state, self.owner.config.health
        if not state.path and not state.resolved:
            words = f"{state.host} does not resolve" if state.dns != "timeout" else f"{state.host}: no answer from DNS"
            return ProbeResult(False, words, time.time(), 0.0)
        result: ProbeResult | None = None
        for host in state.resolved or ("",):
            result = await probe(
                Target(
                    host=host,
                    port=state.port,
                    unix=state.path,
                    tls=tls,
                    server_name=server_name,
                    path=health.path or "",
                    host_field=health.host or self._host_field(),
                    timeout=health.timeout,
                    statuses=health.status,
                )
            )
            if not result.refused:
                break
        assert result is not None
        return result

    def _host_field(self) -> str:
        return "localhost" if self.state.path else self.state.address

    def interval(self) -> float:
        """Until the next probe, with jitter so that a thousand instances are not asked at once."""
        return self.owner.config.health.interval * random.uniform(0.9, 1.1)

    async def forget_row(self) -> None:
        """Its row is free for another as soon as no worker can write to it."""
        await self.shared.left()
        self.shared.board.zero_row(self.state.row)
        self.shared.rows.give_back(self.state.row)

    def is_in(self, lifecycle_: Lifecycle) -> bool:
        """Asked again after each wait: others move it too."""
        return self.state.lifecycle is lifecycle_


async def _any(waits: Sequence[Awaitable[object]], timeout: float) -> bool:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in tasks:
            task.cancel()
