"""What the kernel says of the instance's processes: status, threads, descriptors, sockets, limits, cgroup counters.

What may not be read, or is gone by then, is left None, and said in the note.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from proxy import masking, units
from proxy.diagnostics import asleep, cgroup, descriptors, net, netlink, proc
from proxy.diagnostics.artifacts import FileLock, Process, ProcReport, Socket, Thread
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject

THREADS: Final = 256
SOCKETS: Final = 200
FILES: Final = 200
LOCKS: Final = 50
STATES: Final = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
    "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip
"""include/net/tcp_states.h."""
UNIX_STATES: Final = {1: "CONNECTED", 2: "CONNECTING", 7: "UNCONNECTED", 10: "LISTEN"}
_LOCK: Final = re.compile(r"(\d+): (-> )?(\w+) +\w+ +\w+ +(-?\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ")

T = TypeVar("T")


class _Missing:
    """What could not be read, for the note."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()

    def maybe(self, what: str, read: Callable[[], T]) -> T | None:
        """None when it may not be read, or is gone."""
        try:
            return read()
        except OSError as error:
            self.said[f"{what}: {(error.strerror or str(error)).lower()}"] += 1
            return None

    def note(self) -> str:
        return "; ".join(
            f"{text}{f' ({count} times)' if count > 1 else ''}" for text, count in self.said.most_common(6)
        )


