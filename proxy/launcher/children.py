"""All children: started, told of, reaped, and what they leave behind ended.

Always true:
  - a child is in `by_name` and `by_pid` from fork until it is reaped, and only `reap` takes statuses;
  - until then the kernel keeps its pid, group and session number, so signalling them can't hit a stranger;
  - an exit is in `exits` until a control has acknowledged it, and its output pipes are held as long.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from proxy.launcher import child as forking
from proxy.launcher import processes
from proxy.launcher.child import Child, Refused
from proxy.launcher.loop import Loop
from proxy.launcher.store import Store
from proxy.link.spawn import ChildState, ExitRecord, Refusal, SpawnRequest

REMEMBERED: Final = 60.0
"""Seconds for which an ended session's number is known; pids are not reused so soon."""

Tell = Callable[[object, tuple[int, ...]], bool]


class Children:
    def __init__(self, loop: Loop, store: Store, marker: str, nofile: tuple[int, int]) -> None:
        self.loop, self.store, self.marker, self.nofile = loop, store, marker, nofile
        self.by_name: dict[str, Child] = {}
        self.by_pid: dict[int, Child] = {}
        self.exits: dict[int, ExitRecord] = {}
        self.tell: Tell = lambda message, fds: False
        """sends an event to control, if there is one"""
        self.on_control_end: Callable[[ExitRecord], None] = lambda how: None
        self.on_control_failed: Callable[[str], None] = lambda text: None
        self.on_change: Callable[[], None] = lambda: None
        self._pipes_of_exit: dict[int, dict[str, int]] = {}
        self._ended_sessions: dict[int, float] = {}
        self._cgroups: set[str] = set()
        """of those that were there at the end of all: control removes the others"""
        self._count = 0
        self._pipe_size = forking.PIPE_MOST

    # --- start

    def spawn(self, request: SpawnRequest, number: int) -> None:
        """Start a child; request `number` is answered once exec has worked, or not. Raises Refused."""
        if request["name"] in self.by_name or request["name"] == "control":
            raise Refused("name", errno.EEXIST, f"{request['name']} runs already")
        given = {int(target): self.descriptor(name) for target, name in (request.get("give") or {}).items()}
        if any(target < 0 or target > 1000 for target in given):
            raise ValueError("a descriptor is given as one of 0 to 1000")
        child = Child(request)
        child.reply = number
        self.fork(child, request, given)

    def fork(self, child: Child, request: SpawnRequest, given: dict[int, int]) -> None:
        """`given`: descriptor number in the child -> ours. Raises OSError."""
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        closing, kept, targets = [null], dict[str, int](), {0: null, 1: 1, 2: 2}
        try:
            for target, stream in ((1, "stdout"), (2, "stderr")):
                if request.get(stream, "inherit") == "pipe":
                    read, write = os.pipe2(os.O_CLOEXEC)
                    closing.append(write)
                    os.set_blocking(read, False)
                    kept[f"{child.name}.{stream}"], targets[target] = read, write
            soft = self.nofile[0] if child.nofile == "original" else self.nofile[1]
            forking.fork(child, targets | given, self.marker, (soft, self.nofile[1]))
        except BaseException:
            closing.extend(kept.values())
            raise
        finally:
            for fd in closing:
                os.close(fd)
        row = processes.stat(child.pid)
        child.start, child.began = (row.start if row is not None else 0), time.monotonic()
        child.pipes = kept
        for name, fd in kept.items():
            self.store.put(name, fd)
        self._resize_pipes(kept)
        self.by_name[child.name] = self.by_pid[child.pid] = child
        self.loop.watch(child.errors, lambda: self._started(child))
        self.loop.watch(child.pidfd, self.reap)
        self.on_change()

    def _resize_pipes(self, new: dict[str, int]) -> None:
        """16 MiB over all of them; the others change only when the share is another power of two."""
        pipes = [fd for name, fd in self.store.held.items() if name.endswith((".stdout", ".stderr"))]
        size = forking.pipe_size(len(pipes))
        for fd in new.values() if size == self._pipe_size else pipes:
            forking.resize_pipe(fd, size)
        self._pipe_size = size

    def _started(self, child: Child) -> None:
        """How it went, by the pipe that closes at exec: when that is readable, or the child has ended."""
        if child.errors < 0:
            return
        try:
            told = os.read(child.errors, 4096)
        except BlockingIOError:
            told = b""  # a sister forked meanwhile still has a copy of the other end
        self.loop.unwatch(child.errors)
        os.close(child.errors)
        child.errors = -1
        number, child.reply = child.reply, None
        if told:
            step, code, text = told.decode("utf-8", "replace").split(" ", 2)
            refused = forking.explain(child, step, int(code), text)
            if child.kind == "control":
                self.on_control_failed(refused.text)
            elif number is not None:  # told once it is reaped: then its name is free again
                error = Refusal(step=refused.step, errno=refused.errno, text=refused.text)
                child.refused = {"reply": number, "error": error}
        elif number is not None:
            answer = {"reply": number, "pid": child.pid, "start": child.start}
            self.tell(answer, tuple(child.pipes.values()))

    def descriptor(self, name: str) -> int:
        """A held one, or ``NAME.pidfd`` of a child. Raises Refused."""
        child = self.by_name.get(name.removesuffix(".pidfd")) if name.endswith(".pidfd") else None
        return child.pidfd if child is not None else self.store.descriptor(name)

    # --- the same process with newer code

    @property
    def quiet(self) -> bool:
        """Of each child it is known whether it became its program, and who asked was told."""
        return not any(child.errors >= 0 or child.refused is not None for child in self.by_name.values())

    def told(self) -> dict[str, object]:
        return {
            "children": [child.told() for child in self.by_name.values()],
            "exits": list(self.exits.values()),
            "pipes": list(self._pipes_of_exit.items()),
            "sessions": list(self._ended_sessions.items()),
            "count": self._count,
            "pipe_size": self._pipe_size,
            "nofile": self.nofile,
        }

    def resume(self, row: dict[str, Any]) -> None:
        """They are still ours, unreaped, so each pid is still theirs."""
        self._count, self._pipe_size = row["count"], row["pipe_size"]
        self.exits = {how["exit"]: how for how in row["exits"]}
        self._pipes_of_exit = dict(row["pipes"])
        self._ended_sessions = dict(row["sessions"])
        for child in map(Child.resumed, row["children"]):
            child.pidfd = os.pidfd_open(child.pid)
            self.by_name[child.name] = self.by_pid[child.pid] = child
            self.loop.watch(child.pidfd, self.reap)

    # --- while they run

    def signal(self, child: Child, signum: int, *, group: bool) -> None:
        if group:
            processes.kill_group(child.pid, signum)
        else:
            try:
                signal.pidfd_send_signal(child.pidfd, signum)
            except ProcessLookupError:
                pass  # it ended a moment ago; its exit follows
        child.sent = [*child.sent[-7:], (signum, time.monotonic())]

    def states(self) -> list[ChildState]:
        now = time.monotonic()
        return [
            ChildState(
                name=one.name,
                kind=one.kind,
                pid=one.pid,
                start=one.start,
                began=one.began,
                lasted=now - one.began,
                note=one.note,
            )
            for one in self.by_name.values()
            if one.kind != "control"
        ]

    def nobody_asks(self) -> None:
        """The control that asked for them is gone: a failed exec is now an exit with code 127."""
        for child in self.by_name.values():
            child.reply = None

    # --- the end of one

    def reap(self) -> None:
        """The one place where statuses are taken, of ours and of orphans."""
        while True:
            try:
                row = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if row is None:
                break
            child = self.by_pid.get(row.si_pid)
            if child is None:
                os.waitpid(row.si_pid, os.WNOHANG)
            else:
                self._ended(child, row)
        self.end_orphans()

    def _ended(self, child: Child, row: Any) -> None:
        now = time.monotonic()
        self._started(child)
        processes.kill_group(child.pid)
        for path in child.cgroups:
            processes.kill_cgroup(path)
        self.store.shut(child.shut)
        _, _, usage = os.wait4(child.pid, 0)
        del self.by_name[child.name], self.by_pid[child.pid]
        self._ended_sessions[child.pid] = now
        self.loop.unwatch(child.pidfd)
        os.close(child.pidfd)
        self.on_change()
        if child.refused is not None:
            self._close_pipes(child.pipes)
            self.tell(child.refused, ())
            return
        exited = row.si_code == os.CLD_EXITED
        self._count += 1
        how = ExitRecord(
            exit=self._count,
            name=child.name,
            kind=child.kind,
            pid=child.pid,
            start=child.start,
            code=row.si_status if exited else None,
            signal=None if exited else row.si_status,
            core=row.si_code == os.CLD_DUMPED,
            maxrss=usage.ru_maxrss * 1024,
            utime=usage.ru_utime,
            stime=usage.ru_stime,
            began=child.began,
            at=now,
            lasted=now - child.began,
            sent=child.sent,
            note=child.note,
        )
        if child.kind == "control":
            self.on_control_end(how)
            return
        self.exits[how["exit"]] = how
        self._pipes_of_exit[how["exit"]] = child.pipes
        self.tell({"event": "exit", **how}, ())

    def acknowledged(self, number: int) -> None:
        """Control has the exit, and a copy of the pipes if it wants what is still in them."""
        self.exits.pop(number, None)
        self._close_pipes(self._pipes_of_exit.pop(number, {}))

    def _close_pipes(self, pipes: dict[str, int]) -> None:
        for name, fd in pipes.items():
            if self.store.held.get(name) == fd:
                self.store.release(name)

    def end_orphans(self, *, all_of_them: bool = False) -> bool:
        """Kill adopted processes whose child has ended; True when there was one. Their children come up next.

        One belongs to the child whose session it is in, or whose marker it was started with. Neither can be
        seen of a daemon that cleared its environment, nor of another user's without CAP_SYS_PTRACE: that one is
        left, and reaped when it ends. So is what was never ours (`docker exec` beside PID 1)."""
        found = False
        horizon = time.monotonic() - REMEMBERED
        self._ended_sessions = {pid: at for pid, at in self._ended_sessions.items() if at > horizon}
        for pid in processes.children_of_mine():
            if pid in self.by_pid:
                continue
            row = processes.stat(pid)
            if row is None or row.state in "ZX" or row.session in self.by_pid:
                continue
            marks = processes.environment(pid) or {}
            if marks.get(processes.LAUNCHER) == self.marker:
                gone = all_of_them or marks.get(processes.INSTANCE) not in self.by_name
            else:
                gone = row.session != pid and row.session in self._ended_sessions
            if gone:
                found = True
                processes.kill_orphan(pid, row)
        return found

    def kill_all(self) -> bool:
        """Kill and reap what can be; True while something is left. Call again until then."""
        for child in self.by_name.values():
            processes.kill_group(child.pid)
            self.signal(child, signal.SIGKILL, group=False)
            for path in child.cgroups:
                processes.kill_cgroup(path)
                self._cgroups.add(path)
        self.reap()
        orphans = self.end_orphans(all_of_them=True)
        self._cgroups = {path for path in self._cgroups if not processes.remove_cgroup(path)}
        return bool(self.by_name or self._cgroups) or orphans
