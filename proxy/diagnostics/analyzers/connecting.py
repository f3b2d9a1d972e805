"""Connections that can't be made: nothing listens, a full accept queue, no way there.

What an end of the process explains is left to `exits`: a refusal right after it is no finding of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    LIKELY,
    NOT_KNOWN,
    Analyzer,
    Certainty,
    Finding,
    Rival,
    Seen,
    Severity,
)
from proxy.diagnostics.analyzers.not_ready import listeners, reaches
from proxy.diagnostics.artifacts import Activity, HostReport, Known, Listener, Sockets

WINDOW: Final = 900.0
LEAST: Final = 3
NOW: Final = 30.0
"""Seconds before the look that count as now."""


def analyze(seen: Seen) -> Iterator[Finding]:
    yield from _refused(seen)
    yield from _queue_full(seen)
    yield from _unreachable(seen)


def _lately(known: Known, fault: str) -> say.Span:
    return say.faults(known, fault, since=known.at - WINDOW)


def _explained(known: Known, one: say.Tried) -> bool:
    """By an end of that instance, or by its being on its way."""
    if say.ended_near(known, one.attempt.instance, one.at, before=10.0) is not None:
        return True
    there = next((each for each in known.instances if each.name == one.attempt.instance), None)
    return (
        there is not None
        and there.kind == "process"
        and (there.gone or not there.pid or there.ready_at > one.at or there.lifecycle in ("starting", "warming"))
    )


def _refused(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    found = _lately(known, "connect-refused")
    tries = [one for one in say.tried(known, "connect-refused") if one.at >= known.at - WINDOW]
    open_ones = [one for one in tries if not _explained(known, one)]
    if found.count < LEAST or (tries and len(open_ones) < min(LEAST, len(tries))) or not tries:
        return
    names = list(dict.fromkeys(one.attempt.instance for one in open_ones))
    there = {one.name: one for one in known.instances}
    evidence = [
        say.proof(
            f"{units.several(found.count, 'connection')} refused since {say.stamp(found.first)}, the last at "
            f"{say.stamp(found.last)}.",
            say.RINGS,
        )
    ]
    first = there.get(names[0])
    sure: Certainty = CERTAIN
    unknown, deaf = "", False
    if first is not None and first.kind == "process" and first.pid:
        where = listeners(seen, first)
        cause = (
            f"The process of {first.name} runs, but the kernel refuses connections to {first.address}: nothing "
            f"listens there."
        )
        if where is not None and not reaches(where, first.address):
            evidence.append(
                say.proof(
                    f"It listens on {say.listed(where) or 'nothing'}; expected at {first.address}.",
                    say.of(first.name, "sockets"),
                )
            )
            unknown, deaf = "Why it stopped listening.", True
        elif where is None and found.last < known.at - NOW:
            cause = f"Connections to {first.name} at {first.address} were refused while its process ran."
            unknown, sure = "Whether it listens now, and where: that could not be looked at.", LIKELY
        elif where:
            cause = (
                f"Connections to {first.name} at {first.address} were refused while its process ran; it listens now."
            )
            unknown = (
                "Why it did not listen then: a worker that is replaced, or a backlog of 0 that is full, look alike."
            )
            sure = LIKELY
    else:
        who = names[0] if names else known.app.name
        cause = f"Nothing listens at {who}: the machine there refuses connections."
        unknown = (
            "Whether the program there is down, or listens elsewhere: that machine can't be looked into from here."
            if first is None or first.kind == "address"
            else ""
        )
        if not _here(who):  # what stands between may refuse for it
            cause = f"{who} refuses connections: nothing listens there, or a firewall says so for it."
    over = not deaf and answers_again(known, names, found.last)
    if over:
        evidence.append(say.proof(f"Requests to {say.listed(names)} were answered after that.", say.STATE))
        cause = f"{say.listed(names)} refused connections until {say.stamp(found.last)}, and answers again since."
        unknown = "Why nothing listened there meanwhile: a restart of it looks so."
    yield Finding(
        id="not-listening",
        title=f"Nothing {'accepted' if over else 'accepts'} connections at {say.listed(names) or known.app.name}"
        f"{', for a while' if over else ''}.",
        cause=cause,
        severity=severity(known, found.count),
        certainty=sure,
        care="Each try there is lost time; requests fail once no other instance is left.",
        app=known.app.name,
        instances=names,
        since=found.first,
        until=found.last if over or known.at - found.last > say.LATELY else 0.0,
        evidence=evidence,
        rivals=[
            Rival(cause="a firewall that answers with a reset", against=["it would drop packets more often than reset"])
        ]
        if first is None or first.kind == "address"
        else [],
        unknown=unknown,
        remedies=[
            say.look("See what runs there, and where it listens.", "triage status"),
            say.dont("Don't raise timeouts for it.", "A refusal comes at once."),
        ],
        faults=["connect-refused", "all-ejected", "all-unready"],
        explains=["all-ejected", "probe-failing"],
        weight=float(found.count),
    )


def _here(address: str) -> bool:
    """On this machine, by its address."""
    return address.startswith(("unix:", "/", "127.", "localhost:", "[::1]"))


def answers_again(known: Known, names: Sequence[str], last: float) -> bool:
    """Each of them answered a request after the last failure, though that was not long ago."""
    there = {one.name: one for one in known.instances if not one.gone}
    return bool(names) and all(name in there and there[name].answered_at > last + 1.0 for name in names)


def full(seen: Seen) -> dict[str, tuple[Listener, int, int]]:
    """By instance: its fullest queue at the place where it is asked, full in how many of how many looks."""
    found: dict[str, tuple[Listener, int, int]] = {}
    there = {one.name: one for one in seen.known.instances}
    for name, sockets in seen.each(Sockets).items():
        worst: Listener | None = None
        times = 0
        for sample in sockets.samples:
            mine = [
                each for each in sample.listeners if name not in there or reaches([each.address], there[name].address)
            ]
            now = [each for each in mine if each.backlog is not None and each.waiting > each.backlog]
            times += bool(now)
            for each in now:
                worst = each if worst is None or each.waiting > worst.waiting else worst
        if worst is not None:
            found[name] = (worst, times, len(sockets.samples))
    return found


def _queue_full(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    found = _lately(known, "connect-timeout")
    least = 0.5 if found.count else 0.8
    queues = {
        name: one for name, one in full(seen).items() if one[1] >= least * one[2] and (found.count or one[2] >= 3)
    }
    tries = [one for one in say.tried(known, "connect-timeout") if one.at >= known.at - WINDOW]
    if not queues and found.count < LEAST:
        return
    if queues:
        name, (queue, times, looks) = next(iter(queues.items()))
        evidence = [
            say.proof(
                f"{queue.waiting} connections wait to be accepted at {queue.address}; its queue holds "
                f"{queue.backlog} (full in {times} of {looks} looks).",
                say.of(name, "sockets"),
            )
        ]
        if found.count:
            evidence.append(
                say.proof(
                    f"{units.several(found.count, 'connection')} not accepted within "
                    f"{units.duration(known.app.connect)}.",
                    say.RINGS,
                )
            )
        cores = _cores(seen, name)
        doing, rivals = "", []
        if cores is not None:
            evidence.append(say.proof(f"It uses {cores:.2f} cores.", say.of(name, "activity")))
            doing = (
                " It does not compute: it is blocked."
                if cores < 0.2
                else f" It computes ({cores:.2f} cores)."
                if cores >= 0.8
                else ""
            )
            rivals = [
                Rival(
                    cause="more connections than it can ever take",
                    speaks_for=[] if cores < 0.2 else [f"it is busy ({cores:.2f} cores)"],
                    against=[f"it uses {cores:.2f} cores only"] if cores < 0.2 else [],
                )
            ]
        yield Finding(
            id="accept-queue-full",
            title=f"{name} does not accept connections: its queue is full.",
            cause=f"The accept queue of {name} is full: {queue.waiting} connections wait, it holds "
            f"{queue.backlog}.{doing}",
            severity="warning",  # what keeps it from accepting comes first, where it is found
            certainty=CERTAIN,
            care="The kernel drops new connections then, and requests to it wait for nothing until timeouts.connect.",
            app=known.app.name,
            instances=list(queues),
            since=found.first,
            evidence=evidence,
            rivals=rivals,
            unknown="What keeps it from accepting: its stacks may say.",
            remedies=[
                say.look("Look at where its threads stand.", f"triage diagnose {known.app.name}/{name}"),
                say.act(
                    f"Replace {name}.",
                    known.app.name,
                    "recycle",
                    "It helps if it hangs by itself; not if all wait for the same.",
                    instance=name,
                ),
                say.dont("Don't only raise the backlog.", "A longer queue is full a little later."),
            ],
            faults=["connect-timeout"],
            explains=["connect-times-out", "probe-failing", "all-ejected"],
            charts=["cpu", "in_flight"],
            weight=float(found.count),
        )
        return
    yield _timed_out(seen, found, tries)


def _timed_out(seen: Seen, found: say.Span, tries: list[say.Tried]) -> Finding:
    """Connections were not accepted in time, and no queue was seen full."""
    known = seen.known
    names = list(dict.fromkeys(one.attempt.instance for one in tries))
    there = {one.name: one for one in known.instances}
    looked = {name: one for name, one in seen.each(Sockets).items() if name in names and one.samples}
    evidence = [
        say.proof(
            f"{units.several(found.count, 'connection')} not made within {units.duration(known.app.connect)} since "
            f"{say.stamp(found.first)}.",
            say.RINGS,
        )
    ]
    host = seen.one(HostReport)
    grew = host.network.get("ListenOverflows", 0.0) if host is not None else 0.0
    tracked = host.conntrack if host is not None else None
    sure: Certainty = NOT_KNOWN
    rivals = [
        Rival(cause="a hang that filled its accept queue"),
        Rival(cause="packets that are dropped on the way"),
    ]
    still = known.at - found.last <= NOW
    address = bool(names) and (names[0] not in there or there[names[0]].kind == "address")
    unknown = "A hung program with a full accept queue and packets that are dropped on the way look alike from here."
    if looked and still and not grew:
        rivals[0].against.append("no queue was full in this session, and the machine counted no overflow")
        cause, sure = (
            "Connections were tried and dropped on the way, or held up, though the accept queue has room.",
            LIKELY,
        )
    elif tracked is not None and tracked[0] >= 0.97 * tracked[1]:
        sure = LIKELY
        text = f"{units.count(tracked[0])} of {units.count(tracked[1])} entries of the table of connections are used."
        evidence.append(say.proof(text, "host_report"))
        cause = "The kernel's table of connections (conntrack) is full, so new ones are dropped."
    elif grew:
        sure = LIKELY
        evidence.append(
            say.proof(
                f"The machine counted {grew:.0f} overflows of accept queues meanwhile (of all that listen here).",
                "host_report",
            )
        )
        cause = f"an accept queue overflowed: {say.listed(names) or known.app.name} did not accept fast enough."
    else:
        cause = (
            f"Connections to {say.listed(names) or known.app.name} get no answer within "
            f"{units.duration(known.app.connect)}: neither yes nor no."
        )
    if address and not grew:
        evidence.append(
            say.proof(f"{names[0]} is not on this machine's processes: its queue can't be seen from here.", say.STATE)
        )
    return Finding(
        id="connect-times-out",
        title=f"Connections to {say.listed(names) or known.app.name} get no answer.",
        cause=cause,
        severity=severity(known, found.count),
        certainty=sure,
        care=f"Each try there costs {units.duration(known.app.connect)} before another instance is asked.",
        app=known.app.name,
        instances=names,
        since=found.first,
        until=found.last if known.at - found.last > say.LATELY else 0.0,
        evidence=evidence,
        rivals=rivals,
        unknown=unknown if sure == NOT_KNOWN else "",
        remedies=[
            say.look(
                "Try it from this machine: is it up, does a firewall drop packets?",
                f"nc -vz -w 3 {names[0].replace(':', ' ')}" if address and ":" in names[0] else "triage status",
            ),
            say.dont(
                "Don't raise timeouts.connect.", "A connection on the same network takes milliseconds or never comes."
            ),
        ],
        faults=["connect-timeout", "all-ejected"],
        explains=["all-ejected"],
        weight=float(found.count),
    )


def _unreachable(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    found = _lately(known, "connect-unreachable")
    tries = [one for one in say.tried(known, "connect-unreachable") if one.at >= known.at - WINDOW]
    if found.count < LEAST or not tries:
        return
    names = list(dict.fromkeys(one.attempt.instance for one in tries))
    detail = say.most(one.attempt.detail for one in tries if one.attempt.detail)[0]
    unix = [one for one in known.instances if one.name in names and (one.address.startswith(("unix:", "/")))]
    over = answers_again(known, names, found.last)
    has, until = ("had", f" until {say.stamp(found.last)}") if over else ("has", "")
    yield Finding(
        id="unreachable",
        title=f"There {'was' if over else 'is'} no way from this machine to {say.listed(names)}{until}.",
        cause=f"The kernel {has} no way to {say.listed(names)}: "
        f"{say.clean(detail) or 'no route, or the host is not there'}.",
        severity=severity(known, found.count),
        certainty=CERTAIN,
        care="No request gets there until the network or the address is mended.",
        app=known.app.name,
        instances=names,
        since=found.first,
        until=found.last if over or known.at - found.last > say.LATELY else 0.0,
        evidence=[say.proof(f"{units.several(found.count, 'connect(2)')} failed: {say.clean(detail)}.", say.RECORDS)],
        unknown="" if unix else "Whether a route, a firewall or the machine itself is missing.",
        remedies=[
            say.look(
                "Look at routes and at the address in the config.",
                f"ip route get {names[0].rpartition(':')[0]}" if ":" in names[0] else "ip route",
            )
        ],
        faults=["connect-unreachable", "all-ejected"],
        explains=["all-ejected"],
        weight=float(found.count),
    )


def _cores(seen: Seen, name: str) -> float | None:
    found = seen.each(Activity).get(name)
    if found is not None and found.samples:
        return say.mean([each.user + each.system for each in found.samples])
    return say.mean([value for _, value in say.values(seen.known.rings.get(name), "cpu", seen.known.at - 15)])


def severity(known: Known, count: int) -> Severity:
    """By the share of the requests, and whether anything is left."""
    every = say.requests(known, known.at - WINDOW)
    return (
        "critical"
        if known.app.state == "down" or (every and count > 0.1 * every) or known.app.ready == 0
        else "warning"
    )


ANALYZER: Final = Analyzer(
    name="connecting",
    title="Connections that can't be made",
    checks="No connection was refused, timed out or found no way, but for instances that had ended.",
    analyze=analyze,
    wants=(Sockets, Activity, HostReport),
)
