"""`triage upgrade`: control, workers and launcher are replaced by the code now on disk, one after the other.

The code on disk is rehearsed first, in an interpreter of its own, with the config, the ledger and the launcher's state
of this moment: what can't start is never started. Then each phase is safe to be cut short and begun again:

  rehearse   nothing is changed yet
  control    it writes the ledger and ends; the launcher starts the next at once, which adopts all and goes on here
  workers    a new process accepts at a worker's place before that one drains
  launcher   exec in place: it waits for nothing but the end of what is half done
  drain      what the replaced workers still carry, up to the drain limit

Always true:
  - at most one runs; its phase and what it has to replace are in the operation, and so in the ledger;
  - whatever fails leaves processes that go on together: of a worker that can't be replaced the old one stays, of the
    launcher its code.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from proxy import units
from proxy.control.launcher import LauncherGone, Refused
from proxy.control.mend import NotPossible
from proxy.control.operations import Asked, Operation
from proxy.control.workers import CannotReplace
from proxy.link.spawn import State, read_ledger

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

REHEARSAL: Final = 60.0
"""Seconds for the code on disk to be imported and to read what it would go on with, on a machine that may be busy."""
BEYOND_DRAIN: Final = 10.0
AGAIN: Final = 60.0
"""Seconds between two upgrades that nobody asked for."""
ARGUMENTS: Final = ("-P", "-m", "proxy.main", "rehearse")


class Stopped(Exception):
    """The upgrade can't go on; the text says why, and how things are."""


