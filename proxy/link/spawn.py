"""What launcher and control say to each other. Standard library only: the launcher imports this.

Three things pass between them:

- the *plan*: main checks the config, writes the plan into a memfd, becomes the launcher (`become_launcher`);
- *messages*: JSON over a SOCK_SEQPACKET socketpair, descriptors beside them (`Channel`). Control sends requests
  ``{"op": ..., "id": n, ...}`` and gets ``{"reply": n, ...}`` or ``{"reply": n, "error": Refusal}``; the launcher
  sends events ``{"event": ..., ...}``: first of all `State`, then ``exit`` (`ExitRecord`), ``terminate``, ``reload``,
  and `State` again when its own code was replaced;
- the *ledger*: a memfd that control rewrites at each transition and its successor reads.

| op | fields | answer |
|---|---|---|
| spawn | `SpawnRequest` | pid, start; descriptors: stdout and stderr if they are pipes |
| signal | name, signal, to: process or group | |
| hold | name + one descriptor | |
| fetch | name | one descriptor |
| drop | name | |
| listen | address: `Address` | listener: `Listener` |
| unlisten | name | |
| slots | count | listeners: all of them |
| steer | count | new connections go to the first `count` slots only |
| beat | no id | none |
| ack | exits: [exit, ...], no id | none |
| again | | this control is about to end, to be replaced at once; that is no death |
| handover | | handover: what the launcher's successor in this process would be given |
| exec | | release, version: of the launcher's new code, after `State` came again |
| bye | code, no id | none: everything is ended and the launcher exits with that code |

Names of held descriptors: ``ledger``; ``NAME.pidfd`` of a running child; ``NAME.stdout``, ``NAME.stderr`` until its
exit is acknowledged; the sockets that `Listener` lists; and whatever control asked to hold.

It is longer than most modules: both sides of what is said stand in one file.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
import struct
import sys
import zlib
from collections import deque
from typing import Any, Final, NoReturn, TypedDict, cast

VERSION: Final = 1
"""Raised when a message or the plan changes its meaning. ``exec`` and the first message's `version` never do."""
SPEAKS: Final = (VERSION,)
"""Versions of a launcher that this control can go on with; any other is asked to become the code on disk first."""
HANDOVER: Final = 1
"""Version of what a launcher tells its successor."""
RESUMES: Final = (HANDOVER,)
"""Those that this launcher can go on from."""
CONTROL_FD: Final = 3
"""Where a control finds its end of the channel."""

BEAT_WITHIN: Final = 15.0
"""Seconds: a control that says nothing for so long is killed and started again."""

PR_SET_NAME: Final = 15

Message = dict[str, Any]


class Address(TypedDict, total=False):
    """Where to listen. `host` has no brackets; `port` 0 takes any free one; `path` is absolute."""

    name: str
    kind: str
    """tcp or unix"""
    host: str
    port: int
    path: str
    mode: int
    """of a Unix socket; 0o666 unless said"""
    group: str
    """owner group of a Unix socket, where it exists and may be set"""


class Admin(TypedDict):
    """The admin API's own addresses: one socket each, held as ``admin`` and ``admin-socket``."""

    listen: Address | None
    socket: str | None


class Plan(TypedDict):
    """What main hands to the launcher. Paths are absolute. The launcher passes it on to control untouched."""

    version: int
    config_path: str | None
    config_text: str
    data_dir: str
    listen: list[Address]
    admin: Admin
    workers: int
    control: list[str]
    """argument list; control finds its channel at descriptor `CONTROL_FD`"""
    grace: float
    """seconds that draining may take; what is not ended 15 s after that is killed"""
    run: bool
    """`triage run`: SIGHUP (the terminal is gone) ends it, and the launcher logs warnings only"""
    log: str


class Listener(TypedDict):
    """One address as it really is. Worker slot `i` accepts from the held descriptor `sockets[i]`.

    A Unix socket and an admin address are one socket for all. There are as many as there ever were workers: fewer
    workers accept from all of them.
    """

    name: str
    kind: str
    host: str
    port: int
    path: str
    sockets: list[str]


