"""More or fewer instances."""

from __future__ import annotations

from proxy.config.conditions import Step
from proxy.control.autoheal.firing import Bench, Skipped


class Scale:
    name = "scale"
    about = (
        "`{ scale = 1 }` adds so many instances, a negative number takes them away: within `scale.min` and `scale.max`"
        " where the app has them, never below one. Nothing where a person set the count: it ends by `triage scale APP"
        " auto`."
    )
    bound = 300.0

    async def run(self, bench: Bench, step: Step) -> str:
        app = bench.app
        if app.config.process is None:
            raise Skipped("the instances are addresses that were given: Triage starts none")
        if "count" in app.by_hand:
            by = app.by_hand["count"]
            raise Skipped(f"the count was set to {by.value} by {by.by}")
        table = app.config.scale
        low, high = (table.min, table.max) if table is not None else (1, 1000)
        count = min(max(app.wanted + step.by, low, 1), max(high, 1))
        if count == app.wanted:
            raise Skipped(f"{app.wanted} instances are wanted already, and {low} to {high} may be")
        return await bench.through("scale", "", instances=count)


ACTION = Scale()
