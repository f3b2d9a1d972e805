"""Memory of instances: on its way to the limit, at it and thrashing, or taken by one kind of request in jumps.

A rise is a projection, never called a leak: warm-up and a daily ramp of load look like one. It is said above info only
past the warm-up, at a pace that does not slacken, not explained by more load, and near enough to the limit to matter.

Longer than most, because a rise, the limit and jumps read one series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
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
from proxy.diagnostics.analyzers.stats import slope
from proxy.diagnostics.artifacts import Activity, HostReport, Instance, Known, Types

LEAST: Final = 18
"""Seconds of a rise below which nothing is said."""
WARM: Final = 5.0
"""Seconds after it is ready that are left out at least; a third of its life is, up to ten minutes."""
SETTLED: Final = 60.0
"""Seconds of life before which only a rise that is about to hit the limit matters."""
FAR: Final = 4.0
"""A projection reaches no further than so many times the span that was seen, while it is young."""
SOON: Final = 3600.0
AT_ONCE: Final = 600.0
AT_LIMIT: Final = 0.95
THRASH: Final = 50.0
"""Major faults a second: each waits for a disk."""


@dataclass(slots=True)
class Rise:
    """A rise of one instance's memory, in bytes and seconds."""

    instance: Instance
    first: float
    last: float
    span: float
    rate: float  # bytes a second
    limit: int | None
    steady: bool  # no slower in its second half than in its first
    busier: bool  # as the load rose, too

    @property
    def left(self) -> float:
        """Seconds until the limit, if it goes on so."""
        return (self.limit - self.last) / self.rate if self.limit and self.rate > 0 else 1e12


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    thrashing = _thrashing(seen)
    if thrashing is not None:
        yield thrashing
    rises = [rise for one in known.instances if not one.gone and one.pid and (rise := _rise(seen, one)) is not None]
    jumping = _jumps(seen)
    if jumping is not None:
        yield jumping
    if rises:
        yield _rising(seen, rises)
        return
    there = [one for one in known.instances if not one.gone and one.pid and one.ready_at]
    if there and all(known.at - one.ready_at < LEAST + 2 * WARM for one in there):
        longest = max(known.at - one.ready_at for one in there)
        raise Inconclusive(f"No instance runs for longer than {units.duration(longest)}: too short to see a rise.")


# --- a rise ------------------------------------------------------------------------------------------


def _limit(seen: Seen, one: Instance) -> int | None:
    """Its own, else what the machine has left over."""
    if one.memory_limit:
        return one.memory_limit
    host = seen.one(HostReport)
    free = host.samples[-1].available if host is not None and host.samples else None
    free = (
        free
        if free is not None
        else next(
            (int(value) for _, value in reversed(say.values(seen.known.rings.get("host"), "memory_available"))), None
        )
    )
    return int((one.memory or 0) + free) if free is not None and one.memory else None


