"""The workers: started through the launcher, told the routing table, watched, replaced.

Longer than most: starting, adopting, draining and replacing a worker share one set of slots, and are read together.

A worker's slot is its column of the board and its number; its place says which of each listener's sockets it accepts
from. They are the same until a worker is replaced while it lives: its successor has the place, and a free slot.

Always true:
  - each place below the wanted number has one worker that is not surplus, or one is being started;
  - a worker gets `Start`, then the newest table, and each table after that in order;
  - `left()` returns only when every worker that was ever sent a table and lives has acknowledged the newest one;
  - the column of a dead worker is zeroed before its successor starts;
  - both ends of a channel are held by the launcher until the worker has its own, so a control that takes over
    finds what the worker says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

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

UPGRADE_IDLE: Final = 5.0
"""Seconds after which a replaced worker closes an idle connection: longer than usual, nobody waits for it to end."""

OnMessage = Callable[[int, link.ToControl], None]


class CannotReplace(Exception):
    """The worker stays, since another did not get well; the text says why."""


class Worker:
    """One slot. Its process comes and goes; its column, and its place at the listeners, stay."""

    def __init__(self, slot: int, place: int) -> None:
        self.state = WorkerState(slot, place)
        self.channel: Channel | None = None
        self.told = 0
        """Version of the newest table it was sent; 0: none."""
        self.deaths = 0  # in quick succession
        self.surplus = False  # not wanted any more
        self.protocol = link.PROTOCOL
        self.adopted = False  # a former control started it
        self.trial = False  # to replace another: if it dies the other stays
        self.replacing: asyncio.Task[None] | None = None
        self.spawning: asyncio.Task[None] | None = None
        self.asking = False  # the launcher has not answered yet

    @property
    def name(self) -> str:
        return f"worker{self.state.slot + 1}"

    def send(self, message: link.ToWorker, fds: Sequence[int] = ()) -> None:
        if self.channel is not None and not self.foreign:
            self.channel.send(link.encode(message), fds)

    @property
    def foreign(self) -> bool:
        """It speaks another protocol: it serves on by what it was told last, and is to be replaced."""
        return self.protocol != link.PROTOCOL

    @property
    def live(self) -> bool:
        return self.channel is not None and not self.channel.closed and not self.foreign

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
        self.on_other_code: Callable[[str], None] = lambda why: None
        """A worker that was just started speaks another protocol: this control is not the code on disk."""
        self._event = event
        self._descriptors = list(descriptors)  # the board, then COLUMNS eventfds
        self._data_dir = data_dir
        self._on_message = on_message
        self._table = table
        self._current: link.Table | None = None
        self._wanted = 0
        self._covered: set[int] = set()  # places where others accept until a new worker does
        self._sockets: dict[str, int] = {}  # held name -> our copy
        self._acks: list[tuple[int, asyncio.Future[None]]] = []
        self._last_tick = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._begun = asyncio.Event()

    # --- how many ------------------------------------------------------------------------------------

    async def begin(self, count: int, listeners: list[Listener], adopted: list[ChildState]) -> None:
        """Take over those that run, start those that are missing."""
        self._wanted = count
        await self.listen(listeners)
        for child in sorted(adopted, key=lambda child: child["began"]):
            await self._adopt(child)
        self._count_columns()
        for slot in set(range(COLUMNS)) - set(self.slots):
            self.board.zero_column(slot)  # of one that died while control was away
        self._publish()
        self._begun.set()
        for place in range(count):
            if self.at(place) is None:
                self._start_at(place)
        for worker in self.slots.values():
            if worker.surplus or worker.state.place >= count:
                self._drain(worker)
            elif worker.foreign:
                self._later(self._replace_foreign(worker))
        if adopted:
            self._later(self._spread())

    async def resize(self, count: int) -> None:
        """More or fewer workers. The sockets of one that goes are kept, and accepted from by another."""
        if count == self._wanted:
            return
        more = count > self._wanted
        self._wanted = count
        if more:
            await self.listen(await self.launcher.slots(count))
        for place in range(count):
            if self.at(place) is None:
                self._start_at(place)
        surplus = [one for one in self.slots.values() if one.state.place >= count and not one.surplus]
        for worker in surplus:
            worker.surplus = True
        if surplus:
            await self.launcher.steer(count)
            self._tell_listeners()
        for worker in surplus:
            self._drain(worker)
        if more:
            self._later(self._spread())

    async def _spread(self) -> None:
        """When all that are wanted accept, new connections go to all; nobody waits for a worker that starts."""
        while not self.draining:
            workers = [self.at(place) for place in range(self._wanted)]
            if all(one is not None and one.live and one.state.acked for one in workers):
                await self.launcher.steer(self._wanted)
                self._tell_listeners()  # each its own again
                return
            self._changed.clear()
            await self._changed.wait()

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

    def at(self, place: int) -> Worker | None:
        """Who accepts there, or will."""
        return next((one for one in self.present if one.state.place == place), None)

    @property
    def present(self) -> list[Worker]:
        """One for each place, by place; those that only drain, or are yet to prove themselves, are not among them."""
        found = (one for one in self.slots.values() if not one.surplus and not one.trial)
        return sorted(found, key=lambda one: one.state.place)

    @property
    def columns_told(self) -> int:
        """For the table: columns of the board in use; 1 when there is one worker alone, whichever its column."""
        return 1 if len(self.slots) == 1 else self.board.columns

    def _count_columns(self) -> None:
        self.board.columns = max([self._wanted, *(slot + 1 for slot in self.slots)])

    async def replace(self, worker: Worker) -> None:
        """A new process at its place, which accepts before this one drains. Raises CannotReplace: then it stays."""
        if worker.replacing is None or worker.replacing.done():
            worker.replacing = asyncio.get_running_loop().create_task(self._replace(worker))
            self._tasks.add(worker.replacing)
            worker.replacing.add_done_callback(self._tasks.discard)
        await asyncio.shield(worker.replacing)

    async def _replace(self, worker: Worker) -> None:
        slot = self._free_slot(worker.state.place)
        if slot is None:  # as many workers as columns: the others accept for it until it is gone and made anew
            worker.surplus = True
            self._covered.add(worker.state.place)
            self._tell_listeners()
            self._drain(worker, UPGRADE_IDLE)
            place, limit = worker.state.place, self.drain_limit + STARTING
            if not await self._until(lambda: (new := self.at(place)) is not None and self._accepts(new), limit):
                raise CannotReplace(f"nobody accepts in the place of {worker.name} yet; the others do")
            return
        fresh = self.slots[slot] = Worker(slot, worker.state.place)
        fresh.trial = True
        self._count_columns()
        self._publish()  # the others look at its column before it has a request
        self._launch(fresh)
        try:
            if not await self._until(lambda: fresh.surplus or self._accepts(fresh), STARTING):
                fresh.state.why = f"not ready within {units.duration(STARTING)}"
        finally:
            fresh.trial = False
            if not self._accepts(fresh) and not worker.surplus:
                fresh.surplus = True
        if fresh.surplus:
            if fresh.state.pid:
                await self._signal(fresh, signal.SIGKILL)
            if worker.surplus:
                return  # its place was given up meanwhile
            raise CannotReplace(f"{fresh.name} was to replace {worker.name}: {fresh.state.why or 'it did not start'}")
        worker.surplus = True
        self._drain(worker, UPGRADE_IDLE)

    async def gone(self, workers: Sequence[Worker], within: float) -> bool:
        """Wait until these processes have ended."""
        return await self._until(
            lambda: not any(self.slots.get(one.state.slot) is one and one.state.pid for one in workers), within
        )

    @staticmethod
    def _accepts(worker: Worker) -> bool:
        return worker.live and worker.state.acked > 0

    async def _until(self, condition: Callable[[], bool], within: float) -> bool:
        """Looked at whenever a worker's state has changed."""
        deadline = time.monotonic() + within
        while not condition():
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                return False
        return True

    async def _replace_foreign(self, worker: Worker) -> None:
        """One that a former control of other code started."""
        said = f"{worker.name} speaks protocol {worker.protocol}, this control {link.PROTOCOL}: it is replaced"
        self._event("worker-protocol", said, pid=worker.state.pid)
        try:
            await self.replace(worker)
        except CannotReplace as error:
            self._event("worker-protocol", str(error))

    def drain(self, limit: float) -> None:
        """Triage stops: all of them end when nothing is left."""
        self.draining = True
        self.drain_limit = limit
        for worker in self.slots.values():
            self._drain(worker)

    async def ended(self, timeout: float) -> bool:
        """Wait until none is left."""
        return await self._until(
            lambda: not any(worker.state.pid or worker.spawning for worker in self.slots.values()), timeout
        )

    async def kill(self) -> None:
        """The limit passed."""
        for worker in list(self.slots.values()):
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
        await self._begun.wait()  # those that a former control started count too
        if self._acked(version):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._acks.append((version, future))
        await future

    def broadcast(self, message: link.ToWorker) -> None:
        payload = link.encode(message)
        for worker in self.slots.values():
            if worker.channel is not None and not worker.foreign:
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
            if worker.channel is not None and not worker.foreign:
                worker.channel.send(payload)
                worker.told = self._current.version

    def _acked(self, version: int) -> bool:
        if any(worker.foreign and worker.state.pid for worker in self.slots.values()):
            return False  # it routes by a table that nobody can change any more, until it has drained
        return all(worker.state.acked >= version for worker in self.slots.values() if worker.live and worker.told)

    def _look_at_acks(self) -> None:
        for entry in list(self._acks):
            version, future = entry
            if future.done() or self._acked(version):
                self._acks.remove(entry)
                if not future.done():
                    future.set_result(None)

    # --- one worker ----------------------------------------------------------------------------------

    def _free_slot(self, place: int) -> int | None:
        """The one of the place's own number, or the lowest."""
        return next((slot for slot in (place, *range(COLUMNS)) if slot not in self.slots), None)

    def _start_at(self, place: int) -> None:
        slot = self._free_slot(place)
        if slot is not None:  # else the end of a surplus one makes room
            worker = self.slots[slot] = Worker(slot, place)
            self._count_columns()
            self._launch(worker)

    def _launch(self, worker: Worker) -> None:
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
                self._later(self._give_up(worker))
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
                    "note": {
                        "slot": state.slot, "place": state.place, "epoch": state.epoch, "protocol": link.PROTOCOL,
                    },
                }
            )
            await self.launcher.drop(names[1])
        except Refused as error:
            worker.deaths += 1
            worker.spawning, worker.asking = None, False
            state.why = f"could not be started: {error}"
            self._event("worker-died", f"{worker.name} {state.why}")
            if worker.trial:
                worker.surplus = True
                self._later(self._give_up(worker))
                self._changed.set()
            elif worker.deaths < 1000:
                self._launch(worker)
            return
        worker.spawning, worker.asking = None, False
        state.pid = child.pid
        state.started_at = time.time()
        state.state, state.why = "starting", ""
        self._connect(worker, ours.detach())
        self._event("worker-started", f"{worker.name} started, pid {state.pid}", pid=state.pid)

    async def _adopt(self, child: ChildState) -> None:
        """Of several at one place, one was to replace the other: the youngest stays."""
        note = child["note"]
        slot = int(note["slot"])
        place = int(note.get("place", slot))
        if (older := self.at(place)) is not None:
            older.surplus = True
        worker = self.slots[slot] = Worker(slot, place)
        worker.protocol, worker.adopted = int(note.get("protocol", 1)), True
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
        channel = Channel(
            loop,
            socket.socket(fileno=fd),
            lambda payload, fds: self._received(worker, payload, fds),
            self._look_at_acks,
        )
        worker.channel = channel
        if worker.foreign:
            state.state, state.why = "alive", f"{worker.name} speaks protocol {worker.protocol}, not {link.PROTOCOL}"
            return
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
        state = worker.state
        state.heard = time.monotonic()
        if worker.foreign:
            return  # that it speaks is all there is to know
        try:
            message = link.decode_to_control(payload)
        except msgspec.DecodeError as error:
            self._event("worker-protocol", f"{worker.name} said what is not understood: {error}")
            return
        match message:
            case link.Ready(protocol=protocol, release=release):
                state.release = release
                if protocol != link.PROTOCOL:
                    self._is_foreign(worker, protocol)
                    return
                if state.state in ("starting", "silent"):
                    state.state, state.why = "alive", ""
            case link.Ack(version=version):
                state.acked = max(state.acked, version)
                if state.place in self._covered and not worker.surplus:
                    self._covered.discard(state.place)
                    self._tell_listeners()
                if state.state == "starting":
                    state.state = "alive"
                self._look_at_acks()
                self._changed.set()
            case link.Stats():
                state.stats = message
                if state.state == "silent":
                    state.state, state.why = "alive", ""
            case _:
                pass
        self._on_message(state.slot, message)

    def _is_foreign(self, worker: Worker, protocol: int) -> None:
        """One that was just started is the code on disk, and this control is not."""
        worker.protocol = protocol
        if worker.adopted:
            self._later(self._replace_foreign(worker))
            return
        why = f"{worker.name} speaks protocol {protocol}, this control {link.PROTOCOL}"
        worker.state.why = why
        self._event("worker-protocol", f"{why}: the code on disk is another")
        self._later(self._signal(worker, signal.SIGKILL))
        self.on_other_code(why)

    def _flushed(self) -> bool:
        return all(one.channel.flushed or one.channel.closed for one in self.slots.values() if one.channel is not None)

    def _listeners_of(self, worker: Worker) -> tuple[list[link.Listener], list[int]]:
        """What it accepts from: its own place of each, and of those where none is wanted its share."""
        places = [worker.state.place]
        if not worker.surplus:
            here = [one.state.place for one in self.present if one.state.place not in self._covered]
            lone = set(range(max((len(one["sockets"]) for one in self.listeners), default=0))) - set(here)
            places += [place for place in sorted(lone) if here and here[place % len(here)] == places[0]]
        listeners, fds = [], []
        for one in self.listeners:
            names = list(dict.fromkeys(one["sockets"][i] for i in places if i < len(one["sockets"])))
            for name in names:
                if name not in self._sockets:
                    continue  # let go: Triage stops, and a worker that just started is to end
                listeners.append(link.Listener(one["name"], one["name"] in self.tls))
                fds.append(self._sockets[name])
        return listeners, fds

    def _tell_listeners(self) -> None:
        for worker in self.slots.values():
            if worker.live and not worker.surplus and not self.draining:
                listeners, fds = self._listeners_of(worker)
                worker.send(link.Listen(listeners), fds)

    def _drain(self, worker: Worker, idle: float = 2.0) -> None:
        """Idle connections are closed after so many seconds."""
        worker.surplus = worker.surplus or worker.state.place >= self._wanted
        worker.state.state = "draining" if worker.state.pid else worker.state.state
        worker.send(link.Drain(self.drain_limit, idle))
        if worker.foreign and worker.state.pid:
            self._later(self._signal(worker, signal.SIGTERM))  # means the same in every protocol

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
        if worker.trial:
            worker.surplus = True
            self._event("worker-died", f"{worker.name}, just started, died: {ended.words}", pid=record["pid"])
            self._later(self._give_up(worker))
            return
        worker.deaths = worker.deaths + 1 if record["lasted"] < HEALED else 1
        state.restarts += 1
        lasted = units.duration(record["lasted"])
        text = f"{worker.name} died after {lasted}: {ended.words}; it is replaced"
        self._event("worker-died", text, pid=record["pid"], words=ended.words)
        if worker.foreign:
            worker.protocol, worker.adopted = link.PROTOCOL, False  # the next one says what it speaks
        self._launch(worker)

    async def _give_up(self, worker: Worker) -> None:
        """A surplus worker is gone. Its sockets stay: see launcher/sockets.py."""
        slot = worker.state.slot
        if not worker.surplus or worker.state.pid or self.slots.get(slot) is not worker:
            return
        del self.slots[slot]
        with contextlib.suppress(Refused):
            await self.launcher.drop(f"{worker.name}.control")
        for place in range(self._wanted):
            if self.at(place) is None and not self.draining:
                self._start_at(place)
        self._count_columns()
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
