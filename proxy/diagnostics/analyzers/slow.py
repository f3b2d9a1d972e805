"""What is left to say of slowness: answers take longer, clients gave up, or a fresh instance is warming up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, stats
from proxy.diagnostics.analyzers.contract import LIKELY, NOT_KNOWN, Analyzer, Certainty, Finding, Rival, Seen
from proxy.diagnostics.analyzers.situation import CROWDED, HANGING, LONG, Situation, paths
from proxy.diagnostics.artifacts import Activity, Instance

WARM: Final = 60.0
"""Seconds after its start in which an instance may be slower."""
ROUND: Final = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0)


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    yield from _left(now)
    warming = list(_warming(now))
    yield from warming
    if now.harm.slow and not warming:
        yield _slow(now)


def _left(now: Situation) -> Iterator[Finding]:
    """Clients that closed their connection: how long they had waited, against what is usual."""
    left = [one for one in now.recent if one.fault == "client-left"]
    if len(left) < 5:
        return
    waited = [one.total_us / 1e6 for one in left]
    middle = stats.median(waited)
    usual = now.usual_wait
    limit = next((each for each in ROUND if abs(middle - each) <= 0.02 * each + 0.05), None)
    alike = sum(abs(one - middle) <= 0.05 * middle + 0.05 for one in waited)
    long = middle >= LONG and (usual is None or middle >= 3 * usual)
    if alike >= 0.7 * len(waited) and limit is not None:
        certainty: Certainty = LIKELY
        why = f"{alike} of {len(waited)} did so after {units.duration(middle)}: likely a time limit of their own."
    else:
        certainty, why = (
            NOT_KNOWN,
            "They did so after different times: people who went on, closed programs, lost networks.",
        )
    slow = f" The app usually begins to answer after {units.duration(usual)}." if usual is not None else ""
    many = now.harm.faults["client-left"]
    yield Finding(
        id="clients-left",
        title="Clients give up before they have their answer",
        cause=f"{units.several(max(len(left), many), 'client')} closed the connection after "
        f"{units.duration(middle)} in "
        f"the median. {why}{slow}",
        severity="warning" if long and now.harm else "info",
        certainty=certainty if not now.harm.slow else NOT_KNOWN,
        care="Who gives up often asks again, and what the app did for it is lost.",
        since=min(one.time for one in left),
        evidence=[say.proof(f"{len(left)} ended as client-left, after {units.duration(min(waited))} to "
                            f"{units.duration(max(waited))}.", say.RECORDS)],
        rivals=[Rival(cause="a slow app", speaks_for=["they had waited longer than is usual"] if long else [],
                      against=[] if long else ["they had not waited longer than is usual"])],
        unknown="" if certainty == LIKELY else "Why each of them left.",
        remedies=[say.look("See them.", f"triage requests --app {now.name} --fault client-left")],
        faults=["client-left"],
        paths=paths(left),
        charts=["faults", "wait_p50"],
        weight=float(len(left)),
    )  # fmt: skip


def _warming(now: Situation) -> Iterator[Finding]:
    """Slow only in an instance's first time: caches, compilers and connections that are not there yet."""
    fresh = [one for one in now.instances if one.ready_at and now.at - one.ready_at <= 3 * WARM]
    if not fresh or now.harm.hanging or any(now.harm.faults[name] for name in (*CROWDED, *HANGING)):
        return
    for one in fresh:
        early = [
            value
            for _, value in say.values(now.known.rings.get(one.name), "wait_p50", one.ready_at, one.ready_at + WARM)
        ]
        if len(early) < 6 or not now.harm.slow:
            continue
        cut = len(early) // 3
        first, last = stats.median(early[:cut]), stats.median(early[-cut:])
        if first < 2 * last or first < 0.2:
            continue
        yield _cold(now, one, first, last)


def _cold(now: Situation, one: Instance, first: float, last: float) -> Finding:
    return Finding(
        id="cold-start",
        title=f"{one.name} was slow at its first requests, and is getting quicker",
        cause=f"{one.name} took {units.duration(first)} for its first requests after its start at "
        f"{say.stamp(one.ready_at)} and takes {units.duration(last)} now.",
        severity="info",
        certainty=LIKELY,
        care="After each start or deploy some requests are slow.",
        instances=[one.name],
        since=one.ready_at,
        evidence=[say.proof(f"Median wait {units.duration(first)}, then {units.duration(last)}.", say.RINGS)],
        rivals=[Rival(cause="a fall of traffic meanwhile", speaks_for=[])],
        remedies=[say.later("A health check that passes once caches and connections are there; process.slow_start.")],
        faults=["slow"],
        explains=["slow", "latency-rose"],
        charts=["wait_p50"],
    )


def _slow(now: Situation) -> Finding:
    """The symptom alone; what lies behind it is another finding."""
    wait, usual = now.wait, now.usual_wait
    slow = [one for one in now.recent if (one.wait_us or one.total_us) >= LONG * 1e6]
    shape = paths(slow)
    rose = usual is not None and wait is not None and wait >= 2 * usual
    said = (
        f"The median wait is {units.duration(wait)}, usual is {units.duration(usual)}"
        if rose and wait is not None and usual is not None
        else f"{units.several(len(slow), 'request')} of late took {units.duration(LONG)} or longer"
    )
    where = f", most of them {say.listed(shape)}" if shape else ""
    return Finding(
        id="slow",
        title=f"{now.name} answers slowly",
        cause=f"{said}{where}.",
        severity="warning",
        certainty=NOT_KNOWN,
        care="People wait, and slots are held for longer.",
        since=now.harm.since,
        evidence=now.harm.proofs,
        unknown="What it waits for or computes, if no other finding says it.",
        remedies=[
            say.look("See them.", f"triage requests --app {now.name} --slower 1s"),
            say.look("Look again while it is slow.", f"triage diagnose {now.name} --for 30s"),
        ],
        faults=["slow", "client-left"],
        paths=shape,
        charts=["wait_p50", "wait_p99"],
        weight=float(len(slow)),
    )


ANALYZER: Final = Analyzer(
    name="slow",
    title="Slow answers, and clients that give up",
    checks="Answers take as long as they usually do, and clients wait for them.",
    analyze=analyze,
    wants=(Activity,),
)
