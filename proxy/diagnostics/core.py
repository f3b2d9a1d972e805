"""ELF core files (core(5), elf(5)): written as one stream, so that they can be compressed, and read back from one.

Pure format: nothing here looks at a process. What is written: notes for each thread's registers, the command, the
auxiliary vector and the mapped files, then the pages. gdb, eu-stack and pystack read it once it is decompressed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

PAGE: Final = 4096
NT_PRSTATUS: Final = 1
NT_PRPSINFO: Final = 3
NT_AUXV: Final = 6
NT_FILE: Final = 0x46494C45
PT_LOAD: Final = 1
PT_NOTE: Final = 4
ET_CORE: Final = 4
MACHINES: Final = {"x86_64": 62, "aarch64": 183}
SEGMENTS: Final = 65000
"""An ELF file counts them in 16 bits."""
NOTES: Final = 64 << 20
_HEAD: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_NOTE: Final = struct.Struct("<III")
_STATUS: Final = struct.Struct("<iiiHHQQiiii16s16s16s16s")
"""struct elf_prstatus up to its registers (include/uapi/linux/elfcore.h), for 64 bits."""


class Damaged(Exception):
    """What was read is no core file, or not a whole one."""


class Segment(NamedTuple):
    """Pages of a mapping, from `start` on in the file up to `end`; the mapping may go on to `reaches`."""

    start: int
    end: int
    flags: int  # 4 read, 2 write, 1 execute
    reaches: int = 0


class File(NamedTuple):
    start: int
    end: int
    offset: int  # bytes
    name: str


class Registers(NamedTuple):
    thread: int
    data: bytes  # of PTRACE_GETREGSET NT_PRSTATUS; b"": they could not be had


@dataclass(slots=True)
class Core:
    """`machine` as uname says it. The first of `threads` is the main one."""

    machine: str
    pid: int
    name: str = ""
    command: str = ""
    threads: Sequence[Registers] = ()
    auxv: bytes = b""
    files: Sequence[File] = ()
    segments: list[Segment] = field(default_factory=list)


def head(core: Core) -> bytes:
    """All that stands before the pages, which follow in the order of its segments."""
    notes = b"".join(_notes(core))
    count = len(core.segments) + 1
    if count > SEGMENTS:
        raise ValueError(f"{count} segments are more than a core file can have")
    start = _HEAD.size + count * _SEGMENT.size
    data = -(-(start + len(notes)) // PAGE) * PAGE
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    parts = [
        _HEAD.pack(ident, ET_CORE, MACHINES[core.machine], 1, 0, _HEAD.size, 0, 0, _HEAD.size, _SEGMENT.size, count,
                   0, 0, 0),
        _SEGMENT.pack(PT_NOTE, 0, start, 0, 0, len(notes), 0, 4),
    ]  # fmt: skip
    for one in core.segments:
        size = one.end - one.start
        memory = max(one.end, one.reaches) - one.start
        parts.append(_SEGMENT.pack(PT_LOAD, one.flags, data, one.start, 0, size, memory, PAGE))
        data += size
    whole = b"".join(parts) + notes
    return whole + bytes(-len(whole) % PAGE)


def _notes(core: Core) -> Iterable[bytes]:
    first = True
    for thread in core.threads:
        if thread.data:
            time = bytes(16)
            status = _STATUS.pack(0, 0, 0, 0, 0, 0, 0, thread.thread, 0, 0, 0, time, time, time, time)
            yield _note(NT_PRSTATUS, status + thread.data + bytes(8))
        if first:
            first = False
            yield _note(NT_PRPSINFO, _info(core))
            yield _note(NT_AUXV, core.auxv)
            yield _note(NT_FILE, _files(core.files))


def _note(kind: int, data: bytes) -> bytes:
    return _NOTE.pack(5, len(data), kind) + b"CORE\0\0\0\0" + data + bytes(-len(data) % 4)


def _info(core: Core) -> bytes:
    """struct elf_prpsinfo."""
    text = core.command.encode()[:79]
    name = core.name.encode()[:15]
    return struct.pack("<bbbb4xQIIiiii16s80s", 0, 82, 0, 0, 0, 0, 0, core.pid, 0, 0, 0, name, text)


def _files(files: Sequence[File]) -> bytes:
    table = b"".join(struct.pack("<QQQ", one.start, one.end, one.offset // PAGE) for one in files)
    return struct.pack("<QQ", len(files), PAGE) + table + b"".join(one.name.encode() + b"\0" for one in files)


# -- reading back ----------------------------------------------------------------------------------------------


def read(take: Callable[[int], bytes]) -> Core:
    """From its beginning to the last byte, which must be there. `take(n)` gives n bytes, less only at the end.

    Raises Damaged.
    """
    start = take(_HEAD.size)
    if len(start) < _HEAD.size or start[:7] != b"\x7fELF\x02\x01\x01":
        raise Damaged("it does not begin as a core file does")
    _, kind, machine, _, _, at, _, _, _, size, count, _, _, _ = _HEAD.unpack(start)
    if (kind, at, size) != (ET_CORE, _HEAD.size, _SEGMENT.size):
        raise Damaged("it is no core file")
    name = next((name for name, number in MACHINES.items() if number == machine), "")
    core = Core(machine=name, pid=0)
    table = _whole(take, count * size)
    rows = list(_SEGMENT.iter_unpack(table))
    place = _HEAD.size + len(table)
    for kind, flags, offset, address, _, length, memory, _ in rows:
        _skip(take, offset - place)
        if kind == PT_NOTE:
            if length > NOTES:
                raise Damaged(f"its notes take {length} bytes")
            _read_notes(_whole(take, length), core)
        else:
            _skip(take, length)
            core.segments.append(Segment(address, address + length, flags, address + memory))
        place = offset + length
    return core


def _whole(take: Callable[[int], bytes], size: int) -> bytes:
    data = take(size)
    if len(data) != size:
        raise Damaged("it ends before its end")
    return data


def _skip(take: Callable[[int], bytes], size: int) -> None:
    if size < 0:
        raise Damaged("its parts are not in order")
    while size:
        size -= len(_whole(take, min(size, 1 << 20)))


def _read_notes(data: bytes, core: Core) -> None:
    at = 0
    threads: list[Registers] = []
    while at + _NOTE.size <= len(data):
        named, size, kind = _NOTE.unpack_from(data, at)
        at += _NOTE.size + named + -named % 4
        body = data[at : at + size]
        at += size + -size % 4
        if kind == NT_PRSTATUS:
            threads.append(Registers(_STATUS.unpack_from(body)[7], body[_STATUS.size : -8]))
        elif kind == NT_PRPSINFO:
            core.pid = struct.unpack_from("<i", body, 24)[0]
            core.name = body[40:56].rstrip(b"\0").decode(errors="replace")
        elif kind == NT_AUXV:
            core.auxv = body
        elif kind == NT_FILE:
            core.files = _read_files(body)
    core.threads = threads


def _read_files(data: bytes) -> list[File]:
    count, page = struct.unpack_from("<QQ", data)
    names = data[16 + 24 * count :].split(b"\0")
    return [
        File(start, end, offset * page, names[number].decode(errors="replace"))
        for number, (start, end, offset) in enumerate(struct.iter_unpack("<QQQ", data[16 : 16 + 24 * count]))
    ]
