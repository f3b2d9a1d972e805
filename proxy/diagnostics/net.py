"""Sockets of a process: in its own network namespace, by sock_diag where the kernel has it, else from /proc.

Also what servers are called by their port or path, and which process of this machine listens where.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from proxy.diagnostics import netlink, proc
from proxy.diagnostics.netlink import Inet, Unix

CLONE_NEWNET: Final = 0x40000000
PORTS: Final = {
    22: "SSH", 25: "SMTP", 465: "SMTP", 587: "SMTP", 53: "DNS", 80: "HTTP", 443: "HTTPS", 88: "Kerberos", 110: "POP3",
    143: "IMAP", 993: "IMAP", 123: "NTP", 389: "LDAP", 636: "LDAP", 514: "syslog", 1433: "SQL Server", 1521: "Oracle",
    1883: "MQTT", 2049: "NFS", 2181: "ZooKeeper", 2379: "etcd", 3306: "MySQL", 3389: "RDP", 4222: "NATS",
    4317: "OpenTelemetry", 4318: "OpenTelemetry", 5432: "PostgreSQL", 5671: "AMQP", 5672: "AMQP", 6379: "Redis",
    6380: "Redis", 6432: "PgBouncer", 7000: "Cassandra", 8086: "InfluxDB", 8125: "StatsD", 8200: "Vault",
    8300: "Consul", 8500: "Consul", 9000: "ClickHouse or FastCGI", 8123: "ClickHouse", 9042: "Cassandra",
    9092: "Kafka", 9093: "Kafka", 9200: "Elasticsearch", 9300: "Elasticsearch", 11211: "memcached",
    26257: "CockroachDB", 26379: "Redis Sentinel", 27017: "MongoDB", 27018: "MongoDB", 50051: "gRPC",
}  # fmt: skip
"""What usually listens there: IANA's names, and the defaults of what web apps talk to."""
PATHS: Final = {
    ".s.PGSQL.": "PostgreSQL", "mysql": "MySQL", "mariadb": "MySQL", "redis": "Redis", "memcached": "memcached",
    "mongodb": "MongoDB", "pgbouncer": "PgBouncer", "docker.sock": "Docker", "nscd": "name service cache",
    "dbus": "D-Bus", "systemd/journal": "journal", "php": "PHP",
}  # fmt: skip
UNIX_LISTENS: Final = 0x10000  # __SO_ACCEPTCON
UNIX_CONNECTED: Final = 3
DESCRIPTORS: Final = 20_000
"""Descriptors of an instance that are looked at: some 3 us each."""
ROWS: Final = 50_000
"""TCP sockets of a namespace that are kept, some 500 bytes each; those that are asked for, and that listen, always."""
SEARCHED: Final = 60_000
"""Descriptors of the whole machine that are looked at to find who listens."""


def named(port: int) -> str:
    """PostgreSQL, by its port; "" when that tells nothing."""
    return PORTS.get(port, "")


def path_named(path: str) -> str:
    """PostgreSQL, by the path of its socket; "" when that tells nothing."""
    return next((name for part, name in PATHS.items() if part in path), "")


