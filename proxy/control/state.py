"""What control knows, as plain dataclasses. Others read them; only control's own modules write.

Wall-clock fields are Unix seconds and end in `_at`; the others that are times are monotonic seconds.

Always true:
  - an instance's name is never used again, also not after a restart of everything;
  - an instance has exactly one lifecycle (lifecycle.py); `admission` speaks only about ready ones;
  - `why` is one plain line that says why the instance is in the state it is in.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from proxy.link.messages import BadResponse, Stats, Watch

if TYPE_CHECKING:
    from proxy.config import App as AppConfig
    from proxy.control.logs.capture import OutputCapture

EVENTS_KEPT: Final = 5000
MOVES_KEPT: Final = 20


class Lifecycle(StrEnum):
    """Where an instance stands. The value is the word shown everywhere."""

    STARTING = "starting"  # its process was spawned, or is about to be
    WARMING = "warming"  # it stayed up, probes have not passed yet
    READY = "ready"
    DRAINING = "draining"  # it left the table and finishes its requests
    STOPPING = "stopping"  # it was told to end
    STOPPED = "stopped"
    BACKOFF = "backoff"  # it ended too soon and is started again later
    FAILED = "failed"  # it ended too often: needs a person or a new config


class Admission(StrEnum):
    """Whether the balancer may pick it."""

    ADMITTING = "admitting"
    EJECTED = "ejected"
    TRIAL = "trial"


@dataclass(slots=True)
class Exit:
    """How a process ended."""

    at: float
    lasted: float
    code: int | None = None
    signal: int | None = None
    oom: str = "no"  # "certain" | "likely" | "no"
    ours: bool = False  # Triage stopped it
    by_itself: bool = False  # non-zero exit, crash signal, out of memory: its requests are suspects
    words: str = ""  # "exit code 3", "signal 9 (SIGKILL), out of memory"
    last_lines: tuple[str, ...] = ()
    name: str = ""  # of the instance that ended


@dataclass(slots=True)
class ProbeResult:
    """The last health check."""

    ok: bool
    words: str  # "status 200", "connection refused", "redirect (302) to /login: redirects are not followed"
    at: float
    seconds: float
    status: int | None = None
    refused: bool = False  # nothing accepts connections there
    body: str = ""  # first 200 bytes


@dataclass(slots=True)
class Ejection:
    """Why and until when an instance gets no requests."""

    count: int = 0  # ejections of late; decays
    until: float = 0.0  # monotonic
    by: str = ""  # "probe" | "faults" | "hand" | "rule" | "recycle"
    reason: str = ""
    dry: str = ""  # what would have been done, under dry_run


@dataclass(slots=True)
class Usage:
    """One sample of a process tree."""

    at: float
    cpu: float = 0.0  # cores in use since the sample before
    cpu_seconds: float = 0.0  # cumulative, of those alive
    rss: int = 0
    processes: int = 0
    threads: int = 0
    descriptors: int = 0
    descriptors_most: int = 0  # of the process that has most
    pids: tuple[int, ...] = ()
    private: int | None = None  # bytes that no other process shares, swapped ones too; None: not known
    io_read: int | None = None  # bytes from disks, cumulative, of those alive; None: it may not be read
    io_write: int | None = None
    connections: int | None = None  # sockets, listening ones too
    cpu_time: float = 0.0  # as cpu_seconds, but never falls as long as the root lives
    read_total: int | None = None  # likewise of I/O
    write_total: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """One step on an instance's path: where it came to, when and why."""

    at: float  # Unix seconds
    state: str
    why: str


