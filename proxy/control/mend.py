"""Acts on apps and instances, asked by hand, by a rule, or by a change: the one way in.

Each act is an operation (operations.py) that ends `done` or `failed`. What Triage refuses it refuses before it begins,
as `NotPossible`, with what would be right. Here an act is checked and its wish written down, as marks and as what is
set by hand; performing it is the pool's, and following it to its end that of `recycling`, `given` and `settling`. So a
new control goes on with an act from the same marks.

Longer than most: it is the list of acts.

Always true:
  - what a person set, only a person undoes: a rule that would is refused with kind `by-hand`;
  - an instance is replaced by one operation at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from proxy import units
from proxy.control import foresee, given, recycling, settling
from proxy.control.by_hand import EJECTED, MUTED
from proxy.control.foresee import Foresight
from proxy.control.operations import BY_HAND, Asked, Operation, Operations
from proxy.control.planner import REPLACING, order
from proxy.control.refusal import NotPossible
from proxy.control.shared import Shared
from proxy.control.state import Admission, InstanceState, Lifecycle
from proxy.control.supervisor import Pool

__all__ = ["Foresight", "Mender", "NotPossible"]

MOST: Final = 1000
"""Instances of one app, as in the config."""
LONGEST_MUTE: Final = 30 * units.DAYS
RULE_EJECTS: Final = 300.0
"""Seconds for which a rule ejects, when it does not say."""

Driver = Callable[[Shared, Pool, Operation], Coroutine[Any, Any, None]]


class Mender:
    """`pools` is the gateway's own mapping."""

    def __init__(self, shared: Shared, operations: Operations, pools: Mapping[str, Pool]) -> None:
        self.shared = shared
        self.operations = operations
        self.pools = pools
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def foresee(self, act: str, app: str, instance: str = "", **fields: Any) -> Foresight:
        """The same arguments as `act`. Raises NotPossible, KeyError for an unknown app or instance."""
        pool, name, fields = self._looked_up(act, app, instance, fields)
        _CHECKS[act](self, pool, name, Asked(BY_HAND), **fields)
        return foresee.LINES[act](pool, name, **fields)

    def act(self, act: str, app: str, instance: str, asked: Asked, **fields: Any) -> Operation:
        """Begin an act; follow the operation it returns. Raises NotPossible, KeyError, ValueError for an unknown act.

        restart, start, stop, hold, release: an app. recycle, eject (for_: seconds), admit: an instance.
        scale: an app; instances (int), or auto=True; memory (bytes or 0 for what the config says), cpus likewise.
        autoheal: an app; enabled (bool), for_ (seconds, 0.0: until it is switched on).
        mute: an app; for_ (seconds), or unmute=True.
        What is set by hand takes for_ too: stop, hold, scale. `force`: also what leaves no instance that gets requests.
        recycle and restart take `hung`: nothing is answered any more, so what is on it is not waited for long.
        """
        pool, name, fields = self._looked_up(act, app, instance, fields)
        _CHECKS[act](self, pool, name, asked, **fields)
        operation = _BEGIN[act](self, pool, name, asked, **fields)
        self._follow(pool, operation)
        pool.wake()
        self.shared.changed()
        return operation

    def config_changed(self, app: str, keys: Iterable[str]) -> Operation | None:
        """Another process table is in force: instances that run something else are replaced."""
        pool = self.pools[app]
        old = [one for one in _names(pool) if pool.stays(one) and not pool.is_current(one)]
        if not old:
            return None
        for one in self.operations.running(app):
            if one.asked.by == "config":
                self.operations.failed(one, "the config has changed again")
        asked = Asked("config", f"{', '.join(keys)} of its process table changed", collect=False)
        operation = self._begin("restart", pool, "", asked, old)
        for name in old:
            pool.app.instances[name].under = operation.id
        self._follow(pool, operation)
        return operation

    def resume(self) -> None:
        """Go on with what a former control was doing; after pools and instances were taken over."""
        for operation in self.operations.running():
            if operation.act not in _CHECKS:
                continue
            pool = self.pools.get(operation.app)
            if pool is None:
                self.operations.failed(operation, "the app left the config")
            else:
                self.operations.step(operation, "control was started again and goes on with it")
                self._follow(pool, operation)

    def tick(self, now: float) -> None:
        """Once a second: what was set by hand for a time ends with it. `now` is not looked at: people's times are
        those of the clock on the wall."""
        del now
        for app, _, _ in self.shared.by_hand.due(time.time()):
            if app in self.pools:
                self.pools[app].wake()

    # --- beginning -----------------------------------------------------------------------------------

    def _looked_up(self, act: str, app: str, instance: str, fields: dict[str, Any]) -> tuple[Pool, str, dict[str, Any]]:
        if act not in _CHECKS:
            raise ValueError(f"{act} is no act")
        pool = self.pools[app]
        if act in ("recycle", "eject", "admit") and instance not in pool.app.instances:
            raise KeyError(instance)
        if self.shared.stopping:
            raise NotPossible("stopping", "Triage stops")
        return pool, instance, fields

    def _begin(
        self, act: str, pool: Pool, name: str, asked: Asked, targets: Iterable[str], **details: Any
    ) -> Operation:
        operation = self.operations.begin(act, pool.app.name, name, asked, **details)
        operation.targets = tuple(targets)
        return operation

    def _follow(self, pool: Pool, operation: Operation) -> None:
        driver = _driver(pool, operation)

        async def follow() -> None:
            try:
                await driver(self.shared, pool, operation)
            except Exception as error:  # a defect must not leave an operation that never ends
                self.shared.log.error("defect", f"{operation!r} broke: {error!r}", app=operation.app)
                pool.unmark(operation)
                self.operations.failed(operation, f"internal error: {error!r}")
            finally:
                self._tasks.pop(operation.id, None)

        self._tasks[operation.id] = asyncio.get_running_loop().create_task(follow(), name=operation.id)

    async def close(self) -> None:
        """Control ends, operations go on under the next."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- recycle, restart ----------------------------------------------------------------------------

    def _check_recycle(self, pool: Pool, name: str, asked: Asked, *, hung: bool = False) -> None:
        self._check_replaced(pool, [name])

    def _check_restart(self, pool: Pool, name: str, asked: Asked, *, hung: bool = False) -> None:
        targets = [one for one in _names(pool) if pool.stays(one)]
        if not targets and pool.app.state != "stopped":
            raise NotPossible("no-instance", f"{pool.app.name} has no instance", f"`triage scale {pool.app.name} 1`")
        self._check_replaced(pool, targets)

    def _check_replaced(self, pool: Pool, names: list[str]) -> None:
        app = pool.app
        if app.state == "stopped":
            raise NotPossible("stopped", f"{app.name} was stopped by hand", f"`triage start {app.name}`")
        for name in names:
            state = app.instances[name]
            if state.kind == "address" and pool.config.recycle is None:
                raise NotPossible(
                    "no-recycle", f"{name} is a given address: Triage does not run it",
                    f'apps.{app.name}.recycle.command says how to, e.g. ["docker", "restart", "{{name}}"]',
                )  # fmt: skip
            if not pool.stays(name):
                raise NotPossible("leaving", f"{name} is on its way out: {state.stop_reason or state.why}")
            for one in self.operations.running(app.name):
                if one.act in REPLACING and name in one.targets:
                    hint = f"follow {one.id}, which {one.asked.by} asked for"
                    raise NotPossible("already", f"{name} is being replaced already", hint)
        process = pool.process
        ready = [one.name for one in app.ready if pool.stays(one.name)]
        alone = len(ready) == 1 and ready[0] in names
        if process and process.overlap and alone and (said := pool.planner.short_of_room(names)):
            raise NotPossible(
                "no-memory", f"{said}, and {ready[0]} is the last one that is ready",
                f"apps.{app.name}.process.overlap = false stops it first, and requests wait",
            )  # fmt: skip

    def _recycle(self, pool: Pool, name: str, asked: Asked, *, hung: bool = False) -> Operation:
        return self._begin("recycle", pool, name, asked, [name], **_hung(asked, hung))

    def _restart(self, pool: Pool, name: str, asked: Asked, *, hung: bool = False) -> Operation:
        targets = [one for one in _names(pool) if pool.stays(one)]
        return self._begin("restart", pool, "", asked, targets, **_hung(asked, hung))

    # --- eject, admit --------------------------------------------------------------------------------

    def _check_eject(self, pool: Pool, name: str, asked: Asked, *, for_: float = 0.0, force: bool = False) -> None:
        state = pool.app.instances[name]
        _ready(pool, state)
        others = [one for one in pool.app.serving if one is not state and pool.stays(one.name)]
        if asked.by_a_person:
            if not others and not force and state.admission is not Admission.EJECTED:
                raise NotPossible(
                    "last-one", f"{name} is the only one of {pool.app.name} that gets requests: without it they wait"
                    f" {units.duration(pool.config.queue.timeout)} and get a 503", "`force` does it all the same",
                )  # fmt: skip
        elif state.admission is Admission.EJECTED:
            raise NotPossible("already", f"{name} is ejected already: {state.ejection.reason}")
        elif not pool.ejector.allowed(name):
            most = units.percent(pool.config.ejection.max_ejected)
            raise NotPossible("cap", f"no more than {most} of {pool.app.name} may be ejected",
                              f"apps.{pool.app.name}.ejection.max_ejected")  # fmt: skip

    def _eject(self, pool: Pool, name: str, asked: Asked, *, for_: float = 0.0, force: bool = False) -> Operation:
        operation = self._begin("eject", pool, name, asked, [name])
        reason = asked.reason or asked.by
        if asked.by_a_person:
            self.shared.by_hand.set(pool.app.name, EJECTED + name, True, asked.by, asked.reason, for_)
            pool.admissions.eject(name, "hand", reason, time.monotonic() + for_ if for_ else 0.0)
        else:
            pool.admissions.eject(name, "rule", reason, time.monotonic() + (for_ or RULE_EJECTS))
        return operation

    def _check_admit(self, pool: Pool, name: str, asked: Asked) -> None:
        state = pool.app.instances[name]
        _ready(pool, state)
        if state.admission is Admission.ADMITTING:
            raise NotPossible("not-ejected", f"{name} gets requests already")
        _not_by_hand(pool, EJECTED + name, asked, "admit it")

    def _admit(self, pool: Pool, name: str, asked: Asked) -> Operation:
        operation = self._begin("admit", pool, name, asked, [name])
        pool.admissions.admit(name, f"admitted {asked.by}" if asked.by_a_person else f"admitted by {asked.by}")
        return operation

    # --- start, stop, hold, release ------------------------------------------------------------------

    def _check_start(self, pool: Pool, name: str, asked: Asked) -> None:
        app = pool.app
        if app.state == "held":
            raise NotPossible("held", f"{app.name} is held, not stopped", f"`triage release {app.name}`")
        failed = any(one.lifecycle is Lifecycle.FAILED for one in app.instances.values())
        if app.state != "stopped" and not failed:
            hint = f"`triage restart {app.name}` replaces its instances"
            raise NotPossible("not-stopped", f"{app.name} is not stopped", hint)

    def _start(self, pool: Pool, name: str, asked: Asked) -> Operation:
        operation = self._begin("start", pool, "", asked, ())
        self.shared.by_hand.end(pool.app.name, "state")
        for state in pool.app.instances.values():
            if state.lifecycle is Lifecycle.FAILED:
                state.under = operation.id
        pool.try_failed()
        return operation

    def _check_stop(self, pool: Pool, name: str, asked: Asked, *, for_: float = 0.0) -> None:
        if pool.app.state == "stopped":
            raise NotPossible("already", f"{pool.app.name} is stopped already", f"`triage start {pool.app.name}`")

    def _stop(self, pool: Pool, name: str, asked: Asked, *, for_: float = 0.0) -> Operation:
        for one in self.operations.running(pool.app.name):
            pool.unmark(one)
            self.operations.failed(one, "the app was stopped by hand")
        operation = self._begin("stop", pool, "", asked, _names(pool))
        self.shared.by_hand.set(pool.app.name, "state", "stopped", asked.by, asked.reason, for_)
        return operation

    def _check_hold(self, pool: Pool, name: str, asked: Asked, *, for_: float = 0.0) -> None:
        if pool.app.state == "held":
            raise NotPossible("already", f"{pool.app.name} is held already", f"`triage release {pool.app.name}`")
        if pool.app.state == "stopped":
            hint = f"`triage start {pool.app.name}` first"
            raise NotPossible("stopped", f"{pool.app.name} was stopped by hand", hint)

    def _hold(self, pool: Pool, name: str, asked: Asked, *, for_: float = 0.0) -> Operation:
        operation = self._begin("hold", pool, "", asked, ())
        self.shared.by_hand.set(pool.app.name, "state", "held", asked.by, asked.reason, for_)
        return operation

    def _check_release(self, pool: Pool, name: str, asked: Asked) -> None:
        if pool.app.state != "held":
            raise NotPossible("not-held", f"{pool.app.name} is not held")

    def _release(self, pool: Pool, name: str, asked: Asked) -> Operation:
        operation = self._begin("release", pool, "", asked, ())
        self.shared.by_hand.end(pool.app.name, "state")
        return operation

    # --- scale, autoheal -----------------------------------------------------------------------------

    def _check_scale(
        self,
        pool: Pool,
        name: str,
        asked: Asked,
        *,
        instances: int | None = None,
        auto: bool = False,
        memory: int | None = None,
        cpus: float | None = None,
        for_: float = 0.0,
    ) -> None:
        app = pool.app
        if pool.config.process is None:
            hint = f"apps.{app.name}.addresses says which there are"
            raise NotPossible("given-addresses", f"{app.name} has given addresses: Triage does not run them", hint)
        if not auto and instances is None and memory is None and cpus is None:
            raise NotPossible("nothing-said", "scale to what?", "instances, auto, memory or cpus")
        if instances is not None and not 0 <= instances <= MOST:
            raise NotPossible("out-of-range", f"{instances} instances: 0 to {MOST} can be")
        if (memory is not None and memory < 0) or (cpus is not None and cpus < 0):
            raise NotPossible("out-of-range", "memory and cpus are above 0, or 0 for what the config says")
        if instances is not None:
            _not_by_hand(pool, "count", asked, f"set {instances}")

    def _scale(
        self,
        pool: Pool,
        name: str,
        asked: Asked,
        *,
        instances: int | None = None,
        auto: bool = False,
        memory: int | None = None,
        cpus: float | None = None,
        for_: float = 0.0,
    ) -> Operation:
        app, book = pool.app, self.shared.by_hand
        wish: dict[str, Any] = {"instances": instances, "auto": auto or None, "memory": memory, "cpus": cpus}
        said = {key: value for key, value in wish.items() if value is not None}
        operation = self._begin("scale", pool, "", asked, (), before=app.wanted, **said)
        if auto:
            for key in ("count", "memory", "cpus"):
                book.end(app.name, key)
        if instances is not None and asked.by_a_person:
            book.set(app.name, "count", instances, asked.by, asked.reason, for_)
        elif instances is not None:
            app.scaled = instances
        for key, value in (("memory", memory), ("cpus", cpus)):
            if value:
                book.set(app.name, key, value, asked.by, asked.reason, for_)
            elif value == 0:
                book.end(app.name, key)
        operation.targets = tuple(one for one in _names(pool) if pool.stays(one) and not pool.is_current(one))
        for one in operation.targets:
            app.instances[one].under = operation.id
        return operation

    def _check_autoheal(self, pool: Pool, name: str, asked: Asked, *, enabled: bool, for_: float = 0.0) -> None:
        if enabled and "autoheal" not in pool.app.by_hand:
            raise NotPossible("already", f"autoheal of {pool.app.name} is on")

    def _autoheal(self, pool: Pool, name: str, asked: Asked, *, enabled: bool, for_: float = 0.0) -> Operation:
        operation = self._begin("autoheal", pool, "", asked, (), enabled=enabled)
        if enabled:
            self.shared.by_hand.end(pool.app.name, "autoheal")
        else:
            self.shared.by_hand.set(pool.app.name, "autoheal", "off", asked.by, asked.reason, for_)
        return operation


    # --- mute ----------------------------------------------------------------------------------------

    def _check_mute(
        self, pool: Pool, name: str, asked: Asked, *, for_: float = 0.0, unmute: bool = False
    ) -> None:
        if unmute and MUTED not in pool.app.by_hand:
            raise NotPossible("not-muted", f"{pool.app.name} is not muted")
        if not unmute and not 0 < for_ <= LONGEST_MUTE:
            raise NotPossible(
                "no-end", "a mute has an end, after 30 days at the latest", f"`triage mute {pool.app.name} --for 1h`"
            )

    def _mute(
        self, pool: Pool, name: str, asked: Asked, *, for_: float = 0.0, unmute: bool = False
    ) -> Operation:
        operation = self._begin("mute", pool, "", asked, (), **({"unmute": True} if unmute else {"for_s": for_}))
        if unmute:
            self.shared.by_hand.end(pool.app.name, MUTED)
        else:
            self.shared.by_hand.set(pool.app.name, MUTED, True, asked.by, asked.reason, for_)
        return operation


def _driver(pool: Pool, operation: Operation) -> Driver:
    """Who follows it to its end."""
    match operation.act:
        case "recycle" | "restart":
            return recycling.run if pool.config.process else given.run
        case "scale" | "start":
            return settling.settled
        case "stop":
            return settling.stopped
        case "mute":
            return settling.noted
        case _:
            return settling.routed


def _names(pool: Pool) -> list[str]:
    """The oldest first."""
    return [one.name for one in sorted(pool.app.instances.values(), key=order)]


def _hung(asked: Asked, hung: bool) -> dict[str, bool]:
    return {"hung": True} if hung or asked.rule == "hung" else {}


def _ready(pool: Pool, state: InstanceState) -> None:
    if state.lifecycle is not Lifecycle.READY or not pool.stays(state.name):
        hint = "only ready ones get requests"
        raise NotPossible("not-ready", f"{state.name} is {state.lifecycle}: {state.why}", hint)


def _not_by_hand(pool: Pool, key: str, asked: Asked, would: str) -> None:
    entry = pool.app.by_hand.get(key)
    if entry is not None and not asked.by_a_person:
        why = f": {entry.why}" if entry.why else ""
        raise NotPossible("by-hand", f"{key} was set {entry.by}{why}; {asked.by} would {would}")


_CHECKS: Final[dict[str, Callable[..., None]]] = {
    "recycle": Mender._check_recycle,
    "restart": Mender._check_restart,
    "eject": Mender._check_eject,
    "admit": Mender._check_admit,
    "start": Mender._check_start,
    "stop": Mender._check_stop,
    "hold": Mender._check_hold,
    "release": Mender._check_release,
    "scale": Mender._check_scale,
    "autoheal": Mender._check_autoheal,
    "mute": Mender._check_mute,
}
_BEGIN: Final[dict[str, Callable[..., Operation]]] = {
    "recycle": Mender._recycle,
    "restart": Mender._restart,
    "eject": Mender._eject,
    "admit": Mender._admit,
    "start": Mender._start,
    "stop": Mender._stop,
    "hold": Mender._hold,
    "release": Mender._release,
    "scale": Mender._scale,
    "autoheal": Mender._autoheal,
    "mute": Mender._mute,
}
