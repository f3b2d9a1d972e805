"""What collectors gather: typed values, each saved as one JSON file and read back from it.

It is longer than most modules: whoever writes an analyzer finds all that there is in one place.

Always true:
  - an artifact has no secret that masking.py can tell;
  - None is what could not be learned, which is never the same as 0 or "";
  - a new field has a default, so that an older artifact can be read.
"""

from __future__ import annotations

import msgspec

from proxy.link.messages import Attempt, Record
from proxy.link.session import (
    App,
    Deploy,
    Event,
    ExceptionGroup,
    Exit,
    Incident,
    Instance,
    Known,
    Line,
    Ring,
    Worker,
)  # fmt: skip

__all__ = [
    "Activity", "ActivitySample", "App", "Artifact", "Attempt", "Cgroup", "ChangedFile", "Changes", "Deploy",
    "Descriptors", "Environment", "Event", "ExceptionGroup", "Exit", "FileLock", "FlightRecorder", "Frame", "HostEvent",
    "HostEvents", "HostReport", "HostSample", "Incident", "Instance", "Known", "Line", "Listener", "LogFile", "LogTail",
    "Mapping", "MemoryDump", "Peer", "ProcReport", "Process", "ProcessStacks", "Profile", "ProfileStack", "Record",
    "Ring", "Round", "Runtime", "Socket", "Sockets", "SocketSample", "Stacks", "Thread", "ThreadStack", "TypeRow",
    "Types", "Worker",
]  # fmt: skip


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
    on: list[str] = []  # what it sleeps on: "read to 10.0.3.12:5432", "accept listening on …"; []: not known, or else
    waited: float | None = None  # seconds in which it could have run and did not, since it began


class Socket(msgspec.Struct, kw_only=True):
    """For one that listens, `receive` is how many wait to be accepted; else bytes not read by the app yet."""

    kind: str  # tcp tcp6 udp udp6 unix
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
    above: dict[str, dict[str, str]] = {}  # of the groups above it, whose limits bind it too: by path


class FileLock(msgspec.Struct, kw_only=True):
    """A process that waits for a lock on a file (flock, fcntl)."""

    pid: int
    holder: int  # 0: its process can't be seen
    path: str = ""
    kind: str = ""  # FLOCK POSIX OFDLCK
    holder_name: str = ""


class ProcReport(Artifact, kw_only=True):
    """What the kernel says of the instance's processes, the first one first."""

    processes: list[Process] = []
    cgroup: Cgroup | None = None
    locks: list[FileLock] = []  # of files, for which one of its processes waits, or which one holds while others wait


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
    note: str = ""  # locks that it holds or waits for, or the call in the kernel that it sleeps in
    wchan: str | None = None  # where in the kernel it sleeps, at that moment; "" nowhere
    fd: int | None = None  # the descriptor that its system call is about


class ProcessStacks(msgspec.Struct, kw_only=True):
    pid: int
    name: str = ""
    how: str = ""  # "py-spy" "inspector" "jcmd" "eu-stack" "kernel" (where they are in the kernel only)
    threads: list[ThreadStack] = []
    why: str = ""  # there are none, or none that tell more: why


class Round(msgspec.Struct, kw_only=True):
    """Where every thread stood at one moment."""

    at: float  # Unix seconds
    processes: list[ProcessStacks] = []


class Stacks(Artifact, kw_only=True):
    """Rounds a second apart: the same frame in all is stuck, moving is slow. A long session has more of them later.

    `runtime`: python node java go ruby native "" of the instance's main process.
    """

    runtime: str = ""
    rounds: list[Round] = []


class ProfileStack(msgspec.Struct, kw_only=True):
    frames: list[str]  # "function (file:line)", outermost first
    samples: int


class Profile(Artifact, kw_only=True):
    """Where CPU time went: samples of threads that were running. `files` lies beside it for other programs to open."""

    pid: int = 0
    how: str = ""  # "py-spy" | "node inspector" | …
    seconds: float = 0.0
    rate: int = 0  # samples a second
    samples: int = 0  # of all stacks
    possible: int = 0  # samples that were taken, busy or not
    gil: float | None = None  # share of samples in which a thread held the GIL
    stacks: list[ProfileStack] = []  # most samples first
    files: dict[str, str] = {}  # "speedscope": name of the file


class Mapping(msgspec.Struct, kw_only=True):
    name: str  # "[heap]", a library, "" anonymous
    size: int
    resident: int
    count: int = 1  # mappings of that name, added up


class MemoryDump(Artifact, kw_only=True):
    """A dump that lies beside it, and what was read back from it."""

    pid: int = 0
    how: str = ""  # "gcore" | "pages"
    file: str = ""  # compressed
    form: str = ""  # "core.zst" …
    size: int = 0  # of the file
    holds: int = 0  # bytes of memory that are in it
    virtual: int = 0  # VmSize
    pause: float | None = None  # seconds for which the process stood still
    mappings: list[Mapping] = []  # largest first
    threads: int = 0  # read back
    stacks: list[ThreadStack] = []  # read back, where they can be


