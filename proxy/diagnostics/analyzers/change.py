"""When it began, and what changed just before: a deploy, a config, a restart, or nothing that is known of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, stats
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
from proxy.diagnostics.analyzers.situation import Situation, late
from proxy.diagnostics.analyzers.symptoms import PEERS, kind_of
from proxy.diagnostics.artifacts import Activity, Changes, Deploy

BESIDE: Final = 300.0
"""Seconds after a change within which trouble is said to be beside it."""
BEFORE: Final = 15.0
"""Seconds by which it may seem to have begun before: counts are of whole seconds, and a deploy takes some."""
AT_ONCE: Final = 30.0
"""Seconds after a change within which even a peer that refuses may be of it: by another address, say."""
ALPHA: Final = 0.001
FEW: Final = 10


@dataclass(frozen=True, slots=True)
class _Turn:
    """When errors or waits changed."""

    at: float
    what: str  # "errors" | "latency"
    before: float
    after: float
    text: str


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    turns = [one for one in (_errors(now), _waits(now)) if one is not None]
    versions = list(_versions(now))
    if not turns and not versions:
        return
    turn = min(turns, key=lambda one: one.at) if turns else None
    beside = _beside(now, turn.at) if turn is not None else []
    if versions or any(_code(one) for one in beside):
        yield _deploy(now, seen.one(Changes), turn, [one for one in beside if _code(one)], versions)
    elif turn is not None:
        yield _turned(now, turn, beside)


def _errors(now: Situation) -> _Turn | None:
    """The share of failed requests, in counts: the border at which before and after differ most."""
    ring = now.ring
    asked = [value or 0.0 for value in ring.values.get("requests", ())]
    bad = _bad(now, len(asked))
    width = 5 if len(asked) > 120 else 2
    pairs = [
        (sum(asked[at : at + width]), sum(bad[at : at + width])) for at in range(len(asked) % width, len(asked), width)
    ]
    pairs = [(max(n, k), k) for n, k in pairs]
    if len(pairs) < 6 or sum(k for _, k in pairs) < FEW:
        return None
    best, strength = 0, 0.0
    total_n, total_k = sum(n for n, _ in pairs), sum(k for _, k in pairs)
    left_n = left_k = 0.0
    for at in range(1, len(pairs)):
        left_n += pairs[at - 1][0]
        left_k += pairs[at - 1][1]
        if left_n < FEW or total_n - left_n < FEW:
            continue
        gap = (total_k - left_k) / (total_n - left_n) - left_k / left_n
        weight = gap * (left_n * (total_n - left_n)) ** 0.5
        if weight > strength:
            best, strength = at, weight
    if not best:
        return None
    before_n, before_k = (round(sum(each)) for each in zip(*pairs[:best], strict=True))
    after_n, after_k = (round(sum(each)) for each in zip(*pairs[best:], strict=True))
    before, after = before_k / before_n, after_k / after_n
    lasting = sum(k > 0 for _, k in pairs[best:] if _) >= 0.5 * sum(1 for n, _ in pairs[best:] if n)
    # Every border was tried: that many comparisons, and bursts make counts less independent than they look.
    if stats.fisher(after_k, after_n, before_k, before_n) * len(pairs) > ALPHA or after < 0.02 or not lasting:
        return None
    if after < 3 * before or before > 0.5:
        return None
    at = ring.start + len(asked) % width + best * width
    first = next((ring.start + i for i, k in enumerate(bad) if k and ring.start + i >= at - width), at)
    rose = f"{units.percent(before)} of {units.count(before_n)} to {units.percent(after)} of {units.count(after_n)}"
    text = f"Errors rose from {rose}"
    return _Turn(float(first), "errors", before, after, text)


def _bad(now: Situation, length: int) -> list[float]:
    """Failures second by second: of the app, its instances and the gateway, not of clients."""
    rows = [now.ring.values.get("errors", ()), now.ring.values.get("faults", ())]
    return [sum((row[at] or 0.0) for row in rows if at < len(row)) for at in range(length)]


def _waits(now: Situation) -> _Turn | None:
    ring = now.ring
    row = ring.values.get("wait_p50", ())
    width = 2 if len(row) <= 240 else 5
    there = [(at, value) for at, value in enumerate(stats.buckets(row, width)) if value is not None]
    found = stats.step([value for _, value in there], least=5, ratio=2.0, floor=0.05)
    if found is None or not now.harm:
        return None
    lead = len(row) % width
    at = there[found.at][0]
    when = ring.start + (at * width if not lead else max(0, (at - 1) * width + lead))
    text = f"The median wait rose from {units.duration(found.before)} to {units.duration(found.after)}"
    return _Turn(float(when), "latency", found.before, found.after, text)


def _beside(now: Situation, at: float) -> list[Deploy]:
    """Changes shortly before, the nearest first."""
    near = [one for one in now.known.deploys if -BESIDE <= one.at - at <= BEFORE]
    return sorted(near, key=lambda one: abs(one.at - at))


def _code(one: Deploy) -> bool:
    """It changes what runs: a scale or a restart of the same does not."""
    words = f"{one.what} {' '.join(one.changed)}"
    return one.what in ("deployed", "deploy", "config", "reload", "changed") or bool(one.changed) or "version" in words


@dataclass(frozen=True, slots=True)
class _Version:
    version: str
    bad: int
    of: int
    others_bad: int
    others_of: int
    p: float


def _versions(now: Situation) -> Iterator[_Version]:
    """Versions that run side by side, of which one fails and the others do not."""
    by = {one.name: one.version for one in now.known.instances if one.version}
    if len(set(by.values())) < 2:
        return
    counts: dict[str, list[int]] = {}
    for name, version in by.items():
        ring = now.known.rings.get(name)
        of = round(say.total(ring, "requests"))
        bad = round(say.total(ring, "errors") + say.total(ring, "faults"))
        each = counts.setdefault(version, [0, 0])
        each[0] += min(bad, max(of, bad))
        each[1] += max(of, bad)
    ps = []
    for version, (bad, of) in counts.items():
        rest = [value for name, value in counts.items() if name != version]
        others_bad, others_of = sum(one[0] for one in rest), sum(one[1] for one in rest)
        p = stats.fisher(bad, of, others_bad, others_of)
        ps.append(_Version(version, bad, of, others_bad, others_of, p))
    for one, holds in zip(ps, stats.holm([each.p for each in ps], ALPHA), strict=True):
        share, others = one.bad / max(1, one.of), one.others_bad / max(1, one.others_of)
        if holds and one.bad >= 5 and share >= 3 * others and share >= 0.02:
            yield one


def _deploy(
    now: Situation, changes: Changes | None, turn: _Turn | None, beside: Sequence[Deploy], versions: Sequence[_Version]
) -> Finding:
    change = beside[0] if beside else next(iter(reversed(now.known.deploys)), None)
    newest = change.version if change is not None else ""
    only = next((one for one in versions if not newest or one.version == newest), versions[0] if versions else None)
    evidence: list[Proof] = []
    if turn is not None:
        evidence.append(say.proof(f"{turn.text} at {say.stamp(turn.at)}.", say.RINGS))
    if change is not None:
        evidence.append(say.proof(f"{say.stamp(change.at)}: {say.clean(change.text)}.", say.EVENTS))
        if change.changed:
            evidence.append(say.proof(f"Changed: {say.clean(say.listed(change.changed, 6), 200)}.", say.EVENTS))
    if only is not None:
        evidence.append(
            say.proof(
                f"Version {say.clean(only.version, 40)}: {say.share(only.bad, only.of)} failed; of other versions "
                f"{say.share(only.others_bad, only.others_of)} (by chance: p = {only.p:.1g}).",
                say.RINGS,
            )
        )
    files = (
        [one.path for one in changes.files if turn and abs(one.at - turn.at) <= BESIDE] if changes is not None else []
    )
    if files:
        evidence.append(say.proof(f"Files changed at that time: {say.clean(say.listed(files), 200)}.", "changes"))
    news = _new_errors(now, turn.at if turn is not None else (change.at if change is not None else 0.0))
    if news:
        evidence.append(say.proof(f"An error that was not seen before: {news}.", say.OUTPUT))
    soon = turn is not None and change is not None and turn.at - change.at <= AT_ONCE
    elsewhere = kind_of(news) in PEERS and not soon  # what the app asks may fail whatever the app's version is
    if elsewhere:
        evidence[-1] = say.proof(f"A new error, of something that the app asks: {news}.", say.OUTPUT)
    kinds = (turn is not None and bool(beside)) + (only is not None) + (bool(news) and not elsewhere)
    sure: Certainty = VERY_LIKELY if kinds >= 2 else LIKELY
    what = change.text if change is not None else f"version {only.version}" if only is not None else "a change"
    after = (
        f" {units.duration(max(0.0, turn.at - change.at))} after it" if turn and change and turn.at > change.at else ""
    )
    said = f"{turn.text}{after or ', as it came into force'}" if turn is not None else "only its requests fail"
    return Finding(
        id="bad-deploy",
        title=f"It began with a change of {now.name}: {say.clean(what, 100)}",
        cause=f"The last change is likely behind it: {say.clean(what, 120)}. {said}.",
        severity=now.harm.severity if now.harm else "warning",
        certainty=sure,
        care="What was well before is not since; going back ends it without knowing more.",
        instances=_of_version(now, only),
        since=turn.at if turn is not None else change.at if change is not None else 0.0,
        evidence=[*evidence, *now.harm.proofs],
        rivals=[
            Rival(
                cause=f"what it asks: {news}"
                if elsewhere
                else "something else that changed at the same time, such as a dependency or traffic",
                against=["only the new version fails, side by side with the old one"] if only is not None else [],
                speaks_for=[] if only is not None else ["that it was close in time is no proof"],
            )
        ],
        unknown="" if news else "What in the change does it: see the other findings.",
        remedies=[
            say.look("Go back to what ran before: deploy it again, or undo the change of the config.",
                     expect="It ends within a minute of the old version being ready, if the change is behind it."),
            say.look("See what changed.", f"triage events --app {now.name}"),
            say.later("One instance of a new version first, compared with the others, then the rest."),
        ],
        faults=[*late(), "app-error", "instance-exited", "connect-refused", "closed-before-head",
                "bad-response", "all-unready"],
        explains=["errors-rose", "latency-rose", "slow", "clients-left", "no-slots", "app-errors", "new-errors",
                  "one-bad-instance", "slow-path", "timeouts", "retry-storm"],
        charts=["errors", "faults", "wait_p50"],
        weight=now.harm.weight,
    )  # fmt: skip


def _of_version(now: Situation, only: _Version | None) -> list[str]:
    return [one.name for one in now.known.instances if only is not None and one.version == only.version]


def _new_errors(now: Situation, since: float) -> str:
    fresh = [one for one in now.known.exceptions if one.first_at >= since - BEFORE and one.lately]
    older = [one for one in now.known.exceptions if one.first_at < since - BEFORE]
    first = max(fresh, key=lambda one: one.lately, default=None)
    if first is None or (not older and not now.known.deploys):
        return ""
    return say.clean(f"{first.type}: {first.message} at {first.where}", 160)


def _turned(now: Situation, turn: _Turn, beside: Sequence[Deploy]) -> Finding:
    """Said as a fact with its time: nothing that is known of changed there."""
    near = (
        f" {say.clean(beside[0].text, 120)} was close to it." if beside else " No change of the app is known near it."
    )
    rose = "errors" if turn.what == "errors" else "answers took longer"
    return Finding(
        id="errors-rose" if turn.what == "errors" else "latency-rose",
        title=f"At {say.stamp(turn.at)} {now.name} changed: {'errors rose' if turn.what == 'errors' else rose}",
        cause=f"{turn.text} at {say.stamp(turn.at)}, from one moment to the next.{near}",
        severity="warning" if now.harm else "info",
        certainty=NOT_KNOWN,
        care="What changed at that moment, in the app or in what it asks, is where to look.",
        since=turn.at,
        evidence=[say.proof(f"{turn.text}.", say.RINGS)],
        unknown="What changed: Triage knows its own acts, the config and files of the app, not what lies behind it.",
        remedies=[say.look("See what happened at that time.", f"triage events --app {now.name}")],
        faults=["app-error"] if turn.what == "errors" else late(),
        explains=["slow", "clients-left"] if turn.what == "latency" else [],
        charts=["errors", "faults", "wait_p50"],
        weight=now.harm.weight,
    )


ANALYZER: Final = Analyzer(
    name="change",
    title="A moment at which it changed, and what changed beside it",
    checks="Neither errors nor waits jumped at one moment, and no version fails more than another.",
    analyze=analyze,
    wants=(Changes, Activity),
)
