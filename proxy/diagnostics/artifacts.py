"""What collectors gather: typed values, each saved as one JSON file and read back from it.

Always true:
  - an artifact has no secret that masking.py can tell;
  - None is what could not be learned, which is never the same as 0 or "";
  - a new field has a default, so that an older artifact can be read.
"""

from __future__ import annotations

import msgspec

from proxy.link.messages import Record


class Artifact(msgspec.Struct, kw_only=True):
    """`at`: Unix seconds when it was taken. `note`: what is missing from it, and why; "" when nothing is."""

    at: float = 0.0
    note: str = ""


class FlightRecorder(Artifact, kw_only=True):
    """The last requests of the instance that workers remember, newest first, whatever came of them."""

    records: list[Record] = []


class Thread(msgspec.Struct, kw_only=True):
    id: int
    name: str = ""
    state: str = ""  # R S D T Z …, proc(5)
    wchan: str | None = None  # where in the kernel it sleeps; "" nowhere
    cpu: float | None = None  # seconds, user and system
    kernel: list[str] | None = None  # its stack there, innermost first


class Socket(msgspec.Struct, kw_only=True):
    """For one that listens, `receive` is how many wait to be accepted; else bytes not read by the app yet."""

    kind: str  # tcp tcp6 unix
    state: str  # ESTABLISHED, LISTEN, CLOSE_WAIT …
    local: str
    peer: str = ""
    receive: int = 0
    send: int = 0  # bytes not taken by the peer yet


class Process(msgspec.Struct, kw_only=True):
    """One of the instance's processes."""

    pid: int
    parent: int = 0
    name: str = ""
    command: list[str] = []
    exe: str | None = None
    cwd: str | None = None
    state: str = ""
    started: int = 0  # clock ticks since boot
    cpu: float = 0.0  # seconds
    status: dict[str, str] = {}  # of /proc/PID/status, as it stands there
    threads: list[Thread] = []
    thread_count: int = 0  # all of them; `threads` may have fewer
    descriptors: dict[str, int] | None = None  # kind to count
    files: list[str] = []  # paths that are open
    sockets: list[Socket] = []
    socket_states: dict[str, int] = {}  # state to count: all of them; `sockets` may have fewer
    limits: dict[str, tuple[str, str]] = {}  # soft, hard
    environment: dict[str, str] | None = None
    io: dict[str, int] = {}
    oom_score: int | None = None


class Cgroup(msgspec.Struct, kw_only=True):
    """Counters of the cgroup that the instance's first process is in; file to content."""

    path: str
    version: int
    own: bool = False  # only this instance is in it
    values: dict[str, str] = {}


class ProcReport(Artifact, kw_only=True):
    """What the kernel says of the instance's processes, the first one first."""

    processes: list[Process] = []
    cgroup: Cgroup | None = None


class LogFile(msgspec.Struct, kw_only=True):
    path: str
    size: int = 0
    lines: list[str] = []  # oldest first
    cut: bool = False  # there are earlier ones


class LogTail(Artifact, kw_only=True):
    """What the instance printed last."""

    files: list[LogFile] = []


class Frame(msgspec.Struct, kw_only=True):
    function: str
    file: str = ""
    line: int = 0


class ThreadStack(msgspec.Struct, kw_only=True):
    id: int
    name: str = ""
    active: bool | None = None  # it is on a CPU, or could be
    gil: bool | None = None  # it holds Python's global lock
    frames: list[Frame] = []  # innermost first


class ProcessStacks(msgspec.Struct, kw_only=True):
    pid: int
    name: str = ""
    how: str = ""  # "py-spy" | "kernel"
    threads: list[ThreadStack] = []
    why: str = ""  # there are none: why


class Stacks(Artifact, kw_only=True):
    """Where every thread stood at one moment."""

    processes: list[ProcessStacks] = []
