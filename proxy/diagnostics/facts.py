"""All that an answer may rest on. Who gathers it fills what is known; what is not known stays empty.

Times are Unix seconds, durations seconds, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.diagnostics.analyzers.contract import Finding
from proxy.link.messages import Record


class Said(NamedTuple):
    """A line of output."""

    at: float
    stream: str  # "out" | "err"
    text: str


class Happened(NamedTuple):
    """An event, in words."""

    at: float
    text: str


class Used(NamedTuple):
    """One sample of an instance's processes."""

    at: float
    cpu: float  # cores
    memory: int


@dataclass(slots=True)
class ExitFacts:
    """How a process ended: from waitid, so it is certain; whether memory was the reason need not be."""

    at: float
    lasted: float
    words: str
    code: int | None = None
    signal: int | None = None
    oom: str = "no"  # "certain" | "likely" | "no"
    ours: bool = False
    by_itself: bool = False
    lines: tuple[str, ...] = ()


@dataclass(slots=True)
class InstanceFacts:
    """An instance as it is now."""

    name: str
    kind: str = "process"
    address: str = ""
    lifecycle: str = ""
    admission: str = "admitting"
    failing: bool = False
    why: str = ""
    pid: int = 0
    uptime: float | None = None
    restarts: int = 0
    memory: int | None = None
    memory_limit: int | None = None
    cpu: float | None = None
    cpu_limit: float | None = None
    used: tuple[Used, ...] = ()  # around the request, oldest first
    in_flight: int = 0
    slots: int = 0
    probe: str = ""  # the last health check, in words
    probe_ok: bool = True
    listens_on: tuple[str, ...] = ()
    ejection: str = ""
    log: str = ""  # its file, below data_dir


@dataclass(slots=True)
class AppFacts:
    """An app as it is now."""

    name: str
    state: str = "up"  # up degraded down stopped held
    verdict: str = ""
    wanted: int = 0
    ready: int = 0
    starting: int = 0
    serving: int = 0
    in_flight: int = 0
    slots: int = 0  # of all ready instances; 0: no limit
    waiting: int = 0
    oldest_wait: float | None = None
    per_second: float = 0.0
    p50: float | None = None
    p99: float | None = None
    wait_p50: float | None = None
    max_inflight: int = 0
    queue_size: int = 0
    queue_timeout: float = 0.0
    connect: float = 0.0
    first_byte: float = 0.0
    idle: float = 0.0
    total: float = 0.0
    max_body: int = 0
    faults: dict[str, int] = field(default_factory=dict)  # of the last 5 minutes
    suspects: tuple[str, ...] = ()  # "GET /crash"
    instances: tuple[InstanceFacts, ...] = ()
    exits: tuple[tuple[str, ExitFacts], ...] = ()  # of late, newest last
    stopped_by: str = ""  # "by hand at 2026-01-05T03:07:41.000Z: a migration"; "" when it is neither stopped nor held
    count_by: str = ""  # likewise, who set how many instances there are
    not_replaced: str = ""  # why what should have been replaced serves on
    ejected_by_hand: tuple[str, ...] = ()
    has_process: bool = True


@dataclass(slots=True)
class CountFacts:
    """How often the same fault of the same app happened, in the last 15 minutes."""

    recent: int = 0
    same_second: int = 0
    first: float = 0.0
    last: float = 0.0
    by_instance: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Malformed:
    """What an instance sent instead of HTTP."""

    offset: int
    why: str
    data: bytes


@dataclass(slots=True)
class Facts:
    """About one request, or about an app when `record` is None."""

    now: float
    record: Record | None = None
    kept: bool = True  # False: `record` is the nearest one that was kept, and `id` another request
    id: str = ""
    second: int = 0  # of an id that was not kept
    worker: int | None = None
    in_second: dict[tuple[str, str, str], int] = field(default_factory=dict)  # (app, instance, fault): count
    in_interval: dict[tuple[str, str], int] = field(default_factory=dict)  # (app, fault): count in 10 s around it
    counted_since: float = 0.0  # Unix seconds: before it nothing was counted by the second
    app: AppFacts | None = None
    instance: InstanceFacts | None = None
    exit: ExitFacts | None = None  # of that instance
    lines: tuple[Said, ...] = ()  # what it printed at that time
    stacks: str = ""  # what it runs now, or ran at `stacks_at`
    stacks_at: float = 0.0  # when they were taken, as evidence before it was replaced; 0.0: now
    malformed: Malformed | None = None
    counts: CountFacts = field(default_factory=CountFacts)
    events: tuple[Happened, ...] = ()
    lag: float = 0.0  # of the worker's loop, at the time
    finding: Finding | None = None  # what an analyzer concluded that accounts for it
    session: str = ""  # the session whose finding that is; "": drawn from what control knows
    session_at: float = 0.0  # when that session began
    story: bool = False  # its whole story is kept
    running: str = ""  # a session of the app that is under way
    descriptors: tuple[int, int] | None = None
