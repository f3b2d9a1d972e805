"""One bad instance among good ones: by errors (Fisher's exact test, Holm's correction over instances), or by waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, stats
from proxy.diagnostics.analyzers.contract import LIKELY, VERY_LIKELY, Analyzer, Certainty, Finding, Rival, Seen
from proxy.diagnostics.analyzers.situation import HANGING, LATELY, Situation, late
from proxy.diagnostics.artifacts import Activity, Instance

ALPHA: Final = 0.001
LEAST: Final = 5
"""Failures of one instance."""
ASKED: Final = 20
"""Requests that the others have to have got."""
BLAMED: Final = (
    *HANGING, "app-error", "closed-before-head", "reset-before-head", "connect-refused", "bad-response",
    "response-framing", "body-truncated", "instance-exited",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    instance: Instance
    bad: int
    of: int
    wait: float | None


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    rows = [_row(now, one) for one in now.instances if not one.gone]
    if len(rows) < 2:
        return
    ps = [
        stats.fisher(row.bad, row.of, *_others(rows, row))
        if row.bad >= LEAST and _others(rows, row)[1] >= ASKED
        else 1.0
        for row in rows
    ]
    held = [row for row, holds in zip(rows, stats.holm(ps, ALPHA), strict=True) if holds]
    for row, p in zip(rows, ps, strict=True):
        bad, of = _others(rows, row)
        if row in held and row.bad / row.of >= max(0.05, 5 * bad / of) and _alike(now, row.instance.name):
            yield _errors(now, row, bad, of, p)
    if not held and now.harm:
        yield from _slow(now, rows)


def _row(now: Situation, one: Instance) -> _Row:
    ring = now.known.rings.get(one.name)
    since = now.at - LATELY
    of = round(say.total(ring, "requests", since))
    bad = say.faults(now.known, *BLAMED, key=one.name, since=since).count
    return _Row(one, bad, max(of, bad), say.middle(now.now("wait_p50", one.name)))


def _others(rows: list[_Row], row: _Row) -> tuple[int, int]:
    rest = [one for one in rows if one is not row]
    return sum(one.bad for one in rest), sum(one.of for one in rest)


def _alike(now: Situation, name: str) -> bool:
    """Whether it fails more often at requests of the same kinds too: on trial it gets few others."""
    for kind in (say.request, say.shape):  # of one path, or where each has an id of its own, of one shape
        bad: dict[str, list[int]] = {}
        for one in now.recent:
            for attempt in one.attempts or ():
                _count(bad, kind(one), attempt.instance == name, bool(attempt.fault or attempt.status >= 500))
            if not one.attempts and one.instance:
                _count(bad, kind(one), one.instance == name, one.fault in BLAMED)
        mine = [counts for counts in bad.values() if counts[0]]
        if not mine:
            return True
        a, n, b, m = (sum(counts[at] for counts in mine) for at in range(4))
        if m >= LEAST:
            break
    else:
        return False
    return stats.fisher(a, n, b, m) <= 0.01 and a / n >= 3 * b / m


def _count(bad: dict[str, list[int]], shape: str, mine: bool, failed: bool) -> None:
    """By kind: failed and all of the one, failed and all of the others."""
    counts = bad.setdefault(shape, [0, 0, 0, 0])
    counts[0 if mine else 2] += failed
    counts[1 if mine else 3] += 1


def _errors(now: Situation, row: _Row, bad: int, of: int, p: float) -> Finding:
    name = row.instance.name
    versions = {one.version for one in now.instances if one.name != name and one.version}
    other = bool(row.instance.version) and row.instance.version not in versions and bool(versions)
    ejected = row.instance.admission == "ejected"
    sure: Certainty = VERY_LIKELY if bad == 0 or p < 1e-6 else LIKELY
    return Finding(
        id="one-bad-instance",
        title=f"Only {name} fails; the other instances of {now.name} do not",
        cause=f"{name} failed {say.share(row.bad, row.of)} requests in 3 min, the others {say.share(bad, of)}: it is "
        f"{name} itself{' (the only one of its version)' if other else ''}, not the app as a whole.",
        severity="warning" if ejected else "critical",
        certainty=sure,
        care="What goes to it fails, while others would have answered.",
        instances=[name],
        since=now.harm.since,
        evidence=[
            say.proof(f"{name}: {say.share(row.bad, row.of)} failed. Others: {say.share(bad, of)}. "
                      f"By chance: p = {p:.1g}.", say.RINGS),
            *([say.proof(f"It is ejected: {say.clean(row.instance.ejection)}.", say.STATE)] if ejected else []),
        ],
        rivals=[Rival(cause="requests that only it got", speaks_for=["sticky sessions send the same clients there"])],
        unknown="What is wrong in it, if no other finding says it.",
        remedies=[
            say.act(f"Recycle {name}.", now.name, "recycle", "Requests are answered by the others and by a fresh one.",
                    instance=name),
            say.act("Or only eject it, to look at it in peace.", now.name, "eject", "It gets no more requests.",
                    instance=name),
            say.look("See them.", f"triage requests --instance {name} --fault any"),
        ],
        faults=[*late(), *BLAMED],
        explains=["errors-rose", "app-errors", "slow", "clients-left", "latency-rose", "timeouts", "check-fails",
                  "probe-blind", "ejected", "all-ejected", "connection-closed", "connection-reset"],
        charts=["errors", "faults"],
        weight=float(row.bad),
    )  # fmt: skip


def _slow(now: Situation, rows: list[_Row]) -> Iterator[Finding]:
    waits = [row for row in rows if row.wait is not None and row.of >= LEAST]
    if len(waits) < 2:
        return
    worst = max(waits, key=lambda row: row.wait or 0.0)
    usual = stats.median([row.wait for row in waits if row is not worst and row.wait is not None])
    wait = worst.wait or 0.0
    mine = now.now("wait_p50", worst.instance.name)
    if wait < max(0.3, 5 * usual) or len(mine) < 5 or stats.quantile(mine, 0.2) < 2 * usual:
        return
    name = worst.instance.name
    yield Finding(
        id="one-bad-instance",
        title=f"Only {name} is slow; the other instances of {now.name} are not",
        cause=f"{name} takes {units.duration(wait)} in the median, the others {units.duration(usual)}.",
        severity="warning",
        certainty=LIKELY,
        care="Requests that go to it wait, while others would have answered.",
        instances=[name],
        since=now.rose_at("wait_p50", name) or now.harm.since,
        evidence=[
            say.proof(f"{name}: {units.duration(wait)}; others: {units.duration(usual)}.", say.RINGS),
            *now.harm.proofs,
        ],
        unknown="What is wrong in it, if no other finding says it.",
        remedies=[
            say.act(f"Recycle {name}.", now.name, "recycle", "A fresh one answers as the others do.", instance=name),
            say.look("See them.", f"triage requests --instance {name} --slower 1s"),
        ],
        faults=late(),
        explains=["slow", "clients-left", "latency-rose", "timeouts"],
        charts=["wait_p50", "cpu"],
        weight=now.harm.weight,
    )


ANALYZER: Final = Analyzer(
    name="one_instance",
    title="One bad instance",
    checks="No instance fails or waits more than the others.",
    analyze=analyze,
    wants=(Activity,),
)
