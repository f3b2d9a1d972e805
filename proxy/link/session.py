"""What control and a session's process say to each other: files in the session's folder, whole or not there.

Control writes `input.json` before it starts the process, and `after.json` (a `Known`) once the process says that it
waits for it; the process writes `outcome.json` again and again, whole each time. Control may end the process with
TERM (stop gathering, go on with what there is) or KILL. Nothing is asked in the other direction.

Wall-clock times are Unix seconds and end in `at`, or are said to be; durations are seconds, sizes bytes, CPU cores.
None is what is not known. What may hold secrets (commands, lines of output) is masked by who writes it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy.link.messages import Record

INPUT: Final = "input.json"
AFTER: Final = "after.json"
OUTCOME: Final = "outcome.json"
KNOWN: Final = "known.json"
FINDINGS: Final = "findings.json"
FORM: Final = 2


class Exit(msgspec.Struct, kw_only=True):
    """How a process of an instance ended."""

    instance: str
    at: float
    lasted: float
    words: str
    code: int | None = None
    signal: int | None = None
    oom: str = "no"  # "certain" | "likely" | "no"
    ours: bool = False  # Triage stopped it
    by_itself: bool = False
    why: str = ""  # Triage's reason, where it was ours
    last_lines: list[str] = []
    memory: int | None = None  # when it was last looked at
    memory_limit: int | None = None
    was_ready: bool = False


class Instance(msgspec.Struct, kw_only=True):
    """An instance as it is, or as it was last, when it is gone."""

    name: str
    kind: str = "process"  # "process" | "address"
    pid: int = 0  # 0: no process runs, or none that can be seen from here
    started: int = 0  # clock ticks since boot: tells a reused pid
    started_at: float = 0.0
    ready_at: float = 0.0  # 0.0: it is not, or never was
    address: str = ""
    lifecycle: str = ""
    admission: str = "admitting"
    failing: bool = False  # would be ejected but for the cap
    why: str = ""  # it is in that state
    ejection: str = ""  # why it is ejected
    version: str = ""
    restarts: int = 0
    gone: bool = False
    in_flight: int = 0
    slots: int = 0  # 0: no limit
    memory: int | None = None
    memory_limit: int | None = None
    cpu_limit: float | None = None
    limited_by: str = ""
    probe: str = ""  # the last health check, in words; "": none yet
    probe_ok: bool = True
    probe_status: int | None = None
    probe_seconds: float | None = None
    probe_body: str = ""
    probes_failed: int = 0  # in a row
    answered_at: float = 0.0  # last 2xx or 3xx that real traffic got of it; 0.0: none
    listens_on: list[str] = []
    logs: list[str] = []  # paths of its files, newest last
    moves: list[tuple[float, str, str]] = []  # its path: at, state, why


class App(msgspec.Struct, kw_only=True):
    """An app: what the config wants of it, and how it is."""

    name: str
    state: str = "up"  # up degraded down stopped held
    verdict: str = ""
    wanted: int = 0
    ready: int = 0
    command: list[str] = []  # masked; []: given addresses
    cwd: str = ""
    bind: str = ""  # port unix fd; "" for addresses
    hosts: list[str] = []
    paths: list[str] = []
    balance: str = ""
    max_inflight: int = 0  # 0: no limit, or adaptive
    queue_size: int = 0
    queue_timeout: float = 0.0
    connect: float = 0.0  # timeouts
    first_byte: float = 0.0
    idle: float = 0.0
    total: float = 0.0
    retries: int = 0
    max_body: int = 0
    health_path: str = ""
    health_interval: float = 0.0
    health_timeout: float = 0.0
    health_status: str = ""
    ready_within: float = 0.0
    memory_limit: int | None = None
    cpu_limit: float | None = None
    watch: list[str] = []
    inspect: bool = False  # Node's inspector may be opened
    version: str = ""
    by_hand: dict[str, str] = {}  # what a person set, in words
    not_replaced: str = ""
    in_flight: int = 0
    waiting: int = 0
    oldest_wait: float | None = None
    suspects: list[str] = []  # "GET /crash"
    mending: list[str] = []  # rules of autoheal, in words


class Ring(msgspec.Struct, kw_only=True):
    """Second by second, of the app ("" as its key), an instance, "gateway", "host" or another app ("app:NAME").

    Each list of `values` begins at `start` and is `length` long. Names as of columns: requests, faults, errors (5xx of
    the app's own), s2xx s3xx s4xx s5xx none, connects, retries, bytes_in, bytes_out, p50, p99 (seconds, whole request),
    wait_p50, wait_p99, in_flight, queue, queue_oldest, cpu (cores), memory, private, descriptors, threads, processes,
    connections, io_read, io_write, ready, exits; of the gateway: cpu, memory, lag, clients; of the host: busy (0 to 1),
    memory_available, load, disk_free.
    """

    start: int  # Unix second
    length: int
    values: dict[str, list[float | None]] = {}
    faults: dict[str, list[int]] = {}  # by name, what was counted in each second


class Event(msgspec.Struct, kw_only=True):
    id: int
    at: float
    kind: str
    text: str
    app: str = ""
    instance: str = ""
    details: dict[str, Any] = {}


class Line(msgspec.Struct, kw_only=True):
    """A line of output, masked."""

    at: float
    stream: str  # out err file:PATH
    text: str


class ExceptionGroup(msgspec.Struct, kw_only=True):
    """Tracebacks and panics with one fingerprint; `raised` ones were reported by the agent, whoever caught them."""

    fingerprint: str
    runtime: str
    type: str
    message: str
    where: str  # file:line function, of the innermost frame in the app's own code
    count: int
    first_at: float
    last_at: float
    lately: int = 0  # in the last 15 minutes
    instances: list[str] = []
    versions: list[str] = []
    sample: list[str] = []  # one of them, masked
    raised: bool = False
    caught: int = 0  # of `count`, by the app's own code; known of raised ones alone, as is `uncaught`
    uncaught: int = 0  # of `count`, by nobody


class Incident(msgspec.Struct, kw_only=True):
    id: str
    scope: str
    app: str
    severity: str
    signal: str
    cause: str
    certainty: str
    began_at: float
    ended_at: float = 0.0
    requests: int = 0
    hit: int = 0
    faults: dict[str, int] = {}
    signals: dict[str, str] = {}


class Deploy(msgspec.Struct, kw_only=True):
    """A change of version, command, environment or config of the app."""

    at: float
    what: str  # "deployed" | "config" | "scaled" | "restarted" | …
    text: str
    version: str = ""
    before: str = ""
    changed: list[str] = []


class Worker(msgspec.Struct, kw_only=True):
    """One of the gateway's own."""

    slot: int
    pid: int = 0
    state: str = ""
    why: str = ""
    lag: float | None = None  # seconds, of late
    lag_max: float | None = None
    connections: int = 0
    descriptors: int | None = None
    descriptors_limit: int | None = None
    cpu: float | None = None
    restarts: int = 0


class Known(msgspec.Struct, kw_only=True):
    """All that control can say about an app at one moment. `notes`: what is missing from it, and why."""

    at: float
    app: App
    instances: list[Instance] = []  # those of the app, and of late gone ones
    exits: list[Exit] = []  # newest last
    records: list[Record] = []  # newest first: flight recorder and kept ones; queries of targets are cut
    rings: dict[str, Ring] = {}
    events: list[Event] = []  # of the last day, newest last; audit ones are not in it
    incidents: list[Incident] = []
    exceptions: list[ExceptionGroup] = []
    lines: dict[str, list[Line]] = {}  # by instance: what it printed last, oldest first
    deploys: list[Deploy] = []
    workers: list[Worker] = []
    malformed: dict[str, Any] = {}  # the app's last: id, offset, why, data (base64)
    other_apps: dict[str, str] = {}  # name to state
    self_check: str = ""
    self_check_ok: bool = True
    notes: list[str] = []


class Input(msgspec.Struct, kw_only=True):
    """What a session is to do. `seconds` 0: one quick look."""

    form: int = FORM
    id: str  # "S-118"
    app: str
    at: float
    targets: list[str] = []  # instances to look into, the most troubled first; []: only what is known without
    seconds: float = 0.0
    collectors: list[str] = []  # which ones; []: those that are on by default
    analyze: bool = True
    after: bool = True  # `after.json` will come when asked for
    budget: float = 8.0  # seconds beyond `seconds` for gathering
    analyzing: float = 60.0  # seconds for analyzers and report
    room: int = 0  # bytes that all its files may take; 0: no limit
    asked: dict[str, Any] = {}  # by whom, why, the rule, what it saw, the request or incident
    data_dir: str = ""
    known: Known


class Step(msgspec.Struct, kw_only=True):
    """One collector on one subject, an analyzer, or the report."""

    name: str
    title: str = ""
    instance: str = ""  # "": of the app or the host
    state: str = "waiting"  # waiting running done failed hung "not permitted" "not there" "no room" skipped
    why: str = ""
    took: float = 0.0
    files: list[str] = []  # below the folder


class Outcome(msgspec.Struct, kw_only=True):
    """How far a session is, and at its end what came of it."""

    form: int = FORM
    state: str = "collecting"  # collecting, "wants after", analyzing, done, cancelled, failed
    why: str = ""
    began: float = 0.0
    ended: float = 0.0
    until: float = 0.0  # when gathering will be over
    steps: list[Step] = []
    top: str = ""  # id of the first finding; "": none
    verdict: str = ""  # one sentence
    certainty: str = ""
    severity: str = ""
    findings: int = 0  # above info
