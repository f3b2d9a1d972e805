"""What starts a session by itself: incidents, crashes, stuck requests, conditions of the config, what the agent saw.

A condition of `apps.X.diagnose.when` is a rule of autoheal whose only action is `diagnose`, so it is looked at and
shown like all others; what it did comes in here by `by_rule`.

Always true: nothing here waits for a session, but for who asked it to; the budgets are the engine's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from proxy import masking, units
from proxy.control.incidents.incident import Incident
from proxy.control.operations import Asked
from proxy.control.sessions.engine import MEMORY_DUMP, Sessions
from proxy.control.sessions.evidence import told
from proxy.control.sessions.session import Trigger
from proxy.control.state import AppState, Exit

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

STUCK: Final = 2.0
"""Seconds of waiting below which nothing is stuck, however short first_byte is."""
LOOK_AGAIN: Final = 60.0
SETTLE: Final = 1.0
"""Seconds after an exit before a session looks: what the kernel and workers say of it comes a little later."""
KINDS: Final = {"cpu": "cpu", "memory": "memory", "slow": "request", "stuck": "request"}
"""Of conditions, the kind of trigger; others are "rule"."""
PREFIX: Final = "diagnose "
"""Names of rules that are made of `apps.X.diagnose.when`: no rule of the config can be called so."""
DEFAULT: Final = (
    "stacks", "activity", "proc_report", "sockets", "log_tail", "environment", "types", "profile", "changes",
    "host_report", "host_events",
)  # fmt: skip


class Triggers:
    """Made after all of what it listens to."""

    def __init__(self, gateway: Gateway, sessions: Sessions) -> None:
        self._gateway = gateway
        self._sessions = sessions
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked: dict[str, float] = {}  # by app: monotonic, when to look for stuck requests again
        gateway.each_second.append(self.tick)
        gateway.incidents.listeners.append(self.on_incident)

    def on_incident(self, kind: str, incident: Incident) -> None:
        """As Incidents tells it."""
        app = self._gateway.apps.get(incident.subject.app)
        if kind != "opened" or incident.subject.scope != "app" or app is None:
            return
        if "incident" not in app.config.diagnose.on:
            return
        trigger = Trigger(
            "incident", "incident", f"{incident.cause}", incident=incident.id, at=incident.began
        )
        names = [name for name in incident.instances if name in app.instances][:2]
        self._start(app, trigger, names=names, frozen=incident.frozen)

    def tick(self, now: float) -> None:
        """Once a second. Stacks say most while it lasts: a session that waits for the fault comes too late."""
        for app in self._gateway.apps.values():
            limit = app.config.timeouts.first_byte
            if "stuck" not in app.config.diagnose.on or not limit or now < self._looked.get(app.name, 0.0):
                continue
            waited = self._gateway.counters.oldest_wait(app.name)
            if waited < max(STUCK, limit / 2):
                continue
            self._looked[app.name] = now + LOOK_AGAIN
            usual = self._gateway.counters.snapshot().app(app.name).waits()["p99"]
            if usual is None or usual < waited / 2:
                said = f"a request has waited {units.duration(waited)} for its first byte, of {units.duration(limit)}"
                self._start(app, Trigger("request", "stuck", said, at=time.time() - waited))

    def crashed(self, app: AppState, instance: str, ended: Exit, frozen: int) -> None:
        """An instance ended, and Triage had not asked for it."""
        if "crash" not in app.config.diagnose.on or self._gateway.stopping:
            return
        trigger = Trigger("crash", "crash", f"{instance} ended: {ended.words}", at=ended.at)
        self._start(app, trigger, names=[instance], frozen=frozen, after=SETTLE)

    def raised(self, app: str, instance: str, type: str, message: str, where: str = "") -> bool:
        """The agent saw an exception of a type of `diagnose.dump_on`, which takes a memory dump; whether one begins
        is decided by the budgets. False: it is not among those types."""
        state = self._gateway.apps.get(app)
        if state is None or not _names(type, state.config.diagnose.dump_on):
            return False
        saw = masking.text(f"{type}: {message}")[:300] + (f" at {where[:200]}" if where else "")
        chosen = state.config.diagnose.collectors or DEFAULT
        self._start(
            state, Trigger("agent", "agent", f"{type} was raised in {instance}", rule=type, saw=saw, at=time.time()),
            instance=instance, collectors=tuple(dict.fromkeys((*chosen, MEMORY_DUMP))),
        )  # fmt: skip
        return True

    async def by_rule(self, app: AppState, instance: str, asked: Asked) -> str:
        """Of the action `diagnose`: a session, until it has gathered. What came of it; raises NotPossible."""
        kind = KINDS.get(asked.rule.removeprefix(PREFIX).split(" ")[0], "rule")
        trigger = Trigger(
            kind if asked.rule.startswith(PREFIX) else "rule", asked.by, asked.reason, asked.rule, asked.value,
            at=time.time(),
        )  # fmt: skip
        chosen = app.config.diagnose
        session = await self._sessions.begin(
            app.name, instance, trigger=trigger, seconds=chosen.seconds, collectors=chosen.collectors
        )
        run = self._sessions.runs[session.number]
        await run.gathered.wait()
        said = [f"{name}: {told(session, name)}" for name in session.targets]
        return "; ".join(said) or f"{session.id} {session.state}"

    def _start(
        self, app: AppState, trigger: Trigger, *, instance: str = "", names: list[str] | None = None, frozen: int = 0,
        collectors: tuple[str, ...] = (), after: float = 0.0,
    ) -> None:  # fmt: skip
        chosen = app.config.diagnose

        async def work() -> None:
            await asyncio.sleep(after)
            await self._sessions.automatically(
                app.name, instance=instance, trigger=trigger, seconds=chosen.seconds, names=names or [], frozen=frozen,
                collectors=collectors or chosen.collectors,
            )  # fmt: skip

        self._task(work())

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _names(type: str, wanted: tuple[str, ...]) -> bool:
    """`MemoryError` names any of that last name, `app.errors.Lost` only that one."""
    return any(type == one or ("." not in one and type.rpartition(".")[2] == one) for one in wanted)


