"""Replace an instance by a fresh one."""

from __future__ import annotations

from proxy.config.conditions import Step
from proxy.control.autoheal.firing import Bench, Failed, Skipped

BOUND = 900.0
"""Seconds; a start may take `ready_within`, a drain its limit, and of an app as a whole that for each. An operation
that takes longer goes on: only the chain does not wait for it."""


class Recycle:
    name = "recycle"
    about = (
        "Replace the instance by a fresh one, which is ready before the old one drains. Evidence is taken first, unless"
        " `collect` stands before it. Of an app as a whole: each instance (of `unhealthy`: each unhealthy one),"
        " rolling. Of a given address it is what `apps.NAME.recycle` says."
    )
    bound = BOUND

    async def run(self, bench: Bench, step: Step) -> str:
        firing = bench.firing
        if firing.instance:
            if bench.instance is None:
                raise Skipped(f"{firing.instance} is gone")
            return await bench.through("recycle", firing.instance)
        if not firing.targets:
            return await bench.through("restart", "")
        said: list[str] = []
        failed = False
        for name in firing.targets:
            try:
                said.append(f"{name}: {await bench.through('recycle', name) or 'done'}")
            except (Skipped, Failed) as error:
                said.append(f"{name}: {error}")
                failed = failed or isinstance(error, Failed)
        if failed:
            raise Failed("; ".join(said))
        return "; ".join(said)


ACTION = Recycle()
