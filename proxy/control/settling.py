"""Following acts whose wish is a count or a state, until the app is as they say."""

from __future__ import annotations

import time
from typing import Final

from proxy import units
from proxy.control import recycling
from proxy.control.operations import Operation
from proxy.control.shared import Shared
from proxy.control.supervisor import DRAIN, Pool, endings_take

SPARE: Final = 10.0
"""Seconds beyond what the end of an instance may take by its limits."""


async def routed(shared: Shared, pool: Pool, operation: Operation) -> None:
    """hold, release, eject, admit, autoheal: done when every worker knows."""
    pool.refresh()
    await shared.left()
    for name in operation.targets if operation.act == "eject" else ():
        if name in pool.app.instances:
            count = shared.board.total(pool.app.instances[name].row)
            said = f"{name} left routing, {units.several(count, 'request')} on it"
            shared.operations.step(operation, said)
    shared.operations.done(operation)


async def noted(shared: Shared, pool: Pool, operation: Operation) -> None:
    """mute: written down is done."""
    shared.operations.done(operation)


async def settled(shared: Shared, pool: Pool, operation: Operation) -> None:
    """scale, start: until as many as wanted are there and ready, and those too many have ended."""
    pool.refresh()
    while operation.running:
        why = recycling.hopeless(shared, pool, operation)
        if why:
            if operation.targets:
                recycling.give_up(shared, pool, operation, why)
            else:
                shared.operations.failed(operation, why)
            return
        staying = [name for name in pool.app.instances if pool.stays(name)]
        old = [name for name in staying if pool.config.process and not pool.is_current(name)]
        enough = pool.config.process is None or len(staying) == len(pool.app.instances) == pool.app.wanted
        if enough and not old and recycling.whole(pool, operation):
            shared.operations.done(operation)
            return
        await pool.turn()


async def stopped(shared: Shared, pool: Pool, operation: Operation) -> None:
    """Until the instances that Triage runs have ended; given addresses only get no more requests."""
    pool.refresh()
    await shared.left()
    process = pool.config.process
    if process is not None:
        limit = max(process.stop.timeout, pool.config.tunnel.drain, DRAIN) + endings_take(process) + SPARE
        deadline = time.monotonic() + limit
        while any(one.kind == "process" for one in pool.app.instances.values()):
            if not operation.running:
                return
            if pool.app.state != "stopped":
                shared.operations.failed(operation, "the app was started meanwhile")
                return
            if time.monotonic() >= deadline:
                shared.operations.failed(operation, f"{', '.join(pool.app.instances)} did not end")
                return
            await pool.turn()
    shared.operations.done(operation)
