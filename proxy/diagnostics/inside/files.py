"""Descriptors of a process: what each leads to, how it was opened, and where in it the process is."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.diagnostics.inside.opened import Opened, breathe, shown

MOST: Final = 100_000
"""Descriptors that are counted by kind; the rest are counted as one."""
MOUNTS: Final = 1 << 20
AFAR: Final = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "gluster", "lustre", "glusterfs", "autofs")
"""File systems whose size is not asked: who serves them may not answer."""
_ACCESS: Final = {os.O_RDONLY: "read", os.O_WRONLY: "write", os.O_RDWR: "read and write"}


@dataclass(slots=True)
class Files:
    """A page of them. `kinds` counts all, `following` is the number to go on after."""

    items: list[dict[str, Any]] = field(default_factory=list)
    following: int | None = None
    total: int = 0
    kinds: dict[str, int] = field(default_factory=dict)


def page(one: Opened, after: int, most: int) -> Files:
    """Those above number `after`, in order. Raises PermissionError, ProcessLookupError."""
    numbers = sorted(int(name) for name in one.names("fd"))
    found = Files(total=len(numbers))
    kinds: Counter[str] = Counter()
    links: dict[int, bytes] = {}
    for turn, number in enumerate(numbers[:MOST]):
        breathe(turn)
        try:
            link = one.raw_link(f"fd/{number}")
        except FileNotFoundError:
            continue  # closed meanwhile
        kinds[kind(link)] += 1
        if number > after and len(links) <= most:
            links[number] = link
    if len(numbers) > MOST:
        kinds["not looked at"] = len(numbers) - MOST
    found.kinds = dict(kinds.most_common())
    chosen = list(links)[:most]
    if len(links) > most:
        found.following = chosen[-1]
    afar = _afar(one)
    for turn, number in enumerate(chosen):
        breathe(turn, 25)
        if (each := _file(one, number, links[number], afar)) is not None:
            found.items.append(each)
    return found


def kind(link: bytes) -> str:
    """file, device, memory, socket, pipe, eventpoll, … by what the kernel calls it."""
    if link.startswith(b"/"):
        if link.startswith((b"/memfd:", b"/dev/shm/", b"/SYSV")):
            return "memory"
        return "device" if link.startswith(b"/dev/") else "file"
    if link.startswith(b"anon_inode:"):
        return shown(link[11:].strip(b"[]"), 60)
    return shown(link.partition(b":")[0], 60)


def _file(one: Opened, number: int, link: bytes, afar: frozenset[str]) -> dict[str, Any] | None:
    """None: closed meanwhile."""
    what = kind(link)
    found: dict[str, Any] = {
        "id": str(number), "fd": number, "kind": what, "target": shown(link), "size": None, "position": None,
        "mode": "", "deleted": False,
    }  # fmt: skip
    mount = ""
    try:
        info = one.pairs(f"fdinfo/{number}")
        flags = int(info.get("flags", "0"), 8)
        found["mode"] = "path only" if flags & os.O_PATH else _ACCESS.get(flags & os.O_ACCMODE, "")
        if flags & os.O_APPEND:
            found["mode"] += ", append"
        if what in ("file", "memory", "device") and info.get("pos", "").isdigit():
            found["position"] = int(info["pos"])
        mount = info.get("mnt_id", "")
    except FileNotFoundError:
        return None
    except ProcessLookupError:
        raise
    except (OSError, ValueError):
        one.note("modes and positions: permission denied")
    if not link.startswith(b"/"):
        return found
    nameless = link.startswith(b"/memfd:")  # the kernel says of each that it is deleted
    gone = link.endswith(b" (deleted)")
    if mount in afar:
        one.note("sizes on network file systems are not asked")
    else:
        try:
            status = one.status(f"fd/{number}")
        except OSError:
            pass
        else:
            gone = status.st_nlink == 0  # a file may be called so
            if stat.S_ISDIR(status.st_mode):
                found["kind"] = "folder"
            elif stat.S_ISFIFO(status.st_mode):
                found["kind"] = "pipe"
            elif stat.S_ISREG(status.st_mode):
                found["size"] = status.st_size
    found["deleted"] = gone and not nameless
    if gone or nameless:
        found["target"] = shown(link.removesuffix(b" (deleted)"))
    return found


def _afar(one: Opened) -> frozenset[str]:
    """Numbers of mounts that somebody else serves (proc_pid_mountinfo(5))."""
    text = one.maybe("mounts", lambda: one.read("mountinfo", MOUNTS)) or b""
    found = set()
    for line in text.decode("utf-8", "replace").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith(AFAR):
            found.add(before.partition(" ")[0])
    return frozenset(found)
