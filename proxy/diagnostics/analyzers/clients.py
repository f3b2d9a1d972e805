"""Whose requests they are: one client with most of the load, repeats after failures, a path that everybody wants."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, stats
from proxy.diagnostics.analyzers.contract import LIKELY, VERY_LIKELY, Analyzer, Certainty, Finding, Proof, Rival, Seen
from proxy.diagnostics.analyzers.situation import CROWDED, LATELY, Situation, late
from proxy.diagnostics.artifacts import Activity, Record

PART: Final = 0.5
"""One client's share that is much, with others there."""
FEW: Final = 30
"""Fewer requests say nothing about shares."""
WITHIN: Final = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Seconds after a failure by which the same client asking the same may be a repeat. Many people may share an address
and a path, so it is compared with how often they ask anyway, and with what follows good answers."""


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    if not now.harm:
        return
    yield from _noisy(now)
    yield from _storm(now)


def _noisy(now: Situation) -> Iterator[Finding]:
    """A share of what is in flight, and of what came; a gateway in front that sends for all looks like one client."""
    came = [one for one in now.recent if one.client]
    flying = [one for one in now.known.in_flight if one.client]
    if len({one.client for one in (*came, *flying)}) < 3 or len(came) < FEW:
        return
    counts, held = Counter(one.client for one in came), Counter(one.client for one in flying)
    busy = Counter[str]()
    for one in came:
        busy[one.client] += one.total_us
    for one in flying:
        busy[one.client] += int(1e6 * max(0.0, now.at - one.time))
    who = max(busy, key=lambda name: (busy[name], counts[name]))
    took = busy[who] / max(1, sum(busy.values()))
    others = [count for name, count in counts.items() if name != who]
    usual = stats.median(others) if others else 0.0
    low, _ = stats.wilson(counts[who], len(came))
    much = low >= PART and counts[who] >= 5 * max(1.0, usual)
    holds = len(flying) >= 5 and held[who] >= PART * len(flying) and took >= PART and held[who] >= 5
    if not much and not holds:
        return
    paths = Counter(say.shape(one) for one in (*came, *flying) if one.client == who)
    path, often = paths.most_common(1)[0]
    agent = say.most(one.user_agent for one in came if one.client == who and one.user_agent)[0]
    crowded = now.harm.queued or any(now.harm.faults[name] for name in CROWDED)
    sure: Certainty = VERY_LIKELY if much and (holds or took >= PART) and crowded else LIKELY
    evidence: list[Proof] = [
        say.proof(f"{say.share(counts[who], len(came))} requests of late; the median of {len(others)} others is "
                  f"{usual:.0f}.", say.RECORDS),
        say.proof(f"{units.percent(took)} of the time that requests took.", say.RECORDS),
    ]  # fmt: skip
    if flying:
        evidence.append(say.proof(f"{say.share(held[who], len(flying))} requests in flight.", say.RECORDS))
    yield Finding(
        id="noisy-client",
        title=f"One client, {say.clean(who, 60)}, makes most of the load",
        cause=f"{say.clean(who, 60)} sent {say.share(counts[who], len(came))} requests of late and took "
        f"{units.percent(took)} of their time, most for {path} ({often})"
        f"{f', as {say.clean(agent, 60)}' if agent else ''}; {len(others)} other clients share the rest.",
        severity=now.harm.severity,
        certainty=sure,
        care="Its requests take the slots that all others need.",
        since=now.harm.since,
        evidence=[*evidence, *now.harm.proofs],
        rivals=[
            Rival(cause="a proxy through which many people come",
                  speaks_for=["many people behind one address look like one client"]),
        ],
        unknown="Whether it is one program or many behind one address.",
        remedies=[
            say.look("See its requests.", f"triage requests --app {now.name}"),
            say.later(f"apps.{now.name}.rate_limit: a limit for each client, well above what others send."),
        ],
        faults=late("app-error", "rate-limited"),
        explains=["no-slots", "over-capacity", "slow", "clients-left", "latency-rose", "cpu-bound", "slow-path",
                  "slow-path-fills-slots", "workers-exhausted", "timeouts", "errors-rose", "slots-too-few"],
        charts=["requests", "in_flight", "queue"],
        weight=now.harm.weight,
    )  # fmt: skip


def _storm(now: Situation) -> Iterator[Finding]:
    """Requests that are sent again after they failed: by clients, and by the gateway itself."""
    every = [one for one in now.known.records if say.ends(one) >= now.at - LATELY and one.client]
    failed = [one for one in every if _failed(one)]
    if len(failed) < 10:
        return
    starts: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for one in every:
        starts[one.client, one.method, one.target].append(one.time)
    for times in starts.values():
        times.sort()
    good = [one for one in every if not _failed(one)]
    after = [_next(one, starts[one.client, one.method, one.target]) for one in failed]
    usually = [_next(one, starts[one.client, one.method, one.target]) for one in good]
    rates = [_rate(starts[one.client, one.method, one.target]) for one in failed]
    excess, first, soon = max(
        (_excess(after, rates, *band), *band) for band in zip((0.0, *WITHIN), WITHIN, strict=False)
    )
    again, normal = _within(after, first, soon), _within(usually, first, soon)
    part, usual = again / len(failed), normal / len(good) if good else 0.0
    ring = now.ring
    tried, asked = say.total(ring, "retries", now.at - LATELY), say.requests(now.known, now.at - LATELY)
    clients = len({one.client for one in failed})
    busy = sum(one.status in (429, 503) for one in failed) >= 0.5 * len(failed)
    storm = excess >= 0.3 and bool(good) and part >= usual + 0.25 and again >= 10 and _grew(now)
    if not storm:
        return
    yield Finding(
        id="retry-storm",
        title=f"Failed requests of {now.name} are sent again, which adds to the load",
        cause=f"{say.share(again, len(failed))} failed requests came again within {units.duration(soon)} from the same "
        f"client, of {units.several(clients, 'client')}; of good ones {units.percent(usual)} did, and "
        "traffic has grown "
        "since it began.",
        severity=now.harm.severity if busy else "warning",
        certainty=LIKELY,
        care="Repeats keep an app down that could serve what is asked but once.",
        since=now.harm.since,
        evidence=[
            say.proof(f"{say.share(again, len(failed))} failed ones came again; of good ones {units.percent(usual)}.",
                      say.RECORDS),
            say.proof(f"{units.count(tried)} attempts beyond the first for {units.count(asked)} requests.", say.RINGS),
            *now.harm.proofs,
        ],
        rivals=[Rival(cause="clients that ask the same again anyway", against=[f"{units.percent(usual)} do so"])],
        unknown="What the first failures came from: see the other findings.",
        remedies=[
            say.act("Hold the app's requests for a moment.", now.name, "hold",
                    "The queue takes the repeats while it recovers; release it then."),
            say.later("Clients that wait longer after each failure, with some chance in it."),
        ],
        faults=[*CROWDED, *(["app-error"] if busy else [])],
        explains=["over-capacity", "errors-rose", *(["app-errors", "no-slots"] if busy else [])],
        charts=["requests", "retries", "faults"],
        weight=float(again),
    )  # fmt: skip


def _next(one: Record, times: list[float]) -> float:
    """Seconds from its end until the same client asked the same again; infinite when it did not."""
    at = bisect_left(times, say.ends(one))
    return times[at] - say.ends(one) if at < len(times) else math.inf


def _within(gaps: Sequence[float], first: float, last: float) -> int:
    return sum(first <= gap < last for gap in gaps)


def _rate(times: Sequence[float]) -> float:
    """A second, of late: half of them came in that time."""
    recent = times[len(times) // 2 :]
    span = recent[-1] - recent[0]
    return (len(recent) - 1) / span if span > 0 else 0.0


def _excess(after: Sequence[float], rates: Sequence[float], first: float, last: float) -> float:
    """How much larger the share that came again between these seconds is than by the rate at which they come anyway."""
    expected = sum(math.exp(-rate * first) - math.exp(-rate * last) for rate in rates) / len(rates)
    return _within(after, first, last) / len(after) - expected


def _grew(now: Situation) -> bool:
    """Traffic is larger than before the trouble, as repeats make it."""
    since = now.harm.since or now.at - 60
    before = say.mean([value for _, value in say.values(now.ring, "requests", 0.0, since - 5)])
    after = say.mean([value for _, value in say.values(now.ring, "requests", since)])
    return before is not None and before > 0 and (after or 0.0) >= 1.2 * before


def _failed(one: Record) -> bool:
    return one.status >= 500 or one.fault in ("client-left",) or (bool(one.fault) and one.status == 0)


ANALYZER: Final = Analyzer(
    name="clients",
    title="A noisy client, or a retry storm",
    checks="No client had most of the load, and failed requests were not sent again in numbers.",
    analyze=analyze,
    wants=(Activity,),
)