class TypeRow(msgspec.Struct, kw_only=True):
    name: str  # "dict", "app.Order"
    count: int
    size: int  # bytes, of the objects alone
    grew: int = 0  # objects since the first look of the session


class Types(Artifact, kw_only=True):
    """Objects by type, told by the agent in a Python process."""

    pid: int = 0
    objects: int = 0
    size: int = 0
    rows: list[TypeRow] = []  # most bytes first
    garbage: int = 0
    seconds_between: float = 0.0  # of the two looks that `grew` compares; 0.0: there was one


class Peer(msgspec.Struct, kw_only=True):
    """Connections of an instance's processes to one remote address; clients by host alone, servers with their port.

    `asked`: bytes went out and none came back since; only of servers, as a client that was answered looks the same.
    `owed`: the other way round, only of clients: bytes came and none went back since.
    """

    address: str  # "10.0.3.12:5432", "unix:/run/db.sock"; a client: "10.0.3.12", "unix"
    kind: str = "tcp"  # tcp udp unix
    name: str = ""  # "PostgreSQL", by its port or path; else the process that listens there, on this machine
    process: str = ""  # "postgres (pid 812)", where it listens on this machine and could be found
    by: str = ""  # "client": it connected to us; "server": we connected to it
    established: int = 0
    connecting: int = 0  # SYN_SENT
    closing: int = 0  # CLOSE_WAIT and the like
    close_wait: int = 0  # of these: the peer closed, the app did not
    time_wait: int = 0
    unread: int = 0  # connections with bytes that the app did not read
    unsent: int = 0  # connections with bytes that the peer did not take
    asked: int | None = None  # that wait for an answer: last sent after last received; None: it can't be told
    asked_for: float | None = None  # seconds since the question went out, the longest
    unsure: int = 0  # sent and received within one tick of the kernel's clock, and the order can't be told: in neither
    owed: int | None = None
    owed_for: float | None = None
    resending: int = 0  # connections with bytes that went out again and are still not confirmed
    round_trip: float | None = None  # seconds, the median as the kernel smooths it
    idle: float | None = None  # seconds since bytes last came, the largest
    threads: int = 0  # that sleep reading (or polling to read, or connecting), by their system call; `waiters` are they
    senders: int = 0  # threads that sleep sending
    waiters: list[int] = []  # ids of threads, as in stacks; not all of very many


class Listener(msgspec.Struct, kw_only=True):
    address: str
    waiting: int = 0  # in the accept queue
    backlog: int | None = None  # it is full with one more than this
    pid: int = 0
    half: int = 0  # handshakes under way; where the queue is full they can't get on
    accepting: int | None = None  # threads asleep in accept, or polling for it; None: not known, as with epoll


class SocketSample(msgspec.Struct, kw_only=True):
    """`peers`: servers first, the most connections first. `left_out`: peers beyond what a sample has room for."""

    at: float
    listeners: list[Listener] = []
    peers: list[Peer] = []
    total: int = 0
    left_out: int = 0
    time_wait: dict[str, int] = {}  # of the whole machine (its network namespace), by the other side, most first


class Sockets(Artifact, kw_only=True):
    """Of all processes of an instance, each few seconds of the session."""

    samples: list[SocketSample] = []
    how: str = ""  # "sock_diag" | "proc": without ages, so `asked` is not known
    ports_used: int | None = None  # local ports of the machine that are in use towards others
    ports_range: tuple[int, int] | None = None
    ports_most: tuple[str, int] | None = None  # the one address that most of them lead to: each has a range of its own


class Descriptors(msgspec.Struct, kw_only=True):
    pid: int
    used: int
    limit: int | None = None
    kinds: dict[str, int] = {}
    growing: str = ""  # kind or path that grew most during the session
    grew: int = 0
    name: str = ""
    before: int = 0  # used, when the session began
    held: dict[str, int] = {}  # paths, folders ("/tmp/*") and other sides of sockets that most are open to


class ActivitySample(msgspec.Struct, kw_only=True):
    """Rates since the sample before."""

    at: float
    user: float = 0.0  # cores
    system: float = 0.0
    wait_cpu: float | None = None  # threads' seconds a second that were runnable and did not run (schedstat)
    busiest: float = 0.0  # cores of the busiest thread
    busiest_thread: str = ""
    busiest_id: int = 0
    major_faults: float = 0.0  # a second
    read: float | None = None  # bytes a second from disks
    written: float | None = None
    switches: float = 0.0  # voluntary, a second
    forced: float = 0.0  # involuntary, a second
    rss: int = 0
    swap: int = 0
    threads: int = 0
    processes: int = 0
    blocked: int = 0  # threads in state D
    running: int = 0  # threads in state R
    children: float | None = None  # processes that began, a second
    throttled: float | None = None  # share of periods in which its cgroup was throttled, 0 to 1
    throttled_seconds: float | None = None  # a second
    log_bytes: float | None = None  # its output, a second


