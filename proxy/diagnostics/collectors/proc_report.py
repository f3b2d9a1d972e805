"""What the kernel says of the instance's processes: status, threads, descriptors, sockets, limits, cgroup counters.

What may not be read, or is gone by then, is left None, and said in the note.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from proxy import masking, units
from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import Cgroup, Process, ProcReport, Socket, Thread
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject

THREADS: Final = 256
SOCKETS: Final = 200
FILES: Final = 200
STATES: Final = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
    "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip
"""include/net/tcp_states.h."""
UNIX_STATES: Final = {"01": "UNCONNECTED", "02": "CONNECTING", "03": "CONNECTED", "04": "DISCONNECTING"}
UNIX_LISTENS: Final = 0x10000  # __SO_ACCEPTCON
CGROUP_2: Final = (
    "memory.current", "memory.max", "memory.high", "memory.peak", "memory.swap.current", "memory.events",
    "memory.pressure", "cpu.stat", "cpu.max", "cpu.pressure", "pids.current", "pids.max", "io.pressure",
)  # fmt: skip
CGROUP_1: Final = {
    "memory": ("memory.usage_in_bytes", "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt",
               "memory.oom_control"),
    "cpu": ("cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "pids": ("pids.current", "pids.max"),
}  # fmt: skip

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


def collect(subject: Subject, folder: Path) -> ProcReport:
    missing = _Missing()
    tree = proc.tree(subject.pid, subject.started)
    found = ProcReport(at=time.time())
    for pid, one in tree.items():
        process = missing.maybe("a process", lambda pid=pid, one=one: _process(pid, one, missing))  # type: ignore[misc]
        if process is not None:
            found.processes.append(process)
    found.cgroup = missing.maybe("cgroup", lambda: _cgroup(subject.pid, set(tree)))
    found.note = missing.note()
    return found


def _process(pid: int, one: proc.Stat, missing: _Missing) -> Process:
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
        limits=missing.maybe("limits", lambda: _limits((path / "limits").read_text())) or {},
        environment=missing.maybe("environment", lambda: _environment((path / "environ").read_bytes())),
        io={
            name: int(value)
            for name, value in _pairs(missing.maybe("io", (path / "io").read_text) or "").items()
            if value.isdigit()
        },
    )
    score = missing.maybe("oom_score", (path / "oom_score").read_text)
    found.oom_score = int(score) if score else None
    found.threads = [
        thread
        for task in sorted((path / "task").iterdir(), key=lambda each: int(each.name))[:THREADS]
        if (thread := _thread(task, missing)) is not None
    ]
    links = missing.maybe("descriptors", lambda: _links(path / "fd"))
    if links is not None:
        found.descriptors = dict(Counter(_kind(link) for link in links).most_common())
        found.files = sorted({link for link in links if link.startswith("/")})[:FILES]
        inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
        sockets = missing.maybe("sockets", lambda: _sockets(path / "net", inodes)) or []
        found.socket_states = dict(Counter(f"{each.kind} {each.state}" for each in sockets).most_common())
        sockets.sort(key=lambda each: (each.state != "LISTEN", -(each.receive + each.send)))
        found.sockets = sockets[:SOCKETS]
    return found


def _pairs(text: str) -> dict[str, str]:
    """`Name:  value` lines."""
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found[name] = " ".join(value.split())
    return found


def _limits(text: str) -> dict[str, tuple[str, str]]:
    found = {}
    for line in text.splitlines()[1:]:
        name, soft, hard = line[:26].strip(), line[26:47].strip(), line[47:68].strip()
        found[name.lower()] = (soft, hard)
    return found


def _environment(data: bytes) -> dict[str, str]:
    """As the process was started with it; values masked."""
    found = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.decode(errors="replace").partition("=")
        if equals:
            found[name] = masking.masked(name, value)[:1000]
    return dict(sorted(found.items()))


def _thread(task: Path, missing: _Missing) -> Thread | None:
    try:
        one = proc.stat(task)
    except FileNotFoundError:
        return None  # it has ended
    wchan = missing.maybe("wchan", (task / "wchan").read_text)
    kernel = missing.maybe("kernel stacks", (task / "stack").read_text)
    return Thread(
        id=int(task.name),
        name=one.name,
        state=one.state,
        cpu=one.cpu,
        wchan=None if wchan is None else "" if wchan == "0" else wchan,
        kernel=[line.partition("] ")[2] for line in kernel.splitlines()] if kernel is not None else None,
    )


def _links(folder: Path) -> list[str]:
    found = []
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(folder / name))
        except FileNotFoundError:
            continue
    return found


def _kind(link: str) -> str:
    """file, socket, pipe, anon_inode:[eventpoll] …"""
    if link.startswith("/"):
        return "device" if link.startswith("/dev/") else "deleted file" if link.endswith(" (deleted)") else "file"
    return link if link.startswith("anon_inode:") else link.partition(":")[0]


def _sockets(net: Path, inodes: set[str]) -> list[Socket]:
    """Of the process's own network namespace."""
    found = []
    for kind in ("tcp", "tcp6"):
        try:
            lines = (net / kind).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # no IPv6 here
        for line in lines:
            fields = line.split()
            if fields[9] in inodes:
                send, receive = (int(part, 16) for part in fields[4].split(":"))
                state = STATES[int(fields[3], 16)]
                found.append(
                    Socket(
                        kind=kind,
                        state=state,
                        local=_address(fields[1]),
                        peer="" if state == "LISTEN" else _address(fields[2]),
                        receive=receive,
                        send=send,
                    )
                )
    for line in (net / "unix").read_text(errors="replace").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if fields[6] in inodes:
            listens = bool(int(fields[3], 16) & UNIX_LISTENS)
            state = "LISTEN" if listens else UNIX_STATES.get(fields[5], fields[5])
            found.append(Socket(kind="unix", state=state, local=fields[7] if len(fields) > 7 else ""))
    return found


