"""What process trees use: one sweep of /proc a second serves all of them.

psutil's children() walks every process at each call, so the sweep reads /proc/PID/stat itself. It runs in a thread:
with hundreds of processes it would hold the loop too long.

What is dear to read is read in turn, a tree each DEAR seconds (private memory, I/O) or SOCKETS seconds, and all
processes of a tree at the same moment: sums of counters that move from a child that ended to its parent stay right.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.control.state import Usage

TICK: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
DEAR: Final = 5
"""Sweeps between two looks at a tree's private memory and I/O: 12 to 25 µs a process and file."""
SOCKETS: Final = 10
"""Sweeps between two counts of a tree's sockets: 2 µs a descriptor."""
LINKS: Final = 4000
"""Descriptors whose links are read in one sweep, over all trees; a single tree may have MOST_LINKS."""
MOST_LINKS: Final = 65_536


class Stat(NamedTuple):
    """What counts of /proc/PID/stat, proc(5)."""

    parent: int
    group: int
    state: str
    cpu: float  # seconds, user and system
    threads: int
    start: int  # clock ticks since boot
    rss: int
    waited: float = 0.0  # seconds of its children that ended and were waited for
    session: int = 0


def read_stat(pid: int) -> Stat | None:
    """None: there is no such process."""
    try:
        data = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    fields = data[data.rindex(b")") + 2 :].split()
    return Stat(
        parent=int(fields[1]),
        group=int(fields[2]),
        state=fields[0].decode(),
        cpu=(int(fields[11]) + int(fields[12])) / TICK,
        threads=int(fields[17]),
        start=int(fields[19]),
        rss=int(fields[21]) * PAGE,
        waited=(int(fields[13]) + int(fields[14])) / TICK,
        session=int(fields[3]),
    )


def _read(path: str) -> bytes:
    """A small file of /proc; half the time that a file object takes. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def alive(pid: int, start: int = 0) -> bool:
    """It runs, is no zombie, and (with `start`) is the one that was meant."""
    stat = read_stat(pid)
    return stat is not None and stat.state not in "ZX" and (not start or stat.start == start)


def sweep() -> dict[int, Stat]:
    """All processes."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = read_stat(int(name))
            if stat is not None:
                found[int(name)] = stat
    return found