def written(host: str, port: int) -> str:
    """ "10.0.3.12:5432", "[::1]:5432"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def descriptors(pid: int, most: int = DESCRIPTORS) -> dict[int, str]:
    """Number to what it leads to, as the kernel names it. Raises PermissionError, FileNotFoundError."""
    found: dict[int, str] = {}
    folder = f"{proc.PROC}/{pid}/fd"
    for name in os.listdir(folder)[:most]:
        try:
            found[int(name)] = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue  # closed meanwhile
    return found


def inode(link: str) -> int:
    """Of `socket:[123]`; 0 when it is something else."""
    return int(link[8:-1]) if link.startswith("socket:[") else 0


def namespace(pid: int) -> str:
    """Raises PermissionError, FileNotFoundError."""
    return os.readlink(proc.PROC / str(pid) / "ns/net")


@contextmanager
def within(pid: int) -> Iterator[None]:
    """In the network namespace of another process; nothing is done when it is ours.

    Only this thread moves. Raises PermissionError without CAP_SYS_ADMIN.
    """
    if namespace(pid) == os.readlink("/proc/thread-self/ns/net"):
        yield
        return
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        theirs = os.open(proc.PROC / str(pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(theirs)
        finally:
            os.close(theirs)
        try:
            yield
        finally:
            _enter(ours)
    finally:
        os.close(ours)


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class View:
    """The sockets of one network namespace. `why` they come from /proc, without ages; "": they don't. `cut`: the most
    that were left out of one look."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.why = ""
        self.cut = 0
        self.ports_range: tuple[int, int] | None = None
        self._link: netlink.Link | None = None
        try:
            with within(pid):
                self._link = netlink.Link()
                self.ports_range = _range()
            for _ in self._link.tcp(set()):
                pass
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None
        self.why = f"sock_diag: {(error.strerror or str(error)).lower()}"

    def tcp(self, wanted: set[int]) -> list[Inet]:
        """All of the namespace, as far as ROWS goes; with tcp_info those whose inode is in `wanted`."""
        if self._link is not None:
            try:
                return self._kept(self._link.tcp(wanted), wanted)
            except OSError as error:
                self._give_up(error)
        return self._kept((row for kind in ("tcp", "tcp6") for row in table(self.pid, kind)), wanted)

    def _kept(self, rows: Iterable[Inet], wanted: set[int]) -> list[Inet]:
        """The kernel is heard to the end: a dump that is broken off keeps the link from the next one."""
        found: list[Inet] = []
        cut = 0
        for row in rows:
            if len(found) < ROWS or row.state == netlink.LISTEN or row.inode in wanted:
                found.append(row)
            else:
                cut += 1
        self.cut = max(self.cut, cut)
        return found

    def note(self) -> str:
        """What is missing from it, in words; "" when nothing is."""
        more = f"TCP sockets: {ROWS:,} were looked at, {self.cut:,} more of the machine were not" if self.cut else ""
        return "; ".join(part for part in (self.why, more) if part)

    def udp(self) -> list[Inet]:
        """Those that are connected."""
        if self._link is not None:
            try:
                return list(self._link.udp())
            except OSError as error:
                self._give_up(error)
        rows = [row for kind in ("udp", "udp6") for row in table(self.pid, kind)]
        return [row for row in rows if row.remote[1]]

    def unix(self) -> list[Unix]:
        """From /proc they have no peers."""
        if self._link is not None:
            try:
                return list(self._link.unix())
            except OSError as error:
                self.why = f"unix_diag: {(error.strerror or str(error)).lower()}"
        return list(unix_table(self.pid))

    def close(self) -> None:
        if self._link is not None:
            self._link.close()


def _range() -> tuple[int, int] | None:
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return None
    return int(first), int(last)


def decoded(text: str) -> tuple[str, int]:
    """`0100007F:1F90` to 127.0.0.1, 8080: the kernel writes each 32 bits in the machine's order."""
    host, _, port = text.partition(":")
    packed = b"".join(int(host[at : at + 8], 16).to_bytes(4, "little") for at in range(0, len(host), 8))
    if len(packed) == 16 and packed[:12] == b"\0" * 10 + b"\xff\xff":
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed), int(port, 16)


def table(pid: int, kind: str) -> Iterator[Inet]:
    """tcp tcp6 udp udp6 of /proc. The most that may wait to be accepted is not in it: `send` of those is -1."""
    try:
        file = (proc.PROC / str(pid) / "net" / kind).open()
    except FileNotFoundError:
        return  # no IPv6 here
    with file:
        for line in islice(file, 1, None):
            fields = line.split()
            send, _, receive = fields[4].partition(":")
            state = int(fields[3], 16)
            yield Inet(
                netlink.SYN_RECV if state == 12 else state, decoded(fields[1]), decoded(fields[2]), int(receive, 16),
                -1 if state == netlink.LISTEN else int(send, 16), int(fields[9]), None, kind.endswith("6"),
            )  # fmt: skip


def unix_table(pid: int) -> Iterator[Unix]:
    """Of /proc, where they have no peers and no queues."""
    for line in (proc.PROC / str(pid) / "net/unix").read_text(errors="replace").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        listens = bool(int(fields[3], 16) & UNIX_LISTENS)
        state = netlink.LISTEN if listens else 1 if int(fields[5], 16) == UNIX_CONNECTED else netlink.CLOSE
        stream = int(fields[4], 16) != socket.SOCK_DGRAM
        yield Unix(state, int(fields[6]), fields[7] if len(fields) > 7 else "", 0, 0, -1, (), stream)


def holders(inodes: Iterable[int]) -> dict[int, tuple[int, str]]:
    """Which process has each of these sockets: pid and name; those that may be looked into, and were found in time."""
    wanted = set(inodes)
    found: dict[int, tuple[int, str]] = {}
    left = SEARCHED
    for name in os.listdir(proc.PROC):
        if not name.isdigit() or not wanted or left <= 0:
            continue
        try:
            links = descriptors(int(name), left)
        except OSError:
            continue
        left -= len(links)
        for link in links.values():
            number = inode(link)
            if number in wanted:
                wanted.discard(number)
                found[number] = (int(name), comm(int(name)))
    return found


def comm(pid: int) -> str:
    """The name of a process; "" when it is gone."""
    try:
        return (proc.PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""