class _Sockets:
    """Sockets by inode, of each network namespace that a process is in; asked for once."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[dict[int, Socket], dict[int, str]]] = {}
        self.cut: dict[str, str] = {}  # by namespace: what could not be kept of it

    def of(self, pid: int) -> tuple[dict[int, Socket], dict[int, str]]:
        """And what is on the other side, in words."""
        place = net.namespace(pid)
        if place not in self._found:
            view = net.View(pid)
            try:
                self._found[place] = _by_inode(view), descriptors.sides_of(view)
                if view.cut:
                    self.cut[place] = view.note()
            finally:
                view.close()
        return self._found[place]


def collect(subject: Subject, folder: Path) -> ProcReport:
    missing = _Missing()
    tree = proc.tree(subject.pid, subject.started)
    found, sockets = ProcReport(at=time.time()), _Sockets()
    for pid, one in tree.items():
        process = missing.maybe("a process", partial(_process, pid, one, sockets, missing))
        if process is not None:
            found.processes.append(process)
    where = missing.maybe("cgroup", partial(cgroup.place, subject.pid))
    found.cgroup = cgroup.describe(where, set(tree)) if where is not None else None
    found.locks = missing.maybe("locks", partial(_locks, set(tree))) or []
    found.note = "; ".join(part for part in (missing.note(), *sockets.cut.values()) if part)
    return found


def _process(pid: int, one: proc.Stat, all_sockets: _Sockets, missing: _Missing) -> Process:
    path = proc.PROC / str(pid)
    found = Process(
        pid=pid,
        parent=one.parent,
        name=one.name,
        command=masking.arguments(proc.command(pid)),
        exe=proc.maybe_exe(pid),
        cwd=missing.maybe("cwd", lambda: os.readlink(path / "cwd")),
        state=one.state,
        started=one.started,
        cpu=one.cpu,
        status=_pairs((path / "status").read_text(errors="replace")),
        thread_count=one.threads,
        limits=missing.maybe("limits", partial(proc.limits, pid)) or {},
        environment=missing.maybe("environment", lambda: _environment((path / "environ").read_bytes())),
        io={
            name: int(value)
            for name, value in _pairs(missing.maybe("io", (path / "io").read_text) or "").items()
            if value.isdigit()
        },
    )
    score = missing.maybe("oom_score", (path / "oom_score").read_text)
    found.oom_score = int(score) if score else None
    links = missing.maybe("descriptors", partial(net.descriptors, pid))
    sides: dict[int, str] = {}
    if links is not None:
        found.descriptors = dict(Counter(descriptors.kind(link) for link in links.values()).most_common())
        found.files = sorted({masking.text(link) for link in links.values() if link.startswith("/")})[:FILES]
        by_inode, sides = missing.maybe("sockets", partial(all_sockets.of, pid)) or ({}, {})
        inodes = {net.inode(link) for link in links.values()}
        sockets = [by_inode[inode] for inode in inodes if inode in by_inode]
        found.socket_states = dict(Counter(f"{each.kind} {each.state}" for each in sockets).most_common())
        sockets.sort(key=lambda each: (each.state != "LISTEN", -(each.receive + each.send)))
        found.sockets = sockets[:SOCKETS]
    labels = {number: sides.get(net.inode(link)) or link for number, link in (links or {}).items()}
    found.threads = [
        thread
        for task in sorted((path / "task").iterdir(), key=lambda each: int(each.name))[:THREADS]
        if (thread := _thread(pid, task, labels, missing)) is not None
    ]
    return found


def _pairs(text: str) -> dict[str, str]:
    """`Name:  value` lines."""
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found[name] = " ".join(value.split())
    return found


def _environment(data: bytes) -> dict[str, str]:
    """As the process was started with it; values masked."""
    found = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.decode(errors="replace").partition("=")
        if equals:
            found[name] = masking.masked(name, value)[:1000]
    return dict(sorted(found.items()))


def _thread(pid: int, task: Path, labels: dict[int, str], missing: _Missing) -> Thread | None:
    """`labels`: what its descriptors lead to."""
    try:
        one = proc.stat(task)
    except FileNotFoundError:
        return None  # it has ended
    wchan = missing.maybe("wchan", (task / "wchan").read_text)
    kernel = missing.maybe("kernel stacks", (task / "stack").read_text)
    scheduled = (missing.maybe("schedstat", (task / "schedstat").read_text) or "").split()
    sleeps = missing.maybe("system calls", partial(asleep.on, pid, int(task.name))) or []
    return Thread(
        id=int(task.name),
        name=one.name,
        state=one.state,
        cpu=one.cpu,
        wchan=None if wchan is None else "" if wchan == "0" else wchan,
        kernel=[line.partition("] ")[2] for line in kernel.splitlines()] if kernel is not None else None,
        on=[masking.text(f"{does} {labels[number]}") for does, number in sleeps if number in labels],
        waited=int(scheduled[1]) / 1e9 if len(scheduled) == 3 else None,
    )


def _by_inode(view: net.View) -> dict[int, Socket]:
    found: dict[int, Socket] = {}
    for kind, rows in (("tcp", view.tcp(set())), ("udp", view.udp())):
        for row in rows:
            if row.inode:
                listens = row.state == netlink.LISTEN
                found[row.inode] = Socket(
                    kind=f"{kind}6" if row.six else kind,
                    state=STATES[row.state],
                    local=net.written(*row.local),
                    peer="" if listens else net.written(*row.remote),
                    receive=row.receive,
                    send=0 if listens else row.send,
                )
    for unit in view.unix():
        if unit.inode:
            state = UNIX_STATES.get(unit.state, str(unit.state))
            found[unit.inode] = Socket(
                kind="unix", state=state, local=unit.path, receive=unit.receive,
                send=0 if unit.state == netlink.LISTEN else max(0, unit.send),
            )  # fmt: skip
    return found


def _locks(tree: set[int]) -> list[FileLock]:
    """proc_locks(5): a lock that is held, then with its number and "->" those that wait for it."""
    held: dict[str, int] = {}
    found: list[FileLock] = []
    for line in Path("/proc/locks").read_text().splitlines():
        match = _LOCK.match(line)
        if match is None:
            continue
        number, waits, kind, pid, inode = match[1], match[2], match[3], max(0, int(match[4])), int(match[5])
        if not waits:
            held[number] = pid
        elif (pid in tree or held.get(number, 0) in tree) and len(found) < LOCKS:
            lock = FileLock(pid=pid, holder=held.get(number, 0), kind=kind, path=_path_of(pid, inode))
            lock.holder_name = net.comm(lock.holder)
            found.append(lock)
    return found


def _path_of(pid: int, inode: int) -> str:
    """ "" when it can't be seen."""
    try:
        for number, link in net.descriptors(pid).items():
            if link.startswith("/") and os.stat(proc.PROC / str(pid) / "fd" / str(number)).st_ino == inode:
                return masking.text(link)
    except OSError:
        pass
    return ""


COLLECTOR = Collector(
    name="proc_report",
    title="Processes",
    needs="/proc; descriptors, environment and I/O of others only as root or their user",
    cost="some milliseconds of CPU a process; the app is not stopped",
    limit=5.0,
    most=8 * units.MIB,
    artifact=ProcReport,
    collect=collect,
    quick=True,
)
