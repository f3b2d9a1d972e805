"""An app's pool of instances: as many as wanted, the right ones, and who of them gets requests.

Longer than most: it only connects, and the connections of one pool are best seen at one place.

Always true:
  - `app.instances` has exactly the instances with a task here, and each has a row of the board of its own;
  - a number is never given twice (names.py); the planning itself is pure (pool.py, ejection.py).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from proxy import units
from proxy.config import Address, Process
from proxy.config import App as AppConfig
from proxy.control import ejection, lifecycle
from proxy.control.address import AddressRunner, fresh, name_of
from proxy.control.ejection import Decision, Ejector
from proxy.control.log import Sink
from proxy.control.output import OutputCapture
from proxy.control.pool import Member, plan
from proxy.control.process import ProcessRunner
from proxy.control.shared import Shared
from proxy.control.state import (
    Admission,
    AppState,
    Exit,
    InstanceState,
    Lifecycle,
    ProbeResult,
    SuspectRequest,
)
from proxy.control.version import generation
from proxy.link import messages as link
from proxy.link.spawn import ExitRecord

SUSPECT_FOR: Final = 86400.0
"""A method and path stay suspect until the app's next version, a day at most."""


class Pool:
    """One app. `config` is what is in force; instances may still run what was before."""

    def __init__(self, shared: Shared, app: AppState) -> None:
        self.shared = shared
        self.app = app
        self.config: AppConfig = app.config
        self.runners: dict[str, ProcessRunner | AddressRunner] = {}
        self.ejector = Ejector(rules(app.config))
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._carried: deque[InstanceState] = deque(maxlen=100)  # what ended: its successor inherits the failures
        self._wake = asyncio.Event()
        self._said_empty = False
        self._removed = False
        self._loop_task: asyncio.Task[None] | None = None
        self._set_wanted()

    def begin(self) -> None:
        """Start what is missing; after what runs already was taken over."""
        self._wake.set()
        self._loop_task = asyncio.get_running_loop().create_task(self._reconcile_loop(), name=f"pool {self.app.name}")

    # --- what others ask for -------------------------------------------------------------------------

    def configure(self, config: AppConfig) -> None:
        """A new config: instances it does not concern stay as they are."""
        if config.process != self.config.process:
            self._carried.clear()
        self.config = self.app.config = config
        self.ejector.rules = rules(config)
        self._set_wanted()
        now = time.monotonic()
        for state in self.app.instances.values():  # a new config is what a failed instance waits for
            if state.lifecycle is Lifecycle.FAILED:
                state.retry_at, state.failures = now, 0.0
                self.runners[state.name].ended.set()
        self._sync_addresses()
        self.wake()

    def wake(self) -> None:
        """Look again whether there are as many instances as wanted."""
        self._wake.set()

    def remove(self) -> None:
        """The app left the config: all of it goes."""
        self._removed = True
        self._set_wanted()
        self._sync_addresses()
        self.wake()

    async def ended(self) -> None:
        """Wait until no instance is left."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))
        if self._loop_task is not None:
            self._loop_task.cancel()

    async def close(self) -> None:
        """Let go of tasks without touching an instance (control ends, instances go on)."""
        tasks = [*self._tasks.values(), *([self._loop_task] if self._loop_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def adopt(self, state: InstanceState, process: Process | None, stdout: int = -1, stderr: int = -1) -> None:
        """Go on with an instance that a former control started."""
        self.app.instances[state.name] = state
        if state.kind == "address":
            address = next((one for one in self.config.addresses if name_of(one) == state.name), None)
            if address is None:
                state.stop_reason = "it left the config"
                address = Address(url=state.url)
            runner: ProcessRunner | AddressRunner = AddressRunner(self.shared, self, state, address)
            if state.stop_reason:
                runner.leave(state.stop_reason)
        else:
            assert process is not None
            output = OutputCapture(state.name, self.shared.logs, self._echo())
            runner = ProcessRunner(self.shared, self, state, process, output)
            if stdout >= 0 or stderr >= 0:
                output.attach(stdout, stderr)
            if state.lifecycle is Lifecycle.DRAINING:
                runner.leaving.set()
        self._begin(runner)

    # --- what instances tell (instance.Owner) --------------------------------------------------------

    def moved(self, state: InstanceState) -> None:
        """Its lifecycle changed."""
        if state.lifecycle is Lifecycle.READY and state.kind == "process":
            self._note_version(state)
        ready = [one.name for one in self.app.instances.values() if one.lifecycle is Lifecycle.READY]
        self.ejector.keep(ready, time.monotonic())
        if state.lifecycle is Lifecycle.STOPPED and state.kind == "process" and not state.stop_reason:
            self._carried.append(state)
        if state.lifecycle is Lifecycle.STOPPING and not self.runners[state.name].leaving.is_set():
            self._carried.append(state)  # too slow: its successor starts with its failures
        self._assess()
        self.decide()
        self.wake()

    def _note_version(self, state: InstanceState) -> None:
        """The first ready instance of another version or config: suspects of the one before are forgotten."""
        runner = self.runners[state.name]
        assert isinstance(runner, ProcessRunner)
        version = f"{state.version or 'unknown'}/{runner.generation}"
        before, self.app.version = self.app.version, version
        if before and before != version:
            self.app.suspects = []
            text = f"{self.app.name}: version {state.version or 'unknown'} deployed, first ready as {state.name}"
            details = {"version": state.version, "config": runner.generation, "before": before}
            self.shared.event("deployed", text, self.app.name, state.name, **details)

    def probed(self, state: InstanceState, result: ProbeResult) -> None:
        """A probe of a ready instance ended."""
        self.ejector.probed(state.name, result.ok, result.words, result.refused)
        self.decide(state.name)

    # --- what workers and the launcher tell ----------------------------------------------------------

    def learned(self, worker: int, news: link.Learned) -> None:
        """A worker saw faults, or that they are over."""
        self.ejector.learned(news.instance, worker, news.good, news.faults, news.streak, news.refused)
        self.decide(news.instance)

    def suspect(self, news: link.Suspect) -> None:
        """A request was on two instances when they ended."""
        now = time.monotonic()
        self.app.suspects = [
            one for one in self.app.suspects if one.until > now and (one.method, one.path) != (news.method, news.path)
        ]
        self.app.suspects.append(SuspectRequest(news.method, news.path, news.id, time.time(), now + SUSPECT_FOR))
        text = f"{news.method} {news.path} was on two instances when they ended; it is not tried again on an exit"
        self.shared.event("suspect", text, self.app.name, method=news.method, path=news.path, request=news.id)
        self.shared.changed()

    def on_exit(self, record: ExitRecord) -> Exit | None:
        """A process of this pool ended. None: not one that is known."""
        runner = self.runners.get(record["name"])
        if not isinstance(runner, ProcessRunner) or runner.state.pid != record["pid"]:
            return None
        ended = runner.describe(record)
        self.app.ended.append(ended)
        runner.on_exit(record, ended)
        return ended

    def tick(self) -> None:
        """Once a second: what only time ends."""
        self.decide()
        self._assess()

    def resolved(self, host: str) -> None:
        """DNS has another answer."""
        for runner in self.runners.values():
            if isinstance(runner, AddressRunner) and runner.state.host == host:
                runner.resolve()
                self.shared.changed()

    # --- ejection ------------------------------------------------------------------------------------

    def decide(self, name: str = "") -> None:
        """Apply what the policy says now, of one instance or of all."""
        now = time.monotonic()
        for decision in self.ejector.decide(now, name):
            state = self.app.instances.get(decision.name)
            if state is not None:
                self._apply(state, decision, now)
                self.shared.changed()

    def _apply(self, state: InstanceState, decision: Decision, now: float) -> None:
        if decision.dry:
            state.ejection.dry = decision.reason
            text = f"{state.name} would be ejected (dry_run): {decision.reason}"
            self.shared.event("would-eject", text, state.app, state.name, by=decision.by)
            return
        before, was_failing = state.admission, state.failing
        state.admission, state.failing = decision.admission, decision.failing
        ejected = state.ejection
        match decision.admission:
            case Admission.EJECTED:
                watch = self.ejector.watches[state.name]
                ejected.count, ejected.until = watch.count, decision.until
                ejected.by, ejected.reason = decision.by, decision.reason
                state.why = f"ejected: {decision.reason}"
                lasts = units.duration(decision.until - now)
                end = "until its probes pass" if decision.by == "probe" else f"for {lasts}, then one trial request"
                text = f"{state.name} ejected {end}: {decision.reason}"
                self.shared.event("ejected", text, state.app, state.name, by=decision.by, count=watch.count)
            case Admission.TRIAL:
                state.why = "in trial: the next request decides"
                self.shared.event("trial", f"{state.name} is in trial: {decision.reason}", state.app, state.name)
            case Admission.ADMITTING if decision.failing:
                state.why = f"failing, but still serving, for too few others are left: {decision.reason}"
                self.shared.event("failing", f"{state.name} is {state.why}", state.app, state.name, by=decision.by)
            case Admission.ADMITTING:
                if before is not Admission.ADMITTING:
                    state.admitted = now
                state.why = decision.reason
                kind = "well" if was_failing else "admitted"
                self.shared.event(kind, f"{state.name} admitted again: {decision.reason}", state.app, state.name)
        self._assess()

    def _assess(self) -> None:
        """One line on what is wrong with the app, "" when nothing is."""
        app = self.app
        states = [
            one for one in app.instances.values() if one.lifecycle not in (Lifecycle.DRAINING, Lifecycle.STOPPING)
        ]
        ready = app.ready
        failing = [one.name for one in ready if one.failing]
        ejected = [one for one in ready if one.admission is Admission.EJECTED]
        if app.wanted == 0:
            app.degraded = ""
        elif ready and len(failing) == len(ready):
            app.degraded = f"checks fail on all, still serving: {ready[0].why.rpartition(': ')[2]}"
        elif len(ready) < app.wanted:
            others = [one for one in states if one.lifecycle is not Lifecycle.READY]
            why = f": {others[0].name} {others[0].lifecycle}, {others[0].why}" if others else ""
            app.degraded = f"{len(ready)} of {app.wanted} ready{why}"
        elif ejected:
            app.degraded = f"{len(ejected)} of {len(ready)} ejected: {ejected[0].name}, {ejected[0].ejection.reason}"
        elif failing:
            app.degraded = f"{', '.join(failing)} failing, still serving"
        else:
            app.degraded = ""

    # --- as many as wanted ---------------------------------------------------------------------------

    def _set_wanted(self) -> None:
        process = self.config.process
        count = process.instances if process else len(self.config.addresses)
        self.app.wanted = 0 if self._removed or self.shared.stopping or self.app.state == "stopped" else count

    async def _reconcile_loop(self) -> None:
        self._sync_addresses()
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._set_wanted()
            try:
                await self._reconcile()
            except OSError as error:
                self.shared.event("failed", f"{self.app.name}: no instance can be made: {error}", self.app.name)
                await asyncio.sleep(1.0)
                self._wake.set()
            except Exception as error:  # a defect here must not leave the app without anybody who looks after it
                self.shared.log.error("defect", f"planning for {self.app.name} failed: {error!r}", app=self.app.name)
                await asyncio.sleep(1.0)
                self._wake.set()

    async def _reconcile(self) -> None:
        process = self.config.process
        if self.shared.stopping:
            self._sync_addresses()
        current = generation(process) if process else ""
        members = [
            Member(state.name, self._lifecycle(state), self._is_current(state.name, current), _order(state))
            for state in self.app.instances.values()
            if state.kind == "process"
        ]
        overlap = process.overlap if process else True
        steps = plan(members, self.app.wanted if process else 0, overlap)
        for name in steps.leave:
            self.runners[name].leave(self._reason(name, current))
        for _ in range(steps.start):
            assert process is not None
            await self._create(process)

    def _lifecycle(self, state: InstanceState) -> Lifecycle:
        """One that was told to leave counts as draining, also before its task has taken the step."""
        leaving = self.runners[state.name].leaving.is_set() and state.lifecycle is not Lifecycle.STOPPED
        return Lifecycle.DRAINING if leaving else state.lifecycle

    def _is_current(self, name: str, current: str) -> bool:
        runner = self.runners.get(name)
        return isinstance(runner, ProcessRunner) and runner.generation == current

    def _reason(self, name: str, current: str) -> str:
        if self.shared.stopping:
            return "Triage stops"
        if self._removed:
            return "the app left the config"
        if self.app.state == "stopped":
            return "the app was stopped by hand"
        return "fewer instances are wanted" if self._is_current(name, current) else "its process table changed"

    async def _create(self, process: Process) -> None:
        shared, app = self.shared, self.app
        name = await shared.numbers.take(app.name)
        now = time.monotonic()
        before = self._carried.popleft() if self._carried else None
        row = shared.rows.take()
        shared.board.zero_row(row)
        state = InstanceState(name, app.name, "process", row, why="starting")
        if before is not None:
            state.failures = lifecycle.decayed(before.failures, before.failures_at, now)
            state.failures_at = now
            state.restarts = before.restarts + 1
            state.last_exit = before.last_exit
            delay = lifecycle.delay_after_exit(state.failures)
            if delay:
                state.lifecycle, state.retry_at = Lifecycle.BACKOFF, now + delay
                state.why = f"in {before.name}'s place, in {units.duration(delay)}: {before.why}"
        app.instances[name] = state
        output = OutputCapture(name, shared.logs, self._echo())
        self._begin(ProcessRunner(shared, self, state, process, output))
        shared.changed()

    def _begin(self, runner: ProcessRunner | AddressRunner, tell: bool = True) -> None:
        name = runner.state.name
        runner.state.log_paths = (str(self.shared.logs.path(name)),) if runner.state.kind == "process" else ()
        self.runners[name] = runner
        self._tasks[name] = asyncio.get_running_loop().create_task(self._live(runner), name=f"instance {name}")
        if tell:
            self.moved(runner.state)

    async def _live(self, runner: ProcessRunner | AddressRunner) -> None:
        name = runner.state.name
        try:
            await runner.run()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.shared.log.error("defect", f"the task of {name} failed: {error!r}", app=self.app.name, instance=name)
            raise
        del self.runners[name], self._tasks[name]
        self.app.gone.append(self.app.instances.pop(name))
        if isinstance(runner, AddressRunner):
            self._sync_addresses()
        self.shared.changed()
        self.wake()

    def _sync_addresses(self) -> None:
        wanted = {} if self._removed or self.shared.stopping else {name_of(one): one for one in self.config.addresses}
        for name, runner in self.runners.items():
            if isinstance(runner, AddressRunner):
                address = wanted.pop(name, None)
                if runner.leaving.is_set():
                    continue  # one of the same name comes when this one is gone
                if address is not None and address.url == runner.address.url:
                    runner.update(address)
                else:
                    runner.leave("Triage stops" if self.shared.stopping else "it left the config")
        last: InstanceState | None = None
        for address in wanted.values():
            last = fresh(self.app.name, address, self.shared.rows.take())
            self.app.instances[last.name] = last
            self._begin(AddressRunner(self.shared, self, last, address), tell=False)
        if last is not None:
            self.moved(last)  # once for all: what it looks at is the whole pool
        self.shared.changed()

    def _echo(self) -> _Echo | None:
        return _Echo() if self.shared.plan["run"] else None


class _Echo:
    """Under `triage run`, what instances print appears on the terminal as `web-1 | line`."""

    def __init__(self) -> None:
        self._sink = Sink(1)

    def __call__(self, name: str, stream: str, line: str) -> None:
        self._sink.write(f"{name} | {line}\n".encode(errors="replace"))


def rules(config: AppConfig) -> ejection.Rules:
    """The app's rules, from its `ejection` and `health` tables."""
    table = config.ejection
    return ejection.Rules(
        consecutive=table.consecutive,
        ratio=table.ratio,
        min_requests=table.min_requests,
        window=table.window,
        first=table.first,
        max=table.max,
        max_ejected=table.max_ejected,
        dry_run=table.dry_run,
        fails=config.health.fails,
        passes=config.health.passes,
    )


def _order(state: InstanceState) -> int:
    number = state.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0