@dataclass(slots=True)
class InstanceState:
    """One instance. An address instance has no pid, no version, and a lifecycle that is `ready` or beyond."""

    name: str
    app: str
    kind: str  # "process" | "address"
    row: int
    lifecycle: Lifecycle = Lifecycle.STARTING
    admission: Admission = Admission.ADMITTING
    failing: bool = False  # would be ejected but for the cap
    why: str = ""
    host: str = ""
    port: int = 0
    path: str = ""  # Unix socket
    url: str = ""  # of an address instance, as configured
    resolved: tuple[str, ...] = ()
    dns: str = ""  # "" | "error" | "timeout"
    weight: float = 1.0
    backup: bool = False
    pid: int = 0
    pid_started: int = 0  # clock ticks since boot, from /proc: tells a reused pid
    started_at: float = 0.0
    started: float = 0.0
    ready_since: float = 0.0  # monotonic; 0.0: is not ready
    admitted: float = 0.0  # monotonic, for slow start; 0.0: none
    changed_at: float = field(default_factory=time.time)  # of the lifecycle
    version: str = ""
    restarts: int = 0  # starts after the first of this place in the pool
    failures: float = 0.0  # start failures, decayed: halved every minute
    failures_at: float = 0.0  # monotonic, of that value
    retry_at: float = 0.0  # monotonic; in backoff
    last_exit: Exit | None = None  # of this instance, or of the one it replaces
    probe: ProbeResult | None = None
    answered: float = 0.0  # monotonic; when a worker last told of a 2xx or 3xx it gave; 0.0: of none yet
    probes_failed: int = 0  # in a row
    probes_passed: int = 0
    ejection: Ejection = field(default_factory=Ejection)
    listens_on: tuple[str, ...] = ()  # where its process tree really listens, looked up when it is silent
    log_paths: tuple[str, ...] = ()
    usage: Usage | None = None
    usage_history: deque[Usage] = field(default_factory=lambda: deque(maxlen=60))
    moves: tuple[Move, ...] = ()  # its path through the lifecycle of late, newest last
    trouble: str = ""  # why it is not ready yet, in one word; see process.py
    made_of: dict[str, str] = field(default_factory=dict)  # hashes of command, environment names and config
    marked: str = ""  # id of the operation that wants a fresh instance in its place
    under: str = ""  # id of the operation that it belongs to: as the one that goes, or as its replacement
    memory_limit: int = 0  # bytes in force; 0: none
    cpu_limit: float = 0.0  # cores in force; 0.0: none
    limited_by: str = ""  # how they are enforced: "cgroup v2", "cgroup v1", "watched", "affinity"
    limits_why: str = ""  # why not, or not all, by a cgroup
    stop_reason: str = ""
    output: OutputCapture | None = field(default=None, repr=False)

    def moved(self, now: float) -> None:
        """Its lifecycle has just changed; `now` is Unix time."""
        self.changed_at = now
        self.moves = (*self.moves[1 - MOVES_KEPT :], Move(now, self.lifecycle.value, self.why))

    @property
    def address(self) -> str:
        """For people: `127.0.0.1:41233`, `[::1]:80`, `unix:/run/x.sock`."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def serving(self) -> bool:
        """In the table and may be picked."""
        return self.lifecycle is Lifecycle.READY and self.admission is not Admission.EJECTED

    def __repr__(self) -> str:
        extra = f" {self.admission}" if self.admission is not Admission.ADMITTING else ""
        failing = " failing" if self.failing else ""
        return f"<Instance {self.name} {self.lifecycle}{extra}{failing} {self.address} pid {self.pid}>"


@dataclass(slots=True)
class SuspectRequest:
    """A method and path that was on two instances when they ended."""

    method: str
    path: str
    id: str
    at: float
    until: float


@dataclass(slots=True)
class ByHand:
    """What a person set, which rules do not undo and a reload does not change."""

    value: Any  # by its key in AppState.by_hand: "count": int, "state": "stopped" | "held", "autoheal": "off",
    #             "memory": bytes, "cpus": cores, "ejected ADDRESS": True
    by: str
    at: float  # Unix seconds
    why: str = ""
    until: float = 0.0  # Unix seconds; 0.0: until it is ended by hand


@dataclass(slots=True)
class AppState:
    """One app and its pool."""

    name: str
    config: AppConfig
    row: int
    state: str = "up"  # "up" | "stopped" | "held"
    wanted: int = 0
    version: str = ""
    instances: dict[str, InstanceState] = field(default_factory=dict)
    suspects: list[SuspectRequest] = field(default_factory=list)
    ended: deque[Exit] = field(default_factory=lambda: deque(maxlen=20))  # exits of late, newest last
    gone: deque[InstanceState] = field(default_factory=lambda: deque(maxlen=20))  # stopped ones, newest last
    bad_response: BadResponse | None = None  # the last malformed one
    degraded: str = ""  # one line; "" when all is well
    by_hand: dict[str, ByHand] = field(default_factory=dict)
    not_replaced: str = ""  # why the last replacement failed and what ran before serves on; until one is ready
    scaled: int | None = None  # instances by the scaling rules; None: as the config says
    watches: tuple[Watch, ...] = ()  # what workers count for its rules
    gap: float = 0.0  # seconds that requests may wait while a planned act leaves no instance; 0.0: queue.timeout holds

    @property
    def ready(self) -> list[InstanceState]:
        return [i for i in self.instances.values() if i.lifecycle is Lifecycle.READY]

    @property
    def serving(self) -> list[InstanceState]:
        return [i for i in self.instances.values() if i.serving]

    def __repr__(self) -> str:
        return f"<App {self.name} {self.state} {len(self.ready)} of {self.wanted} ready>"


@dataclass(slots=True)
class WorkerState:
    """One worker, by slot (its column of the board, and its number)."""

    slot: int
    place: int = -1  # which of each listener's sockets it accepts from; an upgrade's worker takes another's
    release: str = ""  # of its code
    pid: int = 0
    epoch: str = ""
    state: str = "starting"  # "starting" | "alive" | "silent" | "draining" | "ended"
    why: str = ""
    acked: int = 0  # table version
    stats: Stats | None = None
    heard: float = 0.0  # monotonic, of the last message
    started_at: float = 0.0
    restarts: int = 0

    def __repr__(self) -> str:
        return f"<Worker {self.slot} {self.state} pid {self.pid} table {self.acked}>"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `id` grows by one each time, over a control's restart too."""

    id: int
    at: float
    kind: str  # "ready", "exited", "ejected", "reload", …
    app: str
    instance: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)


