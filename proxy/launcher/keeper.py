"""Keeps one program that control was asked to run: a command of the console's, or the shell of a terminal.

`python -m proxy.launcher.keeper`, a child of control and never of the launcher. Descriptor 0 is a stream socket to
control. Lines of JSON: first `Plan` comes; `{"began": pid}` or `{"refused": text}` goes back, at the program's end
`{"exit": …}`, at the very end `{"done": …}`. `{"end": seconds}` asks for an end.

Always true:
  - what the program started stays below this process, whatever session or group it made itself (child subreaper);
  - all of it has ended before this process does, or is named in `done`;
  - when control is gone, all of it is killed at once.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any, Final, TypedDict

from proxy.launcher import child as forking
from proxy.launcher import processes
from proxy.launcher.child import Child, Refused
from proxy.link.spawn import SpawnRequest

MOST_PLAN: Final = 1 << 22
"""Bytes: the kernel takes 2 MiB of arguments and environment, and JSON makes more of them."""
LAST: Final = 5.0
"""Seconds for the kernel to end what was killed."""
LEFT: Final = 1.0
"""Seconds for what the program left behind, between the first signal and the kill."""
SHOWN: Final = 20


class Plan(TypedDict):
    """What control asks for. Descriptors are numbers in this process, which control let it inherit."""

    request: SpawnRequest
    targets: dict[str, int]
    """descriptor in the program, as text -> ours; 0, 1 and 2 must be there"""
    folder: int
    """the folder that `cwd` is relative to; -1: `cwd` is absolute"""
    marker: str
    """of the launcher that all this belongs to"""
    nofile: tuple[int, int]
    signal: int
    """that asks it to end"""


class Keeper:
    def __init__(self, control: socket.socket, plan: Plan) -> None:
        self.control = control
        self.plan = plan
        self.child = Child(plan["request"])
        self.exited = False
        self.gone = False
        """control is no more"""
        self._rest = b""
        self._wake, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: self._left_alone())

    def run(self) -> None:
        """Until everything has ended."""
        forking.prctl(forking.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        forking.prctl(forking.PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        try:
            self._start()
        except Refused as error:
            self._tell({"refused": error.text})
            return
        self._tell({"began": self.child.pid})
        grace = LEFT
        while not self.exited and not self.gone:
            asked = self._wait(60.0)
            if asked is not None:
                grace = asked
                break
        ended, stuck = self._end_all(0.0 if self.gone else grace)
        self._tell({"done": {"ended": ended, "stuck": stuck[:SHOWN]}})

    def _start(self) -> None:
        """Raises Refused."""
        targets = {int(target): fd for target, fd in self.plan["targets"].items()}
        for fd in {*targets.values(), self.plan["folder"]} - {-1}:
            os.set_inheritable(fd, False)
        if self.plan["folder"] >= 0:
            os.fchdir(self.plan["folder"])
        soft, hard = self.plan["nofile"]
        try:
            forking.fork(self.child, targets, self.plan["marker"], (soft, hard))
        except OSError as error:
            raise Refused("fork", error.errno or 0, f"no process can be made: {error.strerror or error}") from None
        for fd in {*targets.values(), self.plan["folder"]} - {-1}:
            os.close(fd)
        os.chdir("/")
        poll = select.poll()
        poll.register(self.child.errors, select.POLLIN)
        poll.register(self.control, select.POLLIN)  # whatever comes, it is not wanted any more
        while not (ready := {fd for fd, _ in poll.poll()}) and not self.gone:
            pass
        if self.child.errors not in ready:
            self._end_all(0.0)
            raise Refused("start", 0, "it was ended before it had started")
        told = os.read(self.child.errors, 4096)
        os.close(self.child.errors)
        if told:
            os.waitpid(self.child.pid, 0)
            step, code, text = told.decode("utf-8", "replace").split(" ", 2)
            raise forking.explain(self.child, step, int(code), text)

    def _left_alone(self) -> None:
        self.gone = True

    def _tell(self, message: object) -> None:
        try:
            self.control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.gone = True

    def _wait(self, seconds: float) -> float | None:
        """For news, at most so long. Seconds of grace when an end is asked for."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if not self.gone:
            poll.register(self.control, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(seconds * 1000)}
        if self._wake in ready:
            os.read(self._wake, 4096)
        self._reap()
        if self.control.fileno() not in ready:
            return None
        try:
            data = self.control.recv(4096)
        except OSError:
            data = b""
        self.gone = self.gone or not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        return max((float(json.loads(line)["end"]) for line in lines), default=None)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid != self.child.pid:
                continue
            self.exited = True
            by_signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            self._tell({
                "exit": os.WEXITSTATUS(status) if by_signal is None else None, "signal": by_signal,
                "core": by_signal is not None and os.WCOREDUMP(status), "cpu": usage.ru_utime + usage.ru_stime,
            })  # fmt: skip

    # --- the end of all

    def _end_all(self, grace: float) -> tuple[int, list[int]]:
        """How many had to be asked or killed, and the pids of what could not be."""
        asked = self._signal(self.plan["signal"], signal.SIGCONT) if grace else set()
        deadline = time.monotonic() + grace
        while (left := deadline - time.monotonic()) > 0 and self._below():
            self._wait(min(left, 0.05))
            if self.gone:
                break
        for _ in range(50):  # stopped, so that it forks no faster than it is killed
            if not self._signal(signal.SIGSTOP) - asked:
                break
            asked |= set(self._below())
        deadline = time.monotonic() + LAST
        while time.monotonic() < deadline:
            killed = self._signal(signal.SIGKILL)
            asked |= killed
            if not killed:
                break
            self._wait(0.01)
        return len(asked), sorted(self._below())

    def _below(self) -> dict[int, int]:
        """Living processes below this one: pid to start time."""
        self._reap()
        rows = {pid: row for pid in processes.everyone() if (row := processes.stat(pid)) is not None}
        children: dict[int, list[int]] = {}
        for pid, row in rows.items():
            children.setdefault(row.parent, []).append(pid)
        found: dict[int, int] = {}
        look = [os.getpid()]
        while look:
            for pid in children.get(look.pop(), ()):
                look.append(pid)
                if rows[pid].state not in "ZX":
                    found[pid] = rows[pid].start
        return found

    def _signal(self, *numbers: int) -> set[int]:
        """To each below, through a pidfd; which ones got it."""
        told = set()
        for pid, start in self._below().items():
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                row = processes.stat(pid)
                if row is not None and row.start == start:
                    told.add(pid)
                    for number in numbers:
                        signal.pidfd_send_signal(fd, number)
            except OSError:
                pass  # another user's, without the right; or it ended a moment ago
            finally:
                os.close(fd)
        return told


def _read_plan(control: socket.socket) -> Plan:
    """ValueError: it is not one."""
    data = b""
    while not data.endswith(b"\n"):
        piece = control.recv(1 << 16)
        data += piece
        if not piece or len(data) > MOST_PLAN:
            raise ValueError("the plan is not whole")
    plan: Plan = json.loads(data)
    return plan


def main() -> int:
    """0: everything has ended."""
    control = socket.socket(fileno=os.dup(0))
    plan: Any = _read_plan(control)
    keeper = Keeper(control, plan)
    keeper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
