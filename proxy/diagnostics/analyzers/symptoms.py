"""What errors in an app's output say about what lies behind them: a peer that refuses, a full disk, a used-up limit.

Reads texts as libraries and the C library word them (errno names and their strerror), of any runtime.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.diagnostics.artifacts import Known

PORTS: Final = {
    "5432": "PostgreSQL",
    "3306": "MySQL",
    "6379": "Redis",
    "27017": "MongoDB",
    "11211": "memcached",
    "9092": "Kafka",
    "5672": "RabbitMQ",
    "9200": "Elasticsearch",
    "1433": "SQL Server",
    "1521": "Oracle",
    "2379": "etcd",
    "25": "SMTP",
    "587": "SMTP",
    "389": "LDAP",
    "53": "DNS",
    "443": "HTTPS",
    "80": "HTTP",
    "6432": "PgBouncer",
    "4222": "NATS",
}
"""What usually listens at a port: a guess that is always said to be one."""

SHORT: Final = 400
"""Characters of a line whose kind is remembered."""
_KINDS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("watches", re.compile(r"(?:inotify|ENOSPC: System limit for number of file watchers)", re.IGNORECASE)),
    (
        "disk-full",
        re.compile(
            r"\bENOSPC\b|[Nn]o space left on device|\[Errno 28\]|database or disk is full|disk quota exceeded"
            r"|\bEDQUOT\b",
            re.IGNORECASE,
        ),
    ),
    ("descriptors", re.compile(r"\bE[MN]FILE\b|[Tt]oo many open files|\[Errno 2[34]\]")),
    (
        "threads",
        re.compile(
            r"can't start new thread|[Rr]esource temporarily unavailable.*(?:fork|thread|pthread)"
            r"|pthread_create failed|unable to create (?:new )?native thread|cannot fork|fork: retry"
        ),
    ),
    (
        "memory",
        re.compile(
            r"\bMemoryError\b|[Cc]annot allocate memory|\bENOMEM\b|std::bad_alloc|OutOfMemoryError|Unable to allocate"
        ),
    ),
    ("readonly", re.compile(r"\bEROFS\b|[Rr]ead-only file system|\[Errno 30\]|readonly database")),
    ("permission", re.compile(r"\bPermissionError\b|\bEACCES\b|[Pp]ermission denied|\[Errno 13\]")),
    (
        "peer-full",
        re.compile(
            r"remaining connection slots|too many clients|[Tt]oo many connections|max number of clients reached"
            r"|connection limit exceeded|no more connections allowed|ORA-00020|User \S+ has exceeded the 'max_"
        ),
    ),
    (
        "pool",
        re.compile(
            r"QueuePool limit|[Pp]ool(?:ed)?(?: \w+){0,3} (?:timeout|timed out|exhausted|is full|is empty|closed)"
            r"|PoolTimeout|PoolError|PoolExhausted|connection pool exhausted|Timeout acquiring a connection"
            r"|couldn't get a connection after|Connection is not available, request timed out after"
            r"|TimeoutError: ResourceRequest timed out"
        ),
    ),
    ("refused", re.compile(r"ConnectionRefused|\bECONNREFUSED\b|[Cc]onnection refused|\[Errno 111\]|actively refused")),
    (
        "unresolved",
        re.compile(
            r"\bgaierror\b|Name or service not known|\bENOTFOUND\b|\bEAI_AGAIN\b|Temporary failure in name resolution"
            r"|nodename nor servname|No address associated with hostname|no such host|UnknownHostException"
            r"|Failed to resolve"
        ),
    ),
    (
        "unreachable",
        re.compile(
            r"\bEHOSTUNREACH\b|\bENETUNREACH\b|No route to host|Network is unreachable|\[Errno 11[3]\]|\[Errno 101\]"
        ),
    ),
    (
        "lost",
        re.compile(
            r"server closed the connection unexpectedly|MySQL server has gone away|Lost connection to|\bECONNRESET\b"
            r"|Connection reset by peer|ConnectionResetError|RemoteDisconnected|socket hang up"
            r"|terminating connection due to"
        ),
    ),
    (
        "peer-slow",
        re.compile(
            r"\bETIMEDOUT\b|\bESOCKETTIMEDOUT\b|ReadTimeout|ConnectTimeout|[Rr]ead timed out"
            r"|[Cc]onnect(?:ion)? timed out|statement timeout|Lock wait timeout|QueryCanceled|canceling statement"
            r"|deadline exceeded",
            re.IGNORECASE,
        ),
    ),
    (
        "tls",
        re.compile(
            r"CERTIFICATE_VERIFY_FAILED|certificate has expired|certificate verify failed|CERT_HAS_EXPIRED|x509: "
        ),
    ),
    (
        "time",
        re.compile(
            r"ExpiredSignature|[Ss]ignature has expired|[Tt]oken (?:is )?(?:not yet valid|has expired|used before)"
            r"|ImmatureSignature|RequestTimeTooSkewed|clock skew",
            re.IGNORECASE,
        ),
    ),
    ("missing-file", re.compile(r"FileNotFoundError|\bENOENT\b|[Nn]o such file or directory")),
)
_ADDRESSES: Final = (
    re.compile(r"\(?['\"](?P<host>[\w.-]+|[0-9a-fA-F:]+)['\"], (?:port )?(?P<port>\d{2,5})\b"),
    re.compile(r"host='?(?P<host>[\w.-]+)'?,? port=(?P<port>\d{2,5})"),
    re.compile(r"\(?\"(?P<host>[\w.:-]+)\"(?: \([\w.:]+\))?,? port (?P<port>\d{2,5})"),
    re.compile(
        r"(?:https?|tcp|redis|amqp|postgres\w*|mysql|mongodb)://(?:[^\s/@]*@)?(?P<host>[\w.-]+):(?P<port>\d{2,5})"
    ),
    re.compile(
        r"(?<![\w.:/-])(?P<host>(?:\d{1,3}\.){3}\d{1,3}|localhost|[a-z][\w-]*(?:\.[\w-]+)+"
        r"|\[[0-9a-f:]+\]):(?P<port>\d{2,5})\b(?!:)"
    ),
    re.compile(
        r"\b(?:to|at|server) (?:server )?(?P<host>(?:\d{1,3}\.){3}\d{1,3}|localhost) (?:on )?port (?P<port>\d{2,5})"
    ),
)
_HOSTS: Final = (
    re.compile(r"(?:getaddrinfo (?:ENOTFOUND|EAI_AGAIN)|lookup) (?P<host>[\w.-]+)"),
    re.compile(r"(?:resolve|host name|hostname|host) ['\"]?(?P<host>[\w-]+(?:\.[\w-]+)+)['\"]?"),
)
_FILE: Final = re.compile(
    r"(?:['\"](?P<quoted>/[^'\"]{1,200})['\"]|(?:open|write|mkdir|unlink|rename|stat) (?P<bare>/\S{1,200}))"
)
_SOURCES: Final = frozenset(
    (
        "py",
        "js",
        "ts",
        "mjs",
        "cjs",
        "jsx",
        "tsx",
        "go",
        "rb",
        "java",
        "kt",
        "php",
        "rs",
        "c",
        "cc",
        "cpp",
        "h",
        "cs",
        "ex",
        "exs",
        "pl",
        "lua",
        "scala",
        "swift",
        "vue",
        "sql",
        "log",
    )
)
"""`app.py:42` is a line of a file, not an address."""
PEERS: Final = frozenset({"refused", "unresolved", "unreachable", "lost", "peer-slow", "peer-full"})
"""Kinds that are about something the app asks."""


class Said(NamedTuple):
    """One line or exception that says something."""

    at: float
    instance: str
    text: str


@dataclass(slots=True)
class Symptom:
    """All that says the same. `number`: how often, exceptions counted in full."""

    kind: str
    peer: str = ""  # "10.0.3.12:5432" or a host; "": none is named
    said: list[Said] = field(default_factory=list)
    number: int = 0
    where: str = ""  # the app's own line, of the group that is seen most
    paths: list[str] = field(default_factory=list)  # files that are named


def kind_of(text: str) -> str:
    """Which kind a text is of; "" if none."""
    return _short(text) if len(text) <= SHORT else _kind(text)


def _kind(text: str) -> str:
    return next((kind for kind, pattern in _KINDS if pattern.search(text)), "")


_short: Final = lru_cache(maxsize=2048)(_kind)
"""Several analyzers ask for the same lines, at 0.1 ms each; about 1 MB at most."""


def peer_of(text: str) -> str:
    """The address or host that a text names; "" if none."""
    for pattern in _ADDRESSES:
        for one in pattern.finditer(text):
            if one["host"].rpartition(".")[2].lower() not in _SOURCES:
                return f"{one['host']}:{one['port']}"
    return next((match["host"] for pattern in _HOSTS if (match := pattern.search(text))), "")


def named(peer: str) -> str:
    """ "10.0.3.12:5432 (PostgreSQL, by its port)"."""
    usual = PORTS.get(peer.rpartition(":")[2], "") if ":" in peer else ""
    return f"{peer} ({usual}, by its port)" if usual else peer


def find(known: Known, since: float) -> dict[str, list[Symptom]]:
    """By kind, the most frequent first: from exceptions of any handler and from lines that were printed."""
    found: dict[tuple[str, str], Symptom] = {}
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for group in known.exceptions:
        if group.last_at < since:
            continue
        text = f"{group.type}: {group.message}"
        kind = kind_of(text) or next((each for line in reversed(group.sample[-4:]) if (each := kind_of(line))), "")
        if not kind:
            continue
        rest = [line for line in group.sample[-6:] if not line.lstrip().startswith(("File ", "at "))]
        one = _symptom(found, kind, peer_of(text) or peer_of(" ".join(rest)), text)
        count = group.lately or group.count
        one.number += count
        if count >= counted[kind, one.peer]:
            counted[kind, one.peer], one.where = count, group.where
        one.said += [Said(group.last_at, name, text) for name in group.instances[-3:] or [""]]
    of_groups = {(key[0]) for key in found}
    for name, lines in known.lines.items():
        for line in lines:
            if line.at < since:
                continue
            kind = kind_of(line.text)
            if not kind:
                continue
            one = _symptom(found, kind, peer_of(line.text), line.text)
            one.said.append(Said(line.at, name, line.text))
            if kind not in of_groups:
                one.number += 1
    by_kind: dict[str, list[Symptom]] = defaultdict(list)
    for one in found.values():
        one.said.sort()
        by_kind[one.kind].append(one)
    for kind, several in by_kind.items():
        by_kind[kind] = _joined(several)
    return dict(by_kind)


def _symptom(found: dict[tuple[str, str], Symptom], kind: str, peer: str, text: str) -> Symptom:
    peer = peer if kind in PEERS else ""
    one = found.setdefault((kind, peer), Symptom(kind, peer))
    if file := _FILE.search(text):
        path = file["quoted"] or file["bare"]
        if path not in one.paths and len(one.paths) < 20:
            one.paths.append(path)
    return one


def _joined(several: list[Symptom]) -> list[Symptom]:
    """What names no peer belongs to the one that is named, where there is but one."""
    with_peer = [one for one in several if one.peer]
    nameless = [one for one in several if not one.peer]
    if len(with_peer) == 1 and nameless:
        main, rest = with_peer[0], nameless[0]
        main.said = sorted([*main.said, *rest.said])
        main.number += rest.number
        main.where = main.where or rest.where
        return [main]
    return sorted(several, key=lambda one: -one.number)
