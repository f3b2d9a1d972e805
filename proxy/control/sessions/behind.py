"""The process behind a given address, if it runs on this machine: who listens there. For a thread: it reads /proc."""

from __future__ import annotations

import ipaddress
import os
from typing import Final

from proxy.control import ports
from proxy.control.state import InstanceState

_LISTEN: Final = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_ACCEPTS: Final = 0x10000  # __SO_ACCEPTCON
MOST: Final = 4096
"""Processes that are looked at."""


def local(state: InstanceState) -> bool:
    """Whether it can be a process of this machine, by its address alone."""
    if state.path:
        return True
    hosts = state.resolved or ((state.host,) if state.host else ())
    return any(_loopback(host) for host in hosts)


def process(state: InstanceState) -> tuple[int, int]:
    """Its pid and start (clock ticks since boot); (0, 0): it can't be seen from here. Of several that share the
    socket, the oldest: those that it forked have it too."""
    inodes = _of_path(state.path) if state.path else _of_port(state)
    if not inodes:
        return 0, 0
    found: list[tuple[int, int]] = []
    for pid in _pids():
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                if not any(_inode(entry.path) in inodes for entry in entries):
                    continue
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                found.append((int(file.read().rpartition(")")[2].split()[19]), pid))
        except (OSError, ValueError, IndexError):
            continue  # it ended, or is another user's
    if not found:
        return 0, 0
    started, pid = min(found)
    return pid, started


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())[:MOST]


def _inode(path: str) -> str:
    try:
        target = os.readlink(path)
    except OSError:
        return ""
    return target[8:-1] if target.startswith("socket:[") else ""


def _of_path(path: str) -> set[str]:
    return {
        fields[6]
        for fields in ports.table("/proc/net/unix")
        if len(fields) > 7 and fields[7] == path and int(fields[3], 16) & _ACCEPTS
    }


def _of_port(state: InstanceState) -> set[str]:
    """Of sockets that accept what is sent to a loopback address of it."""
    hosts = state.resolved or (state.host,)
    wanted = {ipaddress.ip_address(host) for host in hosts if _loopback(host)}
    found: set[str] = set()
    for name in ("tcp", "tcp6"):
        for fields in ports.table(f"/proc/net/{name}"):
            if len(fields) < 10 or fields[3] != _LISTEN:
                continue
            host, _, port = fields[1].partition(":")
            if int(port, 16) == state.port and _takes(ports.decoded(host), wanted):
                found.add(fields[9])
    return found


def _takes(
    bound: ipaddress.IPv4Address | ipaddress.IPv6Address, wanted: set[ipaddress.IPv4Address | ipaddress.IPv6Address]
) -> bool:
    if bound.is_unspecified:
        return True
    mapped = bound.ipv4_mapped if isinstance(bound, ipaddress.IPv6Address) else None
    return bound in wanted or mapped in wanted


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
