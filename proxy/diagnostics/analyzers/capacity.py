"""Slots and the queue: more traffic than fits, a limit that is too low, one slow path or slow clients that hold it all.

That all slots are taken is only a symptom (`no-slots`, not known); what holds them is another finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, stats, threads
from proxy.diagnostics.analyzers.contract import (
    LIKELY,
    NOT_KNOWN,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Rival,
    Seen,
)
from proxy.diagnostics.analyzers.situation import CROWDED, LONG, Situation
from proxy.diagnostics.analyzers.threads import Place
from proxy.diagnostics.artifacts import Activity, Environment, ProcReport, Sockets, Stacks

ROSE: Final = 1.5
"""Times the usual traffic."""
LITTLE: Final = 0.4
"""Of its slots, so many at least are explained by answers a second x the time of one (Little's law)."""
FULL: Final = 0.9


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    crowded = sum(now.harm.faults[name] for name in CROWDED)
    taken = now.in_flight >= 0.7 * now.slots if now.slots else now.in_flight >= 2
    if taken and (crowded >= 3 or now.harm.queued):
        yield _no_slots(now, crowded)
        yield from _traffic(seen, now)
        yield from _too_few(seen, now)
    yield from _workers(seen, now)


def _no_slots(now: Situation, crowded: int) -> Finding:
    slots, held = now.slots, now.in_flight
    wait = now.wait
    per_second = say.mean(now.now("requests"))
    through = (
        f" At {units.duration(wait)} each, {slots} slots let {slots / wait:,.1f} requests/s through."
        if (slots and wait)
        else ""
    )
    comes = f" {per_second:,.1f}/s come." if per_second else ""
    taken = f"{units.count(min(held, slots))} of {slots} slots" if slots else f"{units.count(held)} requests in flight"
    return Finding(
        id="no-slots",
        title=f"All slots of {now.name} are taken, and requests wait or are turned away",
        cause=f"{taken} were taken, and no more was let through.{through}{comes}",
        severity="critical" if crowded else "warning",
        certainty=NOT_KNOWN,
        care="Requests wait in the queue, and beyond its limits get a 503.",
        since=now.harm.since,
        evidence=now.harm.proofs,
        unknown="What holds the slots, if no other finding says it.",
        remedies=[
            say.look("See what holds them.", f"triage requests --app {now.name} --slower 1s"),
            say.later(f'apps.{now.name}.queue.timeout = "1s", so that people wait less for their 503.'),
        ],
        faults=[*CROWDED, "client-left", "slow"],
        explains=["clients-left", "slow", "latency-rose", "errors-rose", "retry-storm"],
        charts=["in_flight", "queue", "queue_oldest", "requests"],
        weight=float(crowded),
    )


def _rise(now: Situation) -> tuple[float, float, float] | None:
    """Usual and present requests a second, and when they rose; None: they did not, by much and for some seconds."""
    recent = now.now("requests", seconds=20.0)
    ring = now.ring
    series = [value if value is not None else 0.0 for value in ring.values.get("requests", ())]
    empty = next((at for at, value in enumerate(series) if value), len(series))  # what was before the first is no usual
    width = 5
    found = stats.step([one or 0.0 for one in stats.buckets(series[empty:], width)], least=2, ratio=ROSE, floor=0.5)
    if found is not None and recent and found.before >= 0.2:
        lead = (len(series) - empty) % width
        at = ring.start + empty + (found.at * width if not lead else max(0, (found.at - 1) * width + lead))
        return found.before, found.after, float(at)
    before = [value for _, value in say.values(ring, "requests", now.at - 900, now.at - 60)]
    if len(before) < 60 or len(recent) < 5:
        return None
    usual, present = stats.quantile(before, 0.5), stats.median(recent)
    return (usual, present, now.harm.since) if usual > 0 and present >= ROSE * usual and present >= 3 else None


def _traffic(seen: Seen, now: Situation) -> Iterator[Finding]:
    """More comes than before, and each is answered as quickly as before: that is over capacity by traffic."""
    rise = _rise(now)
    if rise is None:
        return
    usual, present, at = rise
    wait_before = now.usual_wait
    same = wait_before is not None and now.wait is not None and now.wait <= 2 * wait_before + 0.05
    who, count = say.most(one.client for one in now.recent if say.ends(one) >= at)
    evidence = [
        say.proof(f"{present:,.1f} requests/s, {usual:,.1f} before {say.stamp(at)}.", say.RINGS),
        *now.harm.proofs,
    ]
    against = []
    if not same and wait_before is not None and now.wait is not None:
        text = f"Each takes longer too: {units.duration(now.wait)}, before {units.duration(wait_before)}."
        against.append(say.proof(text, say.RINGS))
    hot = [f"{one.name} {cores:.2f}" for one in now.instances if (cores := now.cores(one.name) or 0.0) >= 0.8]
    slots = now.slots
    let = slots / now.wait if slots and now.wait else 0.0
    fits = bool(let) and present > 0.9 * let
    sure: Certainty = VERY_LIKELY if same and fits else LIKELY
    yield Finding(
        id="over-capacity",
        title=f"{now.name} gets more requests than it can take: {present / usual:.1f} times the usual",
        cause=f"Since {say.stamp(at)} {present:,.1f} requests/s come; before it were {usual:,.1f}."
        + (f" {slots} slots at {units.duration(now.wait or 0)} each let {let:,.1f}/s through." if let else ""),
        severity=now.harm.severity,
        certainty=sure if not against else LIKELY,
        care="What does not fit waits, and then is turned away, whoever sent it.",
        since=at,
        evidence=evidence,
        against=against,
        rivals=[Rival(cause="an app that became slower", against=["answers take as long as before"] if same else [])],
        unknown="" if count < 0.5 * len(now.recent) else f"Whether {say.clean(who, 60)}, of whom most are, "
        "is one client.",
        remedies=[
            say.act(
                "Add instances.", now.name, "scale", "As many more fit, if the machine and what they ask can take it."
                + (f" CPU now: {say.listed(hot)} cores." if hot else ""),
                instances=max(2, round(max(1, now.app.wanted) * max(1.5, present / usual))),
            ),
            say.look("See who sends them, and what.", f"triage requests --app {now.name}"),
            say.later(f"apps.{now.name}.scale with a max above what is needed at such times."),
        ],
        faults=[*CROWDED, "client-left", "slow", "head-timeout", "connect-timeout"],
        explains=["no-slots", "slow", "clients-left", "latency-rose", "errors-rose", "cpu-bound", "workers-exhausted",
                  "slots-too-few",
                  "timeouts", "accept-queue-full"],
        charts=["requests", "in_flight", "queue", "wait_p50"],
        weight=now.harm.weight,
    )  # fmt: skip


def _too_few(seen: Seen, now: Situation) -> Iterator[Finding]:
    """The queue is long while the instances have nothing to do: max_inflight, not the app, is the limit."""
    slots, wait = now.slots, now.wait
    if not slots or wait is None or now.in_flight < FULL * slots or wait >= LONG or not now.app.max_inflight:
        return
    if now.usual_wait is not None and wait >= 1.5 * now.usual_wait + 0.02:
        return
    if any(_busy(seen, now, name) is not None for name in seen.each(Stacks)):
        return  # more slots would wait for its workers
    if _through(now) * wait < LITTLE * slots:
        return  # what fills the slots takes longer than what has ended
    cores = [now.cores(one.name) for one in now.instances]
    if any(one is None or one >= 0.5 for one in cores):
        return
    starved = [say.middle(one.wait_cpu or 0.0 for one in each.samples) or 0.0 for each in now.activity.values()]
    if max(starved, default=0.0) >= 0.2 and now.usual_wait is None:  # else it would show as a longer wait
        return
    said = ", ".join(f"{one.name} {value or 0:.2f}" for one, value in zip(now.instances, cores, strict=True))
    yield Finding(
        id="slots-too-few",
        title=f"max_inflight of {now.name} is lower than what its instances can take",
        cause=f"All {slots} slots ({now.app.ready} ready x max_inflight {now.app.max_inflight}) are taken and requests "
        f"wait, while answers take {units.duration(wait)} as usual and the instances hardly compute ({said} cores).",
        severity=now.harm.severity,
        certainty=VERY_LIKELY if now.usual_wait is not None else LIKELY,
        care="Requests wait at the gateway for a limit, not for the app.",
        since=now.harm.since,
        evidence=[
            say.proof(
                f"{units.count(now.in_flight)} of {slots} slots taken, median wait {units.duration(wait)}.", say.RINGS
            ),
            say.proof(f"CPU in cores: {said}.", "activity"),
            *now.harm.proofs,
        ],
        rivals=[
            Rival(cause="a limit that protects what the app asks", speaks_for=["a limit may be there to protect it"]),
            Rival(cause="a slow app", against=[f"answers take {units.duration(wait)}"]),
        ],
        unknown="Whether what the app depends on can take more.",
        remedies=[
            say.act("Add instances.", now.name, "scale", "Each brings its own slots.",
                    instances=max(2, 2 * max(1, now.app.wanted))),
            say.later(f"apps.{now.name}.max_inflight: {2 * now.app.max_inflight}, and watch the median wait."),
        ],
        faults=[*CROWDED, "client-left", "slow"],
        explains=["no-slots", "slow", "clients-left"],
        charts=["in_flight", "queue", "cpu"],
        weight=now.harm.weight,
    )  # fmt: skip


def _through(now: Situation) -> float:
    """Answers of instances a second, of late."""
    span = 15.0
    return sum(sum(now.now(name, seconds=span)) for name in ("s2xx", "s3xx", "s4xx", "errors")) / span


def _workers(seen: Seen, now: Situation) -> Iterator[Finding]:
    """All threads or processes of the app's server that take requests are at work, and others wait behind them."""
    if not now.harm.late:
        return
    for name in seen.each(Stacks):
        found = _busy(seen, now, name)
        if found is not None:
            yield _exhausted(now, name, *found)


def _busy(seen: Seen, now: Situation, name: str) -> tuple[list[Place], int, int | None, float, float] | None:
    """Places of its workers, how many work, how many there are if that is known, what waits to be accepted and is in
    flight; None: not all of them are taken, or nothing is behind them."""
    stacks, report = seen.each(Stacks)[name], seen.each(ProcReport).get(name)
    one = threads.read(name, stacks, report)
    flight = now.in_flight_of(name)
    there = threads.working(one, flight)
    totals = [sum(place.counts[at] for place in there) for at in range(len(one.rounds))]
    working = max(totals, default=0)
    environment = seen.each(Environment).get(name)
    workers = next((each.workers for each in (environment.runtimes if environment else []) if each.workers), None)
    fixed = len(totals) > 1 and working - min(totals) <= max(1, working // 8)  # a thread for each request grows
    if not working or not fixed or (workers is not None and working < FULL * workers):
        return None
    waiting = _accept_queue(seen.each(Sockets).get(name))
    behind = waiting >= 1 or flight - working >= max(2.0, 0.5 * working)
    return (there, working, workers, waiting, flight) if behind and not any(one.loop for one in there) else None


def _accept_queue(sockets: Sockets | None) -> float:
    """Connections that wait to be accepted, in the median of looks."""
    samples = sockets.samples if sockets is not None else []
    return say.middle(max((each.waiting for each in sample.listeners), default=0) for sample in samples) or 0.0


def _exhausted(
    now: Situation, instance: str, there: Sequence[Place], working: int, workers: int | None, waiting: float,
    flight: float,
) -> Finding:  # fmt: skip
    first = max(there, key=lambda place: place.least)
    told = (
        f"{working} of {workers} workers" if workers else f"The {units.several(working, 'thread')} that take requests"
    )
    behind = (
        f"{units.count(waiting)} connections wait to be accepted"
        if waiting >= 1
        else f"{units.count(flight)} requests are in flight"
    )
    places: Counter[str] = Counter()
    for place in there:
        places[place.place] += place.least
    answered = say.mean(now.now("requests", instance, 20.0)) or 0.0
    moves = answered > 0 and working / answered <= 10.0
    other = first.kind in ("socket", "connect", "dns", "lock", "pool")
    sure: Certainty = VERY_LIKELY if moves and not other and (workers or flight >= 1.5 * working + 1) else LIKELY
    each = f" At {answered:,.1f} answers/s each takes about {units.duration(working / answered)}." if moves else ""
    return Finding(
        id="workers-exhausted",
        title=f"All workers of {instance} are taken",
        cause=f"{told} of {instance} are at work, most at {first.chain}, and {behind}.{each}",
        severity=now.harm.severity,
        certainty=sure,
        care="A request that no worker takes yet waits within the app or the kernel, where nobody sees it.",
        instances=[instance] if len(now.instances) > 1 else [],
        since=now.harm.since,
        evidence=[
            say.proof(f"At work: {say.listed(f'{n} at {place}' for place, n in places.most_common(3))}.",
                      say.of(instance, "stacks")),
            say.proof(f"{units.count(flight)} requests in flight there, as the gateway counts.", say.RINGS),
            *([say.proof(f"{units.count(waiting)} connections in its accept queue.", say.of(instance, "sockets"))]
              if waiting >= 1 else []),
            *now.harm.proofs,
        ],
        rivals=[
            Rival(cause="a listener that hangs altogether", against=["its threads are at work on requests"]),
            Rival(cause="requests that take too long", speaks_for=[f"most are at {first.place}"]),
        ],
        remedies=[
            say.act("Add instances.", now.name, "scale", "As many more are worked on at once.",
                    instances=max(2, 2 * max(1, now.app.wanted))),
            say.later(
                f"More workers in the app's server, and apps.{now.name}.max_inflight no higher than there are: "
                "then requests wait at the gateway, from where they can go to another instance."
            ),
        ],
        faults=[*CROWDED, "head-timeout", "connect-timeout", "client-left", "slow"],
        explains=["no-slots", "slow", "clients-left", "accept-queue-full", "connect-times-out", "check-fails",
                  "probe-wrong", "timeouts", "slow-path", "over-capacity", "cut-by-drain",
                  *(["slow-handler"] if moves and not other else [])],
        charts=["in_flight", "wait_p50"],
        weight=now.harm.weight,
    )  # fmt: skip


ANALYZER: Final = Analyzer(
    name="capacity",
    title="Slots, queue and workers",
    checks="No request waited long for a slot, and no connection to be accepted.",
    analyze=analyze,
    wants=(Sockets, Environment, Stacks, ProcReport, Activity),
)
