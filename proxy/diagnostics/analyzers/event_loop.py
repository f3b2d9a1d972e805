"""An event loop that is blocked: while one handler computes or waits in it, no other request of the process moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, threads
from proxy.diagnostics.analyzers.contract import LIKELY, VERY_LIKELY, Analyzer, Certainty, Finding, Proof, Rival, Seen
from proxy.diagnostics.analyzers.cpu import hot, limit
from proxy.diagnostics.analyzers.situation import Situation, explains, late
from proxy.diagnostics.analyzers.threads import Place, Standing
from proxy.diagnostics.artifacts import Activity, HostReport, ProcReport, Profile, Sockets, Stacks

MOST: Final = 0.6
"""Of the rounds, in so many the loop's thread has to stand in code of the app's."""
AGAIN: Final = 3
"""Rounds that will do where MOST of the CPU profile is one function, and the process falls silent at times."""


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    if not (now.harm.slow or now.harm.hanging):
        return
    for instance, one in threads.read_all(seen.each(Stacks), seen.each(ProcReport)).items():
        places = [place for place in one.busy() if place.own and (place.loop or one.runtime == "node")]
        if not places and one.runtime == "node":
            yield from _unnamed(now, seen, instance, one)
        if not places:
            continue
        inside = sum(
            any(at.own and at.kind != "idle" and _in_loop(one, at.loop) for at in seen_) for seen_ in one.rounds
        )
        first = max(places, key=lambda place: (sum(place.counts), place.kind in threads.BLOCKS))
        if _beside(one, first):
            continue
        asleep = first.kind in threads.BLOCKS and now.harm.slow  # a loop's thread never should, even once
        profile = seen.each(Profile).get(instance)
        mostly = inside >= AGAIN and profile is not None and hot(profile, first) >= MOST and _silences(now) >= 2
        if len(one.rounds) < 2 or (inside < MOST * len(one.rounds) and not asleep and not mostly):
            continue
        yield _finding(now, seen, instance, one, first, inside)


def _beside(standing: Standing, place: Place) -> bool:
    """It is a loop of its own in a thread in the background, while other threads work on the requests."""
    served = any(
        at.serving and at.own and not at.loop and at.kind != "idle" for seen in standing.rounds for at in seen
    )  # fmt: skip
    return served and standing.runtime != "node" and all(pid != thread for pid, thread in place.threads)


def _unnamed(now: Situation, seen: Seen, instance: str, standing: Standing) -> Iterator[Finding]:
    """Node computes on its one thread, and no frame of JavaScript could be seen."""
    running = [any(at.kind == "cpu" and at.thread[0] == at.thread[1] for at in one) for one in standing.rounds]
    activity = now.activity.get(instance)
    samples = activity.samples if activity is not None else []
    wants = say.middle(one.busiest + (one.wait_cpu or 0.0) for one in samples) or 0.0
    if sum(running) < 0.5 * len(running) or len(running) < 2 or wants < 0.6:
        return
    silent = _silences(now)
    slow = list(now.slow_paths)
    yield Finding(
        id="event-loop-blocked",
        title=f"The event loop of {instance} is blocked by computing",
        cause=f"The one thread of {instance} that runs JavaScript was computing in {sum(running)} of "
        f"{len(running)} rounds: "
        f"no other request of that process moves meanwhile{f'; likely {say.listed(slow)}' if slow else ''}.",
        severity=now.harm.severity,
        certainty=VERY_LIKELY if silent >= 2 else LIKELY,
        care="One such request makes all others of the process wait, and its health check too.",
        instances=[instance] if len(now.instances) > 1 else [],
        since=now.harm.since,
        evidence=[
            say.proof(f"Its main thread ran in {sum(running)} of {len(running)} rounds.", say.of(instance, "stacks")),
            say.proof(f"Its busiest thread wants {wants:.2f} cores.", say.of(instance, "activity")),
            *([say.proof(f"In {silent} of the last 30 s nothing was answered, though some were in flight.", say.RINGS)]
              if silent else []),
            *now.harm.proofs,
        ],
        unknown="Which function: its inspector is not open, and no other frames of JavaScript can be seen.",
        remedies=[
            say.act("Add instances: each has an event loop of its own.", now.name, "scale",
                    "Fewer requests wait behind a blocked one. It does not end the blocking.",
                    instances=max(2, 2 * max(1, now.app.wanted))),
            say.look("Set NODE_OPTIONS=--inspect-port=0 in its environment, and look again."),
            say.later("Move it off the loop: a worker thread, or a call that is asynchronous."),
        ],
        faults=late("connect-timeout"),
        explains=explains("slow-path", "cpu-bound", "one-bad-instance"),
        charts=["wait_p99", "cpu", "in_flight"],
        weight=now.harm.weight,
    )  # fmt: skip


def _silences(now: Situation) -> int:
    """Seconds of late in which no request ended, while some were in flight."""
    ended = dict(say.values(now.ring, "requests", now.at - 30.0))
    flying = dict(say.values(now.ring, "in_flight", now.at - 30.0))
    return sum(1 for at, count in ended.items() if not count and flying.get(at, 0.0) >= 2)


def _in_loop(standing: Standing, loop: bool) -> bool:
    return loop or standing.runtime == "node"


def _finding(now: Situation, seen: Seen, instance: str, standing: Standing, place: Place, inside: int) -> Finding:
    cores = now.cores(instance)
    busiest = now.busiest(instance)
    rounds = len(standing.rounds)
    at_line = sum(1 for count in place.counts if count)
    computes = place.kind == "cpu" or (place.kind == "waiting" and (busiest or cores or 0.0) >= 0.7)
    profile = seen.each(Profile).get(instance)
    evidence: list[Proof] = [
        say.proof(
            f"In {inside} of {rounds} rounds the event loop's thread stood in the app's own code, in {at_line} at "
            f"{place.chain}.",
            say.of(instance, "stacks"),
        )
    ]
    backs = 0
    if cores is not None:
        evidence.append(say.proof(f"{instance} uses {cores:.2f} cores.", say.of(instance, "activity")))
        backs += (cores >= 0.7) if computes else (cores < 0.3)
    queue = _accept_queue(seen, instance)
    if queue:
        evidence.append(
            say.proof(f"{units.several(queue, 'connection')} waited to be accepted.", say.of(instance, "sockets"))
        )
        backs += 1
    failing = [one for one in now.instances if one.name == instance and not one.probe_ok]
    if failing:
        evidence.append(say.proof(f"Its health check fails: {say.clean(failing[0].probe)}.", say.STATE))
        backs += 1
    with_it = [name for name, waits in _waits(now).items() if len(waits) >= 3 and max(waits) >= 0.5]
    if len(with_it) > 1:
        text = f"{units.several(len(with_it), 'kind')} of requests were late at times: {say.listed(with_it)}."
        evidence.append(say.proof(text, say.RECORDS))
        backs += 1
    share = hot(profile, place) if profile is not None and computes else 0.0
    if share >= 0.3:
        function = place.place.rpartition(" (")[0]
        evidence.append(
            say.proof(f"{function} is in {units.percent(share)} of the CPU profile.", say.of(instance, "profile"))
        )
        backs += 1
    often = at_line >= MOST * rounds or share >= 0.5
    sure: Certainty = VERY_LIKELY if backs and (often or (backs > 1 and place.kind in threads.BLOCKS)) else LIKELY
    doing = "computes" if computes else threads.WORDS[place.kind]
    call = f", in {place.call}" if place.call and not computes else ""
    return Finding(
        id="event-loop-blocked",
        title=f"The event loop of {instance} is blocked at {place.place}",
        cause=f"{place.chain.partition(' < ')[0]} {doing}{call} within the event loop of {instance}, where "
        "it was seen in "
        f"{at_line} of {rounds} rounds: no other request of that process moves meanwhile.",
        severity=now.harm.severity,
        certainty=sure,
        care="One such request makes all others of the process wait, and its health check too.",
        instances=[instance] if len(now.instances) > 1 else [],
        since=now.harm.since,
        evidence=[*evidence, *now.harm.proofs],
        rivals=[
            Rival(
                cause="a slow dependency that it awaits",
                against=["the loop would be idle then; it stands in the app's code"],
            ),
            Rival(
                cause="its CPU limit",
                speaks_for=[f"it may use {may:g} cores"] if (may := limit(seen, now, instance)) < 1 else [],
            ),
        ],
        remedies=[
            say.act("Add instances: each has an event loop of its own.", now.name, "scale",
                    "Fewer requests wait behind a blocked one. It does not end the blocking.",
                    instances=max(2, 2 * max(1, now.app.wanted))),
            say.look(f"Read {place.place}: what it calls there must not wait or compute for long."),
            say.later(
                "Move it off the loop: a thread or process pool, or a call of that library's that is async."
                if standing.runtime != "node"
                else "Move it off the loop: a worker thread, or a call that is asynchronous."
            ),
        ],
        faults=late("connect-timeout"),
        explains=explains(
            "workers-exhausted", "slow-handler", "slow-path", "cpu-bound", "slow-dependency",
            "check-fails", "probe-wrong",
            "one-bad-instance", "accept-queue-full", "lock-held", "deadlock", "endless-loop",
        ),
        charts=["wait_p50", "wait_p99", "cpu", "in_flight"],
        weight=now.harm.weight,
    )  # fmt: skip


def _waits(now: Situation) -> dict[str, list[float]]:
    """Waits of late by kind of request, those that are late alone."""
    found: dict[str, list[float]] = {}
    for one in now.recent:
        if one.wait_us is not None and one.wait_us >= 500_000:
            found.setdefault(say.shape(one), []).append(one.wait_us / 1e6)
    return found


def _accept_queue(seen: Seen, instance: str) -> int:
    one = seen.each(Sockets).get(instance)
    waits = [max((each.waiting for each in sample.listeners), default=0) for sample in one.samples] if one else []
    return round(say.middle(waits) or 0)


ANALYZER: Final = Analyzer(
    name="event_loop",
    title="A blocked event loop",
    checks="No event loop was seen to stand in one call.",
    analyze=analyze,
    needs=(Stacks,),
    wants=(ProcReport, Activity, Sockets, Profile, HostReport),
)
