"""A memory dump: the pages of the busiest process that are its own, as a core file, compressed as they are read.

The process runs on while it is copied (each thread stops for a moment, for its registers and the top of its stack), so
that parts of the dump may be some seconds apart. It holds all secrets that the process holds: mode 0600.
"""

from __future__ import annotations

import gzip
import os
import platform
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proxy import units
from proxy.diagnostics import core, pages, proc
from proxy.diagnostics.artifacts import Mapping, MemoryDump
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.core import Core, Segment
from proxy.diagnostics.runtimes import python
from proxy.diagnostics.subject import NoRoom, NotThere, Subject

NAME: Final = "memory_dump.core.gz"
CHUNK: Final = units.MIB
LEVEL: Final = 1
"""Of zlib, of the standard library: measured 130 MB/s, to a third of the size. zstd takes a quarter of that time and
13 % less room, but is a package more for what is done rarely, at low priority."""
THREADS: Final = 512
FREE: Final = 256 * units.MIB
"""Bytes of the disk that stay free."""
MAPPINGS: Final = 200


def collect(subject: Subject, folder: Path) -> MemoryDump:
    """Raises NoRoom before anything is written, where what is in memory would not fit."""
    if pages.MACHINE not in core.MACHINES:
        raise NotThere(f"no core file can be written on {platform.machine()}")
    tree = proc.tree(subject.pid, subject.started)
    pid = max(tree, key=_own)
    areas = pages.areas(pid)
    holds = sum(one.own for one in areas)
    check_room(holds, subject.room, folder)
    file = folder / f"{NAME}.part"
    found = MemoryDump(at=time.time(), pid=pid, how="pages", file=NAME, form="core.gz")
    found.virtual = sum(one.end - one.start for one in areas)
    missing = []
    if proc.maybe_runtime(pid) == "python":
        taken = python.stacks(pid, tree[pid].name)
        found.stacks = taken.threads
        missing.append(f"stacks: {taken.why}" if taken.why else "stacks: by py-spy, just before it was read")
    missing += _write(pid, tree[pid].name, areas, file, subject, found)
    os.replace(file, folder / NAME)
    found.size = (folder / NAME).stat().st_size
    _read_back(folder / NAME, found, areas)
    swapped = sum(one.swapped for one in areas)
    if swapped:
        missing.append(f"{units.size(swapped)} of it are swapped out and not in the dump")
    if len(tree) > 1:
        missing.append(f"of {len(tree)} processes the one that holds most")
    found.note = "; ".join(missing)
    return found


def _own(pid: int) -> int:
    """Bytes that it holds of its own, quickly."""
    try:
        text = (proc.PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return 0
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(rows.get("RssAnon", "0 kB").split()[0])


def check_room(holds: int, room: int, folder: Path) -> None:
    """What it holds may turn out not to be compressible at all."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if room and holds > room:
        raise NoRoom(f"the process holds {units.size(holds)}, and the session has room for {units.size(room)}")
    if holds + FREE > free:
        raise NoRoom(f"the process holds {units.size(holds)}, and the disk has {units.size(free)} free")


def _write(
    pid: int, name: str, areas: list[pages.Area], file: Path, subject: Subject, found: MemoryDump
) -> list[str]:
    """What is missing from it."""
    missing = []
    memory = os.open(proc.PROC / str(pid) / "mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        stopped, said = _threads(pid)
        missing += said
        found.pause = max((one.pause for one in stopped), default=None)
        whole = Core(
            machine=pages.MACHINE, pid=pid, name=name, command=proc.maybe_exe(pid) or name,
            threads=[one.registers for one in stopped], auxv=(proc.PROC / str(pid) / "auxv").read_bytes(),
            files=pages.files(areas), segments=pages.present(pid, areas),
        )  # fmt: skip
        stacks = dict(one.stack for one in stopped)
        lost = 0
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
            out.write(packer.compress(core.head(whole)))
            for segment in whole.segments:
                for at, size in _chunks(segment):
                    if not subject.wait(0):
                        raise NotThere("the session was ended before the dump was whole")
                    data, bad = _read(memory, at, size)
                    lost += bad
                    out.write(packer.compress(_patched(data, at, stacks)))
            out.write(packer.flush())
        if lost:
            proc.stat(proc.PROC / str(pid))  # gone: that is what is to be said
            missing.append(f"{units.size(lost)} were given back while it was read: they are zeros")
    except FileNotFoundError as error:
        raise ProcessLookupError("the process ended while it was read") from error
    finally:
        os.close(memory)
    return missing


def _threads(pid: int) -> tuple[list[pages.Stopped], list[str]]:
    """The main one first, and what is missing."""
    numbers = sorted((int(name) for name in os.listdir(proc.PROC / str(pid) / "task")), key=lambda one: one != pid)
    found, failed = pages.threads(pid, numbers[:THREADS])
    missing = []
    if failed:
        missing.append(f"registers of {len(failed)} of {len(numbers)} threads: {next(iter(failed.values()))}")
    if len(numbers) > THREADS:
        missing.append(f"of {len(numbers)} threads the first {THREADS}")
    return found, missing


def _chunks(segment: Segment) -> Iterator[tuple[int, int]]:
    for at in range(segment.start, segment.end, CHUNK):
        yield at, min(CHUNK, segment.end - at)


def _read(memory: int, at: int, size: int) -> tuple[bytes, int]:
    """With zeros for what is not mapped any more, and how much that is."""
    try:
        data = os.pread(memory, size, at)
    except OSError:
        data = b""
    if len(data) == size:
        return data, 0
    if size <= core.PAGE:
        return bytes(size), size
    parts = [_read(memory, at + start, min(core.PAGE, size - start)) for start in range(0, size, core.PAGE)]
    return b"".join(part for part, _ in parts), sum(bad for _, bad in parts)


def _patched(data: bytes, at: int, stacks: dict[int, bytes]) -> bytes:
    """Stacks as they were when their registers were read."""
    for start, held in stacks.items():
        first, last = max(start, at), min(start + len(held), at + len(data))
        if first < last:
            data = data[: first - at] + held[first - start : last - start] + data[last - at :]
    return data


def _read_back(file: Path, found: MemoryDump, areas: list[pages.Area]) -> None:
    """The whole of it, with its checksum. Raises Damaged, zlib.error, OSError."""
    with gzip.open(file) as stream:
        read = core.read(stream.read)
        if stream.read(1):
            raise core.Damaged("it goes on after its end")
    found.threads = len(read.threads)
    found.holds = sum(one.end - one.start for one in read.segments)
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    starts = {one.start: one for one in areas}
    order = sorted(starts)
    at = 0
    for segment in sorted(read.segments):
        while at + 1 < len(order) and order[at + 1] <= segment.start:
            at += 1
        row = sizes[starts[order[at]].name]
        row[1] += segment.end - segment.start
    for area in areas:
        if area.name in sizes:
            sizes[area.name][0] += area.end - area.start
            sizes[area.name][2] += 1
    rows = [Mapping(name=name, size=size, resident=held, count=count) for name, (size, held, count) in sizes.items()]
    found.mappings = sorted(rows, key=lambda one: -one.resident)[:MAPPINGS]


COLLECTOR = Collector(
    name="memory_dump",
    title="Memory dump",
    needs="the right to trace; free space on the disk for all that the process holds in memory; x86-64 or ARM64",
    cost="each thread stops for a millisecond; about 10 s of a core at low priority for each GB; the file holds all "
    "secrets that the process has in memory",
    limit=120.0,
    most=64 * units.GIB,
    artifact=MemoryDump,
    collect=collect,
    default=False,
    each=1,
)
