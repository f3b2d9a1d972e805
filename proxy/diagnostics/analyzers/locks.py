"""Threads that wait for locks: a deadlock, where all of them do, or one that is held for long, where one works on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, threads
from proxy.diagnostics.analyzers.contract import LIKELY, VERY_LIKELY, Analyzer, Certainty, Finding, Rival, Seen
from proxy.diagnostics.analyzers.situation import Situation, explains, late
from proxy.diagnostics.analyzers.threads import Place, Standing
from proxy.diagnostics.artifacts import Activity, ProcReport, Stacks

QUIET: Final = 0.3
"""Cores under which a process does not compute: threads that want Python's global lock look like locked ones."""


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    if not (now.harm.slow or now.harm.hanging):
        return
    for instance, one in threads.read_all(seen.each(Stacks), seen.each(ProcReport)).items():
        there = threads.working(one, now.in_flight_of(instance))
        cores = now.cores(instance)
        kinds = ("lock", "waiting") if cores is not None and cores < QUIET else ("lock",)
        waiting = [place for place in there if place.kind in kinds and place.own and place.always and place.stuck]
        waits = sum(place.same for place in waiting)
        if not waits or waits < 0.4 * sum(place.least for place in there) or (now.wants(instance) or 0.0) > 0.7:
            continue
        if waits > 1:  # one alone is as well a wait of its own
            yield _finding(now, instance, waiting, _holders(one, there, waiting), cores, _aside(one, there))


def _holders(standing: Standing, there: Sequence[Place], waiting: Sequence[Place]) -> list[Place]:
    """Threads that do something else: within a function that others want to enter, or the only one that works."""
    others = [one for one in there if one not in waiting and one.least > 0 and one.kind not in ("lock", "idle")]
    functions = {one.place.rpartition(":")[0] for one in waiting}
    within = [one for one in others if any(part in one.chain for part in functions)]
    background = [
        one for one in standing.busy()
        if one not in there and one.own and one.always and any(part in one.chain for part in functions)
    ]  # fmt: skip
    return within or background or (others if sum(one.least for one in others) == 1 else [])


def _aside(standing: Standing, there: Sequence[Place]) -> list[Place]:
    """Threads of the app's that work on no request and wait for something all the time: one may hold the lock."""
    return [
        one for one in standing.of("socket", "connect", "dns", "file", "child", "send")
        if one not in there and one.own and one.always
    ]  # fmt: skip


def _finding(
    now: Situation, instance: str, waiting: Sequence[Place], holders: Sequence[Place], cores: float | None,
    aside: Sequence[Place] = (),
) -> Finding:  # fmt: skip
    many = sum(one.same for one in waiting)
    lines = list(dict.fromkeys(one.place for one in waiting))
    known = all(one.kind == "lock" for one in waiting)
    quiet = cores is not None and cores < QUIET
    flight = now.in_flight_of(instance)
    counted = flight >= 1 and many >= 0.4 * flight
    unseen = not holders and bool(aside)
    sure: Certainty = VERY_LIKELY if known and quiet and (counted or many >= 2) and not unseen else LIKELY
    proofs = [
        say.proof(
            f"{one.said()} at {one.chain}, {units.count(one.same)} of them the same from one of "
            f"{len(one.counts)} rounds to the next.",
            say.of(instance, "stacks"),
        )
        for one in waiting[:4]
    ]
    if cores is not None:
        proofs.append(
            say.proof(f"{instance} uses {cores:.2f} cores: they do not compute.", say.of(instance, "activity"))
        )
    proofs += [
        say.proof(f"{one.said()} there too: {threads.WORDS[one.kind]} at {one.chain}.", say.of(instance, "stacks"))
        for one in holders[:2]
    ]
    threads_say = f"{units.several(many, 'thread')} of {instance}"
    if holders:
        held = holders[0]
        ident = "lock-held"
        title = f"Requests of {instance} wait for a lock that one of them holds too long"
        cause = (
            f"{threads_say} wait for a lock at {say.listed(lines, 2)}, while the one that likely holds it "
            f"{threads.WORDS[held.kind]} at {held.chain}."
        )
        later = f"Hold the lock for the shared data alone, not while it {threads.WORDS[held.kind]} ({held.place})."
        unknown = "That this thread holds the lock is told by the line, not by the lock itself."
    else:
        ident = "deadlock"
        title = f"Requests of {instance} wait for locks that nobody gives back"
        cause = (
            f"{threads_say} wait for locks at {say.listed(lines, 3)}, the same ones from round to round, "
            "and no thread works "
            "on anything that could give them back: a deadlock, or a lock that was not released."
        )
        later = "Take locks in one order everywhere, always in a with block, and with a time limit."
        unknown = "Which thread, alive or gone, holds each lock."
    return Finding(
        id=ident,
        title=title,
        cause=cause,
        severity=now.harm.severity,
        certainty=sure,
        care="These requests never end by themselves, and each new one that comes there joins them."
        if ident == "deadlock"
        else "Requests are served one after the other, however many threads there are.",
        instances=[instance],
        since=now.harm.since,
        evidence=[*proofs, *now.harm.proofs],
        rivals=[
            Rival(cause="a slow dependency", against=["these threads do not sleep on a socket"] if known else []),
            Rival(cause="a long computation", against=[f"{cores:.2f} cores"] if quiet else []),
            *([Rival(cause="a thread in the background that holds the lock while it waits",
                     speaks_for=[f"{aside[0].said()} there {threads.words(aside[0])} at {aside[0].chain}"])]
              if unseen else []),
        ],
        unknown=unknown,
        remedies=[
            say.act(
                f"Recycle {instance}.", now.name, "recycle",
                "A fresh instance answers until the same meets again; these stacks are kept.", instance=instance,
            ),
            say.look(f"Read the code at {say.listed(lines, 3)}."),
            say.later(later),
        ],
        faults=late(),
        explains=explains("workers-exhausted", "slow-handler", "slow-path", "one-bad-instance"),
        charts=["in_flight", "cpu", "wait_p50"],
        weight=now.harm.weight,
    )  # fmt: skip


ANALYZER: Final = Analyzer(
    name="locks",
    title="A deadlock, or a lock that is held too long",
    checks="No thread waited for a lock in all stacks.",
    analyze=analyze,
    needs=(Stacks,),
    wants=(ProcReport, Activity),
)
