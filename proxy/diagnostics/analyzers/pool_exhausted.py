"""A pool of the app's own that is empty: threads wait for a connection (or another thing) that other threads hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, threads
from proxy.diagnostics.analyzers.contract import LIKELY, VERY_LIKELY, Analyzer, Certainty, Finding, Proof, Rival, Seen
from proxy.diagnostics.analyzers.situation import HANGING, LATELY, LONG, NOW, Situation, explains, late
from proxy.diagnostics.analyzers.slow_dependency import servers
from proxy.diagnostics.analyzers.threads import Place
from proxy.diagnostics.artifacts import Activity, Peer, ProcReport, Sockets, Stacks

_SAYS: Final = re.compile(
    r"QueuePool limit|pool (?:is )?exhausted|exhausted.*pool|connection pool.*(?:full|timed? ?out|exhaust|limit)"
    r"|PoolTimeout|PoolError|(?:couldn't|could not|unable to) (?:get|obtain|acquire) a? ?connection"
    r"|[Tt]imeout (?:acquiring|waiting for|while acquiring|exceeded when trying to connect).*",
    re.IGNORECASE,
)


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    if not (now.harm.slow or now.harm.hanging):
        return
    for instance, one in threads.read_all(seen.each(Stacks), seen.each(ProcReport)).items():
        there = threads.working(one, now.in_flight_of(instance))
        waiting = [place for place in there if place.kind == "pool" and place.always]
        waits = sum(place.least for place in waiting)
        if waits < 2 or waits < 0.4 * sum(place.least for place in there):
            continue
        yield _finding(now, seen.each(Sockets).get(instance), instance, waiting, [p for p in there if p not in waiting])


def _finding(
    now: Situation, sockets: Sockets | None, instance: str, waiting: Sequence[Place], rest: Sequence[Place]
) -> Finding:
    place = waiting[0]
    holding = [
        one for one in rest
        if one.own and one.kind not in ("lock", "result") and (one.always or _shares(one, waiting))
    ]  # fmt: skip
    holding.sort(key=lambda one: (not _shares(one, waiting), -sum(one.counts)))
    moves = _moves(now, instance)
    cores = now.cores(instance)
    quiet = cores is not None and cores < 0.3
    said = [line for name, line in say.all_lines(now.known) if _said(now, instance, name, line.at, line.text)]
    peers = _idle(sockets)
    held, evidence, unknown = _holders(instance, holding, peers)
    if moves and not holding:
        held, unknown = "It is not stuck: such requests are answered meanwhile.", "Who holds them."
    flight = now.in_flight_of(instance)
    counted = flight >= 2 and sum(one.least for one in waiting) >= 0.4 * flight
    stuck = any(one.stuck for one in waiting)
    sure: Certainty = VERY_LIKELY if said or (stuck and ((quiet and counted) or (peers and not holding))) else LIKELY
    name = _what(place)
    proofs = [
        say.proof(
            f"{one.said()} at {one.chain}, through {one.call or 'a call into C'}; {units.count(one.same)} "
            f"of them the same from one of {len(one.counts)} rounds to the next.",
            say.of(instance, "stacks"),
        )
        for one in waiting[:3]
    ]
    if said:
        proofs.append(say.proof(f"It printed: {say.clean(said[-1].text)}.", say.of(instance, say.OUTPUT)))
    if cores is not None:
        proofs.append(say.proof(f"{instance} uses {cores:.2f} cores.", say.of(instance, "activity")))
    leak = not holding and not moves
    return Finding(
        id="pool-leak" if leak else "pool-exhausted",
        title=f"{name} of {now.name} is {'empty, and nothing is given back' if leak else 'exhausted'}",
        cause=f"{name} is exhausted: {place.said()} of {instance} wait for one at {place.chain}. {held}",
        severity=now.harm.severity,
        certainty=sure,
        care="A request that needs one waits until another gives it back, or its time limit passes.",
        instances=[instance] if len(now.instances) > 1 else [],
        since=now.harm.since,
        evidence=[*proofs, *evidence, *now.harm.proofs],
        rivals=[
            Rival(cause="a deadlock", speaks_for=[] if holding else ["no thread was seen to work with what is held"]),
            Rival(
                cause="a pool that is only too small",
                speaks_for=["its holders were seen at different lines"] if len(holding) > 1 else [],
                against=[] if len(holding) > 1 else [held.rstrip(".")],
            ),
        ],
        unknown=unknown,
        remedies=[
            *(
                [say.look(f"Look at what holds them: {holding[0].chain}.")]
                if holding
                else [
                    say.act(
                        f"Recycle {instance}: a fresh one has a full pool.", now.name, "recycle",
                        "Requests are answered again until as many have leaked once more.", instance=instance,
                    ),
                    say.look(f"Find the path that takes one and does not give it back: all that call {place.place}."),
                ]
            ),
            say.dont("Do not make the pool larger first.", "What holds it would hold more of it."),
            say.later("Take with a time limit, and give back in a finally or with block."),
        ],
        faults=late("app-error"),
        explains=explains("workers-exhausted", "slow-handler", "slow-path"),
        charts=["in_flight", "wait_p50", "queue", "cpu"],
        weight=now.harm.weight,
    )  # fmt: skip


def _shares(one: Place, waiting: Sequence[Place]) -> bool:
    """It was called by a function that also calls what the others wait in: a with block takes, and then works."""
    callers = {part.rpartition(":")[0] for place in waiting for part in place.chain.split(" < ")[1:]}
    return any(part.rpartition(":")[0] in callers for part in one.chain.split(" < "))


def _moves(now: Situation, instance: str) -> bool:
    """Requests of the kinds that hang are answered now and then."""
    late = [one for one in now.recent if one.fault in HANGING or (one.wait_us or 0) >= LONG * 1e6]
    shapes = {say.shape(one) for one in late}
    answered = [one for one in now.recent if say.good(one) and one.instance == instance]
    return any(say.shape(one) in shapes and say.ends(one) >= now.at - NOW for one in answered)


def _what(place: Place) -> str:
    text = f"{place.chain} {place.call}".lower()
    if re.search(r"conn|sqlalchemy|psycopg|pymysql|mysql|redis|asyncpg|pymongo|database|\bdb\b", text):
        return "The connection pool"
    return "A pool"


def _holders(instance: str, holding: Sequence[Place], peers: Sequence[Peer]) -> tuple[str, list[Proof], str]:
    """Who has what the others wait for."""
    if holding:
        first = holding[0]
        doing = threads.words(first)
        proofs = [
            say.proof(f"{one.said()} not waiting for it: {threads.words(one)} at {one.chain}.",
                      say.of(instance, "stacks"))
            for one in holding[:3]
        ]  # fmt: skip
        return f"Those that hold it: {first.said()} {doing} at {first.chain}.", proofs, ""
    if peers:
        peer = peers[0]
        label = f"{peer.address} ({peer.name})" if peer.name else peer.address
        proof = say.proof(f"{peer.established} connections to {label} are open and idle.", say.of(instance, "sockets"))
        return "No thread works with one: they were taken and not given back.", [proof], "Which path did not give back."
    return "No thread was seen to work with one: likely they were not given back.", [], "Who holds them."


def _idle(sockets: Sockets | None) -> list[Peer]:
    """Peers with connections on which nothing is asked."""
    last = {address: each[-1] for address, each in servers(sockets).items()}
    quiet = [one for one in last.values() if one.established and not one.asked and not one.threads]
    return sorted(quiet, key=lambda one: -one.established)


def _said(now: Situation, instance: str, name: str, at: float, text: str) -> bool:
    return name == instance and at >= now.at - LATELY and bool(_SAYS.search(text[:1000]))


ANALYZER: Final = Analyzer(
    name="pool_exhausted",
    title="An exhausted pool",
    checks="No threads waited for a connection or another thing of a pool.",
    analyze=analyze,
    needs=(Stacks,),
    wants=(Sockets, ProcReport, Activity),
)
