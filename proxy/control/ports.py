"""Free ports, and who listens where.

Reading /proc for one process tree takes some milliseconds, so callers on the loop use a thread.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Container, Iterable
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_LISTEN: Final = "0A"  # TCP_LISTEN, include/net/tcp_states.h


def free_port(taken: Container[int]) -> int:
    """A port of 127.0.0.1 that nobody has, and that is not in `taken` (given out but not listened on yet)."""
    for _ in range(200):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.bind((LOOPBACK, 0))
            port = int(sock.getsockname()[1])
        if port not in taken:
            return port
    raise OSError("no free port found on 127.0.0.1")


def reaches(listens_on: Iterable[str], address: str) -> bool:
    """Whether who connects to `address` comes to one of these."""
    port = address.rpartition(":")[2]
    return any(one in (address, f"0.0.0.0:{port}", f"[::]:{port}") for one in listens_on)


def listening(pids: Iterable[int]) -> list[str]:
    """Where these processes accept connections: "127.0.0.1:5000", "[::]:80", "unix:/run/x.sock"."""
    inodes: set[str] = set()
    one = 0
    for pid in pids:
        found = _socket_inodes(pid)
        if found:
            inodes |= found
            one = pid
    if not inodes:
        return []
    found_at: list[str] = []
    for name in ("tcp", "tcp6"):
        for fields in table(f"/proc/{one}/net/{name}"):
            if len(fields) > 9 and fields[3] == _LISTEN and fields[9] in inodes:
                found_at.append(_address(fields[1]))
    for fields in table(f"/proc/{one}/net/unix"):
        # Num RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON is bit 16 of Flags
        if len(fields) > 7 and fields[6] in inodes and int(fields[3], 16) & 0x10000:
            found_at.append(f"unix:{fields[7]}")
    return sorted(set(found_at))


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(entry.path)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass  # it ended, or is another user's
    return found


def table(path: str) -> list[list[str]]:
    """The rows of a file of /proc/net, as words; [] where it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.split() for line in file.readlines()[1:]]
    except OSError:
        return []


def decoded(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """/proc/net/tcp has each 32-bit word of an address in this machine's byte order."""
    return ipaddress.ip_address(
        b"".join(struct.pack("=I", int(host[at : at + 8], 16)) for at in range(0, len(host), 8))
    )


def _address(text: str) -> str:
    host, _, port = text.partition(":")
    address = decoded(host)
    shown = f"[{address}]" if address.version == 6 else str(address)
    return f"{shown}:{int(port, 16)}"
