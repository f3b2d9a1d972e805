"""Replace all instances of the app, rolling."""

from __future__ import annotations

from proxy.config.conditions import Step
from proxy.control.autoheal.actions.recycle import BOUND
from proxy.control.autoheal.firing import Bench


class Restart:
    name = "restart"
    about = "Recycle all instances of the app, rolling, `max_unavailable` of them at once."
    bound = BOUND

    async def run(self, bench: Bench, step: Step) -> str:
        return await bench.through("restart", "")


ACTION = Restart()
