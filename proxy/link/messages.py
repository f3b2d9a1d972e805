"""Everything control and a worker say to each other, typed.

Control sends `Start` (with the descriptors of the board, the wake-up eventfds and the listening sockets), then a
`Table` at each change; the worker answers `Ready` once and `Ack` to each table. Everything is idempotent: a new
control sends the same again, and a worker that already has it acknowledges.

It is longer than most modules: one list of all that is said is easier to keep in step than several.

Durations are float seconds; `_us` fields are whole microseconds; `at` and `since` are monotonic seconds, which all
processes of one machine share; `time` is Unix time.
"""

from __future__ import annotations

from typing import Final

import msgspec

PROTOCOL: Final = 1
"""Raised when a message changes its meaning. Sides that differ say so, and the worker is replaced."""


class Message(msgspec.Struct, tag=True, kw_only=False):
    """Base of all that travels as a message of its own."""


# --- values inside messages --------------------------------------------------------------------------


class Tls(msgspec.Struct, frozen=True):
    """TLS towards an instance."""

    ca: str | None = None  # path of a PEM file; None: the system's
    verify: bool = True
    server_name: str = ""


class Instance(msgspec.Struct, frozen=True):
    """One instance, as workers need it. Only ready ones are in a table: a draining one has left it."""

    name: str
    row: int  # on the board
    kind: str  # "process" | "address"
    host: str = ""  # a name or an address, for the Host of probes and for messages
    port: int = 0
    path: str = ""  # Unix socket; then host and port are unused
    resolved: tuple[str, ...] = ()  # IP addresses of `host`, in the order to try
    dns: str = ""  # "" | "error" | "timeout": why `resolved` is empty
    tls: Tls | None = None
    admission: str = "admitting"  # "admitting" | "ejected" | "trial"
    failing: bool = False  # would be ejected but for the cap
    weight: float = 1.0
    backup: bool = False
    admitted_at: float = 0.0  # monotonic; slow start counts from it; 0.0: no slow start
    slots: int = 0  # most requests in flight, over all workers; 0: no limit
    pid: int = 0


class App(msgspec.Struct, frozen=True):
    """One app: its routes, limits and instances."""

    name: str
    row: int  # on the board
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ("/",)
    strip_prefix: bool = False
    balance: str = "least-latency"
    hash_key: str = "client"
    sticky_cookie: str = ""
    sticky_ttl: float = 3600.0
    queue_size: int = 1000
    queue_timeout: float = 5.0
    attempts: int = 2
    budget: float = 0.2
    per_second: float = 10.0
    retry_on: tuple[str, ...] = ()
    connect: float = 2.0
    first_byte: float = 30.0
    idle: float = 60.0
    total: float = 0.0
    max_body: int = 100_000_000
    upgrades: tuple[str, ...] = ("websocket",)
    tunnel_idle: float = 3600.0
    tunnel_drain: float = 30.0
    slow_start: float = 10.0
    rate: float = 0.0  # requests a second and client; 0.0: no limit
    burst: float = 0.0
    adaptive: bool = False  # max_inflight = "adaptive": the worker's limiter sets the slots
    state: str = "up"  # "up" | "stopped" | "held"
    wanted: int = 1  # instances that should be there
    starting: int = 0  # instances on their way to ready
    suspects: tuple[tuple[str, str], ...] = ()  # (method, path) not to be retried after an exit
    instances: tuple[Instance, ...] = ()
    watches: tuple[Watch, ...] = ()  # what its rules want counted
    whole: tuple[Whole, ...] = ()  # which requests' whole story is kept


class Settings(msgspec.Struct, frozen=True):
    """What concerns the gateway as a whole. `limits_connections` is already this worker's share."""

    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: bool = False
    access_log: str = ""  # absolute path; "" is off
    access_log_format: str = "json"  # "json" | "combined"
    access_log_size: int = 0  # bytes after which it is rotated; 0: not by size
    access_log_files: int = 5  # old ones that stay
    access_log_age: float = 0.0  # seconds after its first line; 0.0: not by age
    slow: float = 1.0
    head_limit: int = 65536
    headers_limit: int = 100
    target_limit: int = 8192
    connections_limit: int = 10000
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    idle_timeout: float = 75.0
    drain_timeout: float = 30.0
    error_pages: dict[str, str] = {}  # "502" -> HTML
    certificates: tuple[tuple[str, str], ...] = ()  # (certificate chain, key), paths
    gateway_id: str = "00000000"  # eight hex digits, kept in data_dir: Via names triage-ID, loops are told by it
    secret: str = ""  # hex; signs sticky cookies; the same for all workers and after a restart
    trace_sample: float = -1.0  # share of requests that control is told of for export; < 0: nothing is exported


