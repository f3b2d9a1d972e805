"""Where a process's threads are in the kernel: for what no tool can look into. It is not stopped for that."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import Frame, ProcessStacks, ThreadStack

THREADS: Final = 256
SYSCALLS: Final[dict[str, dict[int, str]]] = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 9: "mmap", 17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev",
        23: "select", 34: "pause", 35: "nanosleep", 42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom",
        46: "sendmsg", 47: "recvmsg", 61: "wait4", 73: "flock", 74: "fsync", 75: "fdatasync", 128: "rt_sigtimedwait",
        202: "futex", 230: "clock_nanosleep", 232: "epoll_wait", 247: "waitid", 257: "openat", 270: "pselect6",
        271: "ppoll", 281: "epoll_pwait", 288: "accept4", 426: "io_uring_enter", 441: "epoll_pwait2",
        449: "futex_waitv",
    },
    "aarch64": {
        22: "epoll_pwait", 32: "flock", 56: "openat", 63: "read", 64: "write", 65: "readv", 66: "writev",
        67: "pread64", 68: "pwrite64", 72: "pselect6", 73: "ppoll", 82: "fsync", 83: "fdatasync", 95: "waitid",
        98: "futex", 101: "nanosleep", 115: "clock_nanosleep", 137: "rt_sigtimedwait", 202: "accept", 203: "connect",
        206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 222: "mmap", 242: "accept4", 260: "wait4",
        426: "io_uring_enter", 441: "epoll_pwait2", 449: "futex_waitv",
    },
}  # fmt: skip
"""Those that a thread may sleep in, of arch/x86/entry/syscalls/syscall_64.tbl and asm-generic/unistd.h."""
WITH_DESCRIPTOR: Final = frozenset({
    "read", "write", "pread64", "pwrite64", "readv", "writev", "connect", "accept", "accept4", "sendto", "recvfrom",
    "sendmsg", "recvmsg", "flock", "fsync", "fdatasync",
})  # fmt: skip
"""Their first argument is one."""


def stacks(pid: int, name: str) -> ProcessStacks:
    """Raises FileNotFoundError when it does not run any more."""
    found = ProcessStacks(pid=pid, name=name, how="kernel")
    denied = False
    for task in sorted((proc.PROC / str(pid) / "task").iterdir(), key=lambda path: int(path.name))[:THREADS]:
        try:
            one = proc.stat(task)
        except (FileNotFoundError, ProcessLookupError):
            continue  # that thread has ended
        frames = kernel_frames(task)
        denied = denied or frames is None
        call = syscall(task) or ""
        found.threads.append(
            ThreadStack(
                id=int(task.name), name=one.name, active=one.state in "RD", frames=frames or _waits(task), note=call
            )
        )
    if denied:
        found.why = "the kernel's stacks may be read by root only"
    if not any(thread.frames or thread.note for thread in found.threads):
        found.threads = []
        found.how, found.why = "", found.why or "this kernel tells no stacks"
    return found


def kernel_frames(task: Path) -> list[Frame] | None:
    """Innermost first; []: it runs, or this kernel tells none. None: it may not be read."""
    try:
        lines = (task / "stack").read_text().splitlines()
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [Frame(function=line.partition("] ")[2].partition("+")[0]) for line in lines]


def _waits(task: Path) -> list[Frame]:
    """Where it sleeps, by one name: readable where the stack is not."""
    try:
        place = (task / "wchan").read_text()
    except OSError:
        return []
    return [Frame(function=place)] if place not in ("", "0") else []


def syscall(task: Path) -> str | None:
    """The call that it sleeps in: "futex", "recvfrom, descriptor 7", "running". None: it can't be told."""
    try:
        words = (task / "syscall").read_text().split()
    except OSError:
        return None
    if not words or words[0] == "running":
        return "running" if words else None
    number = int(words[0])
    if number < 0:
        return None
    name = SYSCALLS.get(platform.machine(), {}).get(number, f"call {number}")
    return f"{name}, descriptor {int(words[1], 16)}" if name in WITH_DESCRIPTOR else name
