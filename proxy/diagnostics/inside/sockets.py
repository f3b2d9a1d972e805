"""Connections of processes: both ends, state, queues, and which process of this machine is at the other end.

Sockets of another network namespace are read from /proc: no thread of this process goes there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.diagnostics import net, netlink
from proxy.diagnostics.collectors.proc_report import STATES, UNIX_STATES
from proxy.diagnostics.inside.opened import Opened, breathe, shown
from proxy.diagnostics.netlink import Inet, Unix

DESCRIPTORS: Final = 50_000
"""That are looked at in one answer."""
ROWS: Final = 200_000
"""Sockets of the machine that are looked at."""


@dataclass(slots=True)
class Held:
    """Which process has a socket, by which descriptor; the first of several."""

    pid: int
    fd: int
    also: int = 0  # how many more processes have it


@dataclass(slots=True)
class Page:
    """`following` is the id to go on after."""

    items: list[dict[str, Any]] = field(default_factory=list)
    following: int | None = None
    total: int = 0
    states: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    """Sockets by inode, and what is at the other end of them."""

    inet: dict[int, tuple[str, Inet]] = field(default_factory=dict)
    unix: dict[int, Unix] = field(default_factory=dict)
    ends: dict[tuple[tuple[str, int], tuple[str, int]], int] = field(default_factory=dict)  # (local, remote) to inode
    ports: set[int] = field(default_factory=set)  # that somebody listens on
    notes: list[str] = field(default_factory=list)


def page(wanted: Iterable[tuple[int, int]], after: int, most: int, near: Iterable[int] = ()) -> Page:
    """Of processes, by pid and start: sockets with an inode above `after`, in that order. `near`: pids that are looked
    into first for who is at the other end; of the rest of the machine only so many are."""
    found = Page()
    held, places = _held(wanted, found)
    found.total = len(held)
    tables: dict[int, _Found] = {}
    states: Counter[str] = Counter()
    for pid, inodes in places.items():
        table = _tables(pid, inodes, found)
        tables |= dict.fromkeys(inodes, table)
        states.update(_words(inode, table) for inode in inodes)
    found.states = dict(states.most_common())
    order = sorted(inode for inode in tables if inode > after)
    if len(order) > most:
        found.following = order[most - 1]
    chosen = order[:most]
    ends = {inode: end for inode in chosen if (end := _end(inode, tables[inode]))}
    afar = {end for end in ends.values() if end not in held}
    there = _holders(afar, near)
    for turn, inode in enumerate(chosen):
        breathe(turn, 50)
        item, end = _item(inode, held[inode], tables[inode]), ends.get(inode, 0)
        pid, name = (held[end].pid, net.comm(held[end].pid)) if end in held else there.get(end, (0, ""))
        item["peer"] = {"pid": pid, "name": shown(name)} if pid else None
        found.items.append(item)
    return found


def _holders(inodes: set[int], near: Iterable[int]) -> dict[int, tuple[int, str]]:
    """Pid and name by inode, of those that could be found."""
    found: dict[int, tuple[int, str]] = {}
    left = DESCRIPTORS
    for pid in near:
        if not inodes - found.keys():
            return found
        try:
            links = net.descriptors(pid, left)
        except OSError:
            continue
        left -= len(links)
        for turn, link in enumerate(links.values()):
            breathe(turn, 1000)
            if (inode := net.inode(link)) in inodes:
                found.setdefault(inode, (pid, net.comm(pid)))
    rest = inodes - found.keys()
    return {**net.holders(rest), **found} if rest else found


def _held(wanted: Iterable[tuple[int, int]], found: Page) -> tuple[dict[int, Held], dict[int, list[int]]]:
    """Holders by inode; and inodes by a process of each network namespace."""
    held: dict[int, Held] = {}
    first: dict[str, int] = {}
    places: dict[int, list[int]] = {}
    left = DESCRIPTORS
    for pid, start in wanted:
        try:
            with Opened(pid, start) as one:
                place = one.link("ns/net")
                names = one.names("fd")
                if len(names) > left:
                    _note(found, f"of its descriptors the first {DESCRIPTORS:,}")
                for turn, name in enumerate(names[:left]):
                    breathe(turn)
                    try:
                        link = one.raw_link(f"fd/{name}")
                    except FileNotFoundError:
                        continue
                    if not link.startswith(b"socket:["):
                        continue
                    inode = int(link[8:-1])
                    if inode in held:
                        held[inode].also += held[inode].pid != pid
                        continue
                    held[inode] = Held(pid, int(name))
                    places.setdefault(first.setdefault(place, pid), []).append(inode)
                left = max(0, left - len(names))
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError as error:
            _note(found, f"descriptors of process {pid}: {(error.strerror or str(error)).lower()}")
    return held, places


def _tables(pid: int, inodes: list[int], page: Page) -> _Found:
    """What the kernel says of the sockets in the namespace of that process."""
    found, ours = _Found(), set(inodes)
    try:
        if net.namespace(pid) != os.readlink("/proc/thread-self/ns/net"):
            raise OSError(0, "another network namespace")
        with netlink.Link() as link:
            _take(found, ours, "tcp", link.tcp(ours), page)
            for unit in link.unix():
                _unit(found, ours, unit)
    except OSError as error:
        found = _Found()
        _note(page, f"sockets are read from /proc, without ages: {(error.strerror or str(error)).lower()}")
        for kind in ("tcp", "tcp6"):
            _take(found, ours, "tcp", _table(pid, kind), page)
        for unit in _unix_table(pid):
            _unit(found, ours, unit)
    for kind in ("udp", "udp6"):
        _take(found, ours, "udp", _table(pid, kind), page)
    return found


def _table(pid: int, kind: str) -> Iterator[Inet]:
    try:
        yield from net.table(pid, kind)
    except OSError:
        return


def _unix_table(pid: int) -> Iterator[Unix]:
    try:
        yield from net.unix_table(pid)
    except OSError:
        return


def _take(found: _Found, ours: set[int], kind: str, rows: Iterable[Inet], page: Page) -> None:
    for number, row in enumerate(rows):
        breathe(number)
        if number >= ROWS:
            _note(page, f"of the machine's sockets the first {ROWS:,}")
            return
        if row.inode in ours:
            found.inet[row.inode] = (kind, row)
        if kind == "tcp":
            if row.state == netlink.LISTEN:
                found.ports.add(row.local[1])
            elif row.inode and (row.local[0] == row.remote[0] or net.loopback(row.local[0])):  # both ends may be here
                found.ends[row.local, row.remote] = row.inode


def _unit(found: _Found, ours: set[int], unit: Unix) -> None:
    if unit.inode in ours or unit.peer in ours or unit.state == netlink.LISTEN:
        found.unix[unit.inode] = unit


def _words(inode: int, table: _Found) -> str:
    """Kind and state, to be counted by."""
    if inode in table.inet:
        kind, row = table.inet[inode]
        return f"{_kind_of(kind, row)} {_state_of(kind, row)}".strip()
    if inode in table.unix:
        unit = table.unix[inode]
        return f"{'unix' if unit.stream else 'unix datagram'} {UNIX_STATES.get(unit.state, '')}".strip()
    return "other"


def _kind_of(kind: str, row: Inet) -> str:
    return f"{kind}6" if row.six else kind


def _state_of(kind: str, row: Inet) -> str:
    return STATES[row.state] if kind == "tcp" and row.state < len(STATES) else ""


def _item(inode: int, held: Held, table: _Found) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": str(inode), "pid": held.pid, "fd": held.fd, "shared_by": held.also + 1, "kind": "socket", "state": "",
        "side": "", "local": "", "remote": "", "receive": None, "send": None, "backlog": None, "name": "",
        "sent_age_s": None, "received_age_s": None, "peer": None,
    }  # fmt: skip
    if inode in table.inet:
        kind, row = table.inet[inode]
        listens = kind == "tcp" and row.state == netlink.LISTEN
        connected = bool(row.remote[1])
        taken = connected and row.local[1] in table.ports
        item |= {
            "kind": _kind_of(kind, row),
            "state": _state_of(kind, row),
            "side": "listens" if listens or (kind == "udp" and not connected) else "from" if taken else "to",
            "local": net.written(*row.local),
            "remote": net.written(*row.remote) if connected else "",
            "receive": row.receive,
            "send": None if listens else row.send,
            "backlog": row.send if listens and row.send >= 0 else None,
            "name": net.named(row.remote[1]) if connected and not taken else "",
        }
        if row.info is not None:
            item["sent_age_s"], item["received_age_s"] = row.info.sent_age, row.info.received_age
    elif inode in table.unix:
        unit = table.unix[inode]
        other = table.unix.get(unit.peer) if unit.peer else None
        path = other.path if other is not None else ""
        listens = unit.state == netlink.LISTEN
        item |= {
            "kind": "unix" if unit.stream else "unix datagram",
            "state": UNIX_STATES.get(unit.state, ""),
            "side": "listens" if listens else "from" if unit.path else "to" if path else "",
            "local": shown(unit.path),
            "remote": shown(path),
            "receive": unit.receive,
            "send": None if listens else max(0, unit.send),
            "backlog": unit.send if listens and unit.send >= 0 else None,
            "name": net.path_named(path) if path else "",
        }
    else:
        item["kind"] = _kind(held)
    return item


def _kind(held: Held) -> str:
    """Of a socket that no table has: what the kernel calls its protocol."""
    try:
        name = os.getxattr(f"/proc/{held.pid}/fd/{held.fd}", "system.sockprotoname")
    except OSError:
        return "socket"
    return shown(name.rstrip(b"\0"), 60).lower()


def _end(inode: int, table: _Found) -> int:
    """The inode of what is at the other end, on this machine; 0: none, or not here."""
    if inode in table.inet:
        _, row = table.inet[inode]
        return table.ends.get((row.remote, row.local), 0) if row.remote[1] else 0
    return table.unix[inode].peer if inode in table.unix else 0


def _note(page: Page, text: str) -> None:
    if text not in page.notes:
        page.notes.append(text)
