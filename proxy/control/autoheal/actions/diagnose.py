"""A session: gather, analyze, report; nothing else."""

from __future__ import annotations

from typing import Final

from proxy.config.conditions import Step
from proxy.control.autoheal.firing import Bench, Skipped
from proxy.control.refusal import NotPossible

BOUND: Final = 800.0
"""Seconds; a session gathers for ten minutes at most and has limits of its own, which are below this."""


class Diagnose:
    name = "diagnose"
    about = (
        "Begin a session of the instance, or of the app as a whole, for `diagnose.seconds`: it gathers, analyzes and"
        " makes a report (`triage sessions`). What comes after it in the chain waits only until it has gathered, and a"
        " `recycle` takes no evidence again. Skipped while a session of the app is under way, and within the budgets of"
        " `diagnose`."
    )
    bound = BOUND

    async def run(self, bench: Bench, step: Step) -> str:
        if bench.shared.diagnose is None:
            raise Skipped("nothing here runs sessions")
        firing = bench.firing
        if firing.instance and bench.instance is None:
            raise Skipped(f"{firing.instance} is gone")
        try:
            said = await bench.shared.diagnose(bench.app, firing.instance, bench.asked())
        except NotPossible as error:
            raise Skipped(f"{error}{f': {error.hint}' if error.hint else ''}") from None
        firing.collected, firing.evidence = True, said
        return said


ACTION = Diagnose()