class Events:
    """The newest events, in order."""

    def __init__(self, first: int = 1) -> None:
        self.ring: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.next_id = first
        self.first = first
        """The first number that this control gave."""
        self.listeners: list[Callable[[Event], None]] = []
        """Called with each new one, at once: they must be quick, and must not raise."""

    def add(self, kind: str, text: str, app: str = "", instance: str = "", **details: Any) -> Event:
        event = Event(self.next_id, time.time(), kind, app, instance, text, details)
        self.next_id += 1
        self.ring.append(event)
        for listener in self.listeners:
            listener(event)
        return event

    def __iter__(self) -> Iterator[Event]:
        return iter(self.ring)

    def __len__(self) -> int:
        return len(self.ring)

    def newest(self, limit: int, app: str = "", instance: str = "") -> list[Event]:
        """Newest first."""
        found: list[Event] = []
        for event in reversed(self.ring):
            if (not app or event.app == app) and (not instance or event.instance == instance):
                found.append(event)
                if len(found) == limit:
                    break
        return found


@dataclass(slots=True)
class ReloadResult:
    """What came of a reload. With problems, nothing was changed."""

    ok: bool
    problems: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    next_start: list[str] = field(default_factory=list)  # what takes effect at the next start


@dataclass(slots=True)
class Verdict:
    """`status` in facts: is it up, and if not quite, why."""

    state: str  # "up" | "degraded" | "down" | "draining"
    lines: list[str] = field(default_factory=list)  # one per app or worker that is not well
