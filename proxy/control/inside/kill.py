"""Ending a process of an instance by hand: a signal to exactly the process that was meant, and whether it ended.

Always true:
  - what gets the signal is held by a pidfd from before it was looked at: it is of the instance's family and began when
    it was said to have begun, and was not yet over then. The instance's main process is the launcher's unreaped child,
    and is signalled by it, which is in the record of its exit;
  - it is an operation, from before the signal until the process has ended or the wait is over.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy import units
from proxy.control import sampling
from proxy.control.inside.family import Family, Member
from proxy.control.launcher import Refused
from proxy.control.operations import Asked, Operation
from proxy.control.refusal import NotPossible
from proxy.control.state import InstanceState

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

ACT: Final = "kill"
SIGNALS: Final = ("TERM", "KILL", "INT", "QUIT", "ABRT", "HUP", "USR1", "USR2")
ENDING: Final = frozenset({"TERM", "KILL", "INT", "QUIT", "ABRT"})
"""Those that are sent so that it ends; the others mean something to the app, or end what does not know them."""
WITHIN: Final = 5.0
"""Seconds that it gets to end: a person waits for the answer, and can send KILL then."""
MOMENT: Final = 1.0
"""Likewise after a signal that is not meant to end it."""


@dataclass(slots=True)
class Target:
    """Who is meant, held by `handle`, a pidfd; it is let go with this."""

    member: Member
    handle: int
    name: str  # of the process

    def __del__(self) -> None:
        os.close(self.handle)

    @property
    def words(self) -> str:
        return f"pid {self.member.pid} ({self.name})" if self.name else f"pid {self.member.pid}"


def take(pid: int, start: int, family: Callable[[], Family]) -> Target:
    """Hold a process of a family. For a thread. `start`: when it is to have begun (clock ticks since boot), 0: as it
    is now. Raises NotPossible, ProcessLookupError when the instance's own process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        raise NotPossible("no-such-process", f"there is no process {pid}: {(error.strerror or '').lower()}") from None
    try:
        member = family().get(pid)  # read after it was held, so this is the one, unless it is over by the end
        if member is None:
            raise NotPossible(
                "not-of-this-instance", f"process {pid} is not one of this instance's",
                "a process that Triage did not start, or that another instance has, is not ended from here",
            )  # fmt: skip
        if start and member.stat.start != start:
            raise NotPossible(
                "another-process", f"process {pid} is not the one that was meant: that one has ended, and another one "
                "has its number now", "look at the processes again",
            )  # fmt: skip
        if member.stat.state in "ZX":
            raise NotPossible(
                "ended", f"process {pid} has ended already; its parent {member.stat.parent} has not waited for it",
                "a signal does nothing to it: it goes when its parent waits for it, or ends",
            )  # fmt: skip
        name = _name(pid)
        if _over(handle):
            raise NotPossible("ended", f"process {pid} ended a moment ago")
    except BaseException:
        os.close(handle)
        raise
    return Target(member, handle, name)


def foresee(state: InstanceState, target: Target, number: str) -> tuple[list[str], bool]:
    """What sending it will do, in lines, and whether requests are at stake."""
    lines = [f"SIG{number} goes to {target.words} of {state.name}"]
    if number in ENDING:
        lines.append(f"it has {units.duration(WITHIN)} to end; then it is said whether it did")
    if target.member.pid != state.pid:
        if target.member.depth == 1:
            lines.append("the app's main process may start another one in its place")
        return lines, number in ENDING
    lines.append(
        f"it is the main process of {state.name}: its end is an exit of the instance, its requests are lost, and "
        "another process is started for it"
    )
    lines.append(f"better: recycle {state.app}/{state.name}, which has a fresh one ready before it drains this one")
    return lines, True


class Killer:
    """Made on control's loop, used only there."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Killer {len(self._tasks)} under way>"

    def begin(self, state: InstanceState, target: Target, number: str, asked: Asked) -> Operation:
        """Send it, and follow what comes of it."""
        member = target.member
        operation = self._gateway.operations.begin(
            ACT, state.app, state.name, asked, pid=member.pid, start=member.stat.start, signal=number,
            process=target.name, role=member.role,
        )  # fmt: skip
        task = asyncio.get_running_loop().create_task(self._run(state, target, number, operation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation

    async def _run(self, state: InstanceState, target: Target, number: str, operation: Operation) -> None:
        operations, whole = self._gateway.operations, target.member.pid == state.pid
        try:
            try:
                await self._send(state, target, number, whole)
            except ProcessLookupError:
                operations.done(operation, "it had ended by then")
                return
            except (OSError, Refused) as error:
                said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                operations.failed(operation, f"SIG{number} could not be sent: {said.lower()}")
                return
            began = time.monotonic()
            operations.step(operation, f"SIG{number} was sent to {target.words}")
            if whole:
                operations.step(operation, f"as the main process of {state.name}: its end is an exit of the instance")
            ended = await _ends(target.handle, WITHIN if number in ENDING else MOMENT)
            took = units.duration(time.monotonic() - began)
            if ended:
                operations.done(operation, f"{target.words} ended within {took}")
            elif number in ENDING:
                why = _why(target, number)
                operations.failed(operation, f"{target.words} still runs {took} after SIG{number}: {why}")
            else:
                operations.done(operation, f"{target.words} got SIG{number} and runs on")
        except Exception as error:
            operations.failed(operation, f"a defect of Triage: {error!r}")
            raise

    async def _send(self, state: InstanceState, target: Target, number: str, whole: bool) -> None:
        signum = signal.Signals[f"SIG{number}"]
        if whole:  # asked before any start that could follow its end: this launcher knows it by its name until then
            await self._gateway.launcher.signal(state.name, signum, to="process")
        else:
            signal.pidfd_send_signal(target.handle, signum)

    def resume(self) -> None:
        """What a former control sent, and did not see the end of."""
        operations = self._gateway.operations
        for operation in operations.running():
            if operation.act == ACT:
                pid, start = int(operation.details.get("pid", 0)), int(operation.details.get("start", 0))
                if sampling.alive(pid, start):
                    operations.failed(operation, f"control was started again meanwhile; pid {pid} still runs")
                else:
                    operations.done(operation, f"control was started again meanwhile; pid {pid} has ended")

    async def close(self) -> None:
        """Control ends; a successor says what came of it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ends(handle: int, within: float) -> bool:
    """Whether the process ends in time: its pidfd becomes readable then."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        if not over.done():
            over.set_result(None)

    loop.add_reader(handle, readable)
    try:
        async with asyncio.timeout(within):
            await over
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
    return True


def _over(handle: int) -> bool:
    look = select.poll()
    look.register(handle, select.POLLIN)
    return bool(look.poll(0))


def _name(pid: int) -> str:
    """As the kernel has it, without what could write to a terminal."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            raw = file.read(64).rstrip(b"\n")
    except OSError:
        return ""
    return "".join(one if one.isprintable() else "?" for one in raw.decode("utf-8", "backslashreplace"))


def _why(target: Target, number: str) -> str:
    stat = sampling.read_stat(target.member.pid)
    if stat is not None and stat.state == "D":
        return "it waits in the kernel, for a disk or a network file system, and ends when that answers"
    if stat is not None and stat.state in "Tt":
        return "it is stopped, or held by a debugger"
    return "it may handle or ignore that; signal KILL ends it at once" if number != "KILL" else "nothing says why"
