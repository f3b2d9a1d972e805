"""Requests that stand at one line of the app, whatever it is that they wait for there; or only some paths are slow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
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
    Proof,
    Rival,
    Seen,
)
from proxy.diagnostics.analyzers.situation import HANGING, LONG, Situation, explains, late, paths
from proxy.diagnostics.analyzers.threads import Place
from proxy.diagnostics.artifacts import Activity, ProcReport, Sockets, Stacks

_TITLES: Final = {
    "sleep": "Requests sleep in the app",
    "child": "Requests wait for a process that the app started",
    "file": "Requests wait for a disk",
    "pipe": "Requests wait on a pipe",
    "result": "Requests wait for another thread or task of the app",
}


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    if not (now.harm.slow or now.harm.hanging):
        return
    found = False
    for instance, one in threads.read_all(seen.each(Stacks), seen.each(ProcReport)).items():
        there = threads.working(one, now.in_flight_of(instance))
        waiting = [place for place in there if place.always and place.kind in (*_TITLES, "waiting")]
        total = sum(place.least for place in there)
        if waiting and waiting[0].least >= max(1.0, 0.4 * total):
            found = True
            yield _at_line(now, instance, waiting[0], total)
    yield from _slow_path(now)
    if not found:
        yield from _timeouts(now)


def _at_line(now: Situation, instance: str, place: Place, total: int) -> Finding:
    known = place.kind != "waiting"
    title = _TITLES.get(place.kind, "Requests stand at one line of the app")
    cores = now.cores(instance)
    sure: Certainty = VERY_LIKELY if (known and place.stuck) or (place.kind == "sleep" and place.least >= 2) else LIKELY
    if cores is None or cores > 0.5:
        sure = LIKELY
    slow = [one for one in now.recent if one.instance == instance and (one.wait_us or one.total_us) >= LONG * 1e6]
    doing = threads.WORDS[place.kind]
    moves = (say.mean(now.now("requests", instance, 20.0)) or 0.0) >= place.least / 10.0
    call = f" (in {place.call})" if place.call else ""
    return Finding(
        id="slow-handler",
        title=f"{title}, at {place.place}",
        cause=f"{place.said()} of {instance}, of {total} that work on requests, stand at {place.chain}: "
        f"each {doing}{call}.",
        severity=now.harm.severity,
        certainty=sure,
        care="Each request that comes there waits as long, and holds a thread and a slot meanwhile.",
        instances=[instance] if len(now.instances) > 1 else [],
        since=now.harm.since,
        evidence=[
            say.proof(
                f"{place.said()} at {place.chain} in {len(place.counts)} rounds, {place.same} the same from "
                "one to the next.",
                say.of(instance, "stacks"),
            ),
            *_cores(instance, cores),
            *now.harm.proofs,
        ],
        rivals=[
            Rival(cause="a long computation",
                  against=[f"{cores:.2f} cores"] if cores is not None and cores < 0.5 else []),
        ],
        unknown=""
        if known
        else "What it waits for there: its call into C leaves no frame, and the kernel's side was not told.",
        remedies=[
            say.look(f"Read {place.place}: what it waits for, and whether it has a time limit."),
            say.later(
                "Answer at once and do the waiting outside of the request."
                if place.kind in ("sleep", "child")
                else "A time limit there, well below timeouts.first_byte."
            ),
        ],
        faults=late(),
        paths=paths(slow),
        explains=explains("slow-path", *([] if moves else ["workers-exhausted"])),
        charts=["wait_p50", "in_flight"],
        weight=now.harm.weight,
    )


def _cores(instance: str, cores: float | None) -> list[Proof]:
    return [] if cores is None else [say.proof(f"{instance} uses {cores:.2f} cores.", say.of(instance, "activity"))]


def _slow_path(now: Situation) -> Iterator[Finding]:
    """Only requests of one shape are slow, or time out, while others of the same app are not."""
    waits: dict[str, list[float]] = {}
    hung: Counter[str] = Counter()
    for one in now.recent:
        shape = say.shape(one)
        if one.fault in HANGING and one.fault != "connect-timeout":
            hung[shape] += 1
            waits.setdefault(shape, []).append(one.total_us / 1e6)
        elif one.wait_us is not None:
            waits.setdefault(shape, []).append(one.wait_us / 1e6)
    slow = {name: each for name, each in waits.items() if len(each) >= 3 and stats.median(each) >= LONG}
    quick = [value for name, each in waits.items() if name not in slow for value in each]
    if not slow or len(slow) > 2 or len(quick) < 10:
        return
    usual = stats.quantile(quick, 0.9)
    name, each = max(slow.items(), key=lambda item: len(item[1]))
    names = sorted(slow, key=lambda one: -len(slow[one]))
    if stats.median(each) < 5 * usual:
        return
    others = {say.shape(one) for one in now.recent} - set(slow)
    instances = {one.instance for one in now.recent if say.shape(one) == name and one.instance}
    yield Finding(
        id="slow-path",
        title=f"Only {name} is slow",
        cause=f"{name} takes {units.duration(stats.median(each))} in the median of "
        f"{units.count(len(each))}, while 9 of 10 "
        f"requests of {units.several(len(others), 'other kind')} are answered within "
        f"{units.duration(usual)}: it is what "
        "that path does, not the app as a whole.",
        severity="warning" if not hung[name] else now.harm.severity,
        certainty=LIKELY,
        care="Each of these requests holds a slot for as long.",
        since=now.harm.since,
        evidence=[
            say.proof(
                f"{name}: median {units.duration(stats.median(each))}, {hung[name]} without an answer.", say.RECORDS
            ),
            say.proof(f"Others: 9 of 10 within {units.duration(usual)}, of {units.count(len(quick))}.", say.RECORDS),
            *now.harm.proofs,
        ],
        rivals=[
            Rival(cause="the instance it is sent to", against=["it is slow on several"] if len(instances) > 1 else [])
        ],
        unknown="Why that path is slow, if no other finding says it.",
        remedies=[
            say.look("See them.", f"triage requests --app {now.name} --path {name.rpartition(' ')[2]} --slower 1s"),
            say.later(
                f"If it may take so long: apps.{now.name}.timeouts.first_byte, or an app of its own for that path."
            ),
        ],
        faults=late(),
        paths=names,
        explains=explains(),
        charts=["wait_p99", "in_flight"],
        weight=float(len(each)),
    )


def _timeouts(now: Situation) -> Iterator[Finding]:
    """Time limits passed, and nothing here says more; or the limit is shorter than what is usual."""
    names = [name for name in HANGING if now.harm.faults[name] and name != "connect-timeout"]
    many = sum(now.harm.faults[name] for name in names)
    if many < 3:
        return
    app = now.app
    hung = [one for one in now.recent if one.fault in names]
    good = [value for _, value in say.values(now.ring, "wait_p99", 0.0, (now.harm.since or now.at) - 5.0)]
    limit = app.first_byte if "head-timeout" in names else app.total if "total-timeout" in names else app.idle
    key = {"head-timeout": "first_byte", "total-timeout": "total"}.get(names[0], "idle")
    evidence: list[Proof] = list(now.harm.proofs)
    short = bool(limit) and len(good) >= 20 and stats.median(good) >= 0.5 * limit
    if short:
        slowest = units.duration(stats.median(good))
        text = f"Before, 1 of 100 answers took {slowest} or longer; the limit is {units.duration(limit)}."
        evidence.append(say.proof(text, say.RECORDS))
    shape = paths(hung)
    yield Finding(
        id="timeout-too-short" if short else "timeouts",
        title=f"{units.several(many, 'request')} of {now.name} passed a time limit"
        + (", which is close to what answers usually take" if short else ""),
        cause=(
            f"timeouts.{key} ({units.duration(limit)}) is close to what good answers take."
            if short
            else f"{units.several(many, 'request')} got no answer within timeouts.{key} ({units.duration(limit)})"
            f"{f', all of {say.listed(shape)}' if shape else ''}."
        ),
        severity=now.harm.severity,
        certainty=LIKELY if short else NOT_KNOWN,
        care="Clients get a 504 after they have waited for the whole limit.",
        since=now.harm.since,
        evidence=evidence,
        unknown="" if short else "What the app did meanwhile: no stack was taken while it lasted.",
        remedies=[
            say.look("See them.", f"triage requests --app {now.name} --fault {names[0]}"),
            say.later(f"apps.{now.name}.timeouts.{key}, if answers may take longer."),
        ],
        faults=names,
        paths=shape,
        explains=explains() if short else [],
        charts=["faults", "wait_p99"],
        weight=float(many),
    )


ANALYZER: Final = Analyzer(
    name="slow_handler",
    title="Requests that stand at one line, or paths that are slow",
    checks="No line of the app held requests up, and no path alone was slow.",
    analyze=analyze,
    wants=(Stacks, ProcReport, Activity, Sockets),
)
