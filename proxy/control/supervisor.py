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
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from proxy import units
from proxy.config import Address, Process
from proxy.config import App as AppConfig
from proxy.control import lifecycle
from proxy.control.address import AddressRunner, fresh, name_of
from proxy.control.admission import Admissions
from proxy.control.assessing import degraded
from proxy.control.log import Sink
from proxy.control.logs.capture import OutputCapture
from proxy.control.operations import Operation
from proxy.control.planner import STARTING, Planner
from proxy.control.process import ABORT_WITHIN, ProcessRunner
from proxy.control.shared import Shared
from proxy.control.state import (
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

DRAIN: Final = 30.0
"""Seconds for a given address, which has no `stop` table."""
HUNG_DRAIN: Final = 2.0
LIMITS: Final = ("memory", "cpus")
"""Keys of the process table that may be set by hand."""
SUSPECT_FOR: Final = 86400.0
"""A method and path stay suspect until the app's next version, a day at most."""


class Pool:
    """One app. `config` is what is in force; instances may still run what was before."""

    def __init__(self, shared: Shared, app: AppState) -> None:
        self.shared = shared
        self.app = app
        self.config: AppConfig = app.config
        self.runners: dict[str, ProcessRunner | AddressRunner] = {}
        self.admissions = Admissions(shared, app, self.assess)
        self.ejector = self.admissions.ejector
        self.planner = Planner(self)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._carried: deque[InstanceState] = deque(maxlen=100)  # what ended: its successor inherits the failures
        self._wake = asyncio.Event()
        self.removed = False
        """The app left the config."""
        self._waiters: set[asyncio.Future[None]] = set()
        self._known: tuple[Process, dict[str, Any], Process, str] | None = None
        self._loop_task: asyncio.Task[None] | None = None
        app.by_hand = shared.by_hand.of(app.name)
        self._set_wanted()

    def begin(self) -> None:
        """Start what is missing; after what runs already was taken over."""
        self.admissions.forget({*self.app.instances, *(name_of(one) for one in self.config.addresses)})
        self._wake.set()
        self._loop_task = asyncio.get_running_loop().create_task(self._reconcile_loop(), name=f"pool {self.app.name}")

    # --- what others ask for -------------------------------------------------------------------------

    def configure(self, config: AppConfig) -> None:
        """A new config: instances it does not concern stay as they are."""
        if config.process != self.config.process:
            self._carried.clear()
            self.app.not_replaced = ""
        self.config = self.app.config = config
        self.admissions.configure(config)
        self._set_wanted()
        self.try_failed()  # a new config is what a failed instance waits for
        self._sync_addresses()
        self.wake()

    def try_failed(self) -> int:
        """Those that failed to start are tried again at once; how many that are."""
        failed = [one for one in self.app.instances.values() if one.lifecycle is Lifecycle.FAILED]
        for state in failed:
            state.retry_at, state.failures = time.monotonic(), 0.0
            self.runners[state.name].ended.set()
        return len(failed)

    def refresh(self) -> None:
        """What was set by hand has changed: take it over at once, into the next table too."""
        self._set_wanted()
        self.shared.changed()
        self.wake()

    def wake(self) -> None:
        """Look again whether there are as many instances as wanted."""
        self._wake.set()

    def remove(self) -> None:
        """The app left the config: all of it goes."""
        self.removed = True
        self.shared.by_hand.forget(self.app.name)
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
            output = self._capture(state)
            runner = ProcessRunner(self.shared, self, state, process, output)
            if stdout >= 0 or stderr >= 0:
                self.shared.logbook.attach(output, stdout, stderr)
            if state.lifecycle in (Lifecycle.DRAINING, Lifecycle.STOPPING):
                runner.leaving.set()
            elif state.lifecycle is Lifecycle.READY:
                state.stop_reason = ""  # it was told to leave and had not begun to: that is planned again
        if state.lifecycle is Lifecycle.READY:
            self.admissions.restore(state)
        self._begin(runner)

    # --- for acts ------------------------------------------------------------------------------------

    @property
    def process(self) -> Process | None:
        """What instances are started with now: the config's table, and what was set by hand in it."""
        return self._made_of()[0]

    @property
    def generation(self) -> str:
        """Of `process`: instances of another one are replaced."""
        return self._made_of()[1]

    def _made_of(self) -> tuple[Process | None, str]:
        process = self.config.process
        if process is None:
            return None, ""
        by_hand: dict[str, Any] = {key: self.app.by_hand[key].value for key in LIMITS if key in self.app.by_hand}
        known = self._known
        if known is None or known[0] is not process or known[1] != by_hand:
            made = msgspec.structs.replace(process, **by_hand)
            self._known = known = (process, by_hand, made, generation(made))  # a thousand instances ask at a time
        return known[2], known[3]

    def is_current(self, name: str) -> bool:
        runner = self.runners.get(name)
        return isinstance(runner, ProcessRunner) and runner.generation == self.generation

    def stays(self, name: str) -> bool:
        """It is there, and was not told to leave."""
        runner = self.runners.get(name)
        going = (Lifecycle.DRAINING, Lifecycle.STOPPING, Lifecycle.STOPPED)
        return runner is not None and not runner.leaving.is_set() and runner.state.lifecycle not in going

    async def turn(self, timeout: float = 1.0) -> None:
        """Until something of this pool has changed, or the time has passed."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)
        timer = loop.call_later(timeout, _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)

    def mark(self, names: Iterable[str], operation: Operation) -> None:
        """They are to be replaced."""
        for name in names:
            if self.stays(name):
                state = self.app.instances[name]
                state.marked = state.under = operation.id
        self.shared.changed()
        self.wake()

    def unmark(self, operation: Operation) -> None:
        """Whatever was marked for it stays."""
        for state in self.app.instances.values():
            if state.marked == operation.id:
                state.marked = ""
        self.shared.changed()
        self.wake()

    # --- what instances tell (instance.Owner) --------------------------------------------------------

    def told(self, state: InstanceState, text: str) -> None:
        """A step of the operation that it belongs to, if there is one."""
        operation = self.shared.operations.get(state.under)
        if operation is not None:
            self.shared.operations.step(operation, text)

    def drain_limit(self, state: InstanceState) -> float:
        """Seconds that requests on it may go on. One that is replaced because nothing is answered any more gets few:
        what can be sent again is answered by its successor then."""
        limit = self.config.process.stop.timeout if self.config.process else DRAIN
        operation = self.shared.operations.get(state.under)
        hung = operation is not None and bool(operation.details.get("hung"))
        return min(limit, HUNG_DRAIN) if hung else limit

    def moved(self, state: InstanceState) -> None:
        """Its lifecycle changed."""
        app = self.app
        if state.lifecycle is Lifecycle.READY and state.kind == "process":
            self._note_version(state)
            app.gap, app.not_replaced = 0.0, ""
        elif state.lifecycle is Lifecycle.FAILED:
            app.gap = 0.0
        self.admissions.keep([one.name for one in app.instances.values() if one.lifecycle is Lifecycle.READY])
        if state.lifecycle is Lifecycle.STOPPED and state.kind == "process" and not state.stop_reason:
            self._carried.append(state)
        if state.lifecycle is Lifecycle.STOPPING and not self.runners[state.name].leaving.is_set():
            self._too_slow(state)
        self.assess()
        self.admissions.decide()
        self.wake()

    def _too_slow(self, state: InstanceState) -> None:
        self._carried.append(state)  # its successor starts with its failures
        self.app.gap = 0.0
        operation = self.shared.operations.get(state.under)
        if operation is not None:
            operation.details["too_slow"] = operation.details.get("too_slow", 0) + 1

    def _note_version(self, state: InstanceState) -> None:
        """The first ready instance of another version or config: suspects of the one before are forgotten."""
        runner = self.runners[state.name]
        assert isinstance(runner, ProcessRunner)
        version = f"{state.version or 'unknown'}/{runner.generation}"
        before, self.app.version = self.app.version, version
        if before and before != version:
            self.app.suspects = []
            gone = next((one for one in reversed(self.app.gone) if one.made_of), None)
            others = [one for one in self.app.instances.values() if one is not state and one.made_of]
            known = next((one for one in [*others, *([gone] if gone else [])] if one.made_of != state.made_of), None)
            changed = [key for key, value in state.made_of.items() if known and known.made_of.get(key) != value]
            said = f" ({', '.join(changed)} changed)" if changed else ""
            text = f"{self.app.name}: version {state.version or 'unknown'} deployed{said}, first ready as {state.name}"
            details = {"version": state.version, "before": before, "changed": changed, **state.made_of}
            self.shared.event("deployed", text, self.app.name, state.name, **details)

    def probed(self, state: InstanceState, result: ProbeResult) -> None:
        """A probe of a ready instance ended."""
        began = time.monotonic() - result.seconds
        self.ejector.probed(state.name, result.ok, result.words, result.refused, began)
        self.admissions.decide(state.name)

    # --- what workers and the launcher tell ----------------------------------------------------------

    def learned(self, worker: int, news: link.Learned) -> None:
        """A worker saw faults, or that they are over."""
        self.ejector.learned(news.instance, worker, news.good, news.faults, news.streak, news.refused)
        self.admissions.decide(news.instance)

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
        if self.planner.no_room:
            self.wake()
        self.admissions.decide()
        self.assess()

    def resolved(self, host: str) -> None:
        """DNS has another answer."""
        for runner in self.runners.values():
            if isinstance(runner, AddressRunner) and runner.state.host == host:
                runner.resolve()
                self.shared.changed()

    def assess(self) -> None:
        """Say what is wrong with the app, if something is."""
        app, planner = self.app, self.planner
        app.degraded = degraded(app, app.not_replaced or planner.stuck)

    # --- as many as wanted ---------------------------------------------------------------------------

    def _set_wanted(self) -> None:
        app, process = self.app, self.config.process
        hand = app.by_hand
        before = app.state, app.wanted
        app.state = hand["state"].value if "state" in hand else "up"
        count = len(self.config.addresses)
        if process:
            count = hand["count"].value if "count" in hand else process.instances if app.scaled is None else app.scaled
        app.wanted = 0 if self.removed or self.shared.stopping or app.state == "stopped" else count
        if not app.wanted:
            app.gap = 0.0
        if (app.state, app.wanted) != before:
            self.shared.changed()

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
        process = self.process
        if self.shared.stopping:
            self._sync_addresses()
        steps = self.planner.plan()
        ready = {state.name for state in self.app.ready if self.stays(state.name)}
        if ready and process and self.app.wanted and not ready.difference(steps.leave):
            # Planned: who comes now waits for the replacement, as does who waits already.
            ends = process.stop.timeout + endings_take(process)
            self.app.gap = max(ends, self.config.tunnel.drain) + ends + self.config.health.ready_within
        for name in steps.leave:
            self._under_way(name)
            self.runners[name].leave(self._reason(name))
        for _ in range(steps.start):
            assert process is not None
            await self._create(process)
        for waiter in self._waiters:
            _resolve(waiter)

    def _under_way(self, name: str) -> None:
        """What becomes of it is a step of the operation that wants it gone."""
        state = self.app.instances[name]
        known = self.shared.operations.get(state.marked or state.under)
        if known is None or not known.running:
            running = self.shared.operations.running(self.app.name)
            state.under = next((one.id for one in running if one.act in (*STARTING, "stop")), "")

    def _reason(self, name: str) -> str:
        if self.shared.stopping:
            return "Triage stops"
        if self.removed:
            return "the app left the config"
        if self.app.state == "stopped":
            return "the app was stopped by hand"
        state = self.app.instances[name]
        operation = self.shared.operations.get(state.marked)
        if operation is not None:
            asked = operation.asked
            return f"{operation.act}, {asked.by}" + (f": {asked.reason}" if asked.reason else "")
        return "fewer instances are wanted" if self.is_current(name) else "its process table changed"

    async def _create(self, process: Process) -> None:
        shared, app = self.shared, self.app
        name = await shared.numbers.take(app.name)
        now = time.monotonic()
        before = self._carried.popleft() if self._carried else None
        row = shared.rows.take()
        shared.board.zero_row(row)
        state = InstanceState(name, app.name, "process", row, why="starting")
        state.under = next((one.id for one in self.shared.operations.running(app.name) if one.act in STARTING), "")
        if before is not None:
            state.failures = lifecycle.decayed(before.failures, before.failures_at, now)
            state.failures_at = now
            state.restarts = before.restarts + 1
            state.last_exit = before.last_exit
            delay = lifecycle.delay_after_exit(state.failures)
            if delay:
                state.lifecycle, state.retry_at = Lifecycle.BACKOFF, now + delay
                state.why = f"in {before.name}'s place, in {units.duration(delay)}: {before.why}"
        state.moved(time.time())
        app.instances[name] = state
        self._begin(ProcessRunner(shared, self, state, process, self._capture(state)))
        shared.changed()

    def _begin(self, runner: ProcessRunner | AddressRunner, tell: bool = True) -> None:
        name = runner.state.name
        if isinstance(runner, ProcessRunner):
            logs = (name, f"{self.app.name}.files") if runner.process.logs else (name,)
            runner.state.log_paths = tuple(str(self.shared.logs.path(log)) for log in logs)
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
        self.admissions.forget({*self.app.instances, *(name_of(one) for one in self.config.addresses)})
        self.shared.changed()
        self.wake()

    def _sync_addresses(self) -> None:
        wanted = {} if self.removed or self.shared.stopping else {name_of(one): one for one in self.config.addresses}
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

    def _capture(self, state: InstanceState) -> OutputCapture:
        return OutputCapture(state.name, self.shared.logbook, self._echo(), self.app.name, lambda: state.version)

    def _echo(self) -> _Echo | None:
        return _Echo() if self.shared.plan["run"] else None


class _Echo:
    """Under `triage run`, what instances print appears on the terminal as `web-1 | line`."""

    def __init__(self) -> None:
        self._sink = Sink(1)

    def __call__(self, name: str, stream: str, line: str) -> None:
        self._sink.write(f"{name} | {line}\n".encode(errors="replace"))


def endings_take(process: Process) -> float:
    """Seconds until one that was told to end has ended, at worst."""
    return process.stop.timeout + ABORT_WITHIN + 1.0


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
