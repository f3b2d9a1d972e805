"""The launcher whole: what it does at its start, on a signal, in time, and at its end."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections import deque
from typing import Final

from proxy.launcher import child, processes, record, requests
from proxy.launcher.children import Children
from proxy.launcher.control import Control
from proxy.launcher.journal import Log
from proxy.launcher.loop import NEVER, Loop
from proxy.launcher.store import Store
from proxy.link.spawn import VERSION, Plan, State

AFTER_GRACE: Final = 15.0
"""Seconds beyond draining in which control has to end; then all is killed."""

RECORD_EVERY: Final = 0.1
LAST: Final = 5.0
"""Seconds for the kernel to end what was killed."""


class Launcher:
    def __init__(self, plan: Plan, log: Log) -> None:
        self.plan, self.log = plan, log
        self.pid = os.getpid()
        row = processes.stat(self.pid)
        self.start = row.start if row is not None else 0
        nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile[1], nofile[1]))
        self.loop = Loop(log)
        self.store = Store(max(1, plan["workers"]))
        self.children = Children(self.loop, self.store, record.marker(self.pid, self.start), nofile)
        self.children.on_change = self._changed
        self.children.on_control_failed = self._control_failed
        self.control = Control(self.loop, self.children, plan["control"], log)
        self.control.state = self._state
        self.control.answer = lambda message, fds: requests.answer(self, message, fds)
        self.control.ending = lambda: self.code is not None
        self.code: int | None = None
        """exit code, once the end is certain"""
        self.stopping = False
        self.reload = False
        self._stop_at = NEVER
        self._record_at = NEVER
        self._recorded = 0.0
        self._asked: deque[int] = deque()

    def begin(self) -> None:
        """Take the addresses, then start control. Raises CannotListen or OSError."""
        child.prctl(child.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._catch_signals()
        self.store.listen_all(self.plan["listen"], self.plan["admin"])
        addresses = {one.name: str(one) for one in self.store.listening}
        self.log.info("listening", pid=self.pid, addresses=addresses)
        self._write_record()  # a successor must know the marker before a child carries it
        self.control.start()

    def _catch_signals(self) -> None:
        wake, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, lambda number, frame: self._asked.append(number))
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # wakes the loop for orphans
        for signum in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            signal.signal(signum, signal.SIG_IGN)  # meant for someone else, and by default they would end us
        self.loop.watch(wake, lambda: self._woken(wake))

    def _woken(self, wake: int) -> None:
        os.read(wake, 4096)
        self.children.reap()

    def run(self) -> int:
        """Until control says bye, a second signal comes or the deadline passes; returns the exit code."""
        while self.code is None:
            if self.loop.turn(min(self.control.due(), self._stop_at, self._record_at)) > 1.0:
                self.control.excused()
            while self._asked:
                self._signalled(self._asked.popleft())
            self.loop.guarded(self._on_time)
        return self._finish(self.code)

    def _on_time(self) -> None:
        now = time.monotonic()
        if now >= self._stop_at:
            self.end(1, f"not ended {self.plan['grace'] + AFTER_GRACE:g} s after it was asked to")
        if now >= self._record_at:
            self._write_record()
        self.control.on_time()

    def _signalled(self, signum: int) -> None:
        name = signal.Signals(signum).name
        if signum == signal.SIGHUP and not self.plan["run"]:
            self.log.info("reload", by=name)
            self.reload = not self.control.tell({"event": "reload"})
        elif not self.stopping:
            self.log.info("stopping", by=name, grace=self.plan["grace"])
            self.stopping = True
            self._stop_at = time.monotonic() + self.plan["grace"] + AFTER_GRACE
            self.control.tell({"event": "terminate"})
            if self.control.child is None:
                self.control.start_at = time.monotonic()  # no time for waiting
        elif signum != signal.SIGHUP:
            self.end(128 + signum, f"a second signal, {name}")

    def _state(self) -> State:
        children = self.children.states()
        state = State(
            event="state",
            version=VERSION,
            plan=self.plan,
            pid=self.pid,
            start=self.start,
            children=children,
            held=[*self.store.names(), *(f"{one['name']}.pidfd" for one in children)],
            listeners=self.store.listeners(),
            exits=list(self.children.exits.values()),
            deaths=self.control.restarts.deaths,
            fresh=self.control.restarts.fresh,
            stopping=self.stopping,
            reload=self.reload,
        )
        self.reload = False
        return state

    def _control_failed(self, text: str) -> None:
        """Control could not be executed: at the first start the end of it, later it may mend."""
        self.log.error("control-not-started", text=text)
        if not self.control.restarts.deaths:
            print(text, file=sys.stderr)
            self.end(1, "control could not be started")

    # --- the record

    def _changed(self) -> None:
        """launcher.json is due, 0.1 s after the last at the soonest; the marker covers a crash in between."""
        self._record_at = min(self._record_at, max(time.monotonic(), self._recorded + RECORD_EVERY))

    def _write_record(self) -> None:
        self._record_at, self._recorded = NEVER, time.monotonic()
        rows = [
            {"name": one.name, "pid": one.pid, "start": one.start, "cgroup": one.cgroup}
            for one in self.children.by_name.values()
        ]
        try:
            record.write(self.plan["data_dir"], self.pid, self.start, rows)
        except OSError as error:
            self.log.warning("record-not-written", text=str(error))

    # --- the end

    def end(self, code: int, why: str) -> None:
        if self.code is None:
            self.code = code
            self.log.info("ending", code=code, why=why)

    def _finish(self, code: int) -> int:
        deadline = time.monotonic() + LAST
        while self.children.kill_all() and time.monotonic() < deadline:
            self.loop.turn(time.monotonic() + 0.05)
        self.store.close()
        record.forget(self.plan["data_dir"])
        self.log.info("ended", code=code)
        return code
