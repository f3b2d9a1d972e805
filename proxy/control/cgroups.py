"""Where cgroups may be made: the directories below which each instance gets one of its own, and why not elsewhere.

Always true:
  - only a subtree that is ours is written to: one delegated to this user (systemd's mark, or nothing but our own
    processes in it), a container's own, or, for root, our own place in a v1 hierarchy;
  - directories are made and removed in *homes* only, and a home's name has the data_dir in it where others could have
    one beside it.

The rules are those of cgroups(7) and the kernel's cgroup-v2.rst. In v2 a group with processes in it can't hand
controllers on ("no internal processes"), so what runs in ours moves to a leaf `gateway` first, and instances get theirs
below `instances`. In v1 each controller has a hierarchy of its own, and nobody has to move.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.control.sampling import sweep

GATEWAY: Final = "gateway"
INSTANCES: Final = "instances"
MOUNTS: Final = Path("/proc/self/mountinfo")
OWN: Final = Path("/proc/self/cgroup")
CONTROLLERS: Final = ("memory", "cpu")
NOT_DELEGATED: Final = "cgroup v2 not delegated: run under systemd with Delegate=yes"
MOVES: Final = 20
"""Looks at what still has to move: processes may fork meanwhile."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted hierarchy. `root` is what of it is mounted there."""

    version: int
    controllers: frozenset[str]  # of v1
    root: str
    point: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Home:
    """A directory whose children are the cgroups of our instances; made with the first, where it can be."""

    path: Path
    version: int
    controllers: frozenset[str]  # of memory and cpu, those that its children have


@dataclass(frozen=True, slots=True)
class Found:
    """`why`: by controller, one line on what keeps it from being enforced; for people."""

    homes: tuple[Home, ...] = ()
    why: dict[str, str] = field(default_factory=dict)

    def of(self, controller: str) -> Home | None:
        return next((home for home in self.homes if controller in home.controllers), None)


class NotOurs(Exception):
    """A hierarchy that we keep out of, and why."""


def find(
    data_dir: Path,
    launcher: int,
    *,
    mountinfo: str | None = None,
    own: str | None = None,
    processes: Callable[[], dict[int, int]] | None = None,
) -> Found:
    """Find homes, and make those of v2. Writes only where the module says; never raises.

    `launcher`: its pid. `processes`: every pid with its parent."""
    try:
        mounts = parse_mounts(MOUNTS.read_text(errors="surrogateescape") if mountinfo is None else mountinfo)
        paths = parse_own(OWN.read_text(errors="surrogateescape") if own is None else own)
    except OSError as error:
        return Found(why=dict.fromkeys(CONTROLLERS, f"cgroups can't be seen: {error}"))
    name = name_of(data_dir)
    family = processes or (lambda: {pid: stat.parent for pid, stat in sweep().items()})
    homes: list[Home] = []
    why: dict[str, str] = {}
    second = next((mount for mount in mounts if mount.version == 2 and "" in paths), None)
    if second is not None:
        try:
            home = _unified(second, paths[""], name, launcher, family)
            homes.append(home)
            missing = [one for one in CONTROLLERS if one not in home.controllers]
            why.update({one: f"cgroup v2 has no {one} controller here (systemd: Delegate=yes)" for one in missing})
        except NotOurs as error:
            why.update(dict.fromkeys(CONTROLLERS, str(error)))
    for controller in CONTROLLERS:
        first = next((mount for mount in mounts if controller in mount.controllers), None)
        if first is None or controller not in paths or any(controller in home.controllers for home in homes):
            continue
        try:
            homes.append(_first(first, paths[controller], name, controller))
            why.pop(controller, None)
        except NotOurs as error:
            why[controller] = str(error)
    for controller in CONTROLLERS:
        if not any(controller in home.controllers for home in homes):
            why.setdefault(controller, f"no cgroup hierarchy with {controller} is mounted")
    return Found(tuple(homes), why)


def name_of(data_dir: Path) -> str:
    """Of a home where others may have one beside it: a data_dir belongs to one gateway at a time."""
    return f"triage-{zlib.crc32(os.fsencode(data_dir)):08x}"


# --- v2


def _unified(mount: Mount, own: str, name: str, launcher: int, family: Callable[[], dict[int, int]]) -> Home:
    here = _folder(mount, own)
    base = here.parent if here.name == GATEWAY and (here.parent / INSTANCES).is_dir() else here
    if not mount.writable:
        raise NotOurs("cgroup v2 is mounted read-only, as containers have it: limit the container, or mount it rw")
    if not os.access(base, os.W_OK) or not os.access(base / "cgroup.procs", os.W_OK):
        raise NotOurs(NOT_DELEGATED)
    if not (base / "cgroup.type").exists() and mount.root == "/":  # the root of all: it alone may have processes too
        if os.path.isdir("/run/systemd/system"):
            raise NotOurs(NOT_DELEGATED)
        home = base / name
        return Home(home, 2, _hand_on(_make(home)) if _hand_on(base) else frozenset())
    if base is here:
        _move(base, launcher, family, everyone=_delegated(base) or base == Path(mount.point))
    _hand_on(base)
    home = _make(base / INSTANCES)
    return Home(home, 2, _hand_on(home))


