"""Control as the launcher sees it: started, heard, told, and started again when it dies or falls silent.

Always true:
  - nothing waits for control: what it does not read is queued, and one silent for 15 s is ended;
  - whatever it sends, the answer is a message, never the end of this process.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from proxy.launcher import processes
from proxy.launcher.child import Child, Refused
from proxy.launcher.children import Children
from proxy.launcher.journal import Log
from proxy.launcher.loop import NEVER, Loop
from proxy.launcher.restarts import Restarts
from proxy.link.spawn import (
    BEAT_WITHIN,
    CONTROL_FD,
    Channel,
    ExitRecord,
    Message,
    Refusal,
    SpawnRequest,
    State,
)

FIRST_WORD: Final = 60.0
"""Seconds in which a new control must speak: it imports first, on a machine that may be busy."""

LAST_WORDS: Final = 1.0
"""Seconds between SIGABRT, at which a hung control writes its stacks (faulthandler), and SIGKILL."""

Answer = tuple[dict[str, object], tuple[int, ...]]


class Control:
    def __init__(self, loop: Loop, children: Children, argv: list[str], log: Log) -> None:
        self.loop, self.children, self.argv, self.log = loop, children, argv, log
        self.state: Callable[[], State]
        """what a new one is told first"""
        self.answer: Callable[[Message, list[int]], Answer | None]
        """does a request; raises Refused"""
        self.ending: Callable[[], bool] = lambda: False
        self.restarts = Restarts()
        self.child: Child | None = None
        self.planned = False
        """it said that it ends to be replaced"""
        self.start_at = NEVER
        self._channel: Channel | None = None
        self._heard = NEVER
        self._within = FIRST_WORD
        self._kill_at = NEVER
        children.tell = self.tell
        children.on_control_end = self._ended

    # --- its life

    def start(self) -> None:
        self.start_at = NEVER
        channel, theirs = Channel.pair()
        request = SpawnRequest(
            name="control",
            kind="control",
            argv=self.argv,
            env=dict(os.environ),
            cwd=os.getcwd(),
            ptracer=True,
        )
        child = Child(request)
        try:
            self.children.fork(child, request, {CONTROL_FD: theirs.fileno()})
        except OSError as error:
            channel.close()
            now = time.monotonic()
            self.start_at = now + self.restarts.died(now, 0.0)
            self.log.error("control-not-started", text=str(error))
            return
        finally:
            theirs.close()
        self.child, self._channel = child, channel
        self._heard, self._within, self._kill_at = time.monotonic(), FIRST_WORD, NEVER
        self.loop.watch(channel.fileno(), self._ready)
        told = {"deaths": self.restarts.deaths, "fresh": self.restarts.fresh}
        self.log.info("control-started", pid=child.pid, **told)
        self.tell(self.state())

    def _ended(self, how: ExitRecord) -> None:
        self._ready()  # its last messages: a bye above all
        self.child = None
        self._hang_up("")
        self._heard, self._kill_at = NEVER, NEVER
        if self.ending():
            return
        now = time.monotonic()
        if self.planned:
            self.planned, self.start_at = False, now
            self.restarts.handed_over()
            self.log.info("control-replaced", pid=how["pid"], code=how["code"], signal=how["signal"])
            return
        delay = self.restarts.died(now, how["lasted"])
        self.start_at = now + delay
        how_it_ended = {"pid": how["pid"], "code": how["code"], "signal": how["signal"]}
        self.log.error("control-ended", **how_it_ended, again_in=round(delay, 1))
        if self.restarts.fresh:
            self.log.error("control-fresh", text="three deaths in 10 s: the next goes by children and config")

    # --- the same process with newer code

    @property
    def quiet(self) -> bool:
        """Nothing of the channel is in this process's memory: what the kernel holds of it stays."""
        return self._channel is None or self._channel.quiet

    @property
    def descriptor(self) -> int:
        return -1 if self._channel is None else self._channel.fileno()

    def told(self) -> dict[str, object]:
        return {
            "fd": self.descriptor, "start_at": self.start_at, "planned": self.planned,
            "within": self._within, "kill_at": self._kill_at, "restarts": vars(self.restarts),
        }  # fmt: skip

    def resume(self, row: dict[str, Any]) -> None:
        self.start_at, self.planned = row["start_at"], row["planned"]
        self._within, self._kill_at = row["within"], row["kill_at"]
        vars(self.restarts).update({key: value for key, value in row["restarts"].items() if key in vars(self.restarts)})
        self.child = self.children.by_name.get("control")
        if row["fd"] >= 0:
            self._channel = Channel(socket.socket(fileno=row["fd"]))
            self.loop.watch(row["fd"], self._ready)
        if self.child is not None:
            self._heard = time.monotonic()
        elif self.start_at == NEVER:  # it ended just now
            self.start_at = time.monotonic()

    # --- time

    def due(self) -> float:
        silent = self._heard + self._within if self._kill_at == NEVER else NEVER
        return min(self.start_at, silent, self._kill_at)

    def excused(self) -> None:
        """The launcher itself had no time: what control said meanwhile is not read yet."""
        if self.child is not None:
            self._heard = max(self._heard, time.monotonic())

    def on_time(self) -> None:
        now = time.monotonic()
        if self.child is None:
            if now >= self.start_at and not self.ending():
                self.start()
        elif now >= self._kill_at:
            self._heard, self._kill_at = now, NEVER
            processes.kill_group(self.child.pid)
        elif now >= self._heard + self._within and self._kill_at == NEVER:
            self.log.error("control-silent", pid=self.child.pid, seconds=round(now - self._heard, 1))
            self._kill_at = now + LAST_WORDS
            self.children.signal(self.child, signal.SIGABRT, group=False)

    # --- the channel

    def tell(self, message: object, fds: tuple[int, ...] = ()) -> bool:
        """Send or queue; False when there is none to hear it. `fds` stay the caller's."""
        if self._channel is None:
            return False
        try:
            clear = self._channel.send(message, fds)
        except OSError as error:
            self._hang_up(str(error))
            return False
        self.loop.also_writable(self._channel.fileno(), not clear)
        return True

    def _ready(self) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            if channel.waiting:
                self.loop.also_writable(channel.fileno(), not channel.flush())
            for _ in range(100):  # then the others' turn
                try:
                    received = channel.receive()
                except ValueError as error:
                    self.log.warning("not-understood", text=str(error))
                    continue
                if received is None or self._channel is not channel:
                    break
                self._heard, self._within = time.monotonic(), BEAT_WITHIN
                self._requested(*received)
        except (EOFError, OSError) as error:
            if self._channel is channel:
                self._hang_up(str(error))

    def _requested(self, message: Message, fds: list[int]) -> None:
        number = message.get("id")
        try:
            done = self.answer(message, fds)
            if done is not None and number is not None:
                self.tell({"reply": number, **done[0]}, done[1])
        except Refused as refused:
            if number is None:
                self.log.warning("refused", text=refused.text)
            else:
                error = Refusal(step=refused.step, errno=refused.errno, text=refused.text)
                self.tell({"reply": number, "error": error})
        finally:
            for fd in fds:
                os.close(fd)

    def _hang_up(self, why: str) -> None:
        """The channel is of no more use; a control that lives on without it is ended."""
        if self._channel is not None:
            self.loop.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None
        self.children.nobody_asks()
        if self.child is not None:
            if not self.ending() and not self.planned:
                self.log.warning("control-hung-up", pid=self.child.pid, text=why)
            processes.kill_group(self.child.pid)
