"""Reading /proc, and ending what is left of a process after its end.

A number is not a process: it is reused. So a process is only ever signalled when it is our own unreaped child
(the kernel keeps its number), or through a pidfd opened before its start time was compared.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

INSTANCE: Final = "TRIAGE_INSTANCE"
LAUNCHER: Final = "TRIAGE_LAUNCHER"
"""In every child's environment: the launcher's pid:start. A daemon with its own session still has it."""


class Stat(NamedTuple):
    state: str
    parent: int
    group: int
    session: int
    start: int
    """clock ticks since boot"""


def stat(pid: int) -> Stat | None:
    """None when there is no such process. The name in the middle may hold anything, a ')' too (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 20:
        return None
    return Stat(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def environment(pid: int) -> dict[str, str] | None:
    """The two markers, as far as a process was started with them; None when that may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None
    found = {}
    for entry in entries:
        name, _, value = entry.decode("utf-8", "surrogateescape").partition("=")
        if name in (INSTANCE, LAUNCHER):
            found[name] = value
    return found


def everyone() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children_of_mine() -> list[int]:
    """Our direct children, adopted orphans among them. By a walk where the kernel keeps no list."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:
        return [pid for pid in everyone() if (row := stat(pid)) is not None and row.parent == me]


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def command_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def kill_group(pid: int, signum: int = signal.SIGKILL) -> None:
    """Signal the group that our unreaped child `pid` leads; nothing when it has none."""
    try:
        os.killpg(pid, signum)
    except (ProcessLookupError, PermissionError):
        pass


def kill_orphan(pid: int, row: Stat) -> None:
    """Kill our adopted child, and its group when it leads one."""
    if row.group == pid:
        kill_group(pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def kill_cgroup(path: str) -> bool:
    """Kill all in a cgroup directory, of v2 (Linux 5.14) or v1; False where that can't be done."""
    try:
        with open(os.path.join(path, "cgroup.kill"), "w", encoding="ascii") as file:
            file.write("1")
        return True
    except OSError:
        return _kill_one_by_one(path)


def _kill_one_by_one(path: str) -> bool:
    """They may fork meanwhile: again until none is left. Each is looked at once more through its pidfd."""
    for _ in range(50):
        pids = cgroup_pids(path)
        if pids is None:
            return False
        fds = []
        for pid in pids:
            try:
                fds.append((pid, os.pidfd_open(pid)))
            except OSError:
                continue
        still = set(cgroup_pids(path) or ())
        for pid, fd in fds:
            try:
                if pid in still:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            except OSError:
                pass
            os.close(fd)
        if not fds:
            break
    return True


def cgroup_pids(path: str) -> list[int] | None:
    """None: there is no such cgroup."""
    try:
        with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as file:
            return [int(line) for line in file]
    except OSError:
        return None


def remove_cgroup(path: str) -> bool:
    """And what held it alone. True when it is gone; what is in use stays."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    try:
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass
    return True


def end_leftovers(children: Iterable[tuple[int, int]], marker: str, *, within: float) -> list[tuple[int, str]]:
    """End what a killed launcher left: `children` are its (pid, start), `marker` was in their environment.

    A process is taken for one of them when pid and start time match; when the environment it was started with
    carries the marker; or when it is in the session of one that matches, alive, in this same look. Then only.
    Goes on until none is found, as they may fork meanwhile, or `within` seconds have passed. Returns (pid,
    command) of each.
    """
    known = dict(children)
    mine = _ancestry()
    ended: dict[int, str] = {}
    deadline = time.monotonic() + within
    while True:
        found: list[int] = []
        rows = {pid: row for pid in everyone() if pid not in mine and (row := stat(pid)) is not None}
        leaders = {pid for pid, start in known.items() if pid in rows and rows[pid].start == start}
        for pid, row in rows.items():
            if row.state in "ZX":
                continue
            if pid in leaders or row.session in leaders or (environment(pid) or {}).get(LAUNCHER) == marker:
                fd = _kill_if_same(pid, row.start)
                if fd is not None:
                    ended.setdefault(pid, command_of(pid))
                    found.append(fd)
        if not found:
            break
        _wait_for(found, deadline)
        if time.monotonic() >= deadline:
            break
    return list(ended.items())


def _ancestry() -> set[int]:
    """This process and those above it: a launcher started from within an instance must not end itself."""
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        row = stat(pid)
        pid = row.parent if row is not None else 0
    return found


def _kill_if_same(pid: int, start: int) -> int | None:
    """Kill through a pidfd whose process had this start time after it was opened; returns the pidfd."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    row = stat(pid)
    try:
        if row is not None and row.start == start:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _wait_for(pidfds: list[int], deadline: float) -> None:
    """Wait until each has ended, and close all."""
    for fd in pidfds:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(fd)
