"""What both kinds of instance share: a loop over the lifecycle, and probes.

A runner is one task. It looks at the state's lifecycle, does what belongs to it until that ends, and looks again: so
a new control that adopts an instance only has to start a runner on the state it read.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from typing import Final, Protocol

from proxy import units
from proxy.config import App as AppConfig
from proxy.control import lifecycle
from proxy.control.health import Target, probe
from proxy.control.lifecycle import Action, Event
from proxy.control.shared import Shared
from proxy.control.state import InstanceState, Lifecycle, ProbeResult
from proxy.link import messages as link

POLL: Final = 0.02
"""Seconds between looks at the board while an instance drains."""
ROW_WITHIN: Final = 5.0
"""Seconds in which a worker that is not stuck has seen the end of what was on an instance."""


class Owner(Protocol):
    """The pool, as an instance sees it."""

    config: AppConfig

    def probed(self, state: InstanceState, result: ProbeResult) -> None: ...
    def moved(self, state: InstanceState) -> None: ...
    def told(self, state: InstanceState, text: str) -> None: ...
    def drain_limit(self, state: InstanceState) -> float: ...


class Flag(asyncio.Event):
    """An event that also says when it is set: who sleeps until one of several needs no task for each."""

    def __init__(self, on_set: Callable[[Flag], None]) -> None:
        super().__init__()
        self._on_set = on_set

    def set(self) -> None:
        super().set()
        self._on_set(self)


class Runner:
    """Base of a process's and an address's task."""

    def __init__(self, shared: Shared, owner: Owner, state: InstanceState) -> None:
        self.shared = shared
        self.owner = owner
        self.state = state
        self.ended = Flag(self._woken)
        """Its process has ended; set by who hears of the exit."""
        self.leaving = Flag(self._woken)
        """It shall go; `state.stop_reason` says why."""
        self._sleepers: dict[asyncio.Future[bool], bool] = {}  # and whether it may be woken by `leaving`

    def step(self, event: Event, why: str) -> Action:
        """Go on in the lifecycle; raises IllegalTransition."""
        state = self.state
        state.lifecycle, action = lifecycle.step(state.lifecycle, event)
        state.why = why
        state.moved(time.time())
        self.owner.moved(state)
        self.shared.changed()
        return action

    def leave(self, reason: str) -> None:
        """Drain it, or stop it at once if nothing can be on it."""
        self.state.stop_reason = self.state.stop_reason or reason
        self.leaving.set()

    async def first(self, timeout: float, *, leaving: bool = True) -> bool:
        """Wait; True if it ended or (with `leaving`) shall go before `timeout` seconds have passed."""
        if self.ended.is_set() or (leaving and self.leaving.is_set()):
            return True
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[bool] = loop.create_future()
        self._sleepers[sleeper] = leaving
        timer = loop.call_later(max(0.0, timeout), _end, sleeper, False)
        try:
            return await sleeper
        finally:
            timer.cancel()
            del self._sleepers[sleeper]

    def _woken(self, flag: Flag) -> None:
        for sleeper, leaving in self._sleepers.items():
            if leaving or flag is self.ended:
                _end(sleeper, True)

    async def drain(self, limit: float) -> None:
        """Drain, and cut what outlasts the limit. Tunnels and event streams have `tunnel.drain`: workers cut them."""
        state, board = self.state, self.shared.board
        began = time.monotonic()
        await self.shared.left()
        count = board.total(state.row)
        self.owner.told(state, f"{state.name} left routing, {units.several(count, 'request')} on it")
        if await self.emptied(limit):
            if count > 0 and not self.ended.is_set():
                self.owner.told(state, f"{state.name} drained after {units.duration(time.monotonic() - began)}")
            return
        count = board.total(state.row)
        self.shared.broadcast(link.Cut(state.row, "instance-recycled"))
        await self.emptied(1.0)  # the workers write what they still can
        cut = count - max(0, board.total(state.row))
        if cut > 0:
            text = outlasted(state.name, cut)
            self.shared.event("drain-cut", text, state.app, state.name, count=cut)
            self.owner.told(state, text)
        await self.emptied(min(began + self.owner.config.tunnel.drain + 1.0, self.shared.stop_by) - time.monotonic())

    async def emptied(self, limit: float) -> bool:
        """Workers know that it left the table: wait until nothing is on it, or it ended. False: the limit passed."""
        deadline = time.monotonic() + limit
        while not self.ended.is_set():
            if self.shared.board.total(self.state.row) <= 0:  # written by other processes: it can only be looked at
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL)
        return True

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
        """Its row is free for another as soon as no worker writes to it: none routes to it, and nothing is on it.

        Of a process that has ended a worker may have requests still: it has yet to see that their connections closed.
        """
        await self.shared.left()
        board, row = self.shared.board, self.state.row
        deadline = min(time.monotonic() + ROW_WITHIN, self.shared.stop_by)
        while board.total(row) > 0:
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(POLL)
        board.zero_row(row)
        self.shared.rows.give_back(self.state.row)

    def is_in(self, lifecycle_: Lifecycle) -> bool:
        """Asked again after each wait: others move it too."""
        return self.state.lifecycle is lifecycle_


def outlasted(name: str, cut: int) -> str:
    """Of requests that had to be cut, for events and steps."""
    were = "was" if cut == 1 else "were"
    return f"{units.several(cut, 'request')} on {name} outlasted the drain limit and {were} cut"


def _end(sleeper: asyncio.Future[bool], woken: bool) -> None:
    if not sleeper.done():
        sleeper.set_result(woken)
