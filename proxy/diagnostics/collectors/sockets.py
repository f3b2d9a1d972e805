"""Who waits for whom: accept queues, connections by peer, questions without an answer, and the threads asleep on them.

Each sample is one look at the descriptors and threads of all processes and one at the sockets of their namespace.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Final

from proxy import units
from proxy.diagnostics import asleep, net, netlink, proc
from proxy.diagnostics.artifacts import Listener, Sockets, SocketSample
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.netlink import Inet, Unix
from proxy.diagnostics.peers import Held, Peers, Told
from proxy.diagnostics.subject import Subject

SAMPLES: Final = 20
"""A session has about as many, 1 to 10 s apart."""
SHARE: Final = 0.03
"""Of a core: samples are further apart where one takes longer, but there are LEAST of them, a second apart at least."""
LEAST: Final = 8
PEERS: Final = 60
THREADS: Final = 512
TIME_WAITS: Final = 10


class _Look:
    """All that is kept from one sample to the next."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.missing: Counter[str] = Counter()
        self.views: dict[str, net.View] = {}
        self.ports: set[int] = set()  # that the instance listens on, or did
        self.servers: set[str] = set()
        self.told: dict[int, Told] = {}
        self.names: dict[str, str] = {}  # of servers on this machine: address to process
        self.used: int | None = None
        self.most: tuple[str, int] | None = None
        _, _, port = (subject.instance.address if subject.instance else "").rpartition(":")
        if port.isdigit():
            self.ports.add(int(port))

    def sample(self) -> SocketSample:
        """Raises ProcessLookupError when the instance has ended, PermissionError when it may not be looked into."""
        pid, started = self.subject.pid, self.subject.started
        try:
            found = self._sample()
        except OSError as error:  # its part of /proc goes with it, file by file
            if proc.runs(pid, started) or isinstance(error, ProcessLookupError):
                raise
            raise ProcessLookupError(f"process {pid} ended during the session") from error
        if not proc.runs(pid, started):  # what was seen of it may be half of it
            raise ProcessLookupError(f"process {pid} ended during the session")
        return found

    def _sample(self) -> SocketSample:
        tree = proc.tree(self.subject.pid, self.subject.started)
        found = SocketSample(at=time.time())
        held = self._held(list(tree))
        places: dict[str, int] = {}
        for pid in tree:
            try:
                places.setdefault(net.namespace(pid), pid)
            except OSError:
                continue
        peers = Peers(held, self.told)
        for number, (place, pid) in enumerate((places or {"": self.subject.pid}).items()):
            view = self.views.get(place)
            if view is None:
                view = self.views[place] = net.View(pid)
            view.pid = pid
            self._inet(view, held, peers, found, first=number == 0)
            if number == 0:  # Unix sockets are seen through any of them
                self._unix(view, held, peers, found)
        self.told = peers.told
        all_of_them = peers.done()
        found.peers, found.left_out = all_of_them[:PEERS], max(0, len(all_of_them) - PEERS)
        return found

    def _held(self, pids: list[int]) -> Held:
        held = Held(asleep=asleep.known())
        left, threads = net.DESCRIPTORS, THREADS
        denied = 0
        for pid in pids:
            try:
                links = net.descriptors(pid, left)
            except PermissionError:
                denied += 1
                self.missing["descriptors: permission denied"] = denied
                continue
            except OSError:
                continue
            left -= len(links)
            inodes = {number: net.inode(link) for number, link in links.items()}
            for inode in set(inodes.values()) - {0}:
                held.owners.setdefault(inode, []).append(pid)
            if "anon_inode:[eventpoll]" in links.values():
                held.loops.add(pid)
            threads = self._asleep(pid, inodes, held, threads)
        if denied == len(pids):
            raise PermissionError("the descriptors of its processes may be read by root or their user only")
        if left <= 0:
            self.missing[f"more than {net.DESCRIPTORS:,} descriptors: the rest was not looked at"] = 1
        return held

    def _asleep(self, pid: int, inodes: dict[int, int], held: Held, left: int) -> int:
        """How many more threads may be looked at."""
        into = {"read": held.reading, "connect": held.reading, "write": held.writing, "accept": held.accepting}
        try:
            for name in sorted(os.listdir(f"{proc.PROC}/{pid}/task"), key=int):
                if left <= 0:
                    self.missing[f"more than {THREADS} threads: the rest was not looked at"] = 1
                    return 0
                left -= 1
                try:
                    doing = asleep.on(pid, int(name))
                except (FileNotFoundError, ProcessLookupError):
                    continue
                for does, number in doing:
                    if inode := inodes.get(number, 0):
                        into[does].setdefault(inode, []).append(int(name))
        except PermissionError:
            held.asleep = False
            self.missing["system calls of threads: permission denied"] = 1
        except OSError:
            pass
        return left

    def _inet(self, view: net.View, held: Held, peers: Peers, found: SocketSample, *, first: bool) -> None:
        ours = set(held.owners)
        rows = view.tcp(ours)
        listening = {row.local[1]: row for row in rows if row.state == netlink.LISTEN}
        self.ports |= {row.local[1] for row in rows if row.state == netlink.LISTEN and row.inode in ours}
        half = Counter(row.local[1] for row in rows if row.state == netlink.SYN_RECV)
        leads: dict[str, set[int]] = {}  # the other side to our local ports
        waits: Counter[str] = Counter()
        for row in rows:
            if row.state == netlink.LISTEN:
                if row.inode in ours:
                    found.listeners.append(_listener(row, held, half[row.local[1]]))
                    found.total += 1
                continue
            remote, by_client = net.written(*row.remote), row.local[1] in self.ports
            if row.local[1] not in listening and row.state != netlink.SYN_RECV:
                leads.setdefault(remote, set()).add(row.local[1])
                waits[remote] += row.state == netlink.TIME_WAIT
            if row.state == netlink.TIME_WAIT:
                if by_client:
                    peers.peer("client", "tcp", row.remote[0]).time_wait += 1
                elif remote in self.servers:
                    peers.peer("server", "tcp", remote).time_wait += 1
            elif row.inode in ours and row.state != netlink.CLOSE:
                found.total += 1
                if by_client:
                    peers.connection("client", "tcp", row.remote[0], row)
                else:
                    self.servers.add(remote)
                    peer = peers.connection("server", "tcp", remote, row)
                    peer.name = peer.name or net.named(row.remote[1])
        for row in view.udp():
            if row.inode in ours:
                found.total += 1
                peers.connection("server", "udp", net.written(*row.remote), row).name = net.named(row.remote[1])
        self._local_servers(rows, peers)
        if first:
            found.time_wait = {name: count for name, count in waits.most_common(TIME_WAITS) if count}
            self._ports(view, leads)

    def _ports(self, view: net.View, leads: dict[str, set[int]]) -> None:
        if view.ports_range is None:
            return
        low, high = view.ports_range
        inside = {remote: {port for port in ports if low <= port <= high} for remote, ports in leads.items()}
        used = len(set().union(*inside.values())) if inside else 0
        self.used = max(self.used or 0, used)
        most = max(((remote, len(ports)) for remote, ports in inside.items()), key=lambda one: one[1], default=None)
        if most is not None and most[1] >= (self.most[1] if self.most else 1):
            self.most = most

    def _local_servers(self, rows: list[Inet], peers: Peers) -> None:
        """Who listens, where the server is on this machine; looked for once for each address."""
        hosts = {row.local[0] for row in rows}
        wanted: dict[str, int] = {}
        for peer in [one for one in peers.found.values() if one.by == "server" and one.kind == "tcp"]:
            host, _, port = peer.address.rpartition(":")
            host = host.strip("[]")
            if peer.address not in self.names and (net.loopback(host) or host in hosts):
                for row in rows:
                    if row.state == netlink.LISTEN and row.local[1] == int(port) and row.inode:
                        if row.local[0] in (host, "0.0.0.0", "::"):
                            wanted[peer.address] = row.inode
        self._find(wanted)
        for peer in peers.found.values():
            if peer.by == "server" and peer.kind == "tcp" and self.names.get(peer.address):
                peer.process = self.names[peer.address]
                peer.name = peer.name or peer.process.partition(" (")[0]

    def _find(self, wanted: dict[str, int]) -> None:
        """By address the inode of the socket that listens."""
        if wanted:
            holders = net.holders(wanted.values())
            for address, inode in wanted.items():
                pid, name = holders.get(inode, (0, ""))
                self.names[address] = f"{name} (pid {pid})" if pid else ""

    def _unix(self, view: net.View, held: Held, peers: Peers, found: SocketSample) -> None:
        rows = {row.inode: row for row in view.unix() if row.stream}
        listening = {row.path: row.inode for row in rows.values() if row.state == netlink.LISTEN and row.path}
        waiting = {inode: row.path for row in rows.values() for inode in row.waiting}
        for inode in held.owners:
            row = rows.get(inode)
            if row is None:
                continue
            if row.state == netlink.LISTEN:
                found.total += 1
                found.listeners.append(_listener(row, held, 0))
            elif row.state == netlink.ESTABLISHED:
                other = rows.get(row.peer) if row.peer else None
                path = other.path if other is not None else waiting.get(inode, "")
                if row.path:
                    found.total += 1
                    peers.connection("client", "unix", "unix", row)
                elif path:
                    found.total += 1
                    peers.connection("server", "unix", f"unix:{path}", row).name = net.path_named(path)
        mine = [one for one in peers.found.values() if one.kind == "unix" and one.by == "server"]
        self._find(
            {
                one.address: listening[one.address[5:]]
                for one in mine
                if one.address[5:] in listening and one.address not in self.names
            }
        )
        for peer in mine:
            peer.process = self.names.get(peer.address, "")
            peer.name = peer.name or peer.process.partition(" (")[0]

    def note(self) -> str:
        whys = [said for view in self.views.values() if (said := view.note())]
        if not asleep.known():
            whys.append(f"which thread sleeps on which connection is not known on {asleep.MACHINE}")
        return "; ".join([*dict.fromkeys(whys), *self.missing])


