"""Free ports, and who listens where.

Reading /proc for one process tree takes some milliseconds, so callers on the loop use a thread.
"""

from __future__ import annotations

import ipaddress
import os
import random
import socket
import struct
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
LOCAL_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_REGISTERED: Final = 20000  # most of what a machine's other programs listen on is below
_ENOUGH: Final = 2000
_LISTEN: Final = "0A"  # TCP_LISTEN, include/net/tcp_states.h


def free_port(taken: Container[int]) -> int:
    """A port of 127.0.0.1 that nobody has, and that is not in `taken` (given out but not listened on yet).

    Outside the range from which the kernel takes those of outgoing connections, where there is room: the app listens
    half a second from now, and until then one of thousands of connections may have taken a port of that range.
    """
    range_ = _kept_free()
    for attempt in range(200):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            try:
                sock.bind((LOOPBACK, random.choice(range_) if attempt < 100 and range_ else 0))
            except OSError:
                continue
            port = int(sock.getsockname()[1])
        if port not in taken:
            return port
    raise OSError("no free port found on 127.0.0.1")


def _kept_free() -> range:
    """Ports that no outgoing connection gets by itself; those above the range first, as few programs listen there."""
    try:
        first, last = map(int, LOCAL_RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return range(0)
    above, below = range(last + 1, 65536), range(_REGISTERED, first)
    return above if len(above) >= _ENOUGH else below if len(below) >= _ENOUGH else range(0)


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
