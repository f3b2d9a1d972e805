"""Reading /proc of a tree of processes.

What may not be read raises PermissionError, what is gone FileNotFoundError or ProcessLookupError.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
TICK: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
MOST: Final = 64
"""Processes that are looked at."""
MAPS: Final = 4 << 20
"""Bytes that are read of what a process has mapped."""
RUNTIMES: Final = {
    "python": "python", "pypy": "python", "node": "node", "java": "java", "ruby": "ruby", "uwsgi": "python",
}  # fmt: skip
"""Beginning of the program's name; a script's is that of its interpreter."""
LIBRARIES: Final = {"/libpython": "python", "/libnode.so": "node", "/libjvm.so": "java", "/libruby": "ruby"}


class Stat(NamedTuple):
    name: str
    state: str
    parent: int
    group: int
    cpu: float  # seconds
    threads: int
    started: int  # clock ticks since boot


def small(path: str) -> bytes:
    """A file that is one line or few; a third of what reading it as text costs, where there are many."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)


def stat(path: Path) -> Stat:
    """Of a process or thread folder. The name may hold anything, a ')' too (proc(5))."""
    before, _, after = path.joinpath("stat").read_text(errors="replace").rpartition(")")
    fields = after.split()
    return Stat(
        before.partition("(")[2], fields[0], int(fields[1]), int(fields[2]), (int(fields[11]) + int(fields[12])) / TICK,
        int(fields[17]), int(fields[19]),
    )  # fmt: skip


def runs(pid: int, started: int = 0) -> bool:
    """Whether it does, and is the one that began then; one that has ended and is not waited for does not."""
    try:
        found = stat(PROC / str(pid))
    except (OSError, IndexError, ValueError):
        return False
    return found.state not in "ZX" and (not started or found.started == started)


def tree(root: int, started: int = 0) -> dict[int, Stat]:
    """The processes below `root`, itself first, and those left in its group.

    Raises ProcessLookupError when it does not run, or another process has its number now."""
    found: dict[int, Stat] = {}
    for name in os.listdir(PROC):
        if name.isdigit():
            try:
                found[int(name)] = stat(PROC / name)
            except OSError:
                continue  # it ended meanwhile
    first = found.get(root)
    if not root or first is None or first.state in "ZX" or (started and first.started != started):
        raise ProcessLookupError(f"process {root} does not run any more" if root else "no process of it can be seen")
    children: dict[int, list[int]] = {}
    for pid, one in found.items():
        if pid != root:
            children.setdefault(one.parent, []).append(pid)
    order = [root]
    for pid in order:  # grows while it is walked; a process has one parent, so none comes twice
        if len(order) >= MOST:
            break
        order.extend(children.get(pid, ()))
    seen = set(order)
    order.extend(pid for pid, one in found.items() if one.group == root and pid not in seen)
    return {pid: found[pid] for pid in order[:MOST]}


def command(pid: int) -> list[str]:
    """Its arguments."""
    data = (PROC / str(pid) / "cmdline").read_bytes()
    return [word.decode(errors="replace") for word in data.split(b"\0")[:-1]]


def maybe_exe(pid: int) -> str | None:
    try:
        return os.readlink(PROC / str(pid) / "exe")
    except OSError:
        return None


def rss(pid: int) -> int:
    """Bytes in RAM; 0: it has ended."""
    try:
        return int(small(f"{PROC}/{pid}/statm").split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def limits(pid: int) -> dict[str, tuple[str, str]]:
    """Soft and hard by name, such as "max open files", as the kernel writes them."""
    found = {}
    for line in (PROC / str(pid) / "limits").read_text().splitlines()[1:]:
        found[line[:26].strip().lower()] = line[26:47].strip(), line[47:68].strip()
    return found


def runtime(pid: int) -> str:
    """python node java go ruby native, by its program and libraries. "": it can't be told.

    Raises OSError."""
    try:
        exe = os.readlink(PROC / str(pid) / "exe").removesuffix(" (deleted)")
    except PermissionError:  # what it was called by may be read by all
        return _by_name((command(pid) or [""])[0])
    if found := _by_name(exe):
        return found
    with (PROC / str(pid) / "maps").open(errors="replace") as file:
        mapped = file.read(MAPS)
    for part, found in LIBRARIES.items():
        if part in mapped:
            return found
    return "go" if _has_section(PROC / str(pid) / "exe", b".gopclntab") else "native"


def _by_name(path: str) -> str:
    name = Path(path).name
    return next((found for start, found in RUNTIMES.items() if name.startswith(start)), "")


def maybe_runtime(pid: int, started: int = 0) -> str | None:
    """None: it does not run any more, or may not be looked at."""
    try:
        if started and stat(PROC / str(pid)).started != started:
            return None
        return runtime(pid)
    except (OSError, IndexError, ValueError):
        return None


def runtimes(pid: int, started: int = 0) -> set[str]:
    """Of the processes of its tree: a shell may stand before the app.

    Raises ProcessLookupError."""
    return {found for one in tree(pid, started) if (found := maybe_runtime(one)) is not None}


def _has_section(path: Path, name: bytes) -> bool:
    """Whether a 64-bit ELF file of this byte order has a section of that name."""
    with path.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:5] != b"\x7fELF\x02":
            return False
        offset = int.from_bytes(head[40:48], "little")
        size, names = (int.from_bytes(head[at : at + 2], "little") for at in (58, 62))
        file.seek(offset + names * size)
        section = file.read(size)
        file.seek(int.from_bytes(section[24:32], "little"))
        return name in file.read(min(int.from_bytes(section[32:40], "little"), MAPS))
