"""One instance that was given as an address: watched, never started or stopped.

Without `health.path` a probe is a connect. One that answered a worker's request since the last look has been
connected to: that stands in for the probe, which would tell less, and costs at a thousand busy instances.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from typing import Final

from proxy.config import Address
from proxy.control import dns
from proxy.control.instance import Owner, Runner
from proxy.control.lifecycle import Event
from proxy.control.shared import Shared
from proxy.control.state import Admission, InstanceState, Lifecycle, ProbeResult

AGAIN: Final = 1.0
"""Seconds between probes of one that cannot be connected to and is ejected for it."""


def name_of(address: Address) -> str:
    """As it is shown: its own name, else host and port, or the socket's path."""
    if address.name:
        return address.name
    if address.kind == "unix":
        return address.path
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


class AddressRunner(Runner):
    """The task of one address instance. It is admitted at once, and leaves after `health.fails`."""

    def __init__(self, shared: Shared, owner: Owner, state: InstanceState, address: Address) -> None:
        super().__init__(shared, owner, state)
        self.address = address
        self._tls: ssl.SSLContext | None = None
        self.update(address)

    def update(self, address: Address) -> None:
        """Weight, TLS and so on may change while it is in use; the place may not: that is another instance."""
        state = self.state
        self.address = address
        state.url, state.weight, state.backup = address.url, address.weight, address.backup
        state.host, state.port, state.path = address.host, address.port, address.path
        self._tls = None
        self.resolve()

    def resolve(self) -> None:
        """Take over what DNS knows of the host now."""
        state = self.state
        if state.path:
            return
        found = self.shared.dns.addresses(state.host)
        state.resolved, state.dns = found.addresses, found.error

    async def run(self) -> None:
        """Until it leaves the config."""
        state = self.state
        while self.is_in(Lifecycle.READY):
            if self.leaving.is_set():
                self.step(Event.DRAIN, state.stop_reason)
                break
            await self._look()
            refused = state.probe is not None and state.probe.refused
            quick = state.admission is Admission.EJECTED and (refused or state.ejection.by == "recycle")
            await self.first(min(AGAIN, self.interval()) if quick else self.interval())
        if self.is_in(Lifecycle.DRAINING):
            await self.drain(self.owner.drain_limit(state))
            self.step(Event.IDLE, state.stop_reason)
        if self.is_in(Lifecycle.STOPPING):
            self.step(Event.ENDED, state.stop_reason)
        await self.forget_row()

    async def _look(self) -> None:
        state = self.state
        if not state.resolved and not state.path and not state.dns and not dns.literal(state.host):
            await self.first(1.0)  # the resolver was only just asked
        if self._answers():
            state.probe = ProbeResult(True, "answers requests", time.time(), 0.0)
            self.owner.probed(state, state.probe)
            return
        if self.address.secure and self._tls is None:
            try:
                self._tls = await asyncio.to_thread(_context, self.address.tls.ca, self.address.tls.verify)
            except OSError as error:  # ssl.SSLError is one
                words = f"{self.address.tls.ca}: {error}"
                self.owner.probed(state, ProbeResult(False, words, time.time(), 0.0))
                return
        result = await self.check(self._tls, state.host)
        state.probe = result
        state.probes_passed = state.probes_passed + 1 if result.ok else 0
        state.probes_failed = 0 if result.ok else state.probes_failed + 1
        self.owner.probed(state, result)

    def _answers(self) -> bool:
        """Whether workers say so, and nothing speaks against it."""
        state, health = self.state, self.owner.config.health
        if health.path or state.failing or state.admission is not Admission.ADMITTING:
            return False
        return state.probe is not None and state.probe.ok and time.monotonic() - state.answered < health.interval


@functools.lru_cache(maxsize=64)
def _context(ca: str | None, verify: bool) -> ssl.SSLContext:
    """As workers do: what they would refuse, a probe refuses too. Reading the system's CAs takes some 20 ms."""
    context = ssl.create_default_context(cafile=ca)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def fresh(app: str, address: Address, row: int) -> InstanceState:
    """The state of an address that just came into the config."""
    state = InstanceState(
        name=name_of(address),
        app=app,
        kind="address",
        row=row,
        lifecycle=Lifecycle.READY,
        why="given as an address",
        started=time.monotonic(),
        started_at=time.time(),
        ready_since=time.monotonic(),
    )
    state.moved(time.time())
    return state