class Activity(Artifact, kw_only=True):
    """What an instance's processes did, second by second of the session."""

    samples: list[ActivitySample] = []
    descriptors: list[Descriptors] = []
    cgroup: Cgroup | None = None  # at the end
    changed: dict[str, float] = {}  # counters of the cgroup and those above it: by how much they grew
    quota: float | None = None  # cores that its cgroup, or one above it, may use
    threads_busy: list[tuple[str, int, float]] = []  # name, id, cores over the session: the busiest, most first


class HostSample(msgspec.Struct, kw_only=True):
    at: float
    busy: float | None = None  # share of all cores
    steal: float | None = None
    iowait: float | None = None
    running: int = 0  # runnable tasks
    blocked: int = 0  # tasks in state D
    load: float = 0.0
    available: int | None = None  # bytes
    swap_in: float = 0.0  # pages a second
    swap_out: float = 0.0
    major_faults: float = 0.0
    pressure: dict[str, float] = {}  # "cpu some" "io full" …: share of the last 10 s, 0 to 1


class HostReport(Artifact, kw_only=True):
    """The machine, or what of it the container sees."""

    cores: float = 0.0  # that may be used
    memory_total: int | None = None
    memory_limit: int | None = None  # of the cgroup we are in
    swap_total: int | None = None
    samples: list[HostSample] = []
    top: list[tuple[str, int, float, int]] = []  # name, pid, cores, rss: the largest users of CPU, masked
    disks: dict[str, tuple[int, int, int | None]] = {}  # path to bytes free, size, inodes free
    read_only: list[str] = []  # those of them that may not be written
    devices: dict[str, dict[str, float]] = {}  # busy (share), wait (s an operation), operations, read, written (a s)
    network: dict[str, float] = {}  # ListenOverflows, ListenDrops, TCPTimeouts, RetransSegs …: growth in the session
    tcp_memory: tuple[int, int, int] | None = None  # bytes used, from where the kernel saves, the most
    open_files: tuple[int, int] | None = None  # of the whole machine: used, most
    tasks: tuple[int, int] | None = None  # processes and threads of the machine: used, most
    conntrack: tuple[int, int] | None = None  # used, most
    clock_step: float = 0.0  # seconds that the clock of the wall moved against the monotonic one
    clock_since: float = 0.0  # Unix seconds; since when that is: an instance's start, or that of the session
    clock_synced: bool | None = None
    resolver: dict[str, float | str] = {}  # name to seconds, or how it failed: names the app connects to, if known
    oom_kills: int | None = None  # of the machine, since boot
    oom_kills_new: int = 0  # in the session
    changed: dict[str, float] = {}  # counters of the cgroup that Triage itself is in: by how much they grew
    uptime: float = 0.0


class HostEvent(msgspec.Struct, kw_only=True):
    at: float
    kind: str  # oom-kill segfault disk network clock limit hung hardware other
    text: str
    pid: int | None = None
    process: str = ""
    where: str = ""  # oom-kill: the cgroup of the process; segfault: the library; disk, network: the device
    limited: str = ""  # oom-kill: the cgroup whose limit it was; "": the machine's memory
    rss: int | None = None  # oom-kill: bytes that the process had
    source: str = ""  # "kernel" | "journal"


class HostEvents(Artifact, kw_only=True):
    """What kernel and journal wrote of late. `sources`: which could be read."""

    events: list[HostEvent] = []  # newest last
    sources: list[str] = []
    since: float = 0.0  # Unix seconds: how far back was looked; what the kernel overwrote is missing


class Runtime(msgspec.Struct, kw_only=True):
    pid: int
    name: str  # python node java …
    version: str = ""
    server: str = ""  # uvicorn gunicorn …, by its command
    server_version: str = ""
    workers: int | None = None  # processes or threads that take requests, where the command says
    packages: dict[str, str] = {}  # those that matter: frameworks, drivers, pools
    settings: dict[str, str] = {}  # those of the server that are known: timeout, keep-alive, backlog, threads


class Environment(Artifact, kw_only=True):
    """Where it all runs. Values are masked."""

    gateway: dict[str, str] = {}  # versions, user, start, config path
    host: dict[str, str] = {}  # kernel, distribution, container, cores, memory, cgroup version, Yama
    variables: dict[str, str] = {}  # of the instance
    limits: dict[str, tuple[str, str]] = {}
    runtimes: list[Runtime] = []


class ChangedFile(msgspec.Struct, kw_only=True):
    path: str  # relative to cwd
    at: float
    size: int


class Changes(Artifact, kw_only=True):
    """What is new: files of the app, its config, its version."""

    files: list[ChangedFile] = []  # newest first
    looked_at: int = 0
    config: list[str] = []  # what deploys and changes of config in the last day changed, newest first
    config_at: float = 0.0
    commit: str = ""
    commits: list[tuple[float, str]] = []  # of cwd, newest first: at, subject
    checked_out_at: float = 0.0  # Unix seconds when the commit became what is in cwd; 0.0: not known
    uncommitted: list[str] = []  # files that differ from the commit
    cwd: str = ""
    started_at: float = 0.0  # of the oldest instance: files that are newer are not what it runs