class Listener(msgspec.Struct, frozen=True):
    """A listening socket handed over with `Start` or `Listen`, in the order of the descriptors."""

    name: str
    tls: bool = False


class Attempt(msgspec.Struct, omit_defaults=True):
    """One try of a request on one instance."""

    instance: str
    fault: str = ""
    detail: str = ""
    reused: bool = False
    idle_us: int | None = None  # how long the reused connection had been idle
    connect_us: int | None = None
    tls_us: int | None = None
    wait_us: int | None = None  # from the last request byte to the whole response head, or to the fault
    sent: int = 0  # bytes of the request given to the connection
    status: int = 0
    began_us: int = 0  # after the request began
    took_us: int = 0


class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """One request, as the access log, the flight recorder and the link have it.

    Timings are absent when not reached. `own_us` is the gateway's own cost: total less all waiting.
    """

    id: str
    time: float
    worker: int
    app: str = ""
    instance: str = ""
    client: str = ""
    method: str = ""
    host: str = ""
    target: str = ""
    status: int = 0
    fault: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    head_us: int | None = None
    queue_us: int | None = None
    connect_us: int | None = None
    tls_us: int | None = None
    wait_us: int | None = None
    body_us: int | None = None
    total_us: int = 0
    own_us: int = 0
    lag_us: int = 0
    tries: int = 0
    reused: bool = False
    idle_us: int | None = None
    client_request_id: str = ""
    trace: str = ""
    detail: str = ""
    sent: int = 0  # bytes of the request that the last instance was given
    replayable: bool = True
    tunnel: bool = False
    attempts: list[Attempt] | None = None  # only where there was a fault or a second try
    user_agent: str = ""  # these two only for the combined log format
    referer: str = ""
    parent: str = ""  # these three only while traces are exported: the client's span, 16 hex digits
    scheme: str = ""  # "http" | "https"
    sampled: bool = False


class Row(msgspec.Struct):
    """Cumulative counts of one (app, instance) in one worker's epoch; instance "" holds what reached none."""

    app: str
    instance: str
    requests: int
    classes: list[int]  # answers by status class: [1xx, 2xx, 3xx, 4xx, 5xx, none]
    faults: dict[str, int]
    bytes_in: int
    bytes_out: int
    connects: int
    retries: int
    total: dict[int, int]  # sparse histogram of whole requests
    total_sum: float
    wait: dict[int, int]  # sparse histogram of waits for the response head
    wait_sum: float
    own_sum: float
    watched: dict[str, int] = {}  # by Watch.key, only those counted


class Watch(msgspec.Struct, frozen=True):
    """Requests that a rule wants counted: exactly, per instance, in each worker.

    The same question has the same `key`, so that a count goes on over tables and reloads.
    """

    key: str
    kind: str  # "requests" | "slow" | "status" | "fault"
    above: float = 0.0  # slow: seconds waited for the response head, answered or not
    path: str = ""  # only these; `*` stands for any letters; "": all
    codes: tuple[tuple[int, int], ...] = ()  # status: inclusive ranges
    names: tuple[str, ...] = ()  # fault: names


class Whole(msgspec.Struct, frozen=True):
    """Requests whose whole story is kept: all that is given must hold."""

    rule: int  # its place in keep.whole
    path: str = ""  # as in Watch
    codes: tuple[tuple[int, int], ...] = ()
    fault: str = ""
    slower: float = 0.0  # seconds in total
    headers: bool = False


