"""Whose requests they are: one client with most of the load, repeats after failures, a path that everybody wants."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
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

SOME: Final = 10
"""Requests below which a rate, or a share, is chance."""
LEAST: Final = 5.0
"""Seconds before the first failure that tell how many requests are usual."""
RISE: Final = 1.3
"""Times the usual rate that repeats must make of it."""
Kind = tuple[str, str, str]
"""Client, method and target."""


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    if not now.harm:
        return
    yield from _noisy(now)
    yield from _storm(now)


def _noisy(now: Situation) -> Iterator[Finding]:
    """A share of what came, and of the time it took; a gateway in front that sends for all looks like one client."""
    came = [one for one in now.recent if one.client]
    counts = Counter(one.client for one in came)
    if len(counts) < 3 or len(came) < FEW:
        return
    busy = Counter[str]()
    for one in came:
        busy[one.client] += one.total_us
    who = max(busy, key=lambda name: (busy[name], counts[name]))
    took = busy[who] / max(1, sum(busy.values()))
    others = [count for name, count in counts.items() if name != who]
    usual = stats.median(others) if others else 0.0
    low, _ = stats.wilson(counts[who], len(came))
    if low < PART or counts[who] < 5 * max(1.0, usual):
        return
    paths = Counter(say.shape(one) for one in came if one.client == who)
    path, often = paths.most_common(1)[0]
    agent = say.most(one.user_agent for one in came if one.client == who and one.user_agent)[0]
    crowded = now.harm.queued or any(now.harm.faults[name] for name in CROWDED)
    sure: Certainty = VERY_LIKELY if took >= PART and crowded else LIKELY
    evidence: list[Proof] = [
        say.proof(f"{say.share(counts[who], len(came))} requests of late; the median of {len(others)} others is "
                  f"{usual:.0f}.", say.RECORDS),
        say.proof(f"{units.percent(took)} of the time that requests took.", say.RECORDS),
    ]  # fmt: skip
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
                  "workers-exhausted", "timeouts", "errors-rose", "slots-too-few"],
        charts=["requests", "in_flight", "queue"],
        weight=now.harm.weight,
    )  # fmt: skip


def _storm(now: Situation) -> Iterator[Finding]:
    """Requests that are sent again after they failed: by clients, and by the gateway itself."""
    every = [one for one in now.known.records if say.ends(one) >= now.at - LATELY and one.client]
    failed = [one for one in every if _failed(one)]
    if len(failed) < SOME:
        return
    starts: dict[Kind, list[float]] = defaultdict(list)
    for one in every:
        starts[_kind(one)].append(one.time)
    for times in starts.values():
        times.sort()
    if not _grew(now, failed, starts):
        return
    theirs = {one.client for one in failed}
    good = [one for one in every if one.client in theirs and not _failed(one)]
    after = [_next(one, starts[_kind(one)]) for one in failed]
    usually = [_next(one, starts[_kind(one)]) for one in good]
    often = {kind: _rate(times) for kind, times in starts.items()}
    rates = [often[_kind(one)] for one in failed]
    excess, first, soon = max(
        (_excess(after, rates, *band), *band) for band in zip((0.0, *WITHIN), WITHIN, strict=False)
    )
    again, normal = _within(after, first, soon), _within(usually, first, soon)
    part, usual = again / len(failed), normal / len(good) if good else 0.0
    ring = now.ring
    tried, asked = say.total(ring, "retries", now.at - LATELY), say.requests(now.known, now.at - LATELY)
    clients = len(theirs)
    busy = sum(one.status in (429, 503) for one in failed) >= 0.5 * len(failed)
    if excess < 0.3 or not good or part < usual + 0.25 or again < SOME:
        return
    yield Finding(
        id="retry-storm",
        title=f"Failed requests of {now.name} are sent again, which adds to the load",
        cause=f"{say.share(again, len(failed))} failed requests came again within {units.duration(soon)} from the same "
        f"client, of {units.several(clients, 'client')}; of good ones {units.percent(usual)} did, and there is more "
        "traffic than before the first failure.",
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


def _grew(now: Situation, failed: Sequence[Record], starts: Mapping[Kind, Sequence[float]]) -> bool:
    """Whether there is more traffic than before the first failure, and more of what fails, as repeats make it.

    Nothing came before: that can't be told. New requests that fail from the start are no repeats, however many.
    """
    first = min(one.time for one in failed)
    every = [(at, value) for at, value in say.values(now.ring, "requests") if value]
    began = min((at for at, _ in every), default=first)
    whole = (sum(value for at, value in every if at < int(first)), int(first) - began,
             sum(value for at, value in every if at >= int(first)), now.at - int(first))  # fmt: skip
    mine = sorted(at for kind in {_kind(one) for one in failed} for at in starts[kind])
    before = bisect_left(mine, first)
    kinds = (before, first - mine[0], len(mine) - before, now.at - first)
    return _more(*whole) and _more(*kinds)


def _more(before: float, lasted: float, after: float, lasts: float) -> bool:
    """Whether so many in `lasts` seconds are more, beyond chance, than so many in the `lasted` seconds before."""
    if before < SOME or lasted < LEAST or lasts <= 0:
        return False
    usual, noise = before / lasted, math.sqrt(before) / lasted
    return after / lasts >= max(RISE * usual, usual + 3 * noise)


def _kind(one: Record) -> Kind:
    return one.client, one.method, one.target


def _failed(one: Record) -> bool:
    return one.status >= 500 or one.fault in ("client-left",) or (bool(one.fault) and one.status == 0)


ANALYZER: Final = Analyzer(
    name="clients",
    title="A noisy client, or a retry storm",
    checks="No client had most of the load, and failed requests were not sent again in numbers.",
    analyze=analyze,
    wants=(Activity,),
)
