"""The workers: started through the launcher, told the routing table, watched, replaced.

Longer than most: starting, adopting, draining and replacing a worker share one set of slots, and are read together.

Always true:
  - a worker gets `Start`, then the newest table, and each table after that in order;
  - `left()` returns only when every worker that was ever sent a table and lives has acknowledged the newest one;
  - the column of a dead worker is zeroed before its successor starts;
  - both ends of a channel are held by the launcher until the worker has its own, so a control that takes over
    finds what the worker says.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import proxy
from proxy import units
from proxy.control.fate import describe
from proxy.control.launcher import Launcher, Refused
from proxy.control.stacks import save_stacks
from proxy.control.state import WorkerState
from proxy.link import messages as link
from proxy.link.board import COLUMNS, Board
from proxy.link.channel import Channel, pair
from proxy.link.spawn import ChildState, ExitRecord, Listener

ADMIN: Final = ("admin", "admin-socket")
"""Names of the admin API's listeners: control alone accepts from them."""
SILENT: Final = 5.0
STARTING: Final = 30.0
"""A worker that starts may be silent longer: importing takes time on a busy machine."""
CODE: Final = ("-P", "-m", "proxy.dataplane.run", "3")
LONGEST_PAUSE: Final = 10.0
HEALED: Final = 60.0
"""A worker that lived so long died for no reason it started with: its successor starts at once."""

OnMessage = Callable[[int, link.ToControl], None]


class Worker:
    """One slot. Its process comes and goes; its column, and its place at the listeners, stay."""

    def __init__(self, slot: int) -> None:
        self.state = WorkerState(slot)
        self.channel: Channel | None = None
        self.told = 0
        """Version of the newest table it was sent; 0: none."""
        self.deaths = 0  # in quick succession
        self.surplus = False  # not wanted any more
        self.spawning: asyncio.Task[None] | None = None
        self.asking = False  # the launcher has not answered yet

    @property
    def name(self) -> str:
        return f"worker{self.state.slot + 1}"

    def send(self, message: link.ToWorker, fds: Sequence[int] = ()) -> None:
        if self.channel is not None:
            self.channel.send(link.encode(message), fds)

    @property
    def live(self) -> bool:
        return self.channel is not None and not self.channel.closed

    def __repr__(self) -> str:
        return repr(self.state)