class Upgrade:
    """One for a gateway. `release` and `execs` are the launcher's, as it said last."""

    def __init__(self, gateway: Gateway, ledger_fd: int) -> None:
        self.release = ""
        self.execs = 0
        self.successor = asyncio.Event()
        """Set when this control is to end, and another to go on."""
        self._gateway = gateway
        self._ledger_fd = ledger_fd
        self._me = f"{os.getpid()} {gateway.started_at}"
        self._task: asyncio.Task[None] | None = None
        self._unasked = -AGAIN

    def launcher_is(self, state: State) -> None:
        self.release, self.execs = state.get("release", ""), state.get("execs", 0)

    # --- begin, and go on

    def begin(self, asked: Asked) -> Operation:
        """Raises NotPossible."""
        gateway = self._gateway
        if gateway.stopping:
            raise NotPossible("stopping", "Triage stops: it begins nothing new")
        if running := self._running():
            hint = f"triage operations {running.id} follows it."
            raise NotPossible("upgrade-running", f"an upgrade runs already, {running.id}", hint)
        operation = gateway.operations.begin("upgrade", "", "", asked, target="gateway")
        operation.details |= {
            "phase": "rehearse", "from": gateway.version, "control": self._me, "execs": self.execs,
            "workers": [one.state.epoch for one in gateway.worker_set.present],
        }  # fmt: skip
        self._go(operation)
        return operation

    def resume(self) -> bool:
        """Whether a former control was about it; then this one goes on."""
        running = self._running()
        if running is not None:
            self._go(running)
        return running is not None

    def other_code(self, why: str) -> None:
        """A process just started is of other code than this control: so is what is on disk."""
        now = time.monotonic()
        if now - self._unasked >= AGAIN and not self._gateway.stopping and self._running() is None:
            self._unasked = now
            self.begin(Asked(by="protocol", reason=why))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _running(self) -> Operation | None:
        return next((one for one in self._gateway.operations.running() if one.act == "upgrade"), None)

    def _go(self, operation: Operation) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(operation), name="upgrade")

    # --- its phases

    async def _run(self, operation: Operation) -> None:
        operations = self._gateway.operations
        try:
            while operation.running:
                if self._gateway.stopping:
                    raise Stopped("Triage stops")
                phase = getattr(self, f"_{operation.details['phase']}", None)
                if phase is None:  # of a control that knew another way
                    raise Stopped(f"the phase {operation.details['phase']!r} is not known; ask for the upgrade again")
                await phase(operation)
        except Stopped as error:
            operations.failed(operation, str(error))
        except LauncherGone:
            return  # everything ends
        except Refused as error:
            operations.failed(operation, f"the launcher refused: {error}")
        except Exception as error:
            self._gateway.log.error("internal-error", f"upgrade: {error!r}", trace=traceback.format_exc())
            operations.failed(operation, f"Triage itself failed on this: {error!r}")

    def _next(self, operation: Operation, phase: str, said: str) -> None:
        operation.details["phase"] = phase
        self._gateway.operations.step(operation, said)

    async def _rehearse(self, operation: Operation) -> None:
        if operation.details["control"] != self._me:  # this control started from the code on disk
            self._next(operation, "control", "control died meanwhile")
            return
        gateway = self._gateway
        try:
            handover = await gateway.launcher.handover()
        except LauncherGone:
            raise
        except Refused:
            handover = {}  # a launcher that knows of no such thing
        ledger = read_ledger(self._ledger_fd) or b""
        text = {
            "config": gateway.config_text, "path": gateway.config_path,
            "ledger": ledger.decode("utf-8", "surrogateescape"), "handover": handover,
        }  # fmt: skip
        try:
            found = await rehearse(text)
        except Stopped as error:
            raise Stopped(f"the code on disk can't be used, nothing was changed: {error}") from None
        operation.details["to"] = found["version"]
        said = f"the code on disk starts: version {found['version']}, here {gateway.version}"
        self._next(operation, "control", said)

    async def _control(self, operation: Operation) -> None:
        gateway = self._gateway
        if operation.details["control"] != self._me:
            said = f"control is {gateway.version} now, pid {os.getpid()}; it has taken over what runs"
            self._next(operation, "workers", said)
            return
        gateway.operations.step(operation, "control ends, and is started from the code on disk")
        self.successor.set()
        await asyncio.Event().wait()  # until run.py ends us

    async def _workers(self, operation: Operation) -> None:
        workers = self._gateway.worker_set
        for place in range(len(workers.present)):
            old = workers.at(place)
            if self._gateway.stopping:
                raise Stopped("Triage stops")
            if old is None or old.state.epoch not in operation.details["workers"]:
                continue  # replaced before, or dead since
            pid = old.state.pid
            try:
                await workers.replace(old)
            except CannotReplace as error:
                raise Stopped(f"workers stay as they are: {error}; control is {self._gateway.version}") from None
            new = workers.at(place)
            instead = f"{new.name}, pid {new.state.pid}, accepts" if new is not None else "the others accept"
            self._gateway.operations.step(operation, f"{old.name}, pid {pid}, drains; {instead}")
        self._next(operation, "launcher", "no worker of the former code accepts any more")

    async def _launcher(self, operation: Operation) -> None:
        if self.execs <= operation.details["execs"]:
            try:
                await self._gateway.launcher.exec()
            except LauncherGone:
                raise
            except Refused as error:
                raise Stopped(f"{error}; control and workers are new") from None
        said = f"the launcher is {self.release} now, still pid {self._gateway.launcher_pid}"
        self._next(operation, "drain", said)

    async def _drain(self, operation: Operation) -> None:
        workers = self._gateway.worker_set
        old = [one for one in workers.slots.values() if one.surplus]
        if old:
            limit = units.duration(workers.drain_limit)
            names = ", ".join(one.name for one in old)
            self._gateway.operations.step(operation, f"waiting for {names} to drain, {limit} at most")
            if not await workers.gone(old, workers.drain_limit + BEYOND_DRAIN):
                raise Stopped("a replaced worker has not ended")
        self._gateway.operations.done(operation, f"{operation.details['from']} before, {self._gateway.version} now")


async def rehearse(text: dict[str, Any]) -> dict[str, Any]:
    """What the code on disk says of itself. Raises Stopped when it can't start, or can't go on with this."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *ARGUMENTS,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise Stopped(f"{sys.executable}: {error.strerror or error}") from None
    try:
        async with asyncio.timeout(REHEARSAL):
            out, errors = await process.communicate(await asyncio.to_thread(lambda: json.dumps(text).encode()))
    except TimeoutError:
        raise Stopped(f"it did not start within {units.duration(REHEARSAL)}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        raise Stopped(lines[-1] if lines else f"it ended with code {process.returncode}") from None
    if found["problems"]:
        raise Stopped("; ".join(found["problems"]))
    return found