class SpawnRequest(TypedDict, total=False):
    """A child; `name` and `argv` must be there. It gets a session of its own and dies with the launcher."""

    name: str
    kind: str
    """instance (default), worker or session; an instance gets TRIAGE_INSTANCE in its environment"""
    argv: list[str]
    env: dict[str, str]
    """the whole of it; none is inherited. With LISTEN_FDS in it, LISTEN_PID is set to the child's pid"""
    cwd: str
    user: str
    """name or number; its group and groups are taken unless `gid` and `groups` say otherwise"""
    uid: int
    gid: int
    groups: list[int]
    stdout: str
    """pipe or inherit (default)"""
    stderr: str
    give: dict[str, str]
    """descriptor number in the child, as text -> held name"""
    ptracer: bool
    """the launcher and all below it may trace the child (PR_SET_PTRACER), where Yama would forbid it"""
    terminal: bool
    """descriptor 0 becomes its controlling terminal"""
    nofile: str
    """original or raised; the default is original for an instance and raised for the others"""
    nice: int
    affinity: list[int]
    """cores that it may run on; all of the launcher's unless said"""
    cgroup: str | list[str]
    """cgroup directories to join, of v2 and v1 hierarchies; all in them is killed when the child ends"""
    shut: list[str]
    """held sockets shut down the moment the child ends, so that callers are refused and do not wait"""
    note: Any
    """anything; comes back in `ChildState`"""


class ChildState(TypedDict):
    name: str
    kind: str
    pid: int
    start: int
    """start time in clock ticks since boot: field 22 of /proc/PID/stat"""
    began: float
    """CLOCK_MONOTONIC"""
    lasted: float
    note: Any


class ExitRecord(TypedDict):
    """How a child ended. Exactly one of `code` and `signal` is set."""

    exit: int
    """the number to acknowledge"""
    name: str
    kind: str
    pid: int
    start: int
    code: int | None
    signal: int | None
    core: bool
    maxrss: int
    """bytes"""
    utime: float
    stime: float
    began: float
    at: float
    """CLOCK_MONOTONIC"""
    lasted: float
    sent: list[tuple[int, float]]
    """the last eight signals sent on request, with their CLOCK_MONOTONIC time"""
    note: Any


class State(TypedDict):
    """The first message to each control."""

    event: str
    version: int
    release: str
    """of the launcher's code: proxy.__version__"""
    execs: int
    """how often its code was replaced in place"""
    plan: Plan
    pid: int
    start: int
    children: list[ChildState]
    held: list[str]
    listeners: list[Listener]
    exits: list[ExitRecord]
    deaths: int
    """of controls, so far"""
    fresh: bool
    """the ledger may be what kills control: go by children and config only"""
    stopping: bool
    reload: bool
    """a reload was asked for while no control ran"""


class Refusal(TypedDict):
    """Why a request was not done. `step` is where a spawn stopped: user, fork, cwd, exec ..."""

    step: str
    errno: int
    text: str


# --- the channel