def _listener(row: Inet | Unix, held: Held, half: int) -> Listener:
    pids = held.owners[row.inode]
    accepting = {*held.accepting.get(row.inode, ()), *held.reading.get(row.inode, ())}
    told = held.asleep and not any(pid in held.loops for pid in pids)
    return Listener(
        address=net.written(*row.local) if isinstance(row, Inet) else f"unix:{row.path}",
        waiting=row.receive,
        backlog=row.send if row.send >= 0 else None,
        pid=pids[0],
        half=half,
        accepting=len(accepting) if told else None,
    )


def collect(subject: Subject, folder: Path) -> Sockets:
    """ProcessLookupError and PermissionError of the first sample are the collector's."""
    look = _Look(subject)
    found = Sockets(at=time.time())
    every = min(10.0, max(1.0, subject.seconds / SAMPLES))
    until = time.monotonic() + subject.seconds
    ended = ""
    while True:
        before, cost = time.monotonic(), time.process_time()
        try:
            found.samples.append(look.sample())
        except ProcessLookupError as error:
            if not found.samples:
                raise
            ended = str(error)
            break
        cost = time.process_time() - cost
        apart = min(max(every, cost / SHARE), max(every, subject.seconds / LEAST))
        left = until - time.monotonic()
        if left <= 0 or not subject.wait(min(left, max(0.0, before + apart - time.monotonic()))):
            break
    views = list(look.views.values())
    found.how = "proc" if any(view.why.startswith("sock_diag") for view in views) else "sock_diag"
    found.ports_range = next((view.ports_range for view in views), None)
    found.ports_used, found.ports_most = look.used, look.most
    found.note = "; ".join(part for part in (look.note(), ended) if part)
    for view in views:
        view.close()
    return found


COLLECTOR = Collector(
    name="sockets",
    title="Sockets",
    needs="/proc; descriptors of others only as root or their user; ages of connections by sock_diag",
    cost="some milliseconds of CPU a sample; beyond eight of them at most 3 % of a core; the app is not stopped",
    limit=6.0,
    most=8 * units.MIB,
    artifact=Sockets,
    collect=collect,
    when="through",
    quick=True,
)
