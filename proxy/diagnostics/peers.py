"""Connections of an instance's processes, added up by whom they lead to, and whose turn it is to send on each.

Whether a question is out is told by tcp_info's ages: data went out after data last came. Both are to the tick of the
kernel's clock (4 ms), and a question often goes out within the tick of the answer before it. Then it is told by what
the other side confirmed: an answer confirms its question itself, while a question without one is confirmed a little
later (RFC 9293 3.8.6.3: within 500 ms; Linux: 200 ms). Or by a thread that sleeps reading from that very connection.
What was told once holds as long as nothing moves. What is left is `unsure`.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Final

from proxy.diagnostics import netlink
from proxy.diagnostics.artifacts import Peer
from proxy.diagnostics.netlink import Inet, Unix

WAITERS: Final = 64
CONFIRMED: Final = 0.25
"""Seconds; later than this it answers a look whether the connection is still there (keep-alive)."""
CLOSING: Final = frozenset({4, 5, 8, 9, 11})
"""FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING."""

Told = tuple[tuple[int, int], str]
"""Segments sent and received, and whose turn it was then."""


@dataclass(slots=True)
class Held:
    """The descriptors of all processes, and who sleeps on them."""

    owners: dict[int, list[int]] = field(default_factory=dict)  # inode to pids
    reading: dict[int, list[int]] = field(default_factory=dict)  # inode to threads
    writing: dict[int, list[int]] = field(default_factory=dict)
    accepting: dict[int, list[int]] = field(default_factory=dict)
    loops: set[int] = field(default_factory=set)  # pids with an epoll descriptor
    asleep: bool = False  # it could be told


class Peers:
    """Peers by direction, kind and address, as they add up.

    `before`: of the sample before, `told` of this one: by inode the counts of segments, and what they meant.
    """

    def __init__(self, held: Held, before: dict[int, Told]) -> None:
        self.held = held
        self.before = before
        self.told: dict[int, Told] = {}
        self.found: dict[tuple[str, str, str], Peer] = {}
        self._trips: dict[tuple[str, str, str], list[float]] = {}

    def peer(self, by: str, kind: str, address: str) -> Peer:
        return self.found.setdefault((by, kind, address), Peer(by=by, kind=kind, address=address))

    def connection(self, by: str, kind: str, address: str, row: Inet | Unix) -> Peer:
        """Adds one connection."""
        peer = self.peer(by, kind, address)
        reading = self.held.reading.get(row.inode, ())
        writing = self.held.writing.get(row.inode, ())
        peer.threads += len(reading)
        peer.senders += len(writing)
        peer.waiters = [*peer.waiters, *reading, *writing][:WAITERS]
        if row.state == netlink.SYN_SENT:
            peer.connecting += 1
            return peer
        if row.state in CLOSING:
            peer.closing += 1
            peer.close_wait += row.state == netlink.CLOSE_WAIT
        else:
            peer.established += 1
        peer.unread += row.receive > 0
        peer.unsent += row.send > 0
        if isinstance(row, Inet) and row.info is not None:
            self._trips.setdefault((by, kind, address), []).append(row.info.round_trip)
            peer.idle = max(peer.idle or 0.0, row.info.received_age)
            peer.resending += row.info.resent > 0
            if row.state == netlink.ESTABLISHED and row.info.sent_segments is not None:
                self._turn(peer, row.inode, row.info, bool(reading))
        return peer

    def _turn(self, peer: Peer, inode: int, info: netlink.Info, read_by_thread: bool) -> None:
        """Whose turn it is to send, where it can be told."""
        if peer.by == "server":
            peer.asked = peer.asked or 0
        else:
            peer.owed = peer.owed or 0
        if not info.sent_segments and not info.received_segments:
            return
        last = self.before.get(inode)
        counts = (info.sent_segments or 0, info.received_segments or 0)
        turn = whose(info) or (last[1] if last is not None and last[0] == counts else "")
        if not turn and read_by_thread and peer.by == "server":
            turn = "theirs"
        if turn:
            self.told[inode] = (counts, turn)
        else:
            peer.unsure += 1
        if turn == "theirs" and peer.by == "server":
            peer.asked = (peer.asked or 0) + 1
            peer.asked_for = max(peer.asked_for or 0.0, info.sent_age)
        elif turn == "ours" and peer.by == "client":
            peer.owed = (peer.owed or 0) + 1
            peer.owed_for = max(peer.owed_for or 0.0, info.received_age)

    def done(self) -> list[Peer]:
        """Servers first, the most connections first."""
        for key, trips in self._trips.items():
            self.found[key].round_trip = round(statistics.median(trips), 6)
        return sorted(
            self.found.values(),
            key=lambda one: (one.by != "server", -(one.established + one.connecting + one.time_wait), one.address),
        )


def whose(info: netlink.Info) -> str:
    """Who is to send next, by the ages of one connection: "theirs" after our question, "ours" after theirs, or ""."""
    if not info.received_segments or (info.sent_segments and info.sent_age < info.received_age):
        return "theirs"
    if not info.sent_segments or info.received_age < info.sent_age:
        return "ours"
    return "theirs" if 0 < info.received_age - info.confirmed_age <= CONFIRMED else ""