class Channel:
    """Messages with descriptors over one end of a non-blocking SOCK_SEQPACKET socketpair.

    Always true:
      - a message goes out whole, or waits in `waiting` in its order; `flush` when the socket is writable;
      - descriptors that wait are our own copies; the caller keeps its own;
      - received descriptors are close-on-exec and belong to the caller.

    A packet is one flag byte and up to 32 KiB of JSON; the flag says whether more of the message follows. The
    last one carries the descriptors. Packets are small so that the kernel needs no large contiguous memory.
    """

    PART: Final = 32 * 1024
    MAX_FDS: Final = 32
    LAST, MORE = b".", b"+"

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.sock = sock
        self.waiting: deque[tuple[bytes, list[int]]] = deque()
        self._parts: list[bytes] = []

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: object, fds: tuple[int, ...] = ()) -> bool:
        """Send or queue; False means that some of it waits. Raises OSError when the other end is gone."""
        data = json.dumps(message, separators=(",", ":")).encode("utf-8", "surrogateescape")
        last = max(0, (len(data) - 1) // self.PART) * self.PART
        for at in range(0, last, self.PART):
            self.waiting.append((self.MORE + data[at : at + self.PART], []))
        self.waiting.append((self.LAST + data[last:], [os.dup(fd) for fd in fds]))
        return self.flush()

    def flush(self) -> bool:
        """Send what waits; True when nothing is left. Raises OSError when the other end is gone."""
        while self.waiting:
            packet, fds = self.waiting[0]
            extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self.sock.sendmsg([packet], extra, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in (errno.ENOBUFS, errno.ETOOMANYREFS):
                    return False
                raise
            self.waiting.popleft()
            for fd in fds:
                os.close(fd)
        return True

    def receive(self) -> tuple[Message, list[int]] | None:
        """The next whole message and its descriptors, or None when there is none yet.

        Raises EOFError when the other end is gone, ValueError when a message can't be understood."""
        while True:
            try:  # not socket.recv_fds: in Python 3.11 it drops its flags, and so close-on-exec
                packet, extra, flags, _ = self.sock.recvmsg(
                    self.PART + 1, socket.CMSG_SPACE(4 * self.MAX_FDS), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return None
            except ConnectionError as error:
                raise EOFError(str(error)) from error
            if not packet:
                raise EOFError("the channel is closed")
            fds = _descriptors(extra)
            self._parts.append(packet[1:])
            if packet[:1] == self.MORE:
                continue
            data, self._parts = b"".join(self._parts), []
            try:
                if flags & socket.MSG_CTRUNC:
                    raise ValueError("descriptors were lost: none free in the receiving process")
                message = json.loads(data.decode("utf-8", "surrogateescape"))
                if not isinstance(message, dict):
                    raise ValueError("a message must be a JSON object")
            except ValueError:
                for fd in fds:
                    os.close(fd)
                raise
            return message, fds

    @property
    def quiet(self) -> bool:
        """No message is half read or half sent."""
        return not self.waiting and not self._parts

    def close(self) -> None:
        for _, fds in self.waiting:
            for fd in fds:
                os.close(fd)
        self.waiting.clear()
        self.sock.close()


def _descriptors(extra: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


# --- the plan


def become_launcher(plan: Plan) -> NoReturn:
    """Replace this process by the launcher; the pid stays. `proxy` must be installed, or on PYTHONPATH.

    -P: the working folder is often an app's; a `socket.py` or `proxy/` in it must not be imported here."""
    fd = os.memfd_create("triage-plan", 0)
    pwrite_all(fd, json.dumps(plan).encode("utf-8", "surrogateescape"), 0)
    os.set_inheritable(fd, True)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "proxy.launcher", str(fd)])


def exec_successor(fd: int) -> None:
    """Replace the launcher's code by what is on disk; `fd` is the memfd of its handover. Raises OSError."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "proxy.launcher", "resume", str(fd)])


def read_plan(fd: int) -> Plan:
    """Read the plan and close its memfd. ValueError: not a plan of this version."""
    try:
        data = os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
    plan = json.loads(data.decode("utf-8", "surrogateescape"))
    if not isinstance(plan, dict) or plan.get("version") != VERSION:
        raise ValueError(f"the plan is not one of version {VERSION}")
    return cast(Plan, plan)


# --- the ledger

_ENTRY: Final = struct.Struct("<8sQQQII")  # magic, sequence, offset, length, crc32 of the text, crc32 of this entry
_MAGIC: Final = b"TRIAGE\x00\x01"
_SLOT: Final = 64
_HEAD: Final = 2 * _SLOT


def _ledger_entries(fd: int) -> list[tuple[int, int, int, int]]:
    """The entries that are whole, newest first: (sequence, offset, length, slot)."""
    found = []
    for slot in (0, 1):
        raw = os.pread(fd, _ENTRY.size, slot * _SLOT)
        if len(raw) < _ENTRY.size:
            continue
        magic, sequence, offset, length, crc, own = _ENTRY.unpack(raw)
        if magic != _MAGIC or own != zlib.crc32(raw[:-4]) or offset + length > os.fstat(fd).st_size:
            continue
        if zlib.crc32(os.pread(fd, length, offset)) == crc:
            found.append((sequence, offset, length, slot))
    return sorted(found, reverse=True)


def write_ledger(fd: int, text: bytes) -> None:
    """Write so that wherever the writer dies, `read_ledger` gives this text or the one before, whole.

    The newest text is never overwritten: the next goes before or behind it, and takes the other slot's entry.
    Raises OSError when memory is short; the text before stays in force."""
    entries = _ledger_entries(fd)
    sequence, at, slot = 1, _HEAD, 0
    if entries:
        newest, offset, length, taken = entries[0]
        sequence, slot = newest + 1, 1 - taken
        at = _HEAD if _HEAD + len(text) <= offset else offset + length
    if os.fstat(fd).st_size < at + len(text):
        os.ftruncate(fd, at + len(text))
    pwrite_all(fd, text, at)
    entry = _ENTRY.pack(_MAGIC, sequence, at, len(text), zlib.crc32(text), 0)[:-4]
    pwrite_all(fd, entry + struct.pack("<I", zlib.crc32(entry)), slot * _SLOT)


def read_ledger(fd: int) -> bytes | None:
    """The newest text that was written whole; None when there is none."""
    entries = _ledger_entries(fd)
    return os.pread(fd, entries[0][2], entries[0][1]) if entries else None


def pwrite_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


# --- names


def name_process(name: str) -> None:
    """Name this process for `ps -e` and `top`; 15 bytes count. By argv[0] it would break a venv's Python."""
    import ctypes  # half a megabyte: only who names itself pays

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
