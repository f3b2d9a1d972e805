"""What the agents in Python apps tell: exceptions as they are raised.

Agents send datagrams to a socket in `data_dir/run`. The kernel says from which process each one comes; only one from an
instance's tree, of an app whose `diagnose.agent` is on, is believed. Grouping is the log book's (its thread does it).

Always true:
  - a turn of the loop reads TURN datagrams at most, a second SECOND of all and EACH of an instance; others of an
    instance are dropped and counted, those beyond SECOND wait, and their agents tell the same later;
  - nothing here can fail an instance: without the socket agents count in vain.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import proxy
from proxy import units
from proxy.config.listen import LONGEST_UNIX
from proxy.control.logs.exceptions import Raised
from proxy.control.state import AppState, InstanceState, Lifecycle

TURN: Final = 32
SECOND: Final = 1000
EACH: Final = 200
STRANGE: Final = 50
"""Datagrams in a second that are not believed, after which none is read for one: finding out costs 0.1 ms."""
MOST: Final = 16384
"""Bytes of a datagram."""
FRAMES: Final = 40
PIDS: Final = 4096
"""Processes that are remembered."""
SURE: Final = 5.0
"""Seconds for which a process is taken to be what it was."""
LOOK_AGAIN: Final = 60.0
AT_ONCE: Final = 50
"""Processes that are looked at in one tick, LOOK_AGAIN seconds after the last time: 20 µs each."""
LATE: Final = 10.0
"""Seconds after its end in which what it sent last is believed."""
SILENT: Final = 20.0
"""Seconds that an instance is ready, after which its agent should have said hello."""
FORM: Final = "1"
FOLDER: Final = Path(proxy.__file__).parent / "agent" / "path"
_CREDENTIALS: Final = struct.Struct("3i")


def socket_path(data_dir: Path) -> Path:
    """Where agents report to. Under /tmp where the path is too long for a socket's address, or where Triage is root and
    others, who may run instances, can't get into `data_dir`."""
    path = data_dir / "run" / "agent.sock"
    if len(os.fsencode(path)) > LONGEST_UNIX or (os.geteuid() == 0 and not _open_to_all(data_dir)):
        path = Path("/tmp") / f"triage-agent-{os.getuid()}-{zlib.crc32(os.fsencode(data_dir)):08x}" / "agent.sock"
    return path


def _open_to_all(folder: Path) -> bool:
    try:
        return all(one.stat().st_mode & 0o001 for one in (folder, *folder.parents))
    except OSError:
        return False


