"""Clients that hold slots by reading or sending slowly, and streams that are meant to last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import LIKELY, VERY_LIKELY, Analyzer, Finding, Rival, Seen
from proxy.diagnostics.analyzers.situation import CROWDED, Situation, paths
from proxy.diagnostics.artifacts import Activity, Record, Sockets

LONG: Final = 3.0
"""Seconds that a body has to be on its way to count."""
PART: Final = 0.5
"""Of the slots."""


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    crowded = sum(now.harm.faults[name] for name in CROWDED)
    full = crowded >= 3 or now.harm.queued
    stalled = [one for one in now.recent if one.fault in ("client-stalled", "client-timeout")]
    slow = [one for one in now.recent if one.body_us is not None and one.body_us >= LONG * 1e6 and not one.tunnel]
    reading = [one for one in now.recent if one.fault in ("client-left", "client-stalled") and _in_body(one)]
    if len(reading) >= 5 or full:
        yield from _readers(now, seen, reading, slow, crowded)
    if not full and len(stalled) >= 5 and len(reading) < 5:
        yield _stalled(now, stalled)


def _in_body(one: Record) -> bool:
    """The app had begun to answer soon, and the rest of the time went to its body."""
    total = one.total_us
    return one.wait_us is not None and total >= LONG * 1e6 and one.wait_us <= 0.2 * total and one.bytes_out > 0


def _readers(
    now: Situation, seen: Seen, left: Sequence[Record], slow: Sequence[Record], crowded: int
) -> Iterator[Finding]:
    """Threads of the app that sleep sending, and requests that ended, or not, in the middle of their body."""
    senders = {name: _senders(one) for name, one in seen.each(Sockets).items()}
    asleep = sum(senders.values())
    every = [*left, *(one for one in slow if _in_body(one))]
    if len(every) < 5 or not (asleep or len(left) >= 5):
        return
    if crowded and asleep < PART * max(1.0, now.in_flight) and len(every) < 10:
        return
    rates = [one.bytes_out / (one.total_us / 1e6) for one in every]
    speed = units.size(say.middle(rates) or 0.0)
    quick = say.middle(one.wait_us / 1e6 for one in every if one.wait_us is not None) or 0.0
    evidence = [
        say.proof(f"{units.several(len(every), 'response')} took long, at {speed}/s in the median.", say.RECORDS),
        say.proof(f"The app had begun to answer them after {units.duration(quick)}.", say.RECORDS),
    ]
    if left:
        evidence.append(say.proof(f"{units.several(len(left), 'client')} left in the middle of them.", say.RECORDS))
    evidence += [
        say.proof(f"{units.several(count, 'connection')} with bytes that are not taken.", say.of(name, "sockets"))
        for name, count in senders.items() if count
    ]  # fmt: skip
    yield Finding(
        id="slow-clients",
        title="Clients read their responses slowly" + (", and leave before the end" if left else ""),
        cause=f"The app began to answer after {units.duration(quick)}; then "
        f"{units.several(len(every), 'response')} went "
        f"out at {speed}/s, as fast as their clients took them"
        + (f", and {units.several(len(left), 'client')} left before the end." if left else "."),
        severity=now.harm.severity if crowded or now.harm.queued else "warning",
        certainty=VERY_LIKELY if asleep else LIKELY,
        care="A slot and often a thread of the app stay taken until the last byte.",
        since=min(one.time for one in every),
        evidence=evidence,
        rivals=[
            Rival(cause="an app that writes its bodies slowly",
                  against=["it has bytes waiting to be taken"] if asleep else [],
                  speaks_for=[] if asleep else ["seen from here, a slow body looks alike on both sides"]),
        ],
        unknown="Whether those clients are on slow networks, or mean it.",
        remedies=[
            say.look("See them.", f"triage requests --app {now.name} --slower 3s"),
            say.later("Smaller or compressed bodies; a server that sends files without holding a thread."),
        ],
        faults=["client-left", "client-stalled", "slow", *(CROWDED if crowded else ())],
        paths=paths(every),
        explains=["clients-left", "slow", *(["no-slots", "slow-path", "over-capacity"] if asleep else [])],
        charts=["in_flight", "bytes_out"],
        weight=float(len(every)),
    )  # fmt: skip


def _senders(one: Sockets) -> int:
    """Connections of clients with bytes that are not taken, in the median of looks."""
    counts = [
        sum(max(peer.senders, peer.unsent) for peer in sample.peers if peer.by == "client") for sample in one.samples
    ]
    return round(say.middle(counts) or 0)


def _stalled(now: Situation, stalled: Sequence[Record]) -> Finding:
    clients = Counter(one.client for one in stalled)
    who, most = clients.most_common(1)[0]
    return Finding(
        id="clients-stall",
        title="Clients stop sending or reading in the middle of requests",
        cause=f"{units.several(len(stalled), 'request')} ended because the client stopped, {most} of them of "
        f"{say.clean(who, 60)}.",
        severity="warning" if len(stalled) >= 10 else "info",
        certainty=LIKELY,
        care="Each holds a slot until gateway.timeouts.body has passed.",
        since=min(one.time for one in stalled),
        evidence=[say.proof(f"{units.several(count, 'request')} of {name}.", say.RECORDS)
                  for name, count in clients.most_common(3)],
        unknown="Why: a lost network and a client that means it look alike.",
        remedies=[say.look("See them.", f"triage requests --app {now.name} --fault {stalled[0].fault}")],
        faults=["client-stalled", "client-timeout"],
        weight=float(len(stalled)),
    )  # fmt: skip


ANALYZER: Final = Analyzer(
    name="slow_clients",
    title="Clients that hold slots",
    checks="No clients held many slots by reading or sending slowly.",
    analyze=analyze,
    wants=(Activity, Sockets),
)
