"""Evidence before an instance ends: what a fresh process would take with it, gathered by a session of 0 seconds.

Always true:
  - `collect` returns within LIMIT, and never raises but when it is cancelled; what it says is true of the folder;
  - the act waits only until it is gathered: analyzing goes on afterwards;
  - those of one act that are replaced at once share a session, and of one act the first is analyzed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from proxy import units
from proxy.control.operations import Operation
from proxy.control.refusal import NotPossible
from proxy.control.sessions import targets
from proxy.control.sessions.folders import FOLDER
from proxy.control.sessions.run import Run
from proxy.control.sessions.session import GATHERED, Session, of_operation
from proxy.control.state import AppState, InstanceState
from proxy.link.session import Step

if TYPE_CHECKING:
    from proxy.control.sessions.engine import Sessions

LIMIT: Final = 11.0
BUDGET: Final = 6.5
"""Seconds for gathering; what is left is for what is known, and for ending it."""
PLACES: Final = 2
"""Acts that take evidence at the same time."""
REMEMBERED: Final = 200
_RUNS: Final = ("waiting", "running")


@dataclass(slots=True)
class _Batch:
    """Instances of one act, asked for in the same moment."""

    names: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    session: Session | None = None


class Evidence:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._places = asyncio.Semaphore(PLACES)
        self._batches: dict[tuple[str, str], tuple[_Batch, asyncio.Task[None]]] = {}
        self._analyzed: deque[str] = deque(maxlen=REMEMBERED)

    async def collect(self, app: AppState, instance: InstanceState, operation: Operation) -> str:
        """What came of it, in words: "6 of 6 artifacts in diagnostics/S-12 (triage report S-12)"."""
        key = (app.name, operation.id)
        if key not in self._batches:
            batch = _Batch()
            task = asyncio.get_running_loop().create_task(self._run(app, operation, batch))
            self._batches[key] = batch, task
        batch, task = self._batches[key]
        batch.names.append(instance.name)
        await asyncio.wait([task])
        said = batch.said.get(instance.name, "no evidence: nothing is known of what came of it")
        self._sessions.shared.event(
            "evidence", f"{instance.name}: {said}", app.name, instance.name, operation=operation.id, outcome=said
        )
        return said

    async def _run(self, app: AppState, operation: Operation, batch: _Batch) -> None:
        """Of all that are asked for in this turn of the loop."""
        await asyncio.sleep(0)
        self._batches.pop((app.name, operation.id), None)
        try:
            async with asyncio.timeout(LIMIT):
                await self._gather(app, operation, batch)
        except TimeoutError:
            if batch.session is not None:
                for name in batch.session.targets:
                    batch.said.setdefault(name, told(batch.session, name))
            self._all(batch, f"no evidence: nothing could be gathered within {LIMIT:g} s")
        except NotPossible as error:
            self._all(batch, f"no evidence: {error}")
        except Exception as error:  # evidence must never keep an act from happening
            self._all(batch, f"no evidence: {error!r}")

    async def _gather(self, app: AppState, operation: Operation, batch: _Batch) -> None:
        left = []
        for name in batch.names:
            run = self._sessions.covering(app.name, name)
            if run is None:
                left.append(name)
            else:
                await _stacks_taken(run, name)
                batch.said[name] = f"{told(run.session, name)}; this session was under way already"
        if not left:
            return
        looked, others = left[: targets.MOST], left[targets.MOST :]
        for name in others:
            batch.said[name] = f"no evidence: a session looks into {targets.MOST} instances at most"
        async with self._places:
            analyze = operation.id not in self._analyzed
            if analyze:  # at once: another batch of this act may begin meanwhile
                self._analyzed.append(operation.id)
            try:
                session = batch.session = await self._sessions.begin(
                    app.name, looked[0] if len(looked) == 1 else "", mode="recycle" if analyze else "collect",
                    seconds=0.0, trigger=of_operation(operation), budget=BUDGET, names=looked, evidence=True,
                )  # fmt: skip
            except BaseException:
                if analyze and operation.id in self._analyzed:  # it did not begin: the next one is the first
                    self._analyzed.remove(operation.id)
                raise
            run = self._sessions.runs[session.number]
            await run.gathered.wait()
        for name in looked:
            batch.said[name] = told(session, name)

    @staticmethod
    def _all(batch: _Batch, said: str) -> None:
        for name in batch.names:
            batch.said.setdefault(name, said)


async def _stacks_taken(run: Run, name: str) -> None:
    """Until it has them of this instance, or gathers no more."""
    while not run.gathered.is_set():
        outcome = run.session.outcome
        steps = outcome.steps if outcome is not None else []
        mine = [step for step in steps if step.instance == name]
        if mine and all(step.state not in _RUNS for step in mine if step.name == "stacks"):
            return
        await asyncio.sleep(0.1)


def told(session: Session, name: str) -> str:
    """What there is of one instance, in words. By its outcome as it was read last."""
    where = f"{FOLDER}/{session.id}"
    outcome = session.outcome
    steps = [step for step in outcome.steps if step.instance == name and not _none_to_be_had(step)] if outcome else []
    if not steps:
        why = session.why or (outcome.why if outcome is not None else "")
        return f"no evidence: {why or 'it gathered nothing'} ({where}/session.log)"
    done = [step for step in steps if step.state == "done"]
    gathered = outcome is not None and outcome.state in GATHERED
    others = [_missing(step.name, step.state, step.why, gathered) for step in steps if step.state != "done"]
    more = f": {'; '.join(others)}" if others else ""
    return f"{len(done)} of {units.several(len(steps), 'artifact')} in {where} (triage report {session.id}){more}"


def _none_to_be_had(step: Step) -> bool:
    """Without the agent nobody can tell types: that is no loss."""
    return step.state == "skipped" or (step.name == "types" and step.state == "not there")


def _missing(name: str, state: str, why: str, gathered: bool) -> str:
    plain = name.replace("_", " ")
    if state in _RUNS:
        return f"{plain} not finished in time" if gathered else f"{plain} not finished yet"
    return f"{plain} {state} ({why})" if why else f"{plain} {state}"
