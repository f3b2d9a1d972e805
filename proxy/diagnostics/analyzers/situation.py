"""What most analyzers of slowness ask first: are requests harmed, how, since when, and what does each instance use.

Pure. *Harmed* is what keeps a healthy app that is busy, spiky or used to be slow from being accused: threads that wait
for a database are no finding as long as requests are answered as they always were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, stats
from proxy.diagnostics.analyzers.contract import Proof, Severity
from proxy.diagnostics.artifacts import Activity, Instance, Known, Record, Ring
from proxy.faults import FAULTS, Origin

NOW: Final = 30.0
"""Seconds before the look that count as now."""
LATELY: Final = 180.0
"""Seconds before the look in which faults count as of this trouble."""
LONG: Final = 1.0
"""A wait, in seconds, that harms a person whatever is usual."""
RISE: Final = 3.0
"""Times the usual wait that is a harm, if it is also 0.1 s more."""
SILENT: Final = 6
"""Seconds without an end of any request, while more come, that are a harm."""
HANGING: Final = ("head-timeout", "total-timeout", "send-timeout", "body-timeout", "connect-timeout")
CROWDED: Final = ("queue-timeout", "queue-full", "shed")
LATE: Final = (*HANGING, *CROWDED, "client-left", "slow")
"""What requests meet when an app is too slow."""
SYMPTOMS: Final = (
    "no-slots", "clients-left", "slow", "timeouts", "latency-rose", "errors-rose",
    "cut-by-drain", "check-fails", "probe-wrong", "probe-blind", "accept-queue-full",
    "connect-times-out",
)  # fmt: skip
"""What follows from an app that answers slowly or not at all."""


@dataclass(slots=True)
class Harm:
    """How requests suffer. `proofs` is empty when they do not."""

    proofs: list[Proof] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)  # of late
    since: float = 0.0  # 0.0: not known
    wait: float | None = None  # seconds until the response's head, median of now
    usual: float | None = None
    slow: bool = False  # answers are late
    hanging: bool = False  # requests do not end by themselves
    queued: bool = False
    felt: bool = False  # answers take several times as long, though hardly long enough to harm

    def __bool__(self) -> bool:
        return bool(self.proofs)

    @property
    def late(self) -> bool:
        """Requests wait, for whatever: what makes an app slow may be asked about."""
        return self.slow or self.hanging or self.queued or any(self.faults[name] for name in CROWDED)

    @property
    def weight(self) -> float:
        return float(sum(self.faults.values()))

    @property
    def severity(self) -> Severity:
        return "critical" if self.weight >= 10 or self.hanging or self.queued else "warning"


class Situation:
    """Known, asked in the ways that analyzers ask. `activity` by instance, where it is declared."""

    def __init__(self, known: Known, activity: Mapping[str, Activity] | None = None) -> None:
        self.known = known
        self.app = known.app
        self.name = known.app.name
        self.at = known.at
        self.ring = known.rings.get("") or Ring(start=int(known.at), length=0)
        self.activity = activity or {}

    def now(self, column: str, key: str = "", seconds: float = NOW) -> list[float]:
        """Values of the last seconds that are known."""
        return [value for _, value in say.values(self.known.rings.get(key), column, self.at - seconds)]

    def level(self, column: str, key: str = "", seconds: float = NOW) -> float | None:
        """The median of now."""
        return say.middle(self.now(column, key, seconds))

    @cached_property
    def usual_wait(self) -> float | None:
        """The median wait for a head before now, of the better half, or before it jumped; None: too little is known."""
        values = [value for _, value in say.values(self.ring, "wait_p50", 0.0, self.at - NOW)]
        if len(values) >= 20:
            return stats.quantile(values, 0.25)
        every = [value for _, value in say.values(self.ring, "wait_p50")]
        found = stats.step(every, least=4, ratio=2.0, floor=0.01)
        if found is not None:
            return found.before
        first = every[: len(every) // 4]
        return stats.median(first) if len(first) >= 4 else None

    @cached_property
    def wait(self) -> float | None:
        return self.level("wait_p50")

    @cached_property
    def in_flight(self) -> float:
        """Requests on instances: the median of now, or what was counted at the look."""
        seen = self.level("in_flight", seconds=20.0)
        return max(seen or 0.0, float(self.app.in_flight if seen is None else 0))

    @cached_property
    def slots(self) -> int:
        """0: no limit, or one that is not known."""
        each = [one.slots for one in self.instances if one.lifecycle == "ready"]
        return sum(each) if each and all(each) else 0

    @cached_property
    def instances(self) -> list[Instance]:
        return say.running(self.known)

    def looked_at(self, *more: Iterable[str]) -> list[str]:
        """Instances that run, and those that were looked at and have been replaced since."""
        names = [one.name for one in self.instances]
        return list(dict.fromkeys([*names, *self.activity, *(name for each in more for name in each)]))

    @cached_property
    def recent(self) -> list[Record]:
        """Records of requests that ended of late, newest first."""
        return [one for one in self.known.records if say.ends(one) >= self.at - LATELY]

    def in_flight_of(self, instance: str) -> float:
        seen = self.level("in_flight", instance, 20.0)
        of = next((one.in_flight for one in self.known.instances if one.name == instance), 0)
        return max(seen or 0.0, float(of))

    def cores(self, instance: str) -> float | None:
        """CPU of an instance: of the session's own samples, else of the ring."""
        activity = self.activity.get(instance)
        if activity is not None and activity.samples:
            return say.middle(one.user + one.system for one in activity.samples)
        return self.level("cpu", instance)

    def wants(self, instance: str) -> float | None:
        """Cores that it would use, were they free: what it used, and what its threads waited for them."""
        activity = self.activity.get(instance)
        cores = self.cores(instance)
        if cores is None or activity is None:
            return cores
        return cores + (say.middle(one.wait_cpu or 0.0 for one in activity.samples) or 0.0)

    def busiest(self, instance: str) -> float | None:
        """Cores of the busiest thread."""
        activity = self.activity.get(instance)
        return say.middle(one.busiest for one in activity.samples) if activity is not None else None

    def faults(self, since: float) -> Counter[str]:
        found: Counter[str] = Counter()
        for name, counts in self.ring.faults.items():
            found[name] = sum(count for at, count in enumerate(counts) if self.ring.start + at >= since)
        kept = Counter(one.fault for one in self.known.records if one.fault and say.ends(one) >= since)
        for name, count in kept.items():
            found[name] = max(found[name], count)
        return +found

    @cached_property
    def harm(self) -> Harm:
        """What requests suffer now or did of late."""
        harm = Harm(wait=self.wait, usual=self.usual_wait)
        self._faults(harm)
        self._waits(harm)
        self._queue(harm)
        self._paths(harm)
        self._none_ends(harm)
        self._pile_up(harm)
        return harm

    def _none_ends(self, harm: Harm) -> None:
        """More and more in flight while not one ends; open streams stay as many as they are."""
        for key, who in (("", self.name), *((one.name, one.name) for one in self.instances)):
            ended = dict(say.values(self.known.rings.get(key), "requests", self.at - 120.0))
            flying = dict(say.values(self.known.rings.get(key), "in_flight", self.at - 120.0))
            seconds = 0
            for at in sorted(flying, reverse=True):
                if ended.get(at, 0.0) or flying[at] < 1:
                    break
                seconds += 1
            first = max(flying, default=0) - seconds + 1
            if seconds < SILENT or flying[max(flying)] < flying.get(first, 0.0) + 2:
                continue
            harm.slow = True
            harm.since = min(harm.since or float(first), float(first))
            text = f"{units.count(flying[max(flying)])} requests are in flight on {who}, and none ended in {seconds} s."
            harm.proofs.append(say.proof(text, say.RINGS))
            return

    def _pile_up(self, harm: Harm) -> None:
        """Many more in flight than before, though few end: each stays long, however quick those are that ended."""
        if harm.slow:
            return
        flying = say.values(self.ring, "in_flight")
        recent = [value for at, value in flying if at >= self.at - 15.0]
        before = [value for at, value in flying if at < self.at - 15.0]
        ended = sum(self.now("requests", seconds=15.0)) / 15.0
        if len(recent) < 10 or len(before) < 3:
            return
        usual, many = stats.quantile(before, 0.25), stats.median(recent)
        if many < 5 + 3 * usual or many < 2 * LONG * max(ended, 0.1):
            return
        harm.slow = True
        text = f"{units.count(many)} are in flight, {units.count(usual)} before, and {ended:,.1f} end a second."
        harm.proofs.append(say.proof(text, say.RINGS))

    @cached_property
    def slow_paths(self) -> dict[str, list[float]]:
        """Shapes of requests that waited long of late, though they did not always, or that fail or hold others up.

        What takes long each time and does no harm is made so: long polls, reports.
        """
        waits: dict[str, list[float]] = {}
        bad: set[str] = set()
        for one in self.recent:
            shape = say.shape(one)
            if one.fault in (*HANGING, "client-left") and one.total_us >= LONG * 1e6:
                bad.add(shape)
            elif one.wait_us is not None:
                waits.setdefault(shape, []).append(one.wait_us / 1e6)
        slow = {name: each for name, each in waits.items() if len(each) >= 5 and stats.median(each) >= LONG}
        others = [value for name, each in waits.items() if name not in slow for value in each]
        with_it = sum(value >= LONG / 2 for value in others) >= max(3, 0.02 * len(others))
        return {
            name: each for name, each in slow.items()
            if with_it or name in bad or sum(value <= 0.3 * stats.median(each) for value in each) >= 3
        }  # fmt: skip

    def _paths(self, harm: Harm) -> None:
        for name, each in list(self.slow_paths.items())[:3] if not harm.slow else ():
            harm.slow = True
            text = f"{units.count(len(each))} times {name} waited {units.duration(stats.median(each))} in the median."
            harm.proofs.append(say.proof(text, say.RECORDS))

    def _faults(self, harm: Harm) -> None:
        every = self.faults(self.at - LATELY)
        asked = max(say.requests(self.known, self.at - LATELY), float(sum(every.values())), 1.0)
        ours = Counter({name: count for name, count in every.items() if name in FAULTS and _harms(name)})
        left = every.get("client-left", 0)
        if left >= 5 and left / asked >= 0.02:
            ours["client-left"] = left
        few = max(3.0, 0.002 * asked)
        harm.faults = Counter({name: count for name, count in ours.items() if count})
        if sum(ours.values()) < few:
            return
        told = ", ".join(f"{units.count(count)} {name}" for name, count in ours.most_common(4))
        harm.proofs.append(say.proof(f"Of {units.several(round(asked), 'request')} in 3 min: {told}.", say.RINGS))
        harm.hanging |= any(ours[name] for name in HANGING)
        firsts = [
            self.ring.start + at
            for name in ours
            for at, count in enumerate(self.ring.faults.get(name, ()))
            if count and self.ring.start + at >= self.at - 900
        ]
        harm.since = float(min(firsts, default=0))

    def _waits(self, harm: Harm) -> None:
        wait, usual = self.wait, self.usual_wait
        if wait is None:
            return
        rose = usual is not None and wait >= RISE * usual and wait - usual >= 0.1
        harm.felt = usual is not None and wait >= RISE * usual and wait - usual >= 0.01
        if not rose and wait < LONG:
            return
        harm.slow = True
        before = f"; before, {units.duration(usual)}" if rose and usual is not None else ""
        text = f"Half of the requests now wait {units.duration(wait)} or longer{before}."
        harm.proofs.append(say.proof(text, say.RINGS))
        since = self.rose_at("wait_p50")
        if since and not harm.since:
            harm.since = since

    def rose_at(self, column: str, key: str = "") -> float:
        """When a column jumped; 0.0: it did not, or that can't be told."""
        ring = self.known.rings.get(key)
        if ring is None:
            return 0.0
        width = 2 if ring.length <= 240 else 5
        row = stats.buckets(ring.values.get(column, ()), width)
        there = [(at, value) for at, value in enumerate(row) if value is not None]
        found = stats.step([value for _, value in there], least=4, ratio=2.0)
        if found is None:
            return 0.0
        lead = len(ring.values[column]) % width
        at = there[found.at][0]
        return float(ring.start + (at * width if not lead else max(0, (at - 1) * width + lead)))

    def _queue(self, harm: Harm) -> None:
        waiting = self.now("queue", seconds=20.0)
        oldest = self.level("queue_oldest", seconds=20.0) or self.app.oldest_wait or 0.0
        long = sum(value >= 1 for value in waiting) > len(waiting) / 2
        if (long and oldest >= 0.5) or (self.app.oldest_wait or 0.0) >= LONG:
            harm.queued = True
            many = max([*waiting, float(self.app.waiting)])
            text = f"{units.several(round(many), 'request')} wait for a slot, the oldest for {units.duration(oldest)}."
            harm.proofs.append(say.proof(text, say.RINGS))


def _harms(name: str) -> bool:
    fault = FAULTS[name]
    asked_for = ("stopped", "held-too-long", "no-instance", "rate-limited", "no-route", "stale-connection")
    return fault.origin is not Origin.CLIENT and name not in asked_for


def late(*more: str) -> list[str]:
    """Faults that slowness accounts for."""
    return list(dict.fromkeys([*LATE, *more]))


def explains(*more: str) -> list[str]:
    return list(dict.fromkeys([*more, *SYMPTOMS]))


def paths(records: Iterable[Record], least: float = 0.8) -> list[str]:
    """The one or two request shapes that make up nearly all of them; [] when they are of many."""
    counts = Counter(say.shape(one) for one in records)
    total = sum(counts.values())
    first = counts.most_common(2)
    if total and sum(count for _, count in first) >= least * total:
        return [name for name, _ in first]
    return []
