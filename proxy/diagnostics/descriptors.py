"""What a process has open: by kind, by path and by the other side of its sockets, and what of it grew."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from proxy import masking
from proxy.diagnostics import net, netlink, proc

MOST_OF: Final = 0.6
"""A path that makes up this share of what its kind grew by is what grows."""


@dataclass(slots=True)
class Open:
    """`used` is all of them; the rest may be of fewer, where there are very many. `exact` and `near` are by kind."""

    used: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    exact: dict[str, Counter[str]] = field(default_factory=dict)  # paths, other sides
    near: dict[str, Counter[str]] = field(default_factory=dict)  # folders


def kind(link: str) -> str:
    """file, deleted file, device, socket, pipe, anon_inode:[eventpoll] …"""
    if link.startswith("/"):
        return "device" if link.startswith("/dev/") else "deleted file" if link.endswith(" (deleted)") else "file"
    return link if link.startswith("anon_inode:") else link.partition(":")[0]


def opened(pid: int, sides: dict[int, str]) -> Open:
    """`sides`: of inodes of sockets, as `sides_of` tells. Raises PermissionError, FileNotFoundError."""
    links = net.descriptors(pid)
    found = Open(used=len(os.listdir(proc.PROC / str(pid) / "fd")) if len(links) >= net.DESCRIPTORS else len(links))
    for link in links.values():
        what = kind(link)
        found.kinds[what] += 1
        if what in ("file", "deleted file", "device"):
            path = link.removesuffix(" (deleted)")
            found.exact.setdefault(what, Counter())[path] += 1
            found.near.setdefault(what, Counter())[f"{os.path.dirname(path).rstrip('/')}/*"] += 1
        elif what == "socket":
            found.exact.setdefault(what, Counter())[sides.get(net.inode(link), "socket, not connected")] += 1
    return found


def sides_of(view: net.View) -> dict[int, str]:
    """By inode: "to 10.0.3.12:5432", "from 10.0.0.7", "listening on …"."""
    found: dict[int, str] = {}
    rows = view.tcp(set())
    ports = {row.local[1] for row in rows if row.state == netlink.LISTEN}
    for row in rows:
        if row.inode and row.state != netlink.CLOSE:
            closed = " that the other side closed" if row.state == netlink.CLOSE_WAIT else ""
            found[row.inode] = (
                f"listening on {net.written(*row.local)}" if row.state == netlink.LISTEN
                else f"from {row.remote[0]}{closed}" if row.local[1] in ports
                else f"to {net.written(*row.remote)}{closed}"
            )  # fmt: skip
    found.update((row.inode, f"UDP to {net.written(*row.remote)}") for row in view.udp() if row.inode)
    units = {row.inode: row for row in view.unix()}
    for unit in units.values():
        other = units.get(unit.peer) if unit.peer else None
        if unit.inode:
            found[unit.inode] = (
                f"listening on unix:{unit.path}" if unit.state == netlink.LISTEN
                else "from unix" if unit.path
                else f"to unix:{other.path}" if other is not None and other.path
                else "unix, without a path"
            )  # fmt: skip
    return found


def held(one: Open, most: int) -> dict[str, int]:
    """The paths, folders and other sides that most are open to; those with one or two are left out."""
    found: Counter[str] = Counter()
    for what, exact in one.exact.items():
        for label, count in exact.items():
            if count > 2:
                found[_label(what, label)] = count
        covered = Counter[str]()
        for label, count in exact.items():
            covered[f"{os.path.dirname(label).rstrip('/')}/*"] += count if count > 2 else 0
        for label, count in one.near.get(what, {}).items():
            if count - covered[label] > 2:
                found[_label(what, label)] = count
    return {masking.text(label): count for label, count in found.most_common(most)}


def grown(before: Open, after: Open) -> tuple[str, int]:
    """What grew most, as narrowly as it can be said, and by how many; "", 0: nothing."""
    growth = after.kinds - before.kinds
    if not growth:
        return "", 0
    what, count = growth.most_common(1)[0]
    for table_before, table_after in ((before.exact, after.exact), (before.near, after.near)):
        parts = table_after.get(what, Counter()) - table_before.get(what, Counter())
        for label, more in parts.most_common(1):
            if more > 1 and more >= MOST_OF * count:
                return masking.text(_label(what, label)), min(more, count)
    return what, count


def _label(what: str, label: str) -> str:
    return f"{label} (deleted)" if what == "deleted file" else label