def trees(processes: Mapping[int, Stat], roots: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The pids of each root's tree, the root first. Orphans of its process group belong to it too."""
    children: dict[int, list[int]] = {}
    groups: dict[int, list[int]] = {}
    for pid, stat in processes.items():
        children.setdefault(stat.parent, []).append(pid)
        groups.setdefault(stat.group, []).append(pid)
    found = {}
    for name, root in roots.items():
        if root not in processes:
            continue
        tree = [root]
        seen = {root}
        for pid in tree:  # grows while it is walked
            for child in (*children.get(pid, ()), *(groups.get(pid, ()) if pid == root else ())):
                if child not in seen:
                    seen.add(child)
                    tree.append(child)
        found[name] = tuple(tree)
    return found


class Io(NamedTuple):
    """Bytes that went to and came from disks, of a process and its children that were waited for."""

    read: int
    write: int


@dataclass(slots=True)
class _Dear:
    """What was read in turn, of one tree. None: it may not be read."""

    private: int | None = None
    io: Io | None = None
    sockets: int | None = None
    looked: bool = False
    counted: bool = False


class Sampler:
    """The sweeps of one control, one after another; used by one thread at a time."""

    def __init__(self) -> None:
        self._dear: dict[tuple[str, int], _Dear] = {}
        self._sweeps = 0

    def sample(self, roots: Mapping[str, int], now: float) -> dict[str, Usage]:
        """Usage of each root's tree; what only the sample before tells is left for `follow`."""
        processes = sweep()
        self._sweeps += 1
        found: dict[str, Usage] = {}
        known, self._dear = self._dear, {}
        links = LINKS
        for number, (name, pids) in enumerate(trees(processes, roots).items()):
            if number % 16 == 15:
                time.sleep(0.0001)  # control's loop needs the same interpreter
            key = (name, pids[0])
            dear = self._dear[key] = known.get(key) or _Dear()
            turn = zlib.crc32(name.encode())
            if not dear.looked or turn % DEAR == self._sweeps % DEAR:
                dear.looked = True
                dear.private, dear.io = _sum_private(pids), _sum_io(pids)
            descriptors = [_descriptors(pid) for pid in pids]
            count = sum(descriptors)
            if not dear.counted or turn % SOCKETS == self._sweeps % SOCKETS:
                dear.counted = count <= links or links == LINKS  # else at the next sweep
                if count > MOST_LINKS:
                    dear.sockets = None
                elif dear.counted:
                    links -= count
                    dear.sockets = _sockets(pids)
            stats = [processes[pid] for pid in pids]
            found[name] = Usage(
                at=now,
                cpu_seconds=sum(stat.cpu + stat.waited for stat in stats),
                rss=sum(stat.rss for stat in stats),
                processes=len(pids),
                threads=sum(stat.threads for stat in stats),
                descriptors=count,
                descriptors_most=max(descriptors),
                pids=pids,
                private=dear.private,
                io_read=dear.io.read if dear.io is not None else None,
                io_write=dear.io.write if dear.io is not None else None,
                connections=dear.sockets,
            )
        return found


def sample(roots: Mapping[str, int], now: float) -> dict[str, Usage]:
    """As a new Sampler has it."""
    return Sampler().sample(roots, now)


def _descriptors(pid: int) -> int:
    try:
        path = f"/proc/{pid}/fd"
        return os.stat(path).st_size or len(os.listdir(path))  # since Linux 6.2 their number is the size
    except OSError:
        return 0


def _sum_private(pids: Iterable[int]) -> int | None:
    """Bytes of anonymous memory, in RAM and swapped out; smaps_rollup would be exact, and walks page tables."""
    total = 0
    for pid in pids:
        try:
            text = _read(f"/proc/{pid}/status")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        except OSError:
            return None
        for line in text.splitlines():
            if line.startswith((b"RssAnon:", b"VmSwap:")):
                total += int(line.split()[1]) * 1024
    return total or None


def _sum_io(pids: Iterable[int]) -> Io | None:
    read = write = 0
    for pid in pids:
        try:
            text = _read(f"/proc/{pid}/io")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:  # another user's, or the kernel does not account
            return None
        for line in text.splitlines():
            if line.startswith(b"read_bytes:"):
                read += int(line.split()[1])
            elif line.startswith(b"write_bytes:"):
                write += int(line.split()[1])
    return Io(read, write)


def _sockets(pids: Iterable[int]) -> int | None:
    """Different ones: what forked processes share counts once."""
    found = set()
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            for name in os.listdir(folder):
                try:
                    link = os.readlink(f"{folder}/{name}")
                except FileNotFoundError:
                    continue
                if link.startswith("socket:"):
                    found.add(link)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            return None
    return len(found)


def rate(before: Usage | None, after: Usage) -> float:
    """Cores in use between two samples."""
    if before is None or after.at <= before.at:
        return 0.0
    return max(0.0, (after.cpu_seconds - before.cpu_seconds) / (after.at - before.at))


def follow(before: Usage | None, after: Usage) -> None:
    """Complete a sample by the one before, of the same root or None: rates, and counters that never fall.

    Of a process that ended and that nobody waited for, the counters leave the sum; what they had is kept."""
    after.cpu = rate(before, after)
    grown = after.cpu_seconds - before.cpu_seconds if before is not None else after.cpu_seconds
    after.cpu_time = (before.cpu_time if before is not None else 0.0) + max(0.0, grown)
    if after.io_read is not None and after.io_write is not None:
        had = before if before is not None and before.io_read is not None else None
        after.read_total = _grown(after.io_read, had.io_read if had else None, had.read_total if had else None)
        after.write_total = _grown(after.io_write, had.io_write if had else None, had.write_total if had else None)


def _grown(now: int, before: int | None, total: int | None) -> int:
    return now if before is None or total is None else total + max(0, now - before)