def _address(text: str) -> str:
    """`0100007F:1F90` to `127.0.0.1:8080`: the kernel writes each 32 bits in the machine's order."""
    host, _, port = text.partition(":")
    words = [int(host[at : at + 8], 16).to_bytes(4, "little") for at in range(0, len(host), 8)]
    packed = b"".join(words)
    name = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
    return f"{name}:{int(port, 16)}" if len(packed) == 4 else f"[{name}]:{int(port, 16)}"


def _cgroup(pid: int, tree: set[int]) -> Cgroup | None:
    """Version 2, or the controllers of version 1 that tell of memory, CPU and processes."""
    rows = [line.split(":", 2) for line in (proc.PROC / str(pid) / "cgroup").read_text().splitlines()]
    mounts = [line.split() for line in (proc.PROC / str(pid) / "mounts").read_text().splitlines()]
    values: dict[str, str] = {}
    path2 = next((path for number, _, path in rows if number == "0"), "")
    root2 = next((one[1] for one in mounts if one[2] == "cgroup2"), "")
    if root2 and (Path(root2 + path2) / "memory.current").exists():
        folder = Path(root2 + path2)
        _read(folder, CGROUP_2, values)
        members = {int(line) for line in (folder / "cgroup.procs").read_text().split()}
        return Cgroup(path=path2, version=2, own=members <= tree, values=values)
    path1 = ""
    members = set()
    for controller, names in CGROUP_1.items():
        path = next((path for _, given, path in rows if controller in given.split(",")), None)
        root = next((one[1] for one in mounts if one[2] == "cgroup" and controller in one[3].split(",")), "")
        if path is None or not root:
            continue
        folder = Path(root + path)
        if not folder.exists():
            folder = Path(root)  # in a container the path is often that of outside
        _read(folder, names, values)
        if controller == "memory" and (folder / "cgroup.procs").exists():
            path1 = path
            members = {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    return Cgroup(path=path1, version=1, own=bool(members) and members <= tree, values=values) if values else None


def _read(folder: Path, names: tuple[str, ...], into: dict[str, str]) -> None:
    for name in names:
        try:
            into[name] = (folder / name).read_text().strip()
        except OSError:
            continue  # this kernel has no such counter


COLLECTOR = Collector(
    name="proc_report",
    title="Processes",
    needs="/proc; descriptors, environment and I/O of others only as root or their user",
    cost="some milliseconds of CPU a process; the app is not stopped",
    limit=5.0,
    most=8 * units.MIB,
    artifact=ProcReport,
    collect=collect,
)
