"""The gateway's own troubles: descriptors, ports, disk, what it lost, defects. Its load is in `gateway_load`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, Analyzer, Finding, Proof, Rival, Seen
from proxy.diagnostics.artifacts import HostReport, Known, Sockets, Worker

WINDOW: Final = 900.0
_KERNEL: Final = {
    "open files in system": "the machine's table of open files is full",
    "buffer space": "its memory for sockets is used up",
    "allocate memory": "its memory is used up",
}
"""What else may keep a socket from being made, by strerror: ENFILE, ENOBUFS, ENOMEM."""
TIME_WAIT: Final = 60.0
"""Seconds for which the kernel keeps the port of a connection that is over."""
_GONE: Final = re.compile(r"\b(?:lost|dropped|left out|cut)\b", re.IGNORECASE)


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    yield from _descriptors(known)
    yield from _ports(seen)
    yield from _defects(known)
    yield from _workers(known)
    yield from _disk(seen)
    yield from _lost(known)


def _descriptors(known: Known) -> Iterator[Finding]:
    found = say.faults(known, "descriptors-exhausted", since=known.at - WINDOW)
    near = [
        one
        for one in known.workers
        if one.descriptors and one.descriptors_limit and one.descriptors >= 0.9 * one.descriptors_limit
    ]
    short = [
        one
        for one in say.tried(known, "gateway-overload")
        if one.at >= known.at - WINDOW and "descriptor" in (one.attempt.detail or one.record.detail)
    ]
    if not found.count and not near and not short:
        return
    number = found.count + len(short)
    met = [one for one in say.tried(known, "descriptors-exhausted") if one.at >= known.at - WINDOW]
    detail = say.most(one.attempt.detail or one.record.detail for one in met)[0]
    if found.count and not near and not short and (other := next((one for one in _KERNEL if one in detail), "")):
        yield _kernel(found, detail, _KERNEL[other])
        return
    evidence = (
        [
            say.proof(
                f"{units.several(number, 'request')} met it since "
                f"{say.stamp(found.first or min((one.at for one in short), default=known.at))} (EMFILE).",
                say.RINGS,
            )
        ]
        if number
        else []
    )
    evidence += [_of_worker(one) for one in (near or known.workers)[:4]]
    yield Finding(
        id="gateway-descriptors",
        title="The gateway itself has no file descriptor left."
        if number
        else "The gateway's file descriptors are nearly used up.",
        cause="A worker of the gateway got EMFILE: its limit of descriptors is used up."
        if number
        else f"Worker {near[0].slot + 1} uses {units.count(near[0].descriptors or 0)} of "
        f"{units.count(near[0].descriptors_limit or 0)} descriptors.",
        severity="critical" if number else "warning",
        certainty=CERTAIN,
        care="It can't accept clients or connect to instances, of any app.",
        since=found.first,
        until=found.last if found.count and not near and known.at - found.last > say.LATELY else 0.0,
        evidence=evidence,
        unknown="" if near or not number else "What took them then.",
        remedies=[
            say.later(
                "Raise the limit (ulimit -n, LimitNOFILE=) or add workers.", "There is room for more connections."
            ),
            say.look("See who is connected.", "triage status"),
        ],
        faults=["descriptors-exhausted", "gateway-overload"],
        explains=["gateway-overload"],
        weight=float(number),
    )


def _kernel(found: say.Span, detail: str, what: str) -> Finding:
    """The same fault by another errno: the worker's own limit has nothing to do with it."""
    return Finding(
        id="gateway-descriptors",
        title=f"The kernel gave the gateway no socket: {what}.",
        cause=f"A worker asked for a socket and got: {say.clean(detail)}. That is a limit of this machine, not of the "
        "worker.",
        severity="critical",
        certainty=CERTAIN,
        care="It can't accept clients or connect to instances, of any app.",
        since=found.first,
        evidence=[
            say.proof(f"{units.several(found.count, 'request')} met it since {say.stamp(found.first)}.", say.RINGS)
        ],
        unknown="Which program has taken so much.",
        remedies=[
            say.look("Look at what this machine has left.", "cat /proc/sys/fs/file-nr /proc/net/sockstat; free -m"),
            say.dont("Don't raise ulimit -n for it.", "That limit was not reached."),
        ],
        faults=["descriptors-exhausted"],
        explains=["gateway-overload"],
        weight=float(found.count),
    )


