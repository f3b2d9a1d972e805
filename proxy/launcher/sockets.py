"""Listening sockets: one plain bind of each address, then one SO_REUSEPORT socket per worker slot, kept.

Always true:
  - slot 0 of a TCP address is the socket that was bound plainly: so whoever has the address, another Triage
    too, is found out, and there is no moment in which it is free. It joins the others' group afterwards
    (SO_REUSEPORT set after bind, before listen);
  - a socket listens from the start: what connects while no worker accepts waits in its backlog;
  - a per-worker socket is never given up while its address is listened on: who closes the last copy of one resets what
    came between the last accept and the close, which no order of steps prevents. Fewer workers accept from all of them;
  - a Unix socket and an admin address are one socket for all.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import grp
import os
import pwd
import socket
import stat
import struct
from typing import Any, Final

from proxy.launcher import processes
from proxy.link.spawn import Address, Listener

BACKLOG: Final = 4096
SO_ATTACH_REUSEPORT_CBPF: Final = 51  # asm-generic/socket.h; the socket module has no name for it


class CannotListen(Exception):
    """The address can't be had; the text says which and why."""

    def __init__(self, text: str, number: int = 0) -> None:
        super().__init__(text)
        self.errno = number


class Listening:
    """One address with its sockets, by held name."""

    def __init__(self, address: Address, *, single: bool = False) -> None:
        self.name = address["name"]
        self.address = address
        self.single = single or address["kind"] == "unix"
        """one socket for all"""
        self.sockets: list[socket.socket] = []
        self.host = _bare(address.get("host", ""))
        self.port = int(address.get("port", 0))
        self.path = address.get("path", "")
        self._family = socket.AF_UNIX
        self._sockaddr: Any = self.path
        self._v6only = False
        self._file: tuple[int, int] | None = None

    def held(self) -> dict[str, int]:
        return {self.held_name(slot): sock.fileno() for slot, sock in enumerate(self.sockets)}

    def held_name(self, slot: int) -> str:
        return self.name if self.single else f"{self.name}/{slot}"

    def describe(self, slots: int) -> Listener:
        names = [self.held_name(0 if self.single else slot) for slot in range(slots)]
        kind, path = self.address["kind"], self.path
        return Listener(name=self.name, kind=kind, host=self.host, port=self.port, path=path, sockets=names)

    def told(self) -> dict[str, Any]:
        """For a launcher of newer code; the descriptors are those of `held`."""
        return {
            "address": self.address, "single": self.single, "fds": list(self.held().values()),
            "host": self.host, "port": self.port, "path": self.path,
            "family": int(self._family), "sockaddr": self._sockaddr, "v6only": self._v6only, "file": self._file,
        }  # fmt: skip

    @classmethod
    def resumed(cls, row: dict[str, Any]) -> Listening:
        """From `told`; it has yet to `take` its sockets."""
        one = cls(row["address"], single=row["single"])
        one.host, one.port, one.path = row["host"], row["port"], row["path"]
        one._family, one._v6only = socket.AddressFamily(row["family"]), row["v6only"]
        one._sockaddr = tuple(row["sockaddr"]) if isinstance(row["sockaddr"], list) else row["sockaddr"]
        one._file = (row["file"][0], row["file"][1]) if row["file"] else None
        return one

    def take(self, fds: list[int]) -> None:
        self.sockets = [socket.socket(fileno=fd) for fd in fds]

    def __str__(self) -> str:
        if self.address["kind"] == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def open(self, slots: int, others: list[Listening]) -> None:
        """Bind and listen; raises CannotListen. `others`: IPv6 leaves IPv4 to one that names it."""
        if self.address["kind"] == "unix":
            self._open_unix()
            return
        self._resolve()
        self._v6only = self.port != 0 and any(o.host == "0.0.0.0" and o.port == self.port for o in others)
        first = self._bind(reuse=False)
        self._sockaddr = first.getsockname()
        self.port = self._sockaddr[1]
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.listen(_backlog())
        self.sockets.append(first)
        self.resize(slots)

    def resize(self, slots: int) -> None:
        """Open or close per-worker sockets; slot 0 stays. One that may have connections is not to be closed."""
        if self.single:
            return
        while len(self.sockets) < slots:
            sock = self._bind(reuse=True)
            sock.listen(_backlog())
            self.sockets.append(sock)
        while len(self.sockets) > max(1, slots):
            self.sockets.pop().close()

    def steer(self, slots: int) -> None:
        """New connections go to the first `slots` sockets only. Where a kernel refuses, they go to all as before."""
        if self.single or not self.sockets:
            return
        with contextlib.suppress(OSError):
            _spread_over(self.sockets[0], min(slots, len(self.sockets)))

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()
        if self._file is not None:
            try:
                row = os.lstat(self.path)
                if (row.st_dev, row.st_ino) == self._file:
                    os.unlink(self.path)
            except OSError:
                pass

    def _resolve(self) -> None:
        try:
            kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
            found = socket.getaddrinfo(self.host or None, self.port, type=kind, flags=flags)
        except (socket.gaierror, UnicodeError) as error:
            raise CannotListen(f"{self}: {self.host} is not an address of this machine: {error}") from None
        self._family, self._sockaddr = socket.AddressFamily(found[0][0]), found[0][4]

    def _bind(self, *, reuse: bool) -> socket.socket:
        try:
            sock = socket.socket(self._family, socket.SOCK_STREAM)
        except OSError as error:
            raise CannotListen(f"{self}: {error.strerror}", error.errno or 0) from None
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, self._v6only)
            if reuse:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(self._sockaddr)
        except OSError as error:
            sock.close()
            raise CannotListen(self._explain(error), error.errno or 0) from None
        return sock

    def _explain(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return f"{self} is in use by {holder_of(self.port)}"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"{self}: no interface of this machine has the address {self.host}"
        if error.errno == errno.EACCES:
            return f"{self}: a port below 1024 needs root or CAP_NET_BIND_SERVICE"
        return f"{self}: {error.strerror}"

    def _open_unix(self) -> None:
        """A socket file that nobody answers on is a dead predecessor's: replaced. All else is left alone."""
        try:
            os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
            _clear_stale(self.path)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise CannotListen(f"{self}: {error.strerror}", error.errno or 0) from None
        mode = self.address.get("mode", 0o666)
        before = os.umask(0o777 & ~mode)  # the file is never there with a wider mode
        try:
            sock.setblocking(False)
            sock.bind(self.path)
            self._give_to_group(self.address.get("group", ""))
            sock.listen(_backlog())
        except OSError as error:
            sock.close()
            why = error.strerror or f"{error}; a Unix socket's path has at most 107 bytes"
            raise CannotListen(f"{self}: {why}", error.errno or 0) from None
        finally:
            os.umask(before)
        row = os.lstat(self.path)
        self._file = (row.st_dev, row.st_ino)
        self.sockets.append(sock)

    def _give_to_group(self, group: str) -> None:
        if group:
            try:
                os.chown(self.path, -1, grp.getgrnam(group).gr_gid)
            except (KeyError, OSError):
                pass


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _spread_over(sock: socket.socket, count: int) -> None:
    """Give the socket's SO_REUSEPORT group a classic BPF program: which one is a random number modulo `count`."""
    code = (
        (0x20, 0xFFFFF000 + 56),  # A = random: ld [SKF_AD_OFF + SKF_AD_RANDOM]
        (0x94, count),  # A %= count
        (0x16, 0),  # ret A
    )
    steps = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", op, 0, 0, value) for op, value in code))
    program = struct.pack("@HP", len(code), ctypes.addressof(steps))  # struct sock_fprog; the kernel copies the steps
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)


