"""What a process holds of its own in memory, and where its threads stand: without stopping it as a whole.

Reading a page that was never touched would make the kernel map one: only pages that are there are read.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import platform
import re
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from proxy.diagnostics import proc
from proxy.diagnostics.core import PAGE, SEGMENTS, File, Registers, Segment

PRESENT: Final = 1 << 63
FILE: Final = 1 << 61
"""A page of a file or shared: Documentation/admin-guide/mm/pagemap.rst."""
ENTRIES: Final = 4096
GAPS: Final = (0, 4, 16, 64, 256, 4096)
"""Pages between two ranges that are written as zeros, where there would be too many ranges."""
SEIZE, INTERRUPT, DETACH, GETREGSET = 0x4206, 0x4207, 17, 0x4204
WALL: Final = 0x40000000
STOPS_WITHIN: Final = 0.25
STACK: Final = 64 * 1024
POINTER: Final = {"x86_64": 19, "aarch64": 31}
"""Which register points to the stack."""
MACHINE: Final = platform.machine()
_MAP: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ (\d+)\s*(.*)$")


class Area(NamedTuple):
    """A mapping, by /proc/PID/smaps; sizes in bytes."""

    start: int
    end: int
    mode: str  # "rw-p"
    offset: int
    name: str
    resident: int
    own: int  # of them anonymous: not in any file
    swapped: int


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def areas(pid: int) -> list[Area]:
    """Raises PermissionError, FileNotFoundError, ProcessLookupError."""
    found: list[Area] = []
    for line in (proc.PROC / str(pid) / "smaps").read_text(errors="replace").splitlines():
        if match := _MAP.match(line):
            start, end, mode, offset, _, name = match.groups()
            found.append(Area(int(start, 16), int(end, 16), mode, int(offset, 16), name, 0, 0, 0))
            continue
        what, _, value = line.partition(":")
        if not found or what not in ("Rss", "Anonymous", "Swap"):
            continue
        size = int(value.split()[0]) * 1024
        if what == "Rss":
            found[-1] = found[-1]._replace(resident=size)
        elif what == "Anonymous":
            found[-1] = found[-1]._replace(own=size)
        else:
            found[-1] = found[-1]._replace(swapped=size)
    return found


def files(found: Iterable[Area]) -> list[File]:
    return [File(one.start, one.end, one.offset, one.name) for one in found if one.name.startswith("/")]


def present(pid: int, found: Iterable[Area]) -> list[Segment]:
    """Pages that are in memory and in no file, and the first of each mapped one, by which its build is known."""
    segments: list[Segment] = []
    pagemap = os.open(proc.PROC / str(pid) / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for area in found:
            if area.mode[0] != "r" or area.name.startswith(("[vvar", "[vsyscall")):
                continue
            flags = sum(bit for bit, letter in ((4, "r"), (2, "w"), (1, "x")) if letter in area.mode)
            if area.name.startswith("/") and area.mode[1] != "w" and not area.own:
                first = area.start + (PAGE if area.offset == 0 and area.resident else 0)
                segments.append(Segment(area.start, first, flags, area.end))
            elif area.own or (area.name.startswith("/") and area.mode[3] == "p"):
                of_file = area.name.startswith("/")
                segments.extend(Segment(*pair, flags) for pair in _ranges(pagemap, area.start, area.end, of_file))
    finally:
        os.close(pagemap)
    for gap in GAPS:
        joined = _joined(segments, gap * PAGE)
        if len(joined) < SEGMENTS - 1:
            return joined
    raise ValueError("its memory is in too many pieces")


def _ranges(pagemap: int, start: int, end: int, of_file: bool) -> Iterator[tuple[int, int]]:
    """Of pages that are present, and no file's but where `of_file`."""
    nothing = bytes(ENTRIES * 8)
    began = 0
    for chunk in range(start, end, ENTRIES * PAGE):
        count = min(ENTRIES, (end - chunk) // PAGE)
        data = os.pread(pagemap, count * 8, chunk // PAGE * 8)
        if data == nothing[: len(data)]:
            if began:
                yield began, chunk
                began = 0
            continue
        for number, entry in enumerate(array("Q", data)):
            there = entry & PRESENT and (of_file or not entry & FILE)
            if there and not began:
                began = chunk + number * PAGE
            elif not there and began:
                yield began, chunk + number * PAGE
                began = 0
    if began:
        yield began, end


def _joined(segments: list[Segment], gap: int) -> list[Segment]:
    """Neighbours of the same mode that are at most `gap` bytes apart are one."""
    found: list[Segment] = []
    for one in segments:
        last = found[-1] if found else None
        near = last is not None and 0 <= one.start - last.end <= gap
        if last is not None and near and last.flags == one.flags and not last.reaches and not one.reaches:
            found[-1] = last._replace(end=one.end)
        else:
            found.append(one)
    return found


# -- threads ---------------------------------------------------------------------------------------------------


class Stopped(NamedTuple):
    registers: Registers
    stack: tuple[int, bytes]  # where, and what it held at that moment: whole pages
    pause: float  # seconds for which this thread stood still


def threads(pid: int, numbers: Sequence[int]) -> tuple[list[Stopped], dict[int, str]]:
    """One after the other; those that could not be had, and why.

    In a process of its own: whatever it holds is let go by the kernel when it ends, also a thread that did not stop in
    time (busy machine, or in the kernel) and would stop later for nobody. Raises PermissionError.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            with os.fdopen(write_end, "wb") as out:
                marshal.dump(_all(pid, numbers), out)
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as given:
        data = given.read()
    os.waitpid(child, 0)
    if not data:
        return [], dict.fromkeys(numbers, "reading them failed")
    rows, failed = marshal.loads(data)
    return [Stopped(Registers(number, registers), stack, pause) for number, registers, stack, pause in rows], failed


def _all(pid: int, numbers: Sequence[int]) -> tuple[list[tuple[int, bytes, tuple[int, bytes], float]], dict[int, str]]:
    found, failed = [], {}
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    memory = os.open(proc.PROC / str(pid) / "mem", os.O_RDONLY | os.O_CLOEXEC)
    for number in numbers:
        try:
            one = _thread(libc, number, memory)
            found.append((number, one.registers.data, one.stack, one.pause))
        except ProcessLookupError:
            continue  # it has ended
        except OSError as error:  # TimeoutError too
            failed[number] = error.strerror or str(error)
    return found, failed


def _thread(libc: ctypes.CDLL, number: int, memory: int) -> Stopped:
    _ptrace(libc, SEIZE, number)
    began = time.monotonic()
    try:
        _ptrace(libc, INTERRUPT, number)
        while os.waitpid(number, os.WNOHANG | WALL)[0] == 0:
            if time.monotonic() > began + STOPS_WITHIN:
                raise TimeoutError("it did not stop in time")
            time.sleep(0.0001)
        began = time.monotonic()
        buffer = ctypes.create_string_buffer(1024)
        vector = _Vector(ctypes.cast(buffer, ctypes.c_void_p), 1024)
        _ptrace(libc, GETREGSET, number, 1, ctypes.addressof(vector))
        data = buffer.raw[: vector.length]
        at = 8 * POINTER[MACHINE]
        pointer = int.from_bytes(data[at : at + 8], "little") // PAGE * PAGE
        try:
            stack = os.pread(memory, STACK, pointer)
        except OSError:
            stack = b""
    finally:
        libc.ptrace(DETACH, number, None, None)
    return Stopped(Registers(number, data), (pointer, stack[: len(stack) // PAGE * PAGE]), time.monotonic() - began)


def _ptrace(libc: ctypes.CDLL, request: int, number: int, address: int = 0, data: int = 0) -> None:
    if libc.ptrace(request, number, address, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
