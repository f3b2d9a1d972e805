"""What descriptor a thread sleeps on, by the system call that it is in (/proc/PID/task/TID/syscall, proc(5)).

Nothing is stopped for it. It takes the right to trace the process; the numbers of system calls are those of x86-64 and
of ARM64, on other machines nothing is known. A thread that waits for many descriptors at once (an event loop, or any
epoll) waits for none in particular: it is left out.
"""

from __future__ import annotations

import os
import struct
from typing import Final, Literal

from proxy.diagnostics import proc

Does = Literal["read", "write", "connect", "accept"]

DIRECT: Final[dict[str, dict[int, Does]]] = {
    "x86_64": {
        0: "read", 19: "read", 45: "read", 47: "read", 299: "read", 1: "write", 20: "write", 44: "write", 46: "write",
        307: "write", 40: "write", 42: "connect", 43: "accept", 288: "accept",
    },
    "aarch64": {
        63: "read", 65: "read", 207: "read", 212: "read", 243: "read", 64: "write", 66: "write", 206: "write",
        211: "write", 269: "write", 71: "write", 203: "connect", 202: "accept", 242: "accept",
    },
}  # fmt: skip
"""read readv recvfrom recvmsg recvmmsg; write writev sendto sendmsg sendmmsg sendfile; connect; accept accept4. The
descriptor is their first argument, and of sendfile the one that is written to."""
RESTART: Final = {"x86_64": 219, "aarch64": 128}
"""restart_syscall: a poll with a time limit goes on as this after the thread was stopped, as for its stack; its
arguments stand where they stood. Other calls go on as it too, so it is asked where the thread sleeps."""
POLL: Final = {"x86_64": (7, 271), "aarch64": (73,)}
SELECT: Final = {"x86_64": (23, 270), "aarch64": (72,)}
FEW: Final = 8
"""Descriptors in one poll: a socket, and a pipe or two to be woken by. More is an event loop."""
POLLIN, POLLOUT = 0x1, 0x4
_POLLFD = struct.Struct("=iHH")
MACHINE: Final = os.uname().machine


def known() -> bool:
    """Whether it can be told on this machine at all."""
    return MACHINE in DIRECT


def on(pid: int, thread: int) -> list[tuple[Does, int]]:
    """What it does and the descriptors that it may be woken by; []: it runs, or sleeps elsewhere.

    Raises PermissionError, FileNotFoundError, ProcessLookupError.
    """
    fields = proc.small(f"{proc.PROC}/{pid}/task/{thread}/syscall").split()
    if len(fields) < 7 or not known():  # "running", or in the kernel but in no call
        return []
    number, *arguments = int(fields[0]), *(int(field, 16) for field in fields[1:7])
    does = DIRECT[MACHINE].get(number)
    if does is not None:
        return [(does, arguments[0])]
    if number in POLL[MACHINE] or (number == RESTART[MACHINE] and _polls(pid, thread)):
        return _polled(pid, arguments[0], arguments[1])
    if number in SELECT[MACHINE]:
        return _selected(pid, arguments[0], arguments[1], arguments[2])
    return []


def _polls(pid: int, thread: int) -> bool:
    return proc.small(f"{proc.PROC}/{pid}/task/{thread}/wchan").startswith(b"poll_schedule")


def _polled(pid: int, at: int, count: int) -> list[tuple[Does, int]]:
    if not 0 < count <= FEW:
        return []
    found: list[tuple[Does, int]] = []
    for descriptor, events, _ in _POLLFD.iter_unpack(_memory(pid, at, count * _POLLFD.size)):
        if descriptor >= 0 and events & (POLLIN | POLLOUT):
            found.append(("read" if events & POLLIN else "write", descriptor))
    return found


def _selected(pid: int, count: int, reading: int, writing: int) -> list[tuple[Does, int]]:
    """`count` is the highest descriptor and one; a set is bits."""
    length = (min(count, 65536) + 63) // 64 * 8
    found: list[tuple[Does, int]] = []
    sets: tuple[tuple[Does, int], ...] = (("read", reading), ("write", writing))
    for does, at in sets:
        bits = int.from_bytes(_memory(pid, at, length), "little") if at and length else 0
        if bits.bit_count() > FEW:
            return []
        found.extend((does, number) for number in range(bits.bit_length()) if bits >> number & 1)
    return found


def _memory(pid: int, at: int, length: int) -> bytes:
    """b"" when it is not mapped any more: the call is over."""
    file = os.open(proc.PROC / str(pid) / "mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(file, length, at)
    except OSError:
        return b""
    finally:
        os.close(file)
    return data if len(data) == length else b""