def _backlog() -> int:
    try:
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
            return min(BACKLOG, int(file.read()))
    except (OSError, ValueError):
        return BACKLOG


def _clear_stale(path: str) -> None:
    try:
        row = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(row.st_mode):
        raise CannotListen(f"unix:{path}: there is a file of that name, and it is not a socket", errno.EEXIST)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            os.unlink(path)
            return
        except BlockingIOError:  # its backlog is full: somebody listens
            raise CannotListen(f"unix:{path} is in use by another process", errno.EADDRINUSE) from None
        pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    raise CannotListen(f"unix:{path} is in use by {processes.command_of(pid)} (pid {pid})", errno.EADDRINUSE)


def holder_of(port: int) -> str:
    """Who listens on a TCP port, best effort: `nginx (pid 812)`."""
    inodes: set[str] = set()
    owner = ""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                for fields in map(str.split, file):
                    if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                        inodes.add(f"socket:[{fields[9]}]")
                        owner = fields[7]
        except (OSError, ValueError, IndexError):
            continue
    for pid in processes.everyone() if inodes else ():
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                        return f"{processes.command_of(pid)} (pid {pid})"
                except OSError:
                    continue
        except OSError:
            continue
    if not owner:
        return "another process"
    try:
        owner = pwd.getpwuid(int(owner)).pw_name
    except (KeyError, ValueError):
        owner = f"uid {owner}"
    return f"another process, of {owner}"