def _rise(seen: Seen, one: Instance) -> Rise | None:
    known = seen.known
    ring = known.rings.get(one.name)
    if not one.ready_at:
        return None
    life = known.at - one.ready_at
    since = one.ready_at + min(max(WARM, life / 3), 600.0)
    series = say.values(ring, "memory", since)
    if len(series) < LEAST:
        return None
    points = [value for _, value in series][:: max(1, len(series) // 60)]
    first, last, span = series[0][1], points[-1], series[-1][0] - series[0][0]
    if last < 1.05 * first or last - first < 5 * units.MB or span <= 0:
        return None
    step = span / max(1, len(points) - 1)
    third = len(points) // 3
    rates = [slope(points[:third]) / step, slope(points[third : 2 * third]) / step, slope(points[2 * third :]) / step]
    rate = slope(points) / step
    steady = rate > 0 and min(rates) > 0 and rates[2] >= 0.6 * max(rates[0], rates[1])
    return Rise(one, first, last, span, rate, _limit(seen, one), steady, _busier(known, one, since))


def _busier(known: Known, one: Instance, since: float) -> bool:
    for column in ("in_flight", "connections"):
        load = [value for _, value in say.values(known.rings.get(one.name), column, since)]
        if len(load) >= 20:
            half = len(load) // 2
            if (say.mean(load[half:]) or 0.0) > 1.3 * (say.mean(load[:half]) or 0.0) + 1.0:
                return True
    load = [value for _, value in say.values(known.rings.get(one.name), "requests", since)]
    half = len(load) // 2
    return len(load) >= 20 and (say.mean(load[half:]) or 0.0) > 1.3 * (say.mean(load[:half]) or 0.0) + 0.5


def _rising(seen: Seen, rises: Sequence[Rise]) -> Finding:
    known = seen.known
    rise = min(rises, key=lambda each: (not (each.steady and not each.busier), each.left))
    one, limit = rise.instance, rise.limit
    share = rise.last / limit if limit else 0.0
    real = rise.steady and not rise.busier and bool(limit)
    old = known.at - one.ready_at >= SETTLED and rise.span >= 0.5 * SETTLED
    matters = real and (
        (old and share >= 0.5 and rise.left <= SOON)
        or (old and rise.left <= AT_ONCE and rise.last >= 1.3 * rise.first and share >= 0.3)
        or (share >= 0.2 and rise.left <= FAR * rise.span and rise.last >= 1.5 * rise.first)
    )
    evidence = [
        say.proof(
            f"Memory of {one.name} rose from {units.size(rise.first)} to {units.size(rise.last)} in "
            f"{units.duration(rise.span)}, {units.size(rise.rate * 60)} each minute.",
            say.RINGS,
        ),
    ]
    if limit:
        whose = "its limit" if one.memory_limit else "what the machine has for it"
        evidence.append(say.proof(f"It has {units.percent(share)} of {whose} ({units.size(limit)}).", say.STATE))
    if not rise.busier:
        evidence.append(say.proof("The requests did not become more meanwhile.", say.RINGS))
    served = say.total(known.rings.get(one.name), "requests", known.at - rise.span)
    if served >= 50:
        evidence.append(
            say.proof(
                f"That is {units.size((rise.last - rise.first) / served)} for each of {units.count(served)} requests.",
                say.RINGS,
            )
        )
    others = [each for each in rises if each is not rise]
    if others:
        evidence.append(say.proof(f"{units.several(len(others), 'other instance')} of the app rises too.", say.RINGS))
    grew = _types(seen, one.name)
    evidence += grew
    against, rivals = (
        [],
        [
            Rival(
                cause="a cache that fills and then stays as it is",
                speaks_for=[] if rise.steady else ["the rise slackens"],
                against=["the pace has not slackened"] if rise.steady else [],
            )
        ],
    )
    if rise.busier:
        against.append(say.proof("The load rose as well.", say.RINGS))
        rivals.append(Rival(cause="more load", speaks_for=["the load rose as well"]))
    when = (
        f" It reaches {'its limit' if one.memory_limit else 'the end of the machine' + chr(39) + 's memory'} in "
        f"about {units.duration(rise.left)}, if it goes on like this."
        if rise.left < 86400
        else ""
    )
    what = f" {grew[0].text}" if grew else ""
    return Finding(
        id="memory-rising",
        title=f"The memory of {one.name} rises"
        + (f" and reaches its limit in about {units.duration(rise.left)}." if matters else "."),
        cause=f"The memory of {one.name} rises by {units.size(rise.rate * 60)} each minute.{when}{what} A projection.",
        severity="warning" if matters else "info",
        certainty=LIKELY,
        care="At its limit it is killed, with all requests that are on it.",
        app=known.app.name,
        instances=[each.instance.name for each in rises],
        since=known.at - rise.span,
        evidence=evidence,
        against=against,
        rivals=rivals,
        unknown="Whether it goes on so: that takes hours to tell." if not grew else "",
        remedies=_remedies(known, one, limit),
        charts=["memory", "private", "requests"],
        weight=share,
    )


def _remedies(known: Known, one: Instance, limit: int | None) -> list[Remedy]:
    own = one.memory_limit
    return [
        say.act(
            f"Replace {one.name} before it gets there.",
            known.app.name,
            "recycle",
            "It begins anew with little memory, and rises again at the same pace.",
            instance=one.name,
        ),
        *(
            [
                say.act(
                    f"Let each instance use {units.size(2 * own)}.",
                    known.app.name,
                    "scale",
                    "It lasts twice as long; it ends the rise only if that is a cache.",
                    memory=units.write_size(2 * own),
                )
            ]
            if own
            else []
        ),
        say.look(
            "Compare the largest types of two sessions.", f"triage diagnose {known.app.name}/{one.name} --for 60s"
        ),
        say.later(
            "An autoheal rule on memory that recycles, until the cause is mended.",
            "It is replaced with no request lost.",
        ),
    ]


def _types(seen: Seen, name: str) -> list[Proof]:
    types = seen.each(Types).get(name)
    if types is None:
        return []
    grown = sorted(
        (one for one in types.rows if one.grew > 0), key=lambda one: -one.grew * (one.size / max(1, one.count))
    )[:3]
    said = []
    if grown:
        every = ", ".join(f"{say.clean(one.name, 60)} +{units.count(one.grew)}" for one in grown)
        said.append(
            say.proof(
                f"Objects that became more in {units.duration(types.seconds_between)}: {every}.", say.of(name, "types")
            )
        )
    if types.rows:
        top = types.rows[0]
        said.append(
            say.proof(
                f"Most bytes are of {say.clean(top.name, 60)}: {units.size(top.size)} in {units.count(top.count)} "
                f"objects.",
                say.of(name, "types"),
            )
        )
    return said


# --- at the limit ------------------------------------------------------------------------------------


def _thrashing(seen: Seen) -> Finding | None:
    known, host = seen.known, seen.one(HostReport)
    samples = host.samples if host is not None else []
    pressure = (
        say.mean([max(one.pressure.get("memory some", 0.0), one.pressure.get("memory full", 0.0)) for one in samples])
        or 0.0
    )
    swapping = say.mean([one.swap_in for one in samples]) or 0.0
    for name, activity in seen.each(Activity).items():
        every = activity.samples
        if len(every) < 3:
            continue
        faults = sorted(one.major_faults for one in every)[len(every) // 2]
        if faults < THRASH:
            continue
        one = next((each for each in known.instances if each.name == name), None)
        memory, limit = every[-1].rss, one.memory_limit if one is not None else None
        full = bool(limit) and memory >= 0.85 * (limit or 1)
        scarce = (
            bool(samples)
            and samples[-1].available is not None
            and host is not None
            and bool(host.memory_total)
            and (samples[-1].available or 0) < 0.08 * (host.memory_total or 1)
        )
        swapped = max(each.swap for each in every)
        kinds = 1 + bool(full or scarce) + bool(pressure >= 0.1 or swapping >= 100 or swapped > 50 * units.MB)
        if kinds < 2:
            continue
        sure: Certainty = VERY_LIKELY
        evidence = [
            say.proof(
                f"{faults:.0f} major page faults a second in {name}: each waits for a disk.", say.of(name, "activity")
            )
        ]
        if full:
            evidence.append(
                say.proof(f"It uses {units.size(memory)} of {units.size(limit or 0)}.", say.of(name, "activity"))
            )
        if scarce:
            evidence.append(
                say.proof(
                    f"{units.size(samples[-1].available or 0)} of the machine's memory are available.", "host_report"
                )
            )
        if swapped > 0:
            evidence.append(say.proof(f"{units.size(swapped)} of it are swapped out.", say.of(name, "activity")))
        if pressure:
            evidence.append(say.proof(f"Tasks waited for memory {units.percent(pressure)} of the time.", "host_report"))
        return Finding(
            id="memory-thrashing",
            title=f"{name} waits for memory: what it needs is read from disk again and again.",
            cause=f"Memory is short{' in ' + name + chr(39) + 's own limit' if full else ' on this machine'}: "
            f"{faults:.0f} major page faults a second.",
            severity="critical",
            certainty=sure,
            care="Everything in it becomes slow by a factor of ten and more, then it is killed.",
            app=known.app.name,
            instances=[name],
            evidence=evidence,
            remedies=_remedies(known, one, limit) if one is not None else [],
            faults=["head-timeout", "total-timeout", "queue-timeout"],
            explains=["slow-handler", "slow-path", "slow", "swapping", "disk-bound", "latency-rose", "host-saturated"],
            charts=["memory", "io_read"],
        )
    for one in known.instances:
        recent = [value for _, value in say.values(known.rings.get(one.name), "memory", known.at - 20)]
        if one.gone or not one.memory_limit or len(recent) < 5 or min(recent) < AT_LIMIT * one.memory_limit:
            continue
        watched = one.limited_by.startswith("watched")
        return Finding(
            id="memory-at-limit",
            title=f"{one.name} uses nearly all the memory that it may.",
            cause=f"{one.name} has used {units.size(min(recent))} and more of {units.size(one.memory_limit)} for the "
            f"last 20 s.",
            severity="warning",
            certainty=CERTAIN,
            care="The next larger request makes it go over."
            + (
                " No cgroup holds it there: what happens then is up to rules and to the machine."
                if watched
                else " Then the kernel kills it."
            ),
            app=known.app.name,
            instances=[one.name],
            evidence=[
                say.proof(f"The least in 20 s was {units.size(min(recent))}.", say.RINGS),
                *_types(seen, one.name),
            ],
            remedies=_remedies(known, one, one.memory_limit),
            charts=["memory"],
        )
    return None


# --- jumps with a request ----------------------------------------------------------------------------


def _jumps(seen: Seen) -> Finding | None:
    """Memory that rises at once by a large piece, each time while the same kind of request is under way."""
    known = seen.known
    found: list[tuple[str, float, float]] = []
    for one in known.instances:
        limit = one.memory_limit or 0
        large = max(30 * units.MB, 0.15 * limit)
        series = say.values(known.rings.get(one.name), "memory", one.ready_at + 10 if one.ready_at else known.at)
        at = 5
        while at < len(series):
            if series[at][1] - series[at - 5][1] >= large and (not limit or series[at][1] >= 0.5 * limit):
                found.append((one.name, series[at][0], series[at][1] - series[at - 5][1]))
                at += 10
            at += 1
    if len(found) < 3:
        return None
    there: Counter[str] = Counter()
    for name, at_, _ in found:
        shapes = {
            say.shape(each)
            for each in known.records
            if each.instance == name and each.time <= at_ + 1 and say.ends(each) >= at_ - 6
        }
        there.update(shapes)
    if not there:
        return None
    shape, times = there.most_common(1)[0]
    every = [each for each in known.records if not each.fault]
    part = sum(1 for each in every if say.shape(each) == shape) / len(every) if every else 1.0
    if times < 0.8 * len(found) or part > 0.2 or sum(1 for count in there.values() if count == times) > 1:
        return None
    most = max(size for _, _, size in found)
    return Finding(
        id="memory-jumps",
        title=f"{shape} takes up to {units.size(most)} of memory at once.",
        cause=f"Memory rose {len(found)} times at once, by up to {units.size(most)}, {times} times while {shape} was "
        f"under way, which is {units.percent(part)} of the requests.",
        severity="info",
        certainty=LIKELY,
        care="Two of them at the same time may be more than there is.",
        app=known.app.name,
        instances=list(dict.fromkeys(name for name, _, _ in found)),
        evidence=[
            say.proof(f"{name} at {say.stamp(at_)}: +{units.size(size)} in 5 s.", say.RINGS)
            for name, at_, size in found[-4:]
        ],
        remedies=[say.later("Work in pages or streams instead of holding whole results.", "The peak falls.")],
        paths=[shape.partition(" ")[2]],
        charts=["memory"],
    )


ANALYZER: Final = Analyzer(
    name="memory",
    title="Memory that runs out",
    checks="No instance is at its limit of memory, or will be within the hour at its pace.",
    analyze=analyze,
    wants=(Activity, HostReport, Types),
)
