"""The launcher whole: what it does at its start, on a signal, in time, and at its end."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import time
from collections import deque
from typing import Any, Final

from proxy import __version__
from proxy.launcher import child, handover, processes, record, requests
from proxy.launcher.children import Children
from proxy.launcher.control import Control
from proxy.launcher.journal import Log
from proxy.launcher.loop import NEVER, Loop
from proxy.launcher.store import Store
from proxy.link.spawn import VERSION, Plan, Refusal, State

AFTER_GRACE: Final = 15.0
"""Seconds beyond draining in which control has to end; then all is killed."""

RECORD_EVERY: Final = 0.1
QUIET_WITHIN: Final = 10.0
"""Seconds in which every start of a child has to be answered, before newer code can take over."""
LAST: Final = 5.0
"""Seconds for the kernel to end what was killed."""


class Launcher:
    def __init__(
        self, plan: Plan, log: Log, lock: int, store: Store | None = None, nofile: tuple[int, int] | None = None
    ) -> None:
        """`lock`: data_dir's. Of a launcher of older code: `store`, and `nofile`, the limits before it raised them."""
        self.plan, self.log, self.lock = plan, log, lock
        self.pid = os.getpid()
        row = processes.stat(self.pid)
        self.start = row.start if row is not None else 0
        nofile = nofile or resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile[1], nofile[1]))
        self.loop = Loop(log)
        self.store = store or Store(max(1, plan["workers"]))
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
        self.execs = 0
        """how often this process's code was replaced"""
        self._exec_for: int | None = None
        """number of the request that asks for newer code"""
        self._exec_by = NEVER

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
            if self.loop.turn(min(self.control.due(), self._stop_at, self._record_at, self._exec_by)) > 1.0:
                self.control.excused()
            while self._asked:
                self._signalled(self._asked.popleft())
            self.loop.guarded(self._on_time)
            if self._exec_for is not None:
                self.loop.guarded(self._maybe_exec)
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
            release=__version__,
            execs=self.execs,
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

    # --- newer code

    def exec_asked(self, number: int) -> None:
        """Become the code on disk, as soon as nothing is half done; request `number` is answered by that."""
        if self.stopping or self._exec_for is not None:
            why = "Triage stops" if self.stopping else "it is about to"
            raise child.Refused("exec", errno.EBUSY, f"the launcher can't replace its code now: {why}")
        self._exec_for, self._exec_by = number, time.monotonic() + QUIET_WITHIN

    def _maybe_exec(self) -> None:
        number, late, why = self._exec_for, time.monotonic() >= self._exec_by, ""
        if self.children.quiet and self.control.quiet and not self.stopping:
            try:
                handover.become_successor(self, number)
            except (OSError, TypeError, ValueError) as error:
                why = f"exec of {sys.executable}: {error}"
        elif late or self.stopping:
            why = "Triage stops" if self.stopping else f"not quiet within {QUIET_WITHIN:g} s"
        else:
            return
        self._exec_for, self._exec_by = None, NEVER
        self.log.error("not-replaced", text=why)
        text = f"the launcher goes on with its code as it was: {why}"
        self.control.tell({"reply": number, "error": Refusal(step="exec", errno=0, text=text)})

    def told(self) -> dict[str, object]:
        """All that is not the children's, the store's or control's."""
        return {
            "execs": self.execs, "stopping": self.stopping, "reload": self.reload, "stop_at": self._stop_at,
            "asked": list(self._asked), "lock": self.lock, "dropped": self.log.dropped,
        }  # fmt: skip

    def resume(self, row: dict[str, Any], number: int | None) -> None:
        """Go on where a launcher of older code was; request `number` of its is answered."""
        self.execs, self.stopping, self.reload = row["execs"] + 1, row["stopping"], row["reload"]
        self._stop_at, self.log.dropped = row["stop_at"], row["dropped"]
        self._asked.extend(row["asked"])
        child.prctl(child.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._catch_signals()
        self.log.info("resumed", pid=self.pid, release=__version__, execs=self.execs)
        self._write_record()
        self.control.tell(self._state())
        self.control.tell({"reply": number, "release": __version__, "version": VERSION})
        self.children.reap()

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
            {"name": one.name, "pid": one.pid, "start": one.start, "cgroups": one.cgroups}
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
        os.close(self.lock)
        self.log.info("ended", code=code)
        return code