def _move(base: Path, launcher: int, family: Callable[[], dict[int, int]], *, everyone: bool) -> None:
    """All of our processes out of `base`; `everyone`: whatever is in it belongs to this service or container."""
    if not everyone:
        pids = _pids(base)
        parents = family()  # after that: one that was forked meanwhile must not look like a stranger
        ours = _family(parents, launcher)
        others = [pid for pid in pids if pid in parents and pid not in ours]
        if others:
            raise NotOurs(
                f"cgroup v2 not delegated: {base.name or '/'} holds other processes too (pid {others[0]});"
                " run under systemd with Delegate=yes"
            )
    leaf = _make(base / GATEWAY)
    for _ in range(MOVES):
        pids = _pids(base)
        if not pids:
            return
        for pid in pids:
            try:
                _write(leaf / "cgroup.procs", str(pid))
            except ProcessLookupError:
                continue  # it ended meanwhile
            except OSError as error:
                raise NotOurs(f"cgroup v2: pid {pid} can't be moved to {leaf}: {error.strerror}") from error
    raise NotOurs(f"cgroup v2: {base} does not get empty: something in it forks without end")


def _hand_on(folder: Path) -> frozenset[str]:
    """Give controllers to the children of `folder`; those that they have then."""
    there = _words(folder / "cgroup.controllers")
    for controller in CONTROLLERS:
        if controller in there:
            try:
                _write(folder / "cgroup.subtree_control", f"+{controller}")
            except OSError:
                continue  # a parent that may not, or real-time processes: the other may still work
    return frozenset(CONTROLLERS) & frozenset(_words(folder / "cgroup.subtree_control"))


def _delegated(folder: Path) -> bool:
    """systemd's mark on a unit with Delegate=; the second is for users (since 251)."""
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(folder, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _family(parents: dict[int, int], launcher: int) -> set[int]:
    """The launcher and everything below it."""
    found = {launcher}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found


# --- v1


def _first(mount: Mount, own: str, name: str, controller: str) -> Home:
    base = _folder(mount, own)
    if not mount.writable or not os.access(base, os.W_OK):
        raise NotOurs(f"cgroup v1: {base} is not writable for uid {os.geteuid()}")
    return Home(base / name, 1, frozenset(CONTROLLERS) & mount.controllers | {controller})


# --- files


def parse_mounts(text: str) -> list[Mount]:
    """The cgroup lines of mountinfo, proc(5)."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, last = before.split(), after.split()
        if len(fields) < 6 or len(last) < 3 or last[0] not in ("cgroup", "cgroup2"):
            continue
        options = frozenset(last[2].split(","))
        found.append(
            Mount(
                version=2 if last[0] == "cgroup2" else 1,
                controllers=options if last[0] == "cgroup" else frozenset(),
                root=_plain(fields[3]),
                point=_plain(fields[4]),
                writable="rw" in fields[5].split(",") and "rw" in options,
            )
        )
    return found


def parse_own(text: str) -> dict[str, str]:
    """Our path in each hierarchy, by controller; "" is v2."""
    found = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(","):
            found[name] = path
    return found


def _plain(text: str) -> str:
    """mountinfo writes blanks as octal numbers."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _folder(mount: Mount, own: str) -> Path:
    """Where our own cgroup is in what is mounted: a container often sees a part of the tree only."""
    path = own if mount.root == "/" else own.removeprefix(mount.root)
    if (mount.root != "/" and path == own and own != "/") or "/../" in f"{path}/":
        raise NotOurs(f"our own cgroup {own} lies outside of what is mounted at {mount.point}")
    folder = Path(mount.point + path.rstrip("/"))
    if not folder.is_dir():
        raise NotOurs(f"our own cgroup {own} can't be seen below {mount.point}")
    return folder


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise NotOurs(f"{folder} can't be made: {error.strerror}") from error
    return folder


def _write(path: Path, text: str) -> None:
    """In one write, as the kernel wants it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _pids(folder: Path) -> list[int]:
    return [int(word) for word in _words(folder / "cgroup.procs") if word != "0"]


# --- one instance's


def set_memory(folder: Path, home: Home, size: int) -> None:
    """Raises OSError."""
    if home.version == 2:
        _write(folder / "memory.max", str(size))
        _try(folder / "memory.swap.max", "0")
        _try(folder / "memory.oom.group", "1")
        return
    _write(folder / "memory.limit_in_bytes", str(size))
    _try(folder / "memory.memsw.limit_in_bytes", str(size))


def set_cpu(folder: Path, home: Home, cores: float) -> None:
    """Raises OSError."""
    period = 100_000
    quota = max(1000, int(cores * period))
    if home.version == 2:
        _write(folder / "cpu.max", f"{quota} {period}")
        return
    _write(folder / "cpu.cfs_period_us", str(period))
    _write(folder / "cpu.cfs_quota_us", str(quota))


def _try(path: Path, text: str) -> None:
    """Where the kernel has it: without swap accounting there is none to limit."""
    try:
        _write(path, text)
    except OSError:
        pass


def memory_in_use(folder: Path) -> int | None:
    """Bytes of the working set: all that is charged, less file pages that can be dropped at once."""
    for total, inactive in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
        try:
            used = int((folder / total).read_text())
        except (OSError, ValueError):
            continue
        return max(0, used - value_of(folder / "memory.stat", inactive))
    return None


def value_of(path: Path, key: str) -> int:
    """Of a file with a key and a number in each line; 0 when it is not there."""
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0


def cpu_seconds(folder: Path) -> float | None:
    """User and system, of all that ever ran in it; v2 only (in v1 it is another hierarchy's)."""
    used = value_of(folder / "cpu.stat", "usage_usec")
    return used / 1e6 if used else None


def remove(folders: Iterable[Path]) -> list[Path]:
    """Those that stay, because something is still in them."""
    left = []
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            left.append(folder)
    return left