class Workers:
    """All of them."""

    def __init__(
        self,
        launcher: Launcher,
        event: Callable[..., object],
        board: Board,
        descriptors: Sequence[int],
        data_dir: Path,
        on_message: OnMessage,
        table: Callable[[], link.Table],
    ) -> None:
        self.launcher = launcher
        self.board = board
        self.slots: dict[int, Worker] = {}
        self.listeners: list[Listener] = []
        self.tls: set[str] = set()  # names of listeners that speak TLS
        self.draining = False
        self.drain_limit = 30.0
        self._event = event
        self._descriptors = list(descriptors)  # the board, then COLUMNS eventfds
        self._data_dir = data_dir
        self._on_message = on_message
        self._table = table
        self._current: link.Table | None = None
        self._wanted = 0
        self._sockets: dict[str, int] = {}  # held name -> our copy
        self._acks: list[tuple[int, asyncio.Future[None]]] = []
        self._last_tick = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    # --- how many ------------------------------------------------------------------------------------

    async def begin(self, count: int, listeners: list[Listener], adopted: list[ChildState]) -> None:
        """Take over those that run, start those that are missing."""
        self._wanted = count
        await self.listen(listeners)
        for child in adopted:
            await self._adopt(child)
        self.board.columns = max([count, *(slot + 1 for slot in self.slots)])
        for slot in set(range(COLUMNS)) - set(self.slots):
            self.board.zero_column(slot)  # of one that died while control was away
        self._publish()
        for slot in range(count):
            if slot not in self.slots:
                self._start(slot)
        for slot, worker in self.slots.items():
            if slot >= count:
                self._drain(worker)

    async def resize(self, count: int) -> None:
        """More or fewer workers. The sockets of one that goes are accepted from by another until it is gone."""
        if count == self._wanted:
            return
        more = count > self._wanted
        self._wanted = count
        if more:
            listeners = await self.launcher.slots(max([count, *(slot + 1 for slot in self.slots)]))
            await self.listen(listeners)
        self.board.columns = max([count, *(slot + 1 for slot in self.slots)])
        for slot in range(count):
            worker = self.slots.get(slot)
            if worker is None or worker.surplus:
                self._start(slot)
        surplus = [worker for slot, worker in self.slots.items() if slot >= count and not worker.surplus]
        for worker in surplus:
            worker.surplus = True
        if surplus:
            await self.launcher.steer(count)
            self._tell_listeners()
        for worker in surplus:
            self._drain(worker)

    async def listen(self, listeners: list[Listener]) -> None:
        """The listeners from now on; workers are told. The admin API's own are none of theirs."""
        self.listeners = listeners = [one for one in listeners if one["name"] not in ADMIN]
        wanted = {name for one in listeners for name in one["sockets"]}
        for name in wanted - set(self._sockets):
            self._sockets[name] = await self.launcher.fetch(name)
        while not self._flushed():  # noqa: ASYNC110 - it is a matter of milliseconds, and rare
            await asyncio.sleep(0.01)  # a message that waits may carry a socket that is closed here
        for name in set(self._sockets) - wanted:
            os.close(self._sockets.pop(name))  # workers must have the last copies: they accept what waits in them
        self._tell_listeners()

    async def let_go(self) -> None:
        """Close our copies of the listening sockets: each worker has the last one of its own, and closes it empty."""
        while not self._flushed():  # noqa: ASYNC110 - it is a matter of milliseconds, and rare
            await asyncio.sleep(0.01)
        while self._sockets:
            os.close(self._sockets.popitem()[1])

    def drain(self, limit: float) -> None:
        """Triage stops: all of them end when nothing is left."""
        self.draining = True
        self.drain_limit = limit
        for worker in self.slots.values():
            self._drain(worker)

    async def ended(self, timeout: float) -> bool:
        """Wait until none is left."""
        deadline = time.monotonic() + timeout
        while any(worker.state.pid or worker.spawning for worker in self.slots.values()):
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                return False
        return True

    async def kill(self) -> None:
        """The limit passed."""
        for worker in self.slots.values():
            if worker.state.pid:
                await self._signal(worker, signal.SIGKILL)

    # --- tables --------------------------------------------------------------------------------------

    def publish(self) -> int:
        """Make a table of what is known now and send it to all; its version."""
        self._publish()
        assert self._current is not None
        return self._current.version

    async def left(self, version: int) -> None:
        """Until all live workers route by this version or a later one."""
        if self._acked(version):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._acks.append((version, future))
        await future

    def broadcast(self, message: link.ToWorker) -> None:
        payload = link.encode(message)
        for worker in self.slots.values():
            if worker.channel is not None:
                worker.channel.send(payload)

    def send(self, slot: int, message: link.ToWorker) -> None:
        worker = self.slots.get(slot)
        if worker is not None:
            worker.send(message)

    def spawning(self, name: str) -> bool:
        """The launcher was asked for it, and has not answered."""
        return any(one.name == name and one.asking for one in self.slots.values())

    @property
    def states(self) -> dict[int, WorkerState]:
        return {slot: worker.state for slot, worker in sorted(self.slots.items())}

    def _publish(self) -> None:
        self._current = self._table()
        payload = link.encode(self._current)
        for worker in self.slots.values():
            if worker.channel is not None:
                worker.channel.send(payload)
                worker.told = self._current.version

    def _acked(self, version: int) -> bool:
        return all(worker.state.acked >= version for worker in self.slots.values() if worker.live and worker.told)

    def _look_at_acks(self) -> None:
        for entry in list(self._acks):
            version, future = entry
            if future.done() or self._acked(version):
                self._acks.remove(entry)
                if not future.done():
                    future.set_result(None)

    # --- one worker ----------------------------------------------------------------------------------

    def _start(self, slot: int) -> None:
        worker = self.slots.get(slot)
        if worker is None:
            worker = self.slots[slot] = Worker(slot)
        worker.surplus = False
        if worker.state.pid or worker.spawning is not None:
            return
        worker.spawning = asyncio.get_running_loop().create_task(self._spawn(worker), name=f"start {worker.name}")
        self._tasks.add(worker.spawning)
        worker.spawning.add_done_callback(self._tasks.discard)

    async def _spawn(self, worker: Worker) -> None:
        state = worker.state
        try:
            if worker.deaths > 1:
                pause = min(LONGEST_PAUSE, 0.1 * 2 ** (worker.deaths - 2))
                state.why = f"it died {worker.deaths} times; started again in {units.duration(pause)}"
                await asyncio.sleep(pause)
            if self.draining or worker.surplus:
                worker.spawning = None
                self._changed.set()
                return
            state.epoch = secrets.token_hex(4)
            ours, theirs = pair()
            names = (f"{worker.name}.control", f"{worker.name}.channel")
            with theirs:
                worker.asking = True
                await self.launcher.hold(names[0], ours.fileno())
                await self.launcher.hold(names[1], theirs.fileno())
            child = await self.launcher.spawn(
                {
                    "name": worker.name,
                    "kind": "worker",
                    "argv": [sys.executable, *CODE],
                    "env": _environment(),
                    "give": {"3": names[1]},
                    "note": {"slot": state.slot, "epoch": state.epoch},
                }
            )
            await self.launcher.drop(names[1])
        except Refused as error:
            worker.deaths += 1
            worker.spawning, worker.asking = None, False
            self._event("worker-died", f"{worker.name} could not be started: {error}")
            if worker.deaths < 1000:
                self._start(state.slot)
            return
        worker.spawning, worker.asking = None, False
        state.pid = child.pid
        state.started_at = time.time()
        state.state, state.why = "starting", ""
        self._connect(worker, ours.detach())
        self._event("worker-started", f"{worker.name} started, pid {state.pid}", pid=state.pid)

    async def _adopt(self, child: ChildState) -> None:
        note = child["note"]
        worker = self.slots[int(note["slot"])] = Worker(int(note["slot"]))
        state = worker.state
        state.pid, state.epoch = child["pid"], str(note["epoch"])
        state.started_at = time.time() - child["lasted"]
        try:
            fd = await self.launcher.fetch(f"{worker.name}.control")
        except Refused:  # control died between starting it and holding the channel
            await self._signal(worker, signal.SIGKILL)
            return
        self._connect(worker, fd)

    def _connect(self, worker: Worker, fd: int) -> None:
        loop = asyncio.get_running_loop()
        state = worker.state
        state.heard = time.monotonic()
        state.acked = worker.told = 0
        worker.channel = Channel(
            loop,
            socket.socket(fileno=fd),
            lambda payload, fds: self._received(worker, payload, fds),
            self._look_at_acks,
        )
        listeners, fds = self._listeners_of(worker)
        start = link.Start(link.PROTOCOL, state.slot, state.epoch, listeners)
        worker.send(start, (*self._descriptors, *fds))
        if self._current is not None:
            worker.send(self._current)
            worker.told = self._current.version
        if self.draining or worker.surplus:
            self._drain(worker)

    def _received(self, worker: Worker, payload: bytes, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)  # none are ever sent this way
        message = link.decode_to_control(payload)
        state = worker.state
        state.heard = time.monotonic()
        match message:
            case link.Ready(protocol=protocol):
                if protocol != link.PROTOCOL:
                    why = f"{worker.name} speaks protocol {protocol}, not {link.PROTOCOL}: replaced"
                    self._event("worker-died", why)
                    self._later(self._signal(worker, signal.SIGKILL))
                    return
                if state.state in ("starting", "silent"):
                    state.state, state.why = "alive", ""
            case link.Ack(version=version):
                state.acked = max(state.acked, version)
                if state.state == "starting":
                    state.state = "alive"
                self._look_at_acks()
            case link.Stats():
                state.stats = message
                if state.state == "silent":
                    state.state, state.why = "alive", ""
            case _:
                pass
        self._on_message(state.slot, message)

    def _flushed(self) -> bool:
        return all(one.channel.flushed or one.channel.closed for one in self.slots.values() if one.channel is not None)

    def _listeners_of(self, worker: Worker) -> tuple[list[link.Listener], list[int]]:
        """What it accepts from: its own slot of each, and those of surplus workers that it stands in for."""
        slot = worker.state.slot
        slots = [slot]
        if slot < self._wanted:
            slots += [other for other in self.slots if other >= self._wanted and other % self._wanted == slot]
        listeners, fds = [], []
        for one in self.listeners:
            names = list(dict.fromkeys(one["sockets"][i] for i in slots if i < len(one["sockets"])))
            for name in names:
                listeners.append(link.Listener(one["name"], one["name"] in self.tls))
                fds.append(self._sockets[name])
        return listeners, fds

    def _tell_listeners(self) -> None:
        for worker in self.slots.values():
            if worker.live and not worker.surplus and not self.draining:
                listeners, fds = self._listeners_of(worker)
                worker.send(link.Listen(listeners), fds)

    def _drain(self, worker: Worker) -> None:
        worker.surplus = worker.surplus or worker.state.slot >= self._wanted
        worker.state.state = "draining" if worker.state.pid else worker.state.state
        worker.send(link.Drain(self.drain_limit))

    async def _signal(self, worker: Worker, number: int) -> None:
        try:
            await self.launcher.signal(worker.name, number)
        except Refused:
            pass  # it has ended; the exit is on its way

    def on_exit(self, record: ExitRecord) -> None:
        """A worker ended, planned or not."""
        worker = next((one for one in self.slots.values() if one.name == record["name"]), None)
        if worker is None or worker.state.pid not in (0, record["pid"]):
            return
        state = worker.state
        ended = describe(
            name=worker.name, at=time.time(), lasted=record["lasted"], code=record["code"], by_signal=record["signal"]
        )
        planned = state.state == "draining" and record["code"] == 0
        state.pid, state.state, state.why = 0, "ended", ended.words
        if worker.channel is not None:
            worker.channel.take()
            worker.channel.close()
            worker.channel = None
        self.board.zero_column(state.slot)
        self._look_at_acks()
        self._changed.set()
        if planned or self.draining or worker.surplus:
            self._event("worker-ended", f"{worker.name} ended: {ended.words}")
            if worker.surplus and not self.draining:
                self._later(self._give_up(worker))
            return
        worker.deaths = worker.deaths + 1 if record["lasted"] < HEALED else 1
        state.restarts += 1
        lasted = units.duration(record["lasted"])
        text = f"{worker.name} died after {lasted}: {ended.words}; it is replaced"
        self._event("worker-died", text, pid=record["pid"], words=ended.words)
        self._start(state.slot)

    async def _give_up(self, worker: Worker) -> None:
        """A surplus worker is gone: so are its sockets, when no other slot above needs to stay."""
        if not worker.surplus or worker.state.pid:
            return
        del self.slots[worker.state.slot]
        if all(slot < self._wanted for slot in self.slots):
            await self.listen(await self.launcher.slots(self._wanted))
            self.board.columns = self._wanted
            self._publish()

    # --- time ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second: who is silent?"""
        now = time.monotonic()
        paused = now - self._last_tick > 3.0  # this loop, or the machine, stood still: nobody could be heard
        self._last_tick = now
        for worker in self.slots.values():
            state = worker.state
            if not state.pid or worker.channel is None:
                continue
            if paused:
                state.heard = now
            limit = STARTING if state.state == "starting" else SILENT
            if now - state.heard > limit and state.state != "silent":
                state.state = "silent"
                state.why = f"silent for {units.duration(now - state.heard)}"
                self._later(self._end_silent(worker))

    async def _end_silent(self, worker: Worker) -> None:
        state = worker.state
        pid = state.pid
        path = await save_stacks(pid, worker.name, self._data_dir)
        if state.state != "silent" or state.pid != pid:
            return  # it came back
        where = f"; its stack is in {path}" if path else "; its stack could not be taken"
        self._event("worker-silent", f"{worker.name} was {state.why}: killed and replaced{where}", stacks=str(path))
        await self._signal(worker, signal.SIGKILL)

    def _later(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Let go: control ends, workers go on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self.slots.values():
            if worker.channel is not None:
                worker.channel.close()
        for fd in self._sockets.values():
            os.close(fd)


def _environment() -> dict[str, str]:
    """Control's own, and where this package is: `-P` leaves the working folder out."""
    env = dict(os.environ)
    here = str(Path(proxy.__file__).parent.parent)
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path != here]
    env["PYTHONPATH"] = os.pathsep.join([here, *paths])
    return env


def eventfds() -> list[int]:
    """One per column, so that a worker can wake another that has waited longer."""
    return [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(COLUMNS)]
