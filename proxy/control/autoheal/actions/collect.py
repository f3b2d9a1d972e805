"""Take evidence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from proxy.config.conditions import Step
from proxy.control.autoheal.firing import Bench, Failed, Skipped
from proxy.control.state import InstanceState, Lifecycle

SOME: Final = 3
"""Instances of an app that evidence is taken of when a rule looks at the app as a whole."""
EACH: Final = 30.0
"""Seconds; a collector has its own bound, this is for one that does not keep to it."""


class Collect:
    name = "collect"
    about = (
        "Take evidence of the instance: stacks, what /proc says of it, the flight recorder, its last lines; in"
        f" bounded time. Of an app as a whole: of {SOME} instances, unhealthy ones first. A `recycle` after it takes"
        " none again."
    )
    bound = SOME * EACH + 5.0

    async def run(self, bench: Bench, step: Step) -> str:
        if bench.shared.collect is None:
            raise Skipped("nothing here takes evidence")
        bench.firing.collected = True
        bench.firing.evidence = said = await self._all(bench)
        return said

    async def _all(self, bench: Bench) -> str:
        if bench.firing.instance:
            if bench.instance is None:
                raise Skipped(f"{bench.firing.instance} is gone")
            return await self._one(bench, bench.instance)
        found = sorted(bench.app.instances.values(), key=_health)
        chosen = [one for one in found if one.lifecycle in (Lifecycle.READY, Lifecycle.WARMING)][:SOME]
        if not chosen:
            raise Skipped("no instance is there")
        return "; ".join([f"{one.name}: {await self._one(bench, one)}" for one in chosen])

    async def _one(self, bench: Bench, instance: InstanceState) -> str:
        assert bench.shared.collect is not None
        operations = bench.shared.operations
        asked = replace(bench.asked(), collect=True)
        operation = operations.begin("collect", bench.app.name, instance.name, asked)
        bench.note(operation)
        try:
            async with asyncio.timeout(EACH):
                operation.evidence = await bench.shared.collect(bench.app, instance, operation)
        except TimeoutError:
            operations.failed(operation, f"not over within {EACH:.0f} s")
            raise Failed(f"not over within {EACH:.0f} s") from None
        except BaseException as error:
            operations.failed(operation, str(error) or type(error).__name__)
            raise
        operations.done(operation, operation.evidence)
        return operation.evidence


def _health(state: InstanceState) -> tuple[bool, bool, str]:
    return state.serving and not state.failing, state.lifecycle is not Lifecycle.READY, state.name


ACTION = Collect()
