"""Who the app waits for: a peer that answers slowly, one that can't be reached, a name that takes long to resolve.

"Very likely" takes both sides: threads asleep at one line reading from a socket, and connections on which a question is
out and no answer came. Of an event loop, whose tasks no stack shows, the second side is the connections' own ages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, threads
from proxy.diagnostics.analyzers.contract import (
    LIKELY,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Inconclusive,
    Proof,
    Remedy,
    Rival,
    Seen,
)
from proxy.diagnostics.analyzers.situation import LONG, Situation, explains, late
from proxy.diagnostics.analyzers.threads import Place, Standing
from proxy.diagnostics.artifacts import Activity, HostReport, Peer, ProcReport, Sockets, Stacks

PART: Final = 0.4
"""Of the requests that are worked on, so many have to wait for the peer."""
FOLLOWS: Final = ("pool-exhausted", "workers-exhausted", "slow-handler", "slow-path", "lock-held", "event-loop-blocked",
                  "one-bad-instance")  # fmt: skip


@dataclass(slots=True)
class _Waiting:
    """One peer, over all instances."""

    address: str
    name: str = ""
    asked: list[int] = field(default_factory=list)  # the median of each instance's samples
    asked_for: float = 0.0
    places: list[Place] = field(default_factory=list)
    instances: list[str] = field(default_factory=list)
    samples: int = 0
    resending: int = 0
    asleep: int = 0  # threads in a system call that reads from it, seen without their stacks
    in_flight: float = 0.0
    idle_loops: list[str] = field(default_factory=list)  # instances whose event loop has nothing to do

    @property
    def label(self) -> str:
        return f"{self.address} ({self.name})" if self.name else self.address


def analyze(seen: Seen) -> Iterator[Finding]:
    activity = seen.each(Activity)
    now = Situation(seen.known, activity)
    stacks, sockets = seen.each(Stacks), seen.each(Sockets)
    if not stacks and not sockets:
        raise Inconclusive("Not looked at: there are no stacks and no sockets.")
    if not (now.harm.slow or now.harm.hanging):
        return
    standing = threads.read_all(stacks, seen.each(ProcReport))
    yield from _slow(now, standing, sockets)
    yield from _unreachable(now, standing, sockets)
    yield from _names(now, standing, seen.one(HostReport))


def _slow(now: Situation, standing: dict[str, Standing], sockets: dict[str, Sockets]) -> Iterator[Finding]:
    found: dict[str, _Waiting] = {}
    for instance in {**standing, **sockets}:
        there = threads.working(standing[instance], now.in_flight_of(instance)) if instance in standing else []
        _collect(now, instance, there, standing.get(instance), sockets.get(instance), found)
    for one in sorted(found.values(), key=lambda one: -(sum(one.asked) + sum(p.least for p in one.places))):
        finding = _finding(now, one)
        if finding is not None:
            yield finding


def _collect(
    now: Situation, instance: str, there: Sequence[Place], standing: Standing | None, sockets: Sockets | None,
    found: dict[str, _Waiting],
) -> None:  # fmt: skip
    """What of one instance waits for whom."""
    reading = [one for one in there if one.kind in ("socket", "waiting") and one.always]
    held = [one for one in there if one.kind in ("pool", "lock", "result")]
    works = max(1.0, sum(one.least for one in there if one not in held), 0.0)
    flight = now.in_flight_of(instance)
    peers = servers(sockets)
    quick = False
    for address, each in peers.items():
        counts = [one.asked for one in each if one.asked is not None]
        asked = round(say.middle(counts) or 0) if counts else 0
        tids = {tid for one in each for tid in one.waiters}
        mine = [one for one in reading if tids & {tid for _, tid in one.threads}]
        many = sum(one.least for one in mine)
        longest = max((one.asked_for or 0.0 for one in each), default=0.0)
        told = any(one.asked_for is not None for one in each)
        if told and longest < min(LONG, max(0.3, 0.4 * (now.wait or 0.0))):
            quick |= bool(tids & {tid for one in reading for _, tid in one.threads})
            continue  # it answers each question soon: what takes long is something else
        idle = standing is not None and _loop_rests(standing)
        # A poller in the background asks too; it is as many as the requests only by chance, so time has to fit as well.
        enough = asked >= max(1.0, PART * max(1.0, flight - sum(one.least for one in held))) and longest >= 0.3
        if many < max(1.0, PART * works) and not (enough and len(counts) > 1 and flight >= 1):
            continue
        one = found.setdefault(address, _Waiting(address, name=each[-1].name))
        one.instances.append(instance)
        one.asked.append(asked)
        one.asked_for = max(one.asked_for, longest)
        one.samples = max(one.samples, len(counts))
        one.resending += each[-1].resending
        one.asleep += round(say.middle(peer.threads for peer in each) or 0)
        one.in_flight += flight
        one.places += mine
        one.idle_loops += [instance] if idle and not mine else []
    if not quick and not any(instance in one.instances for one in found.values()):
        strong = [one for one in reading if one.kind == "socket" and one.least >= max(1.0, PART * works)]
        if strong:
            one = found.setdefault("", _Waiting(""))
            one.instances.append(instance)
            one.in_flight += flight
            one.places += strong


def servers(sockets: Sockets | None) -> dict[str, list[Peer]]:
    """Peers that the instance connected to, by address, over the samples."""
    found: dict[str, list[Peer]] = {}
    for sample in sockets.samples if sockets is not None else ():
        for peer in sample.peers:
            if peer.by == "server":
                found.setdefault(peer.address, []).append(peer)
    return found


def _loop_rests(standing: Standing) -> bool:
    """Its event loop waits for what comes, in most rounds."""
    rests = [any(at.loop and at.kind == "idle" for at in one) for one in standing.rounds]
    busy = any(one.loop and one.own and one.kind != "idle" and one.always for one in standing.places)
    return sum(rests) > len(rests) / 2 and not busy


def _finding(now: Situation, one: _Waiting) -> Finding | None:
    harm = now.harm
    asked = sum(one.asked)
    lines = list(dict.fromkeys(place.chain for place in one.places))
    evidence = [*_stacks_say(one), *_sockets_say(one), *harm.proofs]
    both = bool(one.places) and asked >= max(1, 0.5 * sum(place.least for place in one.places)) and bool(one.address)
    fits = asked >= 0.6 * max(1.0, one.in_flight) and one.samples > 1 and one.asked_for >= LONG
    calls = min(one.asleep, asked) >= 2 and one.samples > 1 and one.asked_for >= LONG
    sure: Certainty = VERY_LIKELY if both or calls or (one.idle_loops and fits) else LIKELY
    against = _against(now, one.instances)
    where = f", at {lines[0]}" if lines else ""
    if one.address:
        title = f"{one.label} answers slowly"
        has = "has" if asked == 1 else "have"
        many = f"{units.several(asked, 'connection')} to it {has} a question out and no answer"
        for_long = f", for up to {units.duration(one.asked_for)}" if one.asked_for else ""
        threads_say = f"{_counts(one)} sleep{where}, reading from it" if one.places else ""
        said = "; ".join(part for part in (threads_say, f"{many}{for_long}" if asked else "") if part)
        cause = f"{one.label} answers slowly: {said}."
    else:
        title = f"The app waits for a peer that answers slowly{where}"
        cause = (
            f"What the app asks over the network answers slowly: {_counts(one)} sleep{where}, reading from a socket."
        )
    if one.idle_loops:
        cause += " Its event loop itself is idle."
    return Finding(
        id="slow-dependency",
        title=title,
        cause=cause,
        severity=harm.severity,
        certainty=sure,
        care="Each request that needs it waits as long, and holds a slot meanwhile.",
        instances=sorted(set(one.instances)) if len(now.instances) > len(set(one.instances)) else [],
        since=harm.since,
        evidence=evidence,
        against=against,
        rivals=[
            Rival(
                cause="a deadlock in the app",
                against=["threads sleep reading from a socket, not on a lock"] if one.places else [],
            ),
            Rival(
                cause="the network on the way there",
                speaks_for=["what was sent had to be sent again"] if one.resending else [],
                against=["what is sent to it is confirmed at once"] if asked and not one.resending else [],
            ),
        ],
        unknown="Why it is slow can't be seen from this machine." if one.address else "Which peer it is.",
        remedies=_remedies(now, one),
        faults=late("app-error"),
        explains=explains(*FOLLOWS),
        charts=["wait_p50", "wait_p99", "in_flight", "queue"],
        weight=harm.weight + asked,
    )


def _counts(one: _Waiting) -> str:
    if len(one.places) == 1:
        return one.places[0].said()
    rounds = max(len(place.counts) for place in one.places)
    sums = [sum(place.counts[at] for place in one.places if at < len(place.counts)) for at in range(rounds)]
    least, most = min(sums), max(sums)
    return f"{least} threads" if least == most else f"{least} to {most} threads"


def _stacks_say(one: _Waiting) -> list[Proof]:
    return [
        say.proof(
            f"{place.said()} at {place.chain} in {len(place.counts)} rounds of stacks, asleep reading from a socket; "
            f"{units.count(place.same)} of them the same from one to the next.",
            say.of(place.instance, "stacks"),
        )
        for place in one.places[:4]
    ]


def _sockets_say(one: _Waiting) -> list[Proof]:
    if not one.address or not any(one.asked):
        return []
    return [
        say.proof(
            f"{units.several(asked, 'connection')} to {one.address} with a question out and no answer, in the median "
            f"of {one.samples} looks; the longest for {units.duration(one.asked_for)}.",
            say.of(instance, "sockets"),
        )
        for instance, asked in zip(one.instances, one.asked, strict=False)
        if asked
    ][:4] + (
        [say.proof(f"{units.several(one.asleep, 'thread')} in a system call that reads from it.", "sockets")]
        if one.asleep
        else []
    )


def _against(now: Situation, instances: Iterable[str]) -> list[Proof]:
    """What would speak for the app itself."""
    hot = [(name, cores) for name in instances if (cores := now.cores(name)) is not None and cores >= 0.8]
    return [
        say.proof(f"{name} uses {cores:.2f} cores: it computes as well.", say.of(name, "activity"))
        for name, cores in hot
    ]


def _remedies(now: Situation, one: _Waiting) -> list[Remedy]:
    name = one.address or "what it asks"
    when = f" at {say.stamp(now.harm.since)}" if now.harm.since else ""
    place = one.places[0].chain.partition(" < ")[0] if one.places else "that call"
    return [
        say.look(
            f"Look at {name}: its load, locks, longest queries, and what changed there{when}.",
            expect="The app recovers by itself within seconds of it.",
        ),
        say.dont(
            f"Do not restart or scale {now.name} for it.",
            "Fresh instances wait for the same, and add connections to what is slow already.",
        ),
        say.later(
            f"A time limit on the call at {place}, so that a slow peer costs an error and not all slots.",
            "Requests that do not need it go on.",
        ),
    ]


def _unreachable(now: Situation, standing: dict[str, Standing], sockets: dict[str, Sockets]) -> Iterator[Finding]:
    """Connections that stay half open, threads in connect."""
    stuck: dict[str, list[tuple[str, int]]] = {}
    names: dict[str, str] = {}
    for instance, one in sockets.items():
        for address, each in servers(one).items():
            connecting = [peer.connecting for peer in each]
            if len(each) > 1 and sum(value > 0 for value in connecting) > len(one.samples) / 2:
                stuck.setdefault(address, []).append((instance, round(say.middle(connecting) or 0)))
                names[address] = each[-1].name
    places = [
        place
        for name, one in standing.items()
        for place in threads.working(one, now.in_flight_of(name))
        if place.kind == "connect" and place.always
    ]
    for address, held in stuck.items():
        label = f"{address} ({names[address]})" if names[address] else address
        many = sum(number for _, number in held)
        where = f" at {places[0].chain}" if places else ""
        yield Finding(
            id="dependency-unreachable",
            title=f"{label} can't be connected to",
            cause=f"{label} does not answer connects: {units.several(max(1, many), 'connection')} half open"
            f"{f', and {places[0].said()} wait{where}' if places else ''}.",
            severity=now.harm.severity,
            certainty=VERY_LIKELY if places else LIKELY,
            care="Requests that need it wait until the app's own time limit for connecting, or the kernel's of 2 min.",
            instances=[] if len(held) >= len(now.instances) else [name for name, _ in held],
            since=now.harm.since,
            evidence=[
                *[
                    say.proof(f"{units.several(max(1, n), 'connection')} half open.", say.of(i, "sockets"))
                    for i, n in held[:3]
                ],
                *[say.proof(f"{one.said()} at {one.chain}.", say.of(one.instance, "stacks")) for one in places[:3]],
                *now.harm.proofs,
            ],
            rivals=[
                Rival(cause="a firewall that drops packets on the way", speaks_for=["no refusal came back either"]),
                Rival(cause="a hang of it, with a full accept queue", speaks_for=["the same signs"]),
            ],
            unknown="Whether it hangs, is gone, or a firewall drops packets looks alike from here.",
            remedies=[
                say.look(f"Connect to {address} from this machine: nc -vz {address.replace(':', ' ')}"),
                say.dont(f"Do not restart {now.name} for it.", "A fresh instance can't connect either."),
                say.later("A time limit for connecting, of a second or two, in the app."),
            ],
            faults=late("app-error"),
            explains=explains(*FOLLOWS, "slow-dependency"),
            charts=["wait_p50", "in_flight", "faults"],
            weight=now.harm.weight,
        )


def _names(now: Situation, standing: dict[str, Standing], host: HostReport | None) -> Iterator[Finding]:
    places = [
        place
        for name, one in standing.items()
        for place in threads.working(one, now.in_flight_of(name))
        if place.kind == "dns" and place.always
    ]
    if not places:
        return
    slow = {
        name: value for name, value in (host.resolver if host is not None else {}).items()
        if isinstance(value, str) or value >= 0.5
    }  # fmt: skip
    told = [
        f"{name}: {say.clean(value, 60) if isinstance(value, str) else units.duration(value)}"
        for name, value in slow.items()
    ]
    yield Finding(
        id="dns-slow",
        title="Names are resolved slowly",
        cause=f"The resolver answers slowly: {places[0].said()} wait for a name at {places[0].chain}"
        + (f"; asked from here, {told[0]}." if told else "."),
        severity=now.harm.severity,
        certainty=VERY_LIKELY if told else LIKELY,
        care="Each new connection of the app waits for the resolver first.",
        instances=sorted({one.instance for one in places}),
        since=now.harm.since,
        evidence=[
            *[say.proof(f"{one.said()} at {one.chain}.", say.of(one.instance, "stacks")) for one in places[:3]],
            *[say.proof(f"Resolved from here: {text}.", "host_report") for text in told[:3]],
            *now.harm.proofs,
        ],
        unknown="" if told else "Which name, and which resolver.",
        remedies=[
            say.look("Ask the resolvers there one by one; the first may be dead.", "cat /etc/resolv.conf"),
            say.later("Keep connections open in the app, so that names are resolved rarely."),
        ],
        faults=late("app-error"),
        explains=explains(*FOLLOWS),
        charts=["wait_p50", "in_flight"],
        weight=now.harm.weight,
    )


ANALYZER: Final = Analyzer(
    name="slow_dependency",
    title="A dependency that is slow or can't be reached",
    checks="No request was seen to wait for another server.",
    analyze=analyze,
    wants=(Stacks, Sockets, ProcReport, Activity, HostReport),
)
