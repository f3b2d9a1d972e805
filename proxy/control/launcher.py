"""The launcher's client: what control asks of the process that holds everything.

Always true:
  - a request is answered once, or fails with `LauncherGone` when the launcher is no more;
  - every descriptor returned belongs to the caller, and is close-on-exec;
  - an exit is told until it is acknowledged, also to the next control: handle it, then `acknowledge`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from proxy.link.spawn import (
    CONTROL_FD,
    SPEAKS,
    Address,
    Channel,
    ExitRecord,
    Listener,
    Message,
    SpawnRequest,
    State,
)


class Refused(Exception):
    """A request was not done; the text is for the operator."""

    def __init__(self, text: str, *, step: str = "", errno: int = 0) -> None:
        super().__init__(text)
        self.step, self.errno = step, errno


class SpawnError(Refused):
    """A child did not start; `step` says where it stopped: name, user, cgroup, cwd, exec ..."""


class LauncherGone(Refused):
    """The channel is closed: nothing can be asked any more."""


@dataclass(frozen=True, slots=True)
class Child:
    """A started child. `stdout` and `stderr` are non-blocking descriptors, None where they are inherited.

    Its pidfd is `fetch("NAME.pidfd")`: most callers wait for the exit event."""

    pid: int
    start: int
    stdout: int | None
    stderr: int | None


@dataclass(frozen=True, slots=True)
class Exit:
    how: ExitRecord


@dataclass(frozen=True, slots=True)
class Terminate:
    """Drain, end everything in order, then `bye`."""


@dataclass(frozen=True, slots=True)
class Reload:
    """SIGHUP."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """The launcher's code was replaced in place; all it holds is as it was."""

    state: State


@dataclass(frozen=True, slots=True)
class Gone:
    """The launcher is no more."""


Event = Exit | Terminate | Reload | Renewed | Gone

EXEC_WITHIN: Final = 30.0
"""Seconds for a launcher to become the code on disk: it waits until no start of a child is half done."""