def environment(env: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """With what loads the agent: the app's own PYTHONPATH, if there is one, comes after ours."""
    others = env.get("PYTHONPATH", "")
    path = f"{FOLDER}{os.pathsep}{others}" if others else str(FOLDER)
    return {**env, "PYTHONPATH": path, "TRIAGE_AGENT": f"{os.geteuid()}:{socket_path(data_dir)}"}


@dataclass(slots=True)
class Agent:
    """One process that said hello."""

    pid: int
    version: str  # of its Python
    how: str  # "monitoring" | "marks"; "" where it can't look
    at: float  # monotonic
    took: float = 0.0  # seconds that it added to the start
    unknown: int = 0  # exceptions that it could not tell
    failures: int = 0  # of its own


@dataclass(slots=True)
class _Process:
    app: str
    instance: str
    started: int  # clock ticks since boot
    checked: float  # monotonic


@dataclass(slots=True)
class _Told:
    """What an instance's agents did."""

    agents: dict[int, Agent] = field(default_factory=dict)
    second: int = 0
    count: int = 0


class Agents:
    """Control's side. `open` and `close` on its loop."""

    def __init__(
        self,
        data_dir: Path,
        apps: Mapping[str, AppState],
        take: Callable[[Raised], None],
        event: Callable[..., object],
        raised: Callable[[str, str, str, str, str], object],
    ) -> None:
        """`take` counts; `raised` is told app, instance, type, message and place of each report."""
        self.path = socket_path(data_dir)
        self.dropped = 0
        """Datagrams over a limit."""
        self.refused = 0
        """Datagrams of processes that are nobody's, or not asked for; or that make no sense."""
        self.error = ""
        self._apps = apps
        self._take = take
        self._event = event
        self._raised = raised
        self._sock: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pids: dict[int, _Process] = {}
        self._told: dict[str, _Told] = {}  # by instance
        self._silent: set[str] = set()  # apps that were told of
        self._second = 0
        self._count = 0
        self._strange = 0
        self._opened = time.monotonic()
        self._resting = False

    def __repr__(self) -> str:
        return f"<Agents at {self.path}, {sum(len(one.agents) for one in self._told.values())} processes>"

    # --- its life ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Listen, if an app has its agent on; whatever goes wrong is in `error`, and said once."""
        if self._sock is not None or not any(app.config.diagnose.agent for app in self._apps.values()):
            return
        before, self.error = self.error, ""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            _folder(self.path.parent)
            self.path.unlink(missing_ok=True)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            sock.bind(str(self.path))
            os.chmod(self.path, 0o666)  # whoever runs the instances; who is believed is decided by the process
        except OSError as error:
            sock.close()
            self.error = f"{self.path}: {error.strerror}"
            if self.error != before:
                self._event("agent", f"agents can't report: {self.error}")
            return
        self._sock, self._loop = sock, asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        """A successor binds the same path anew."""
        if self._sock is not None and self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
            with contextlib.suppress(OSError):
                self.path.unlink()
                if self.path.parent.parent == Path("/tmp"):
                    self.path.parent.rmdir()

    def of(self, instance: str) -> list[Agent]:
        """Processes of an instance that said hello, as far as they are there."""
        told = self._told.get(instance)
        return list(told.agents.values()) if told is not None else []

    def tick(self, now: float) -> None:
        """Once a second: who is gone, and who said nothing. `now` is monotonic."""
        self.open()
        there = {name for app in self._apps.values() for name in app.instances}
        for name in [name for name in self._told if name not in there]:
            del self._told[name]
        looked = 0
        for pid, one in list(self._pids.items()):
            if now - one.checked <= LOOK_AGAIN:
                continue
            if _started(pid) != one.started:
                self._forget(pid, one)
            one.checked, looked = now, looked + 1
            if looked == AT_ONCE:
                break
        if now - self._opened < 2 * SILENT:
            return  # those of a control before say it again within half a minute
        for app in self._apps.values():
            if app.config.diagnose.agent and app.name not in self._silent:
                silent = [one.name for one in app.instances.values() if self._is_silent(one, now)]
                if silent:
                    self._silent.add(app.name)
                    self._event(
                        "agent",
                        f"no agent said hello from {silent[0]}: it was started before diagnose.agent was on, it is no"
                        " Python, its user can't reach the agent's folder or socket, or its Python reads no PYTHONPATH"
                        " (-I, -E, -S)",
                        app.name, silent[0], folder=str(FOLDER), socket=str(self.path),
                    )  # fmt: skip

    def _is_silent(self, state: InstanceState, now: float) -> bool:
        return (
            state.kind == "process" and state.lifecycle is Lifecycle.READY
            and 0.0 < state.ready_since < now - SILENT and not self.of(state.name)
        )  # fmt: skip

    def _forget(self, pid: int, one: _Process) -> None:
        self._pids.pop(pid, None)
        told = self._told.get(one.instance)
        if told is not None:
            told.agents.pop(pid, None)

    # --- what comes ----------------------------------------------------------------------------------

    def _readable(self) -> None:
        assert self._sock is not None
        for _ in range(TURN):
            try:
                data, extra, flags, _ = self._sock.recvmsg(MOST, socket.CMSG_SPACE(_CREDENTIALS.size))
            except OSError:
                return
            second = int(time.monotonic())
            if second != self._second:
                self._second, self._count, self._strange = second, 0, 0
            self._count += 1
            if self._count > SECOND:
                self.dropped += 1
                self._rest()
                return
            pid = next(
                (
                    _CREDENTIALS.unpack_from(value)[0] for level, kind, value in extra
                    if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(value) >= 12
                ), 0,
            )  # fmt: skip
            if flags & socket.MSG_TRUNC or not pid or not self._one(pid, data):
                self.refused += 1
                self._strange += 1
                if self._strange > STRANGE:
                    self._rest()
                    return

    def _rest(self) -> None:
        """Who floods it waits: the kernel's queue is ten datagrams long."""
        assert self._sock is not None and self._loop is not None
        if not self._resting:
            self._resting = True
            self._loop.remove_reader(self._sock.fileno())
            self._loop.call_later(1.0, self._again)

    def _again(self) -> None:
        self._resting = False
        if self._sock is not None and self._loop is not None:
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def _one(self, pid: int, data: bytes) -> bool:
        """Whether it is believed and understood."""
        fields = data.decode("utf-8", "replace").split("\0")
        process = self._process(pid)
        if process is None or fields[0] != FORM or len(fields) < 3:
            return False
        app = self._apps.get(process.app)
        if app is None or not app.config.diagnose.agent:
            return False
        told = self._told.setdefault(process.instance, _Told())
        second = int(time.monotonic())
        if second != told.second:
            told.second, told.count = second, 0
        told.count += 1
        if told.count > EACH:
            self.dropped += 1
            return True
        try:
            if fields[1] == "hello":
                self._hello(pid, told, fields)
            elif fields[1] == "raised":
                self._one_raised(app, process.instance, told.agents.get(pid), fields)
            else:
                return False
        except (ValueError, IndexError):
            return False
        return True

    def _hello(self, pid: int, told: _Told, fields: list[str]) -> None:
        _, _, version, how, took, unknown, failures = fields[:7]
        if len(told.agents) < PIDS:
            told.agents[pid] = Agent(
                pid, version[:20], how[:20], time.monotonic(), float(took), int(unknown), int(failures)
            )

    def _one_raised(self, app: AppState, instance: str, agent: Agent | None, fields: list[str]) -> None:
        kind, message = fields[3], fields[4]
        count, caught, uncaught = (max(-1_000_000, min(int(field), 10_000_000)) for field in fields[5:8])
        if agent is not None:
            agent.unknown, agent.failures = int(fields[9]), int(fields[10])
        frames = []
        for text in fields[11 : 11 + FRAMES]:
            file, line, function = text.split("\x1c")
            frames.append((file, int(line), function))
        state = app.instances.get(instance)
        version = state.version if state is not None else ""
        self._take(
            Raised(
                app.name, instance, version, time.time(), kind, message, tuple(frames), count, caught, uncaught
            )
        )
        if app.config.diagnose.dump_on and count > 0:
            where = f"{frames[-1][2]} in {frames[-1][0]}:{frames[-1][1]}" if frames else ""
            self._raised(app.name, instance, kind, message, where)

    # --- whose it is ---------------------------------------------------------------------------------

    def _process(self, pid: int) -> _Process | None:
        """The instance that a process belongs to."""
        now = time.monotonic()
        known = self._pids.get(pid)
        if known is not None:
            if now - known.checked < SURE:
                return known
            started = _started(pid)
            if started == known.started:
                known.checked = now
                return known
            if not started and now - known.checked < LATE:
                return known
            self._forget(pid, known)
        state = self._instance(pid)
        if state is None:
            return None
        if len(self._pids) >= PIDS:
            self._pids.clear()
        found = self._pids[pid] = _Process(state.app, state.name, _started(pid), now)
        return found

    def _instance(self, pid: int) -> InstanceState | None:
        """By its session, the tree as it was seen last, or its parents."""
        roots = {one.pid: one for app in self._apps.values() for one in app.instances.values() if one.pid}
        above = pid
        for _ in range(32):
            if above in roots:
                return roots[above]
            above = _parent(above)
            if above <= 1:
                break
        try:
            leader = os.getsid(pid)
        except OSError:
            leader = 0
        if leader in roots:
            return roots[leader]
        return next(
            (one for one in roots.values() if one.usage is not None and pid in one.usage.pids), None
        )


def _folder(folder: Path) -> None:
    """Ours alone: in /tmp anybody may have been there before. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "is not Triage's own", str(folder))
    if folder.parent == Path("/tmp"):
        os.chmod(folder, 0o711)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the name; [] when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read(2 * units.KIB).rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if len(fields) > 1 else 0


def _started(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else 0
