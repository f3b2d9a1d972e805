"""Replacing instances that Triage runs, for one operation: evidence, mark, and follow until the old ones have ended.

What is done is in the marks, and the pool does it (pool.py); this only marks the next ones and watches. So it can be
begun again at any point: after control's death it finds the same marks and replaces nothing twice.

Always true:
  - an instance is marked only after its evidence was taken, or given up;
  - the operation fails as soon as its replacements do not get ready: marks are taken off, what still runs serves on.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from proxy import units
from proxy.control.operations import Operation
from proxy.control.shared import Shared
from proxy.control.state import InstanceState, Lifecycle
from proxy.control.supervisor import Pool, endings_take

EVIDENCE_WITHIN: Final = 12.0
"""Seconds; who collects has a limit of its own below this."""
TOO_SLOW: Final = 2
"""Replacements that were not ready in time before the operation gives up; more would not tell more."""


async def run(shared: Shared, pool: Pool, operation: Operation) -> None:
    """To its end."""
    operations = shared.operations
    by_table = operation.asked.by == "config"  # what they run tells them apart: no marks are needed
    size = len(operation.targets) if by_table else max(1, int(operation.asked.batch * len(operation.targets)))
    while True:
        group = [name for name in operation.targets if pool.stays(name)]
        if not by_table:
            marked = [name for name in group if pool.app.instances[name].marked == operation.id]
            group = marked or group[:size]
            if not marked:
                await evidence(shared, pool, operation, group)
                pool.mark(group, operation)
        if not operation.running:
            return
        why = await _replaced(shared, pool, operation, group)
        if why:
            give_up(shared, pool, operation, why)
            return
        if not any(pool.stays(name) for name in operation.targets):
            break
    ended = await gone(pool, operation.targets, _end_limit(pool))
    outlived = [name for name in operation.targets if name in pool.app.instances]
    operations.done(operation, _summary(pool, operation) if ended else f"{', '.join(outlived)} still ends")


async def evidence(shared: Shared, pool: Pool, operation: Operation, names: list[str]) -> None:
    """Of those that are about to be replaced, at once; bounded, and never a reason not to go on."""
    collect = shared.collect
    if collect is None or not operation.asked.collect:
        return

    async def one(state: InstanceState) -> None:
        try:
            async with asyncio.timeout(EVIDENCE_WITHIN):
                words = await collect(pool.app, state, operation)
        except TimeoutError:
            words = f"given up after {units.duration(EVIDENCE_WITHIN)}"
        except Exception as error:
            shared.log.error("defect", f"evidence of {state.name} failed: {error!r}", app=state.app)
            words = f"failed: {error!r}"
        if words:
            operation.evidence = words if len(operation.targets) == 1 else f"{state.name}: {words}"
            shared.operations.step(operation, f"evidence of {state.name}: {words}")

    states = [pool.app.instances[name] for name in names if pool.stays(name)]
    await asyncio.gather(*(one(state) for state in states if state.pid or state.kind == "address"))


async def _replaced(shared: Shared, pool: Pool, operation: Operation, group: list[str]) -> str:
    """Until these have left routing and their successors are ready; "" or why that will not be."""
    while operation.running:
        why = hopeless(shared, pool, operation)
        if why:
            return why
        if not any(pool.stays(name) for name in group) and whole(pool, operation):
            return ""
        await pool.turn()
    return ""


def whole(pool: Pool, operation: Operation) -> bool:
    """As many as wanted are there, and what was started for this operation is ready."""
    staying = [name for name in pool.app.instances if pool.stays(name)]
    return len(staying) >= pool.app.wanted and all(one.lifecycle is Lifecycle.READY for one in made(pool, operation))


def made(pool: Pool, operation: Operation) -> list[InstanceState]:
    """Instances that were started for it."""
    return [
        one
        for one in pool.app.instances.values()
        if one.under == operation.id and one.name not in operation.targets and pool.stays(one.name)
    ]


def hopeless(shared: Shared, pool: Pool, operation: Operation) -> str:
    """Why it can't come to its end, or ""."""
    if shared.stopping:
        return "Triage stops"
    if pool.removed:
        return "the app left the config"
    for one in made(pool, operation):
        if one.lifecycle is Lifecycle.FAILED:
            return f"{one.name} did not get ready: {one.why}"
    if operation.details.get("too_slow", 0) >= TOO_SLOW:
        late = next((one for one in reversed(pool.app.gone) if one.under == operation.id and one.trouble), None)
        return f"no replacement got ready in time{f': {late.name} was {late.stop_reason}' if late else ''}"
    return pool.planner.stuck if operation.targets else ""


def give_up(shared: Shared, pool: Pool, operation: Operation, why: str) -> None:
    """What still runs goes on; the app says why until a replacement has become ready."""
    left = [name for name in operation.targets if pool.stays(name)]
    serving = [name for name in left if pool.app.instances[name].lifecycle is Lifecycle.READY]
    if serving and not shared.stopping and not pool.removed:
        pool.app.not_replaced = f"{', '.join(serving)} not replaced, serving on: {why}"
        pool.assess()
        shared.event("not-replaced", pool.app.not_replaced, pool.app.name, operation=operation.id)
    shared.operations.failed(operation, why)
    pool.unmark(operation)


async def gone(pool: Pool, names: tuple[str, ...], limit: float) -> bool:
    """Until they have ended; False: they had not within `limit` seconds."""
    deadline = time.monotonic() + limit
    while any(name in pool.app.instances for name in names):
        if time.monotonic() >= deadline:
            return False
        await pool.turn()
    return True


def _end_limit(pool: Pool) -> float:
    process = pool.config.process
    if process is None:
        return 60.0
    return max(process.stop.timeout, pool.config.tunnel.drain) + endings_take(process) + 10.0


def _summary(pool: Pool, operation: Operation) -> str:
    by_themselves = [
        f"{one.name} ended by itself meanwhile ({one.words})"
        for one in pool.app.ended
        if one.name in operation.targets and not one.ours and one.at >= operation.began
    ]
    fresh = ", ".join(sorted(one.name for one in made(pool, operation)))
    return "; ".join([*by_themselves, *([f"replaced by {fresh}"] if fresh else [])])
