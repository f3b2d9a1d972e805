"""One instance that Triage runs: from its start to its end.

Longer than most: what belongs to each state of its lifecycle is best read in one place.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Final

from proxy import units
from proxy.config import Process
from proxy.control import agents, command, endings, lifecycle, places, ports, version
from proxy.control.fate import describe
from proxy.control.instance import Owner, Runner
from proxy.control.launcher import Refused
from proxy.control.lifecycle import Event
from proxy.control.logs.capture import OutputCapture
from proxy.control.shared import Shared
from proxy.control.state import Admission, Exit, InstanceState, Lifecycle, ProbeResult
from proxy.link.spawn import ExitRecord, SpawnRequest

ABORT_WITHIN: Final = 2.0
"""Seconds that one gets to write its stacks before it is killed."""
WARM_INTERVAL: Final = 0.25
"""Seconds between probes of one that is not ready yet: nobody should wait five seconds for a pass."""
HINT_AFTER: Final = 5.0
"""Seconds of silence after which is looked where it really listens."""
LINES_KEPT: Final = 20
"""Last lines that an exit carries."""


class ProcessRunner(Runner):
    """The task of one process instance. `process` is what it was started with, whatever the config says now."""

    def __init__(
        self, shared: Shared, owner: Owner, state: InstanceState, process: Process, output: OutputCapture
    ) -> None:
        super().__init__(shared, owner, state)
        self.process = process
        self.generation = version.generation(process)
        self.output = output
        state.output = output
        self.spawning = False
        """The launcher was asked, and has not answered: an exit that comes now must wait."""
        self._hinted = False
        self._looked = 0.0

    async def run(self) -> None:
        """Until it is stopped for good."""
        handlers = {
            Lifecycle.STARTING: self._start,
            Lifecycle.WARMING: self._warm,
            Lifecycle.READY: self._serve,
            Lifecycle.DRAINING: self._drain,
            Lifecycle.STOPPING: self._stop,
            Lifecycle.BACKOFF: self._back_off,
            Lifecycle.FAILED: self._back_off,
        }
        while self.state.lifecycle is not Lifecycle.STOPPED:
            await handlers[self.state.lifecycle]()
        await self._clean_up()

    # --- its end, as heard from the launcher ---------------------------------------------------------

    def on_exit(self, record: ExitRecord, ended: Exit) -> None:
        """At once, before anything else is awaited: workers are waiting for this."""
        state = self.state
        state.last_exit = ended
        state.pid = 0
        now = time.monotonic()
        told = f"{state.name} ended: {ended.words}, after {units.duration(ended.lasted)}"
        if state.lifecycle in (Lifecycle.STARTING, Lifecycle.WARMING):
            kind = "exits-at-once" if state.lifecycle is Lifecycle.STARTING else "exits-before-ready"
            self._start_failed(kind, f"exited after {units.duration(ended.lasted)}, {_short(ended)}", now)
        else:
            planned = state.lifecycle is Lifecycle.STOPPING
            if not planned:
                self._add_failure(now)
            self.shared.event(
                "stopped" if planned else "exited", told, state.app, state.name,
                code=ended.code, signal=ended.signal, oom=ended.oom, by_itself=ended.by_itself, ours=ended.ours,
                words=ended.words, at=ended.at, lasted=ended.lasted, last_lines=list(ended.last_lines),
            )  # fmt: skip
            self.step(Event.ENDED, told)
            self.owner.told(state, f"{state.name} ended: {ended.words}")
        self.ended.set()

    def describe(self, record: ExitRecord) -> Exit:
        """In facts and words. `ours`: Triage asked for it, or the launcher ended everything."""
        state = self.state
        ours = state.lifecycle is Lifecycle.STOPPING or (bool(record["sent"]) and record["signal"] is not None)
        killed = any(number == signal.SIGKILL for number, _ in record["sent"])
        counted = self.shared.limits.of_exit(state.name, record["signal"], killed)
        self.output.read_now()
        return describe(
            name=state.name,
            at=time.time() - max(0.0, time.monotonic() - record["at"]),
            lasted=record["lasted"],
            code=record["code"],
            by_signal=record["signal"],
            oom=self.shared.oom.of_exit(record["signal"], ours) if counted is None else counted,
            ours=ours,
            last_lines=self._last_lines(),
        )

    def _add_failure(self, now: float) -> None:
        state = self.state
        state.failures = lifecycle.decayed(state.failures, state.failures_at, now) + 1
        state.failures_at = now

    def _start_failed(self, kind: str, what: str, now: float) -> None:
        """It never became ready: try again later, or less and less often."""
        state = self.state
        state.trouble = kind
        self._add_failure(now)
        lines = state.last_exit.last_lines if state.last_exit else ()
        often = state.failures >= lifecycle.FAILED_AT
        delay = lifecycle.FAILED_RETRY if often else lifecycle.delay_after_start_failure(state.failures)
        state.retry_at = now + delay
        said = _last_words(lines) if state.last_exit else ""
        if often:
            text = f"{state.name} {what}, again and again{said}"
            self.step(Event.ENDED_TOO_OFTEN, f"{what}{said}; tried again each {units.duration(delay)}")
            self.shared.event("failed", text, state.app, state.name, last_lines=list(lines), trouble=kind)
        else:
            self.step(Event.ENDED, f"{what}{said}")
            self.shared.event(
                "backoff", f"{state.name} {what}; tried again in {units.duration(delay)}{said}", state.app, state.name,
                last_lines=list(lines), failures=round(state.failures, 1), trouble=kind,
            )  # fmt: skip
        self.owner.told(state, f"{state.name} {what}{said}")

    # --- what belongs to each lifecycle --------------------------------------------------------------

    async def _start(self) -> None:
        state = self.state
        if not state.pid:
            self.ended.clear()
            try:
                await self._spawn()
            except (Refused, OSError, KeyError) as error:
                state.last_exit = None
                self._start_failed("could-not-start", f"could not be started: {error}", time.monotonic())
                return
        if await self.first(lifecycle.STAY_UP - (time.monotonic() - state.started)):
            if self.is_in(Lifecycle.STARTING):
                self.step(Event.STOP, state.stop_reason)
            return
        self.step(Event.STAYED_UP, "stayed up; waiting for its probes to pass")

    async def _spawn(self) -> None:
        state, process, launcher = self.state, self.process, self.shared.launcher
        self._hinted = False
        self._looked = 0.0
        state.listens_on = ()
        state.probe = None
        state.probes_passed = state.probes_failed = 0
        request: SpawnRequest = {"name": state.name, "kind": "instance", "stdout": "pipe", "stderr": "pipe"}
        state.host, state.resolved, state.path = ports.LOOPBACK, (ports.LOOPBACK,), ""
        extra: dict[str, str] = {}
        self._free_place()
        if process.bind == "unix":
            state.path = command.socket_path(self.shared.data_dir, state.name, process.user)
            state.host, state.port, state.resolved = "", 0, ()
        elif process.bind == "fd":
            sock = command.inherited_socket()
            with sock:
                state.port = sock.getsockname()[1]
                await launcher.hold(self._listen_name, sock.fileno())
            request["give"] = {"3": self._listen_name}
            request["shut"] = [self._listen_name]
            extra["LISTEN_FDS"] = "1"
        else:
            state.port = ports.free_port(self.shared.ports)
        if state.port:
            self.shared.ports.add(state.port)
        request["argv"] = command.arguments(process, state.name, state.port, state.path)
        request["env"] = command.environment(process, os.environ, state.name, state.port, state.path) | extra
        if self.owner.config.diagnose.agent:
            request["env"] = agents.environment(request["env"], self.shared.data_dir)
        request["cwd"] = process.cwd
        request["ptracer"] = process.diagnose
        request["note"] = {
            "app": state.app, "row": state.row, "port": state.port, "path": state.path, "under": state.under,
        }  # fmt: skip
        if process.user and os.geteuid() == 0:  # else it is "root" at most, which then asks for no change
            request["user"] = process.user
        state.version = await asyncio.to_thread(version.of, process)
        state.made_of = version.made_of(process, request["env"])
        await self._limit(request)
        self.spawning = True
        try:
            child = await launcher.spawn(request)
        finally:
            self.spawning = False
        state.pid, state.pid_started = child.pid, child.start
        state.started, state.started_at = time.monotonic(), time.time()
        state.why = "its process was started"
        self.output.attach(_fd(child.stdout), _fd(child.stderr))
        self.shared.event(
            "starting", f"{state.name} started, pid {state.pid}, {state.address}", state.app, state.name,
            pid=state.pid, version=state.version, port=state.port, **state.made_of,
        )  # fmt: skip
        self.owner.told(state, f"{state.name} started, pid {state.pid}")
        self.shared.changed()

    async def _limit(self, request: SpawnRequest) -> None:
        """Its limits of memory and CPU, as far as this machine lets us."""
        state, limits = self.state, self.shared.limits
        applied = await asyncio.to_thread(limits.apply, state.name, self.process)
        request["cgroup"] = list(applied.cgroups)
        request["affinity"] = list(applied.affinity)
        request["nice"] = applied.nice
        state.memory_limit, state.cpu_limit, state.limited_by = applied.memory, applied.cpus, applied.limited_by
        state.limits_why = applied.why
        if news := limits.news(state.app, applied):
            self.shared.event("limits", f"{state.app}: each instance is limited: {news}", state.app, state.name)

    async def _warm(self) -> None:
        state, health = self.state, self.owner.config.health
        deadline = state.started + health.ready_within
        while self.is_in(Lifecycle.WARMING):
            if self.leaving.is_set():
                self.step(Event.STOP, state.stop_reason)
                return
            result = await self._check_while_alive()
            if result is None:
                continue
            self._note(result)
            now = time.monotonic()
            if result.ok and state.probes_passed >= health.passes:
                state.ready_since = state.admitted = now
                state.admission, state.failing = Admission.ADMITTING, False
                took = units.duration(now - state.started)
                state.trouble = ""
                self.owner.told(state, f"{state.name} ready after {took}")
                self.step(Event.PASSED, f"ready since its probes passed, {took} after its start")
                self.shared.event("ready", f"{state.name} is ready, {took} after its start", state.app, state.name)
                return
            if not result.ok and now - state.started >= HINT_AFTER and now - self._looked >= HINT_AFTER:
                self._looked = now
                await self._look_where_it_listens(result)
            state.trouble, where = self._wrong_place()
            state.why = where or f"not ready yet: {result.words}"
            if now >= deadline:
                self._too_slow(result, where, now)
                return
            await self.first(min(WARM_INTERVAL, health.interval))

    def _too_slow(self, result: ProbeResult, where: str, now: float) -> None:
        state = self.state
        self._add_failure(now)
        state.trouble = state.trouble or "too-slow"
        lines = self._last_lines()
        said = _last_words(lines)
        text = f"not ready within {units.duration(self.owner.config.health.ready_within)}: {result.words}"
        text += (f"; {where}" if where else "") + said
        state.stop_reason = text
        self.owner.told(state, f"{state.name} was {text}")
        self.step(Event.TOO_SLOW, text)
        self.shared.event(
            "too-slow", f"{state.name} was {text}", state.app, state.name,
            trouble=state.trouble, last_lines=list(lines), listens_on=list(state.listens_on),
        )  # fmt: skip

    async def _serve(self) -> None:
        state = self.state
        while self.is_in(Lifecycle.READY):
            if self.leaving.is_set():
                self.step(Event.DRAIN, state.stop_reason)
                self.shared.event("draining", f"{state.name} drains: {state.stop_reason}", state.app, state.name)
                return
            quick = state.admission is Admission.EJECTED and state.probe is not None and state.probe.refused
            if await self.first(min(1.0, self.interval()) if quick else self.interval()):
                continue
            result = await self._check_while_alive()
            if result is not None and self.is_in(Lifecycle.READY):
                self._note(result)
                self.owner.probed(state, result)

    async def _drain(self) -> None:
        await self.drain(self.owner.drain_limit(self.state))
        if self.is_in(Lifecycle.DRAINING):
            self.step(Event.IDLE, self.state.stop_reason)

    async def _stop(self) -> None:
        """The signal to the whole process group, as systemd does: a shell or npm in between passes nothing on."""
        state, stop = self.state, self.process.stop
        if not state.pid:  # a spawn that failed in between
            state.lifecycle = Lifecycle.STOPPED
            return
        await self._signal(getattr(signal, f"SIG{stop.signal.removeprefix('SIG')}", signal.SIGTERM))
        timeout = min(stop.timeout, max(0.5, self.shared.stop_by - time.monotonic()))
        if await self.first(timeout, leaving=False):
            return
        text = f"{state.name} did not end within {units.duration(timeout)} of SIG{stop.signal}"
        pids = await asyncio.to_thread(endings.abort, state.pid)
        if pids:
            said = f"{text}: SIGABRT, so that it writes its stacks"
            self.shared.event("aborted", said, state.app, state.name, pids=pids)
            self.owner.told(state, said)
            if await self.first(ABORT_WITHIN, leaving=False):
                return
        self.shared.event("killed", f"{text}: killed", state.app, state.name)
        self.owner.told(state, f"{text}: killed")
        await self._signal(signal.SIGKILL)
        while not await self.first(10.0, leaving=False):
            text = f"{state.name} does not end although it was killed: it hangs in the kernel"
            self.shared.event("will-not-end", text, state.app, state.name)

    async def _back_off(self) -> None:
        if self.leaving.is_set() or await self.first(self.state.retry_at - time.monotonic()):
            if self.leaving.is_set():
                self.step(Event.STOP, self.state.stop_reason)
                return
        self.ended.clear()
        if time.monotonic() >= self.state.retry_at:
            self.state.restarts += 1
            self.step(Event.SPAWN, "starting again")

    # --- details -------------------------------------------------------------------------------------

    @property
    def _listen_name(self) -> str:
        return f"{self.state.name}.listen"

    async def _check_while_alive(self) -> ProbeResult | None:
        """A probe; None if the process ended or shall go before it is over."""
        task = asyncio.ensure_future(self.check())
        waits = [asyncio.ensure_future(self.ended.wait()), asyncio.ensure_future(self.leaving.wait())]
        try:
            await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() and not self.ended.is_set() else None
        finally:
            for one in (task, *waits):
                one.cancel()

    def _note(self, result: ProbeResult) -> None:
        state = self.state
        state.probe = result
        state.probes_passed = state.probes_passed + 1 if result.ok else 0
        state.probes_failed = 0 if result.ok else state.probes_failed + 1

    async def _look_where_it_listens(self, result: ProbeResult) -> None:
        state = self.state
        pids = state.usage.pids if state.usage else (state.pid,)
        state.listens_on = await asyncio.to_thread(places.listening, state.pid, pids)
        if self._hinted:
            return
        self._hinted = True
        kind, where = self._wrong_place()
        text = f"{state.name} {where or f'runs but is not ready: {result.words}'}"
        self.shared.event("hint", text, state.app, state.name, listens_on=list(state.listens_on), trouble=kind)

    def _wrong_place(self) -> tuple[str, str]:
        return places.wrong_place(self.state, self.process.bind) if self._hinted else ("", "")

    def _last_lines(self) -> tuple[str, ...]:
        """Of this start, not of those before."""
        lines = [line for line in self.output.last() if line.at >= self.state.started_at]
        return tuple(line.text for line in lines[-LINES_KEPT:])

    async def _signal(self, number: int) -> None:
        try:
            await self.shared.launcher.signal(self.state.name, number, to="group")
        except Refused:
            pass  # it has ended; the exit is on its way

    def _free_place(self) -> None:
        self.shared.ports.discard(self.state.port)

    async def _clean_up(self) -> None:
        state = self.state
        state.ready_since = 0.0
        await self.output.ended(1.0)
        if state.last_exit is not None:
            state.last_exit.last_lines = self._last_lines()
        self.output.close()
        if self.process.bind == "fd":
            try:
                await self.shared.launcher.drop(self._listen_name)
            except Refused:
                pass
        if state.path:
            Path(state.path).unlink(missing_ok=True)
        await asyncio.to_thread(self.shared.limits.remove, state.name)
        await self.forget_row()
        self._free_place()


def _fd(fd: int | None) -> int:
    return -1 if fd is None else fd


def _last_words(lines: tuple[str, ...]) -> str:
    return f"; its last lines: {' | '.join(_telling(lines)[-5:])}" if lines else "; it printed nothing"


def _telling(lines: tuple[str, ...]) -> list[str]:
    """Without the lines that only point at the one above."""
    return [" ".join(line.split()) for line in lines if line.strip(" ^~")]


def _short(ended: Exit) -> str:
    return f"code {ended.code}" if ended.code is not None else ended.words
