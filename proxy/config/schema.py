"""The config as frozen values: attribute = TOML key, default = default, description = its line in the docs.

Longer than most: it is the one list of all keys, and is read like a table. A field's `kind` names the reader
that turns its text into the value (`readers.READERS`); defaults with a kind that `readers.RESOLVED` names are
texts that the walker resolves against the config file's folder or `data_dir`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct
from msgspec import field as named
from msgspec.structs import force_setattr

from proxy import units
from proxy.config.conditions import Condition, Step
from proxy.config.listen import Listen

UNLIMITED: Final = "0 is no limit"


def kind(name: str, **also: Any) -> Meta:
    """How the text of a value is read."""
    return Meta(extra={"kind": name, **also})


def about(text: str, example: str = "", **also: Any) -> Meta:
    """What a key means, for the docs; `example` is TOML."""
    return Meta(description=text, examples=[example] if example else None, extra=also or None)


def within(least: float, most: float | None = None) -> Meta:
    """The range of a number, ends included."""
    return Meta(extra={"least": least, "most": most})


Duration = Annotated[float, kind("duration")]
Size = Annotated[int, kind("size")]
Ratio = Annotated[float, kind("ratio")]
Path = Annotated[str, kind("path")]
File = Annotated[str, kind("file")]
Folder = Annotated[str, kind("folder")]
Command = Annotated[tuple[str, ...], kind("command")]
Host = Annotated[str, kind("host")]
Prefix = Annotated[str, kind("prefix")]
Network = Annotated[str, kind("network")]
Statuses = Annotated[tuple[tuple[int, int], ...], kind("statuses")]
Heal = Annotated[Condition, kind("heal")]
Scaling = Annotated[Condition, kind("scaling")]
Alarm = Annotated[Condition, kind("alarm")]
Collector = Literal[
    "stacks", "activity", "proc_report", "sockets", "log_tail", "environment", "types", "profile", "memory_dump",
    "changes", "host_report", "host_events",
]
"""Of a diagnostic session, as `GET /api/v1/collectors` lists them."""


class AccessLog(Struct, frozen=True, forbid_unknown_fields=True):
    """`access_log = { path = "…", format = "combined" }`; a text alone is the path, false turns it off."""

    path: Annotated[str, kind("under-data"), about("the file, under `data_dir`")] = "logs/access.jsonl"
    format: Annotated[
        Literal["json", "combined"],
        about("one JSON object a line, or the combined format that log tools know"),
    ] = "json"
    size: Annotated[Size, within(0), about("rotated before it grows larger; 0: not by size")] = 100 * units.MB
    files: Annotated[int, within(1, 1000), about("old ones that stay, `PATH.1` the newest")] = 5
    age: Annotated[Duration, within(0), about("rotated so long after its first line; 0: not by age")] = (
        24 * units.HOURS
    )


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    head: Annotated[Size, within(1024, units.MB), about("of a request's or response's head")] = 64 * units.KIB
    headers: Annotated[int, within(1, 10_000), about("header fields of a request")] = 100
    target: Annotated[Size, within(64, units.MB), about("of a request's target (path and query)")] = (
        8 * units.KIB
    )
    connections: Annotated[int, within(1, 10_000_000), about("of clients, over all workers")] = 10_000


class ClientTimeouts(Struct, frozen=True, forbid_unknown_fields=True):
    head: Annotated[
        Duration, within(0.05), about("for a whole head, with TLS handshake and PROXY header")
    ] = 10 * units.SECONDS
    body: Annotated[
        Duration,
        within(0.05),
        about("longest gap while a client sends content, or does not read its response"),
    ] = 30 * units.SECONDS
    idle: Annotated[Duration, within(0.05), about("of a kept-alive connection between requests")] = (
        75 * units.SECONDS
    )
    drain: Annotated[
        Duration, about("how long running requests may go on when Triage stops or a worker is replaced")
    ] = 30 * units.SECONDS


class Certificate(Struct, frozen=True, forbid_unknown_fields=True):
    cert: Annotated[File, about("PEM file: the certificate, then its intermediates", '"cert.pem"')]
    key: Annotated[File, about("PEM file: its private key, without a passphrase", '"key.pem"')]


class Gateway(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[
        tuple[Annotated[Listen, kind("listen")], ...],
        about(
            'where clients connect: `"HOST:PORT"`, `":PORT"` (all addresses), `"https://HOST:PORT"`,'
            ' `"unix:PATH"`; port 0 takes a free one',
            '["[::]:80", "https://0.0.0.0:443", "unix:run/gateway.sock"]',
        ),
    ] = (Listen("tcp", "127.0.0.1", 8080),)
    workers: Annotated[
        int | Literal["auto"],
        kind("auto"),
        about("data-plane processes; `auto`: one per usable core, four at most"),
    ] = "auto"
    data_dir: Annotated[
        Path, about("state, logs and sockets; under `triage run` it is `$XDG_STATE_HOME/triage/NAME`")
    ] = "var"
    trusted_proxies: Annotated[
        tuple[Network, ...],
        about(
            "networks whose X-Forwarded-*, Forwarded and X-Request-ID are believed",
            '["10.0.0.0/8", "::1/128"]',
        ),
    ] = ()
    proxy_protocol: Annotated[bool, about("read a PROXY v1 or v2 header from `trusted_proxies`")] = False
    access_log: Annotated[
        AccessLog | None,
        about(
            "one line for each request; a path under `data_dir`, `false`, or a table", short="path", off=True
        ),
    ] = AccessLog()
    slow: Annotated[Duration, about("slower requests are always kept")] = 1 * units.SECONDS
    limits: Annotated[Limits, about("what a client may ask for")] = Limits()
    timeouts: Annotated[ClientTimeouts, about("towards clients")] = ClientTimeouts()
    error_pages: Annotated[
        Folder | None, about("folder with your own pages: `502.html`, `503.html` …", '"errors/"')
    ] = None
    log: Annotated[
        str,
        kind("log"),
        about("Triage's own log, JSON lines: `stderr`, `stdout`, or a file under `data_dir`"),
    ] = "stderr"
    certificates: Annotated[
        tuple[Certificate, ...],
        about("for `https://` listeners, chosen by SNI; reread when the files change"),
    ] = ()


class AdminCertificate(Certificate, frozen=True, forbid_unknown_fields=True):
    """`admin.certificate`: as those of the gateway, but one."""


class Admin(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[
        Annotated[Listen, kind("admin-listen")],
        about(
            "admin API and dashboard: a loopback address, or `https://` and `certificate`; a token is made at first"
            " start: `data_dir/admin.token`, mode 0600",
            '"https://0.0.0.0:9900"',
        ),
    ] = Listen("tcp", "127.0.0.1", 9900)
    certificate: Annotated[
        AdminCertificate | None,
        about("of an `https://` address of `listen`; reread when the files change"),
    ] = None
    insecure: Annotated[
        bool, about("listen on other than loopback without TLS: tokens and all that is shown go in the clear")
    ] = False
    socket: Annotated[
        str,
        kind("under-data", unix=True),
        about("Unix socket under `data_dir`; its owner, root and group `triage` need no token"),
    ] = "run/admin.sock"
    url: Annotated[
        str | None,
        kind("url"),
        about("what alerts and `triage open` link to", '"https://ops.example.com"'),
    ] = None
    console: Annotated[
        bool, about("file, command and console endpoints, for admins: a shell on this machine")
    ] = False
    roots: Annotated[
        dict[str, Folder],
        about(
            "folders that the Console's files are below, by name; default: the `cwd` of each app that Triage runs, and"
            " `logs` and `diagnostics` of `data_dir`, read only",
            '{ site = "/srv/site" }',
        ),
    ] = {}
    upload: Annotated[
        Size, within(0), about("largest file that the Console takes, and all of a zip when unpacked")
    ] = 1 * units.GB
    console_idle: Annotated[
        Duration, within(1), about("a terminal in which nobody typed for so long is ended")
    ] = 30 * units.MINUTES
    metrics: Annotated[bool, about("`/metrics` without a token")] = False


class Sticky(Struct, frozen=True, forbid_unknown_fields=True):
    cookie: Annotated[str, kind("token"), about("the cookie's name")] = "triage"
    ttl: Annotated[Duration, within(1), about("how long a client stays with its instance")] = 1 * units.HOURS


class Queue(Struct, frozen=True, forbid_unknown_fields=True):
    size: Annotated[int, within(0, 1_000_000), about("requests that may wait for a slot; 0: none waits")] = (
        1000
    )
    timeout: Annotated[Duration, about("how long one waits before its 503")] = 5 * units.SECONDS


class Retries(Struct, frozen=True, forbid_unknown_fields=True):
    attempts: Annotated[int, within(0, 10), about("more attempts after the first")] = 2
    budget: Annotated[Ratio, about("of the traffic may be retries, per worker")] = 0.2
    per_second: Annotated[float, within(0, 1_000_000), about("retries allowed besides the budget")] = 10
    on: Annotated[
        tuple[Literal["head-timeout", "app-error"], ...],
        about(
            "faults of idempotent requests that are tried again only if asked for",
            '["head-timeout", "app-error"]',
        ),
    ] = ()


class AppTimeouts(Struct, frozen=True, forbid_unknown_fields=True):
    connect: Annotated[Duration, within(0.01), about("for a connection, TLS included")] = 2 * units.SECONDS
    first_byte: Annotated[
        Duration, within(0.05), about("from the request sent whole to the whole response head")
    ] = 30 * units.SECONDS
    idle: Annotated[
        Duration, within(0.05), about("longest gap afterwards, and while an instance does not read")
    ] = 60 * units.SECONDS
    total: Annotated[Duration, about("for the whole request; " + UNLIMITED)] = 0.0


class Tunnel(Struct, frozen=True, forbid_unknown_fields=True):
    upgrades: Annotated[
        tuple[Annotated[str, kind("upgrade")], ...], about("tokens of Upgrade that are let through")
    ] = ("websocket",)
    idle: Annotated[Duration, within(1), about("longest silence of both sides")] = 1 * units.HOURS
    drain: Annotated[Duration, about("how long a tunnel or event stream may go on when its instance is drained")] = (
        30 * units.SECONDS
    )


class RateLimit(Struct, frozen=True, forbid_unknown_fields=True):
    per_client: Annotated[
        float, within(0.001, 1_000_000), about("requests a second, by client address (IPv6: its /64)", "50")
    ]
    burst: Annotated[int, within(1, 10_000_000), about("requests at once")] = 100


class Stop(Struct, frozen=True, forbid_unknown_fields=True):
    signal: Annotated[str, kind("signal"), about("what asks an instance to stop")] = "TERM"
    timeout: Annotated[Duration, about("after it the instance is killed")] = 30 * units.SECONDS


class Process(Struct, frozen=True, forbid_unknown_fields=True):
    command: Annotated[
        Command,
        about(
            "split like a shell would, no shell; `{port}`, `{socket}` and `{name}` (of the instance) are"
            " filled in, `$PORT` is always set too",
            '"uvicorn app:app --port {port}"',
        ),
    ]
    instances: Annotated[int, within(0, 1000), about("how many")] = 1
    cwd: Annotated[Folder, about("where they start; `.` is the config file's folder")] = "."
    env: Annotated[
        dict[str, str], kind("env"), about("set in their environment", '{ LOG_LEVEL = "info" }')
    ] = {}
    inherit_env: Annotated[
        tuple[Annotated[str, kind("variable")], ...],
        about('variables passed on from Triage\'s own environment; `"*"` stands for any letters'),
    ] = ("PATH", "HOME", "LANG", "TZ")
    user: Annotated[
        str | None,
        kind("user"),
        about('who runs them; needed when Triage is started by root, unless `"root"` is said', '"www"'),
    ] = None
    diagnose: Annotated[bool, about("stacks may be taken (PR_SET_PTRACER)")] = True
    bind: Annotated[
        Literal["port", "unix", "fd"],
        about(
            "how they get their place to listen: `port` (`{port}`), `unix` (`{socket}`), or `fd`: one"
            " inherited listening socket each (LISTEN_FDS), shut down the moment it exits;"
            " `fd` needs `health.path`"
        ),
    ] = "port"
    stop: Annotated[Stop, about("how one is ended")] = Stop()
    overlap: Annotated[bool, about("`false`: a recycle stops the old one first, and requests wait")] = True
    memory: Annotated[
        Size | None,
        within(1 * units.MB),
        about("per instance; enforced by cgroup v2 where writable, else watched and recycled", '"512MB"'),
    ] = None
    cpus: Annotated[float | None, within(0.01, 4096), about("cores per instance, likewise", "1.0")] = None
    watch: Annotated[
        tuple[Annotated[str, kind("glob")], ...],
        about("recycle, rolling, when these files change; relative to `cwd`", '["*.py"]'),
    ] = ()
    logs: Annotated[
        tuple[Annotated[str, kind("glob")], ...],
        about("the app's own log files, followed like its output; relative to `cwd`", '["log/*.log"]'),
    ] = ()
    version: Annotated[
        str | None,
        kind("version"),
        about("of the app; else the commit of `cwd`, else the newest watched file", '"${GIT_SHA}"'),
    ] = None


class AddressTLS(Struct, frozen=True, forbid_unknown_fields=True):
    ca: Annotated[
        File | None, about("PEM file of who may sign its certificate; else the system's", '"ca.pem"')
    ] = None
    verify: Annotated[bool, about("`false`: its certificate is not looked at")] = True


class Address(Struct, frozen=True, forbid_unknown_fields=True):
    """`kind`, `host`, `port`, `path` and `secure` are read from `url`, which is written one way only."""

    url: Annotated[
        str,
        kind("address"),
        about("`http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`", '"http://10.0.0.5:8000"'),
    ]
    name: Annotated[
        str, kind("label"), about("how it is shown; else its host and port, or its path", '"b"')
    ] = ""
    weight: Annotated[float, within(0.01, 10_000), about("its share, beside the others'")] = 1
    backup: Annotated[bool, about("used only while no other is admitting")] = False
    tls: Annotated[AddressTLS, about("for `https://`")] = AddressTLS()

    def __post_init__(self) -> None:
        if not self.name:
            force_setattr(self, "name", self.path or self.url.partition("://")[2])

    @property
    def kind(self) -> Literal["tcp", "unix"]:
        return "unix" if self.url.startswith("unix:") else "tcp"

    @property
    def secure(self) -> bool:
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        """Without brackets; "" for a Unix socket."""
        if self.kind == "unix":
            return ""
        return self.url.partition("://")[2].rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return 0 if self.kind == "unix" else int(self.url.rpartition(":")[2])

    @property
    def path(self) -> str:
        """Of the Unix socket, or ""."""
        return self.url.removeprefix("unix:") if self.kind == "unix" else ""


class Recycle(Struct, frozen=True, forbid_unknown_fields=True):
    command: Annotated[
        tuple[str, ...],
        kind("arguments", placeholders=("name", "address")),
        about("argument list; `{name}` and `{address}` are filled in", '["docker", "restart", "{name}"]'),
    ]


class Health(Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[
        str | None,
        kind("target"),
        about(
            "what a probe asks for; without one it is a TCP connect, which a hung app passes", '"/healthz"'
        ),
    ] = None
    host: Annotated[
        str | None, kind("host-field"), about("Host of the probe; default: the address", '"example.com"')
    ] = None
    interval: Annotated[Duration, within(0.1), about("between two probes of one instance")] = (
        5 * units.SECONDS
    )
    timeout: Annotated[Duration, within(0.05), about("for one probe")] = 2 * units.SECONDS
    status: Annotated[
        Statuses, about("answers that pass; redirects are not followed, and the failure says so")
    ] = ((200, 299),)
    fails: Annotated[int, within(1, 1000), about("failed probes in a row that eject")] = 3
    passes: Annotated[int, within(1, 1000), about("passed ones in a row that admit again")] = 1
    ready_within: Annotated[
        Duration,
        within(0.1),
        about("a new process must pass by then; an address is admitted at once and leaves after `fails`"),
    ] = 60 * units.SECONDS


class Ejection(Struct, frozen=True, forbid_unknown_fields=True):
    consecutive: Annotated[
        int, within(0, 100_000), about("faults in a row, seen by the gateway; 0: not looked at")
    ] = 5
    ratio: Annotated[Ratio, about("faults of at least `min_requests` in `window`; 0 %: not looked at")] = 0.5
    min_requests: Annotated[int, within(1, 1_000_000), about("below this `ratio` says nothing")] = 20
    window: Annotated[Duration, within(1, 600), about("that `ratio` looks back")] = 10 * units.SECONDS
    first: Annotated[
        Duration,
        within(0.1),
        about("the first ejection; doubles to `max`, with jitter; one trial request ends it"),
    ] = 5 * units.SECONDS
    max: Annotated[Duration, within(0.1), about("the longest ejection")] = 300 * units.SECONDS
    max_ejected: Annotated[Ratio, about("of an app's instances, counted after the ejection")] = 0.5
    dry_run: Annotated[bool, about("only say what would be ejected")] = False


class Autoheal(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, kind("label"), about("the rule's name", '"slow"')]
    when: Annotated[
        Heal,
        about("what is seen", '{ slow = { above = "5s", count = 20, within = "1m", path = "/api/*" } }'),
    ]
    then: Annotated[
        tuple[Annotated[Step, kind("step")], ...],
        about(
            "what is done, in this order: `collect`, `diagnose`, `recycle`, `restart`, `eject`, `{ scale = 1 }`,"
            ' `{ run = ["command", …] }`',
            '["collect", "recycle"]',
        ),
    ]
    min_age: Annotated[Duration, about("a younger instance is left alone")] = 1 * units.MINUTES
    cooldown: Annotated[Duration, about("between two firings")] = 10 * units.MINUTES
    max_per_hour: Annotated[int, within(1, 3600), about("firings")] = 4
    max_unavailable: Annotated[Ratio, about("of the app's instances, one at least")] = 0.25
    dry_run: Annotated[bool, about("only say what would be done")] = False


class Scale(Struct, frozen=True, forbid_unknown_fields=True, rename={"in_": "in"}):
    min: Annotated[int, within(0, 1000), about("instances at least", "2")] = 1
    max: Annotated[int, within(1, 1000), about("instances at most", "8")] = 1
    out: Annotated[
        tuple[Scaling, ...], about("more, if any of these is so", '[{ cpu = { above = "70%", for = "1m" } }]')
    ] = ()
    in_: Annotated[
        tuple[Scaling, ...],
        about("fewer, if all of these are so", '[{ cpu = { below = "30%", for = "5m" } }]'),
    ] = ()
    step: Annotated[int, within(1, 1000), about("instances at a time")] = 1
    cooldown: Annotated[Duration, about("between two steps")] = 2 * units.MINUTES


class Diagnose(Struct, frozen=True, forbid_unknown_fields=True):
    on: Annotated[
        tuple[Literal["incident", "crash", "stuck"], ...],
        about(
            "what starts a session by itself; `stuck`: a request has waited for half of `timeouts.first_byte`, and "
            "that is not usual; `[]`: nothing but `when` and `dump_on`"
        ),
    ] = ("incident", "crash", "stuck")
    seconds: Annotated[Duration, within(2, 600), about("for which a session that started by itself gathers")] = 10.0
    per_day: Annotated[int, within(0, 1000), about("sessions that start by themselves, in 24 hours")] = 24
    when: Annotated[
        tuple[Heal, ...], about("conditions that start one too, each by itself", '[{ stuck = { above = "10s" } }]')
    ] = ()
    collectors: Annotated[
        tuple[Collector, ...], about("what is gathered then; `[]`: all that is on by default", '["stacks", "sockets"]')
    ] = ()
    agent: Annotated[
        bool, about("Python processes report exceptions as they are raised, whoever catches them, and their objects")
    ] = False
    dump_on: Annotated[
        tuple[Annotated[str, kind("exception")], ...],
        about("types of exceptions that start a session with a memory dump; needs `agent`", '["MemoryError"]'),
    ] = ()
    inspect: Annotated[
        bool,
        about(
            "a session may open Node's inspector (SIGUSR1), on loopback and until the instance ends: whoever may use "
            "the machine can run code in the app then"
        ),
    ] = False


class App(Struct, frozen=True, forbid_unknown_fields=True):
    hosts: Annotated[
        tuple[Host, ...],
        about("that it answers for; default: every host", '["example.com", "*.example.com"]'),
    ] = ()
    paths: Annotated[tuple[Prefix, ...], about("prefixes that it answers for; the longest wins")] = ("/",)
    strip_prefix: Annotated[bool, about("take the prefix off before an instance sees the path")] = False
    balance: Annotated[
        Literal["least-latency", "round-robin", "least-inflight", "random", "hash"],
        about("how an instance is picked"),
    ] = "least-latency"
    hash_key: Annotated[
        str | None,
        kind("hash-key"),
        about("for `hash`: `client`, `header:NAME` or `cookie:NAME`", '"client"'),
    ] = None
    sticky: Annotated[
        Sticky | None,
        about("a client stays with its instance, by a signed cookie", '{ cookie = "triage", ttl = "1h" }'),
    ] = None
    max_inflight: Annotated[
        int | Literal["adaptive"], kind("inflight"), about("slots per instance; or `adaptive`; " + UNLIMITED)
    ] = 100
    queue: Annotated[Queue, about("where requests wait for a slot")] = Queue()
    retries: Annotated[Retries, about("of requests that failed on an instance")] = Retries()
    timeouts: Annotated[AppTimeouts, about("towards instances")] = AppTimeouts()
    max_body: Annotated[Size, about("of a request's content; " + UNLIMITED)] = 100 * units.MB
    tunnel: Annotated[Tunnel, about("upgraded connections")] = Tunnel()
    slow_start: Annotated[Duration, about("a new instance's share grows to its whole over this time")] = (
        10 * units.SECONDS
    )
    rate_limit: Annotated[RateLimit | None, about("per client", "{ per_client = 50, burst = 100 }")] = None
    process: Annotated[Process | None, about("Triage runs the instances …")] = None
    addresses: Annotated[
        tuple[Address, ...],
        about(
            "… or it is given them; a text alone is the `url`",
            '["http://10.0.0.5:8000", { url = "http://10.0.0.6:8000", name = "b", weight = 2 }]',
            short="url",
        ),
    ] = ()
    recycle: Annotated[Recycle | None, about("what recycling means for a given address")] = None
    health: Annotated[Health, about("probes")] = Health()
    ejection: Annotated[Ejection, about("passive health; probes eject too; one cap for both")] = Ejection()
    autoheal: Annotated[tuple[Autoheal, ...], about("when this is seen, do that")] = ()
    scale: Annotated[Scale | None, about("instances by load")] = None
    diagnose: Annotated[Diagnose, about("sessions that start by themselves")] = Diagnose()


class Alert(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, kind("label"), about("the alert's name", '"errors"')]
    when: Annotated[
        Alarm, about("what is seen", '{ fault_ratio = { above = "5%", count = 20, for = "1m" } }')
    ]
    notify: Annotated[tuple[str, ...], about("names of `[notify.NAME]`", '["ops"]')]
    apps: Annotated[tuple[str, ...], about("only these apps; none: all, and the gateway itself", '["web"]')] = ()


class Notify(Struct, frozen=True, forbid_unknown_fields=True):
    webhook: Annotated[
        str | None, kind("url"), about("POSTed as JSON in Alertmanager's form", '"https://example.com/hook"')
    ] = None
    email: Annotated[str | None, kind("email"), about("an address", '"ops@example.com"')] = None
    command: Annotated[
        tuple[str, ...] | None,
        kind("arguments", placeholders=()),
        about("argument list; the message is its input", '["notify-send", "triage"]'),
    ] = None
    slack: Annotated[str | None, kind("url"), about("an incoming webhook", '"https://hooks.slack.com/…"')] = (
        None
    )
    secret: Annotated[
        str | None, about("of `webhook`: messages are signed with it (HMAC-SHA256)", '"${HOOK_SECRET}"')
    ] = None
    smtp: Annotated[
        str | None,
        kind("smtp"),
        about(
            "of `email`: `smtp://[USER:PASSWORD@]HOST[:PORT]` or `smtps://…`; with a password, or on port 587,"
            " STARTTLS is insisted on, `?starttls=no` or `=yes` says otherwise; default: `smtp://localhost:25`",
            '"smtp://user:${SMTP_PASSWORD}@mail.example.com:587"',
        ),
    ] = None
    sender: Annotated[
        str | None, kind("email"), about("of `email`: who it is from; default: `triage@` and the host's name",
                                         '"triage@example.com"')
    ] = None
    repeat: Annotated[Duration, about("an incident that is still open is told again after so long; 0: never")] = (
        4 * units.HOURS
    )


class KeepSessions(Struct, frozen=True, forbid_unknown_fields=True):
    count: Annotated[int, within(1, 100_000), about("at most")] = 20
    age: Annotated[Duration, within(60), about("older ones go")] = 20 * units.DAYS
    size: Annotated[Size, within(units.MB), about("of all together")] = 2 * units.GB


class InstanceLogs(Struct, frozen=True, forbid_unknown_fields=True):
    size: Annotated[Size, within(64 * units.KIB), about("of one file")] = 50 * units.MB
    files: Annotated[int, within(1, 1000), about("per instance")] = 5


class Whole(Struct, frozen=True, forbid_unknown_fields=True):
    app: Annotated[str | None, about("only of this app", '"web"')] = None
    path: Annotated[str | None, kind("path-pattern"), about("only these", '"/api/*"')] = None
    status: Annotated[Statuses, about("only with these", '">=500"')] = ()
    fault: Annotated[str | None, kind("fault"), about("only with this fault", '"head-timeout"')] = None
    slower: Annotated[Duration, about("only those that took as long, in total", '"2s"')] = 0.0
    headers: Annotated[bool, about("header fields too; what is secret in them is masked")] = False


class Keep(Struct, frozen=True, forbid_unknown_fields=True):
    requests: Annotated[Duration, within(60), about("kept requests")] = 24 * units.HOURS
    incidents: Annotated[Duration, within(60), about("incidents")] = 90 * units.DAYS
    sessions: Annotated[KeepSessions, about("diagnostic runs")] = KeepSessions()
    instance_logs: Annotated[InstanceLogs, about("output of instances")] = InstanceLogs()
    store: Annotated[Size, within(units.MB), about("of the whole store")] = 2 * units.GB
    whole: Annotated[
        tuple[Whole, ...],
        about(
            "requests whose whole story is kept",
            '[{ path = "/api/*", fault = "head-timeout", headers = true }]',
        ),
    ] = ()


class StatusPage(Struct, frozen=True, forbid_unknown_fields=True):
    file: Annotated[
        str | None,
        kind("path"),
        about("the HTML file to write, for everybody; a path beside the config file; off without", '"status.html"'),
    ] = None
    title: Annotated[str, about("its heading")] = "Status"


class Traces(Struct, frozen=True, forbid_unknown_fields=True):
    otlp: Annotated[
        str | None,
        kind("url"),
        about("a collector's address for OTLP over HTTP, JSON", '"http://127.0.0.1:4318/v1/traces"'),
    ] = None
    headers: Annotated[
        dict[str, str], kind("fields"), about("sent with each export", '{ Authorization = "Bearer ${TOKEN}" }')
    ] = {}
    sample: Annotated[
        Ratio, about("of the requests that are neither slow nor without an answer; those are always exported")
    ] = 0.01
    service: Annotated[str, about("`service.name` of the spans")] = "triage"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole config file, every default applied, every path absolute."""

    gateway: Annotated[Gateway, about("the data plane")] = named(default_factory=Gateway)
    admin: Annotated[Admin, about("admin API and dashboard")] = named(default_factory=Admin)
    apps: Annotated[dict[str, App], kind("named"), about("the web applications")] = {}
    keep: Annotated[Keep, about("how long, how much")] = named(default_factory=Keep)
    traces: Annotated[Traces, about("requests and attempts as spans, exported; off without `otlp`")] = Traces()
    status_page: Annotated[StatusPage, about("a public page, static, off by default")] = StatusPage()
    alerts: Annotated[tuple[Alert, ...], about("incidents that someone is told of")] = ()
    notify: Annotated[dict[str, Notify], kind("named"), about("who is told, and how")] = {}