class Launcher:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._answers: dict[int, asyncio.Future[tuple[Message, list[int]]]] = {}
        self._state: asyncio.Future[State] = self._loop.create_future()
        self._early: deque[Event] = deque()
        self._on_event: Callable[[Event], None] | None = None
        self._closed = False
        self._handed_over = False
        self._loop.add_reader(channel.fileno(), self._readable)

    @classmethod
    async def connect(cls, fd: int = CONTROL_FD) -> tuple[Launcher, State]:
        """Take over the channel; returns what the launcher holds.

        A launcher of a version that this code does not speak is asked to become the code on disk, this one. Raises
        Refused when it can't."""
        os.set_inheritable(fd, False)
        launcher = cls(Channel(socket.socket(fileno=fd)))
        state = await launcher._state
        if state["version"] not in SPEAKS:
            print(f"the launcher speaks version {state['version']}: it is asked to become newer code", file=sys.stderr)
            launcher._state = launcher._loop.create_future()
            try:
                async with asyncio.timeout(EXEC_WITHIN):
                    await launcher.exec()
                    state = await launcher._state
            except TimeoutError:
                pass
            if state["version"] not in SPEAKS:
                launcher.close()
                raise Refused(f"the launcher speaks version {state['version']}, this control {SPEAKS}")
        return launcher, state

    @property
    def on_event(self) -> Callable[[Event], None] | None:
        return self._on_event

    @on_event.setter
    def on_event(self, call: Callable[[Event], None]) -> None:
        """Called on the loop for each event; at once for those that came before it was set."""
        self._on_event = call
        while self._early:
            call(self._early.popleft())

    # --- requests

    async def spawn(self, request: SpawnRequest) -> Child:
        """Raises SpawnError with the reason when the program could not be executed."""
        try:
            answer, fds = await self._ask({"op": "spawn", "child": request})
        except LauncherGone:
            raise
        except Refused as error:
            raise SpawnError(str(error), step=error.step, errno=error.errno) from None
        stdout = fds.pop(0) if request.get("stdout") == "pipe" else None
        stderr = fds.pop(0) if request.get("stderr") == "pipe" else None
        return Child(answer["pid"], answer["start"], stdout, stderr)

    async def signal(self, name: str, signum: int, to: str = "process") -> None:
        """Signal a child: to its "process", or to its "group". Refused with ESRCH when it does not run."""
        await self._ask({"op": "signal", "name": name, "signal": int(signum), "to": to})

    async def hold(self, name: str, fd: int) -> None:
        """The launcher keeps a copy of `fd` by this name, in place of what had it."""
        await self._ask({"op": "hold", "name": name}, (fd,))

    async def fetch(self, name: str) -> int:
        """A copy of what is held; Refused with ENOENT when nothing is."""
        _, fds = await self._ask({"op": "fetch", "name": name})
        return fds[0]

    async def drop(self, name: str) -> None:
        await self._ask({"op": "drop", "name": name})

    async def listen(self, address: Address) -> Listener:
        """Add an address, with a socket for each worker slot. Refused says who has it."""
        answer, _ = await self._ask({"op": "listen", "address": address})
        return cast(Listener, answer["listener"])

    async def unlisten(self, name: str) -> None:
        await self._ask({"op": "unlisten", "name": name})

    async def slots(self, count: int) -> list[Listener]:
        """Sockets for at least so many workers; new ones get no connections before `steer`."""
        answer, _ = await self._ask({"op": "slots", "count": count})
        return cast(list[Listener], answer["listeners"])

    async def steer(self, count: int) -> None:
        """New connections go to the first `count` slots only; what waits in the others stays."""
        await self._ask({"op": "steer", "count": count})

    async def handover(self) -> dict[str, Any]:
        """What the launcher's newer code would be given, to be tried beforehand."""
        answer, _ = await self._ask({"op": "handover"})
        return cast(dict[str, Any], answer["handover"])

    async def exec(self) -> str:
        """The launcher becomes the code on disk, in place; its release. Refused: it goes on as it was, and says why.

        `Renewed` comes first. Requests made meanwhile are answered by the new code."""
        answer, _ = await self._ask({"op": "exec"})
        return str(answer["release"])

    async def again(self) -> None:
        """This control is about to end, and wants to be started again at once. Nothing else can be asked any more:
        what was begun is the next one's to finish."""
        await self._ask({"op": "again"})

    def acknowledge(self, *exits: int) -> None:
        """These exits (`ExitRecord.exit`) are dealt with; their output pipes are let go."""
        self._send({"op": "ack", "exits": exits})

    def beat(self) -> None:
        """Say that the loop turns. Every message counts; 15 s of silence end this process."""
        self._send({"op": "beat"})

    def bye(self, code: int = 0) -> None:
        """Everything is in order: the launcher ends what is left, this process too, and exits with `code`."""
        self._send({"op": "bye", "code": code})

    # --- the channel

    async def _ask(self, message: Message, fds: Sequence[int] = ()) -> tuple[Message, list[int]]:
        if self._closed:
            raise LauncherGone("the launcher is gone")
        if self._handed_over:
            await self._loop.create_future()  # for ever: whoever asks is cancelled with this control
        self._handed_over = message["op"] == "again"
        self._count += 1
        number = self._count
        future: asyncio.Future[tuple[Message, list[int]]] = self._loop.create_future()
        self._answers[number] = future
        self._send({**message, "id": number}, fds)
        answer, received = await future
        error: dict[str, Any] | None = answer.get("error")
        if error is not None:
            raise Refused(error["text"], step=error["step"], errno=error["errno"])
        return answer, received

    def _send(self, message: Message, fds: Sequence[int] = ()) -> None:
        if self._closed:
            return
        try:
            if not self._channel.send(message, tuple(fds)):
                self._loop.add_writer(self._channel.fileno(), self._writable)
        except OSError:
            self._lost()

    def _writable(self) -> None:
        try:
            if self._channel.flush():
                self._loop.remove_writer(self._channel.fileno())
        except OSError:
            self._lost()

    def _readable(self) -> None:
        try:
            for _ in range(100):  # then the others' turn
                received = self._channel.receive()
                if received is None:
                    return
                self._received(*received)
        except (EOFError, OSError):
            self._lost()

    def _received(self, message: Message, fds: list[int]) -> None:
        number = message.get("reply")
        if number is not None:
            future = self._answers.pop(number, None)
            if future is not None and not future.done():
                future.set_result((message, fds))
                return
        for fd in fds:  # who asked was cancelled
            os.close(fd)
        event = message.get("event")
        if event == "state" and not self._state.done():
            self._state.set_result(cast(State, message))
        elif event == "state":
            self._tell(Renewed(cast(State, message)))
        elif event == "exit":
            self._tell(Exit(cast(ExitRecord, {k: v for k, v in message.items() if k != "event"})))
        elif event == "terminate":
            self._tell(Terminate())
        elif event == "reload":
            self._tell(Reload())

    def _tell(self, event: Event) -> None:
        if self._on_event is None:
            self._early.append(event)
        else:
            self._on_event(event)

    def _lost(self) -> None:
        if not self._closed:
            self.close()
            self._tell(Gone())

    def close(self) -> None:
        """Let go of the channel. The launcher takes that for the end of this control."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._channel.close()
        error = LauncherGone("the launcher is gone")
        for future in self._answers.values():
            if not future.done():
                future.set_exception(error)
        self._answers.clear()
        if not self._state.done():
            self._state.set_exception(error)
