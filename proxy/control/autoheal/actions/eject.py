"""Take an instance out of the balancing for a while."""

from __future__ import annotations

from proxy.config.conditions import Step
from proxy.control.autoheal.firing import Bench, Skipped


class Eject:
    name = "eject"
    about = (
        "Take the instance out of the balancing for as long as the rule's cooldown (5 min if that is 0). It goes on"
        " running, and is admitted again then, or by `triage admit`. Never the last one that serves."
    )
    bound = 60.0

    async def run(self, bench: Bench, step: Step) -> str:
        firing = bench.firing
        if not firing.instance:
            raise Skipped("the rule looks at the app as a whole, and an instance is ejected")
        if bench.instance is None:
            raise Skipped(f"{firing.instance} is gone")
        if not any(one.name != firing.instance and not one.failing for one in bench.app.serving):
            raise Skipped(f"{firing.instance} is the last one that serves")
        return await bench.through("eject", firing.instance, for_=firing.eject_for)


ACTION = Eject()
