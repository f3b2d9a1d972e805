"""Recycling a given address: eject, wait until nothing is on it, run the operator's command, admit it when it is well.

Always true: the command of one address is run once for one operation, also when control dies meanwhile; what became of
a command that ran then is not known, and the operation says so.
"""

from __future__ import annotations

import time
from typing import Final

from proxy import units
from proxy.config import filled
from proxy.control import outside, recycling
from proxy.control.instance import outlasted
from proxy.control.operations import Operation
from proxy.control.shared import Shared
from proxy.control.state import Admission
from proxy.control.supervisor import DRAIN, Pool
from proxy.link import messages as link

COMMAND_WITHIN: Final = 120.0
"""Seconds; `docker restart` alone gives a container ten to end."""


async def run(shared: Shared, pool: Pool, operation: Operation) -> None:
    """One address after the other."""
    began: list[str] = operation.details.setdefault("commands", [])
    over: list[str] = operation.details.setdefault("over", [])
    for name in operation.targets:
        if name in over:
            continue
        if not pool.stays(name):
            why = f"{name} left the config"
        elif name in began:
            pool.ejector.leave_to_probes(name, "its recycle was broken off", time.monotonic())
            why = f"control ended while the command of {name} ran: what came of it is not known; it is not run again"
        else:
            why = await _recycle(shared, pool, operation, name)
        pool.app.gap = 0.0
        if not operation.running:
            return
        if why:
            shared.operations.failed(operation, why)
            return
        over.append(name)
    shared.operations.done(operation)


async def _recycle(shared: Shared, pool: Pool, operation: Operation, name: str) -> str:
    """ "" or why it failed."""
    state, config, step = pool.app.instances[name], pool.config, shared.operations.step
    if config.recycle is None:
        return f"apps.{pool.app.name}.recycle is no more"
    await recycling.evidence(shared, pool, operation, [name])
    if not [one for one in pool.app.serving if one is not state]:
        pool.app.gap = DRAIN + COMMAND_WITHIN + config.health.ready_within
    state.under = operation.id
    pool.admissions.eject(name, "recycle", f"{operation.act}, {operation.asked.by}")
    try:
        await shared.left()
        await _drained(shared, pool, operation, name)
        if not operation.running:
            return "it was ended before the command ran"
        operation.details["commands"].append(name)
        arguments = filled(config.recycle.command, {"name": name, "address": state.address})
        step(operation, f"runs {' '.join(arguments)}")
        shared.changed()
        outcome = await outside.run(arguments, COMMAND_WITHIN, _reasons(operation, name))
        step(operation, f"the command ended: {outcome.text}")
    finally:
        pool.ejector.leave_to_probes(name, "its probes must pass after its recycle", time.monotonic())
    if not outcome.ok:
        return f"the command for {name} failed: {outcome.text}"
    began = time.monotonic()
    while pool.stays(name) and state.admission is Admission.EJECTED:
        if time.monotonic() - began > config.health.ready_within:
            said = state.probe.words if state.probe else "none has ended"
            return f"the probes of {name} did not pass within {units.duration(config.health.ready_within)}: {said}"
        await pool.turn()
    step(operation, f"{name} admitted, its probes pass after {units.duration(time.monotonic() - began)}")
    return ""


async def _drained(shared: Shared, pool: Pool, operation: Operation, name: str) -> None:
    state, board = pool.app.instances[name], shared.board
    count = board.total(state.row)
    shared.operations.step(operation, f"{name} left routing, {units.several(count, 'request')} on it")
    if not await pool.runners[name].emptied(pool.drain_limit(state)) and (left := board.total(state.row)) > 0:
        text = outlasted(name, left)
        shared.event("drain-cut", text, state.app, name, count=left)
        shared.operations.step(operation, text)
        shared.broadcast(link.Cut(state.row, "instance-recycled"))


def _reasons(operation: Operation, name: str) -> dict[str, str]:
    asked = operation.asked
    return {
        "TRIAGE_APP": operation.app, "TRIAGE_TARGET": name, "TRIAGE_BY": asked.by, "TRIAGE_REASON": asked.reason,
        "TRIAGE_RULE": asked.rule, "TRIAGE_VALUE": asked.value, "TRIAGE_OPERATION": operation.id,
    }  # fmt: skip