def _of_worker(one: Worker) -> Proof:
    parts = (
        [f"{units.count(one.descriptors)} of {units.count(one.descriptors_limit or 0)} descriptors"]
        if one.descriptors is not None
        else []
    )
    parts += [f"{units.count(one.connections)} connections"]
    parts += [f"loop {units.duration(one.lag_max)} late at most"] if one.lag_max is not None else []
    parts += [f"{one.cpu:.2f} cores"] if one.cpu is not None else []
    return say.proof(f"Worker {one.slot + 1}: {', '.join(parts)}.", "workers")


def _ports(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    found = say.faults(known, "ports-exhausted", since=known.at - WINDOW)
    used, of, waits = 0, 0, ("", 0)
    for sockets in seen.each(Sockets).values():
        if sockets.ports_used is not None and sockets.ports_range is not None:
            of = sockets.ports_range[1] - sockets.ports_range[0] + 1
            used = sockets.ports_most[1] if sockets.ports_most is not None else sockets.ports_used
        for sample in sockets.samples[-1:]:
            for peer in sample.peers:
                waits = max(waits, (peer.address, peer.time_wait), key=lambda one: one[1])
    near = of and used >= 0.85 * of
    if not found.count and not near:
        return
    if found.count and of and used < 0.5 * of and known.at - found.last < TIME_WAIT:
        yield _no_address(known, found, used, of)
        return
    evidence = []
    if found.count:
        evidence.append(
            say.proof(
                f"{units.several(found.count, 'connect(2)')} found no free local port (EADDRNOTAVAIL).", say.RINGS
            )
        )
    if of:
        where = next((one.ports_most[0] for one in seen.each(Sockets).values() if one.ports_most is not None), "")
        to = f" towards {where}" if where else ""
        text = f"{units.count(used)} of {units.count(of)} local ports are in use{to}."
        evidence.append(say.proof(text, "sockets"))
    if waits[1] > 100:
        evidence.append(say.proof(f"{units.count(waits[1])} connections with {waits[0]} are in TIME_WAIT.", "sockets"))
    connects, every = (
        say.total(known.rings.get(""), "connects", known.at - WINDOW),
        say.requests(known, known.at - WINDOW),
    )
    fresh = every > 50 and connects > 0.5 * every
    if every:
        evidence.append(
            say.proof(
                f"{units.count(connects)} connections were made for {units.count(every)} requests in 15 min.", say.RINGS
            )
        )
    yield Finding(
        id="ports-used-up",
        title="This machine has no local port left for new connections."
        if found.count
        else "This machine's local ports are nearly used up.",
        cause="A new connection to an instance found no free local port."
        + (" The app closes its connections after each answer, so each request needs a new one." if fresh else "")
        if found.count
        else f"{units.count(used)} of {units.count(of)} local ports are in use.",
        severity="critical" if found.count else "warning",
        certainty=CERTAIN,
        care="No new connection to that address can be made until some have waited out their minute.",
        app=known.app.name,
        since=found.first,
        evidence=evidence,
        unknown="" if fresh or waits[1] > 100 else "What uses them.",
        remedies=[
            say.later("Let the app keep connections alive.", "A connection serves many requests."),
            say.look("Widen the range of ports.", "sysctl net.ipv4.ip_local_port_range", "There are more of them."),
        ],
        faults=["ports-exhausted"],
        weight=float(found.count),
    )


def _no_address(known: Known, found: say.Span, used: int, of: int) -> Finding:
    """The same errno, while ports are free: there is no address of its own from which that one could be reached."""
    tries = [one for one in say.tried(known, "ports-exhausted") if one.at >= known.at - WINDOW]
    names = list(dict.fromkeys(one.attempt.instance for one in tries))
    who = say.listed(names) or known.app.name
    return Finding(
        id="unreachable",
        title=f"This machine has no address from which {who} can be reached.",
        cause=f"connect(2) to {who} fails with EADDRNOTAVAIL while local ports are free: likely this machine has no "
        "address of that kind (IPv6 that is off, say).",
        severity="critical" if known.app.state == "down" or known.app.ready == 0 else "warning",
        certainty=LIKELY,
        care="No request gets there until the network or the address is mended.",
        app=known.app.name,
        instances=names,
        since=found.first,
        evidence=[
            say.proof(f"{units.several(found.count, 'connect(2)')} so since {say.stamp(found.first)}.", say.RINGS),
            say.proof(f"{units.count(used)} of {units.count(of)} local ports are in use.", "sockets"),
        ],
        rivals=[Rival(cause="local ports that were used up for a moment", against=["most of them are free"])],
        remedies=[say.look("Compare this machine's addresses with the one in the config.", "ip address; ip route")],
        faults=["ports-exhausted", "all-ejected"],
        explains=["all-ejected"],
        weight=float(found.count),
    )


def _defects(known: Known) -> Iterator[Finding]:
    found = say.faults(known, "internal-error", since=known.at - WINDOW)
    if not found.count:
        return
    tries = say.tried(known, "internal-error")
    yield Finding(
        id="gateway-defect",
        title="Triage itself failed on requests.",
        cause="A defect of Triage: neither the client nor the app did anything wrong here.",
        severity="critical",
        certainty=CERTAIN,
        care="Those requests got a 500.",
        since=found.first,
        evidence=[
            say.proof(
                f"{units.several(found.count, 'request')} ended in "
                f"internal-error{f', e.g. {tries[0].record.id}' if tries else ''}.",
                say.RINGS,
            )
        ],
        remedies=[say.look("Please report it, with the traceback in Triage's own log at that time.")],
        faults=["internal-error"],
        explains=["gateway-overload"],
        weight=float(found.count),
    )


def _workers(known: Known) -> Iterator[Finding]:
    died = [
        event
        for event in known.events
        if event.kind in ("worker-died", "worker-silent") and known.at - event.at <= WINDOW
    ]
    if not died:
        return
    yield Finding(
        id="gateway-worker-died",
        title="A worker of the gateway itself ended or hung.",
        cause=f"{say.clean(died[-1].text, 200)}.",
        severity="warning",
        certainty=CERTAIN,
        care="Requests that were on it were cut; another one took its place.",
        since=died[0].at,
        evidence=[say.proof(f"{say.stamp(event.at)}: {say.clean(event.text)}.", say.EVENTS) for event in died[-4:]],
        unknown="Why, unless the text says it.",
        remedies=[
            say.look("Look into Triage's own log at that time, and into the kernel's.", "journalctl -k --since -15min")
        ],
    )


def _disk(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    free = [value for _, value in say.values(known.rings.get("host"), "disk_free", known.at - 60)]
    failing = [event for event in known.events if event.kind == "store-failing" and known.at - event.at <= WINDOW]
    if not failing and not (free and free[-1] < 20 * units.MB):
        return
    said = [say.proof(f"{say.stamp(event.at)}: {say.clean(event.text)}.", say.EVENTS) for event in failing[-3:]]
    if free:
        said.append(say.proof(f"{units.size(free[-1])} are free on the disk of data_dir.", say.RINGS))
    yield Finding(
        id="gateway-disk",
        title="The gateway can't write what it knows."
        if failing
        else "The disk of the gateway's own data is nearly full.",
        cause=f"{say.clean(failing[-1].text, 200)}."
        if failing
        else f"Only {units.size(free[-1])} are free on the disk of data_dir.",
        severity="warning",
        certainty=CERTAIN,
        care="Requests go on; what would be known of them later is lost"
        + ("." if failing else " once nothing can be written any more."),
        evidence=said,
        remedies=[say.look("Make room there.", "df -h; du -xh --max-depth=2 . | sort -h | tail")],
    )


def _lost(known: Known) -> Iterator[Finding]:
    lost = [text for text in known.notes if _GONE.search(text)]
    lost += [
        say.clean(event.text)
        for event in known.events
        if event.kind in ("notify-lost", "by-hand-lost") and known.at - event.at <= WINDOW
    ]
    if lost:
        yield Finding(
            id="evidence-lost",
            title="Some of what happened was not kept.",
            cause=f"{say.clean(lost[0], 200)}.",
            severity="info",
            certainty=CERTAIN,
            care="Counts hold; single requests or lines may be missing.",
            evidence=[say.proof(say.clean(text, 200) + ".", "notes") for text in lost[:6]],
        )


ANALYZER: Final = Analyzer(
    name="gateway",
    title="The gateway's own limits",
    checks="The gateway had descriptors, ports, time and room enough, and no request met a defect of it.",
    analyze=analyze,
    wants=(Sockets, HostReport),
)