class Story(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What is kept of a request beyond its record. Heads are not masked yet."""

    id: str
    time: float
    app: str
    rule: int
    phases: list[tuple[str, int, str]]  # what, µs after the request began, a word more
    attempts: list[Attempt] = []
    request: bytes = b""  # line and fields
    response: bytes = b""  # likewise; empty: Triage answered itself, or nobody
    cut: bool = False  # a head was longer
    own: bool = False  # Triage answered itself


# --- control → worker --------------------------------------------------------------------------------


class Start(Message):
    """Descriptors: the board, COLUMNS eventfds (one per worker, in order), then one per listener."""

    protocol: int
    worker: int  # this worker's column, from 0
    epoch: str  # changes with each start of this worker
    listeners: list[Listener]


class Listen(Message):
    """All listeners from now on; descriptors in the same order. Those missing are closed."""

    listeners: list[Listener]


class Table(Message):
    """The whole routing table. A worker accepts connections only after its first one."""

    version: int
    workers: int  # columns in use; 1: nobody else has a part in the limits, whichever this worker's column is
    settings: Settings
    apps: tuple[App, ...]


class Drain(Message):
    """Stop accepting, answer with Connection: close, end when idle or after `limit` seconds."""

    limit: float
    idle: float = 2.0  # a connection idle for so long is closed


class Fate(Message):
    """Answer to `Lost`, or told unasked when an instance ends: what became of it."""

    instance: str
    row: int
    ended: bool  # False: it still runs
    by_itself: bool = False  # non-zero exit, a crash signal, OOM: then its requests are suspects
    ours: bool = False  # Triage stopped it
    words: str = ""  # "exit code 3", "signal 9 (SIGKILL), out of memory"
    inflight: int = 0  # on it over all workers when control heard of its end; each keeps its slots until told


class Cut(Message):
    """The drain limit passed: end this instance's requests with `fault`."""

    row: int
    fault: str


class Find(Message):
    """Look in the flight recorder for ids (ours or the client's) that begin so; answered by `Found`."""

    question: int
    id: str = ""
    limit: int = 10
    app: str = ""
    path: str = ""
    instance: str = ""  # those that had an attempt on it


class Reopen(Message):
    """Reopen the access log (after rotation)."""


# --- worker → control --------------------------------------------------------------------------------


class Ready(Message):
    """First words of a worker, and its answer to each `Start`."""

    protocol: int
    worker: int
    epoch: str
    pid: int
    release: str = ""  # of its code: proxy.__version__


class Ack(Message):
    """The worker routes by this version now; what left the table gets no new request."""

    version: int


class Stats(Message):
    """Twice a second, and the worker's heartbeat. Rows that changed since the last one, cumulative."""

    worker: int
    epoch: str
    at: float
    lag_us: int  # now
    lag_max_us: int  # since the last one
    connections: int
    accepted: int  # cumulative
    instance_connections: int
    tunnels: int
    tables: int  # version in force
    records_dropped: int  # cumulative: kept records over the rate limit or the channel's bound
    log_lost: int  # cumulative: access-log lines that could not be written
    log_error: str  # why, "" when all is well
    shedding: str  # why the worker sheds now, "" if not
    draining: bool
    rss: int
    rows: list[Row]
    lag_peak_us: int = 0  # since the worker's start
    oldest: dict[str, dict[str, float]] = {}
    """App and instance to the monotonic time since when its oldest request, sent whole, waits for a response head; over
    1 s only. An address may be an instance of two apps."""
    heard: dict[str, dict[str, float]] = {}
    """App and instance to the monotonic time at which content of a response or tunnel under way last came from it."""
    spans_dropped: int = 0  # cumulative: sampled records over the rate limit or the channel's bound
    self_checks: int = 0  # cumulative: answered by the worker itself, and counted nowhere else
    stories_dropped: int = 0  # cumulative: whole stories over the rate limit or the channel's bound


class Records(Message):
    """Kept records: faults, slow ones, 5xx of the app's own."""

    items: list[Record]


class Sampled(Message):
    """Records of requests that were sampled for export and are not among `Records`."""

    items: list[Record]


class Stories(Message):
    """Whole stories, at most 20 a second; their records are among `Records`."""

    items: list[Story]


class Learned(Message):
    """What a worker learned about an instance, said at once: since the last message.

    `streak` is how many blamed faults came in a row up to now, in this worker; a good answer makes it 0.
    """

    app: str
    instance: str
    row: int
    good: int
    faults: dict[str, int]
    streak: int
    refused: bool = False  # it can't be connected to at all


class Lost(Message):
    """A connection to a process instance closed with a request on it: has it ended? Answered by `Fate`."""

    instance: str
    row: int


class Suspect(Message):
    """This request was on two instances when they ended."""

    app: str
    method: str
    path: str
    id: str


class BadResponse(Message):
    """The last malformed response: what came, and where it went wrong."""

    app: str
    instance: str
    id: str
    offset: int
    why: str
    data: bytes  # at most 1,024 bytes around the offset


class Found(Message):
    question: int
    items: list[Record]


class Drained(Message):
    """Nothing is left; the worker ends now."""

    worker: int


ToWorker = Start | Listen | Table | Drain | Fate | Cut | Find | Reopen
ToControl = Ready | Ack | Stats | Records | Sampled | Stories | Learned | Lost | Suspect | BadResponse | Found | Drained

_encoder: Final = msgspec.msgpack.Encoder()
encode: Final = _encoder.encode
decode_to_worker: Final = msgspec.msgpack.Decoder(ToWorker).decode
decode_to_control: Final = msgspec.msgpack.Decoder(ToControl).decode
