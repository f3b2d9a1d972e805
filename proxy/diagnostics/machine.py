"""Counters of the machine in /proc, parsed. What a kernel does not have is left out."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
NETWORK: Final = frozenset(
    {
        "ListenOverflows", "ListenDrops", "TCPTimeouts", "TCPAbortOnMemory", "TCPAbortOnTimeout", "TCPAbortOnData",
        "TCPAbortOnClose", "TCPMemoryPressures", "TCPReqQFullDrop", "TCPReqQFullDoCookies", "TCPTimeWaitOverflow",
        "TCPSynRetrans", "TCPRetransFail", "TCPBacklogDrop", "TCPRcvQDrop", "TCPZeroWindowDrop", "TCPToZeroWindowAdv",
        "PruneCalled", "SyncookiesSent", "RetransSegs", "OutSegs", "InSegs", "AttemptFails", "EstabResets", "OutRsts",
        "ActiveOpens", "PassiveOpens", "InErrs", "RcvbufErrors", "SndbufErrors", "NoPorts",
    }
)  # fmt: skip
"""Of TcpExt, Tcp and Udp: what tells of refused, lost and given-up connections, and how much there was beside it."""
TIME_ERROR: Final = 5


def text(name: str) -> str:
    """ "" when it can't be read."""
    try:
        return (PROC / name).read_text(errors="replace")
    except OSError:
        return ""


def numbers(name: str) -> list[int]:
    """All that stand in a file of whole numbers; [] when there is none."""
    return [int(word) for word in text(name).split() if word.lstrip("-").isdigit()]


def table(name: str) -> dict[str, int]:
    """`Name: 1 kB` or `name 1` lines; kB are made bytes."""
    found = {}
    for line in text(name).splitlines():
        fields = line.replace(":", " ").split()
        if len(fields) >= 2 and fields[1].isdigit():
            found[fields[0]] = int(fields[1]) * (1024 if fields[2:3] == ["kB"] else 1)
    return found


def cpu() -> list[int]:
    """Ticks of all cores: user nice system idle iowait irq softirq steal …, proc_stat(5)."""
    return [int(field) for field in text("stat").partition("\n")[0].split()[1:]]


def network() -> dict[str, float]:
    """Counters by name. Drops of interfaces as "eth0 drops", of the receiving queues as "softnet drops"."""
    found: dict[str, float] = {}
    for name in ("net/netstat", "net/snmp"):
        lines = text(name).splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            protocol, _, words = names.partition(": ")
            for key, value in zip(words.split(), values.partition(": ")[2].split(), strict=False):
                if key in NETWORK and protocol in ("TcpExt", "Tcp", "Udp"):
                    found[f"Udp {key}" if protocol == "Udp" else key] = float(value)
    for line in text("net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = [int(field) for field in rest.split()]
        if len(fields) >= 12:
            found[f"{name.strip()} errors"] = fields[2] + fields[10]
            found[f"{name.strip()} drops"] = fields[3] + fields[11]
    rows = [line.split() for line in text("net/softnet_stat").splitlines()]
    if rows:
        found["softnet drops"] = sum(int(row[1], 16) for row in rows)
    return found


def devices() -> dict[str, list[int]]:
    """Of whole disks the counters of /proc/diskstats (Documentation/admin-guide/iostats.rst), from the fourth on."""
    try:
        whole = {name for name in os.listdir("/sys/block") if not name.startswith(("loop", "ram", "zram", "sr"))}
    except OSError:
        return {}
    found = {}
    for line in text("diskstats").splitlines():
        fields = line.split()
        if len(fields) >= 14 and fields[2] in whole:
            found[fields[2]] = [int(field) for field in fields[3:]]
    return found


def used_devices(before: dict[str, list[int]], now: dict[str, list[int]], lasted: float) -> dict[str, dict[str, float]]:
    """Between two looks at `devices`: busy is a share of the time, wait the mean seconds of an operation."""
    found = {}
    for name, after in now.items():
        grown = [one - other for one, other in zip(after, before.get(name, after), strict=False)]
        operations = grown[0] + grown[4]
        found[name] = {
            "busy": round(min(1.0, grown[9] / 1000 / lasted), 3),
            "wait": round((grown[3] + grown[7]) / 1000 / operations, 4) if operations else 0.0,
            "operations": round(operations / lasted, 1),
            "read": round(grown[2] * 512 / lasted),
            "written": round(grown[6] * 512 / lasted),
        }
    return found


def pressure() -> dict[str, float]:
    """ "cpu some": share of the last 10 s in which someone waited for it; {} where the kernel does not keep it."""
    found = {}
    for name in ("cpu", "memory", "io"):
        for line in text(f"pressure/{name}").splitlines():
            kind, _, rest = line.partition(" avg10=")
            if rest:
                found[f"{name} {kind}"] = round(float(rest.split()[0]) / 100, 4)
    return found


def clock_synced() -> bool | None:
    """Whether the kernel was told that the clock follows others, adjtimex(2). None: it can't be asked."""
    asked = ctypes.create_string_buffer(512)  # struct timex, which has modes first: 0 changes nothing
    state = ctypes.CDLL(None).adjtimex(asked)
    return None if state < 0 else state != TIME_ERROR


def cores(quota: float | None) -> float:
    """That this process may use: its affinity, and the quota of its cgroup."""
    allowed = float(len(os.sched_getaffinity(0)))
    return min(allowed, quota) if quota else allowed
