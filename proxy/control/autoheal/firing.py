"""One time a rule fired: its chain of actions, one after another, each with what came of it.

Always true:
  - each action is bounded in time; one that fails or hangs is said, and the chain goes on;
  - an instance that is gone is not acted on any more: what is left of the chain for it is skipped;
  - a chain is in the ledger after each step, so that a new control goes on with it, and does nothing twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from proxy.config.conditions import Step
from proxy.control.mend import Mender, NotPossible
from proxy.control.operations import Asked, Operation
from proxy.control.shared import Shared
from proxy.control.state import AppState, InstanceState

ROOM_WITHIN: Final = 120.0
ROOM_EVERY: Final = 0.2
"""Seconds for which an act waits until no more than `max_unavailable` are under way, and between two looks."""


@dataclass(slots=True)
class Outcome:
    """Of one action."""

    act: str
    state: str  # "running" | "done" | "failed" | "skipped"
    why: str = ""
    operation: str = ""
    began: float = 0.0  # Unix seconds
    seconds: float = 0.0


@dataclass(slots=True)
class Firing:
    """`value` is what the condition saw, in words; `reason` why it acted as it did."""

    id: str
    app: str
    rule: str
    title: str
    instance: str  # "": the app as a whole
    value: str
    reason: str
    at: float  # Unix seconds
    steps: tuple[Step, ...]
    builtin: bool = False
    dry: bool = False
    batch: float = 0.0  # share of the app's instances at once
    eject_for: float = 300.0
    targets: tuple[str, ...] = ()  # of the app as a whole: only these instances, () for all
    outcomes: list[Outcome] = field(default_factory=list)
    collected: bool = False  # evidence was taken, or tried to be
    evidence: str = ""  # what came of that
    ended: float = 0.0

    @property
    def target(self) -> str:
        return f"{self.app}/{self.instance}" if self.instance else self.app

    @property
    def running(self) -> bool:
        return not self.ended and not self.dry

    def takes_out(self, acts: Collection[str]) -> bool:
        """Whether it does one of `acts` now, or is about to. While a command runs it is not: that may take long."""
        left = self.steps[max(0, len(self.outcomes) - 1) :]
        return bool(left) and (left[0].act != "run" or not self.outcomes) and any(step.act in acts for step in left)

    def dump(self) -> dict[str, Any]:
        raw = asdict(self)
        raw["steps"] = [{"act": step.act, "run": list(step.run), "by": step.by} for step in self.steps]
        return raw

    @classmethod
    def load(cls, raw: dict[str, Any]) -> Firing:
        fields = dict(raw)
        fields["steps"] = tuple(Step(one["act"], tuple(one["run"]), one["by"]) for one in raw["steps"])
        fields["targets"] = tuple(raw["targets"])
        fields["outcomes"] = [Outcome(**one) for one in raw["outcomes"]]
        return cls(**fields)


class Skipped(Exception):
    """The action was not taken; the text says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What actions work with."""

    shared: Shared
    mender: Mender
    app: AppState
    firing: Firing
    note: Callable[[Operation], None]  # of an operation that the action began
    crowded: Callable[[], str]  # why not one more instance may be under way now; "" if it may

    @property
    def instance(self) -> InstanceState | None:
        """The target, while it is there and serves; None for an app as a whole."""
        return self.app.instances.get(self.firing.instance)

    def asked(self) -> Asked:
        firing = self.firing
        return Asked(
            by=firing.title, reason=firing.reason, rule=firing.rule, value=firing.value,
            collect=not firing.collected, batch=firing.batch,
        )  # fmt: skip

    async def through(self, act: str, instance: str, **fields: Any) -> str:
        """An operation of the mender, to its end. Raises Skipped if it is refused, Failed if it fails."""
        if act != "scale":
            await self._room()
        try:
            operation = self.mender.act(act, self.firing.app, instance, self.asked(), **fields)
        except NotPossible as error:
            raise Skipped(f"{error}{f': {error.hint}' if error.hint else ''}") from None
        except KeyError:
            raise Skipped(f"{instance or self.firing.app} is gone") from None
        if not operation.evidence:
            operation.evidence = self.firing.evidence
        self.note(operation)
        return await over(operation)


    async def _room(self) -> None:
        """Other chains may have come to their acts meanwhile. Raises Skipped."""
        until = time.monotonic() + ROOM_WITHIN
        while why := self.crowded():
            if time.monotonic() >= until:
                raise Skipped(f"not within {ROOM_WITHIN:.0f} s: {why}")
            await asyncio.sleep(ROOM_EVERY)


class Failed(Exception):
    """The action was taken, and did not come to what it should."""


async def over(operation: Operation) -> str:
    """What the operation came to. Raises Failed."""
    await operation.over.wait()
    if operation.state == "failed":
        raise Failed(operation.why or "it says no more")
    return operation.why or operation.evidence


class Action(Protocol):
    """One kind of action: a file in actions/."""

    name: str
    about: str  # for docs/mending.md
    bound: float  # seconds

    async def run(self, bench: Bench, step: Step) -> str:
        """What came of it, in words. Raises Skipped, Failed."""


async def perform(bench: Bench, actions: dict[str, Action], keep: Callable[[], None]) -> None:
    """All steps that have no outcome yet. Never raises but for being cancelled."""
    firing = bench.firing
    await _resume(bench, actions, keep)
    for step in firing.steps[len(firing.outcomes) :]:
        action = actions[step.act]
        outcome = Outcome(step.act, "running", began=time.time())
        firing.outcomes.append(outcome)
        keep()
        await _one(bench, outcome, action.bound, action.run(bench, step))
        keep()
    firing.ended = time.time()


async def _one(bench: Bench, outcome: Outcome, bound: float, work: Any) -> None:
    began = time.monotonic()
    try:
        async with asyncio.timeout(bound):
            why = await work
        outcome.state, outcome.why = "done", why
    except Skipped as error:
        outcome.state, outcome.why = "skipped", str(error)
    except Failed as error:
        outcome.state, outcome.why = "failed", str(error)
    except TimeoutError:
        outcome.state, outcome.why = "failed", f"not over within {bound:.0f} s"
    except Exception as error:  # a defect in an action must not end the chain
        outcome.state, outcome.why = "failed", f"{type(error).__name__}: {error}"
        bench.shared.log.error("defect", f"action {outcome.act} failed: {error!r}", app=bench.firing.app)
    outcome.seconds = round(time.monotonic() - began, 3)


async def _resume(bench: Bench, actions: dict[str, Action], keep: Callable[[], None]) -> None:
    """A former control died within a step: its operation goes on, anything else is over."""
    if not bench.firing.outcomes or bench.firing.outcomes[-1].state != "running":
        return
    outcome = bench.firing.outcomes[-1]
    operation = bench.shared.operations.get(outcome.operation) if outcome.operation else None
    if operation is None or outcome.act == "collect":
        outcome.state, outcome.why = "failed", "control was replaced meanwhile"
        if operation is not None:
            bench.shared.operations.failed(operation, outcome.why)
    else:
        await _one(bench, outcome, actions[outcome.act].bound, over(operation))
    keep()
