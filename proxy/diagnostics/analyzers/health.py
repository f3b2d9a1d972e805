"""A health check that says the wrong thing: it fails while real requests are answered, or passes while they fail.

Real traffic is the judge: 20 requests at least, and over some checks, so that one moment of both is no finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    LIKELY,
    NOT_KNOWN,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Proof,
    Remedy,
    Seen,
)
from proxy.diagnostics.artifacts import Activity, Instance, Known

LEAST: Final = 20
WELL: Final = 0.97
"""Share of real requests that must be good for a failing check to be the wrong one."""
OFTEN: Final = 3
"""Checks that must have failed in a row, with as many requests answered meanwhile, before more than likely is said."""
BAD: Final = 0.5
"""Share of real requests that must fail for a passing check to be the wrong one."""


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    failing, blind = [], []
    for one in known.instances:
        if one.gone or one.lifecycle != "ready" or not one.probe:
            continue
        if not one.probe_ok or one.probes_failed or "probe" in one.ejection or "check" in one.ejection:
            failing.append(one)
        elif known.app.health_path:
            blind.append(one)
    if failing:
        yield from _wrongly_failing(seen, failing)
    if blind:
        yield from _wrongly_passing(known, blind)
    yield from _never_right(known)


def _since(known: Known) -> float:
    return known.at - max(30.0, 6 * known.app.health_interval)


def _answers(known: Known, one: Instance, since: float) -> tuple[float, float]:
    """Good and all answers that real requests got of it; a fault that it is blamed for is a bad one."""
    ring = known.rings.get(one.name)
    classes = [say.total(ring, name, since) for name in ("s2xx", "s3xx", "s4xx", "s5xx", "none")]
    good = sum(classes[:3])
    faults = (
        "closed-before-head",
        "reset-before-head",
        "head-timeout",
        "connect-refused",
        "connect-timeout",
        "bad-response",
    )
    bad = max(classes[3] + classes[4], say.faults(known, *faults, key=one.name, since=since).count)
    return good, good + bad


def _as_the_check(known: Known, one: Instance, since: float) -> bool:
    """Whether real requests get what the check gets, a 4xx most of them: then the check says what is."""
    ring = known.rings.get(one.name)
    refused = say.total(ring, "s4xx", since)
    done = say.total(ring, "s2xx", since) + say.total(ring, "s3xx", since)
    return 400 <= (one.probe_status or 0) < 500 and refused > done


def _wrongly_failing(seen: Seen, failing: list[Instance]) -> Iterator[Finding]:
    known, since = seen.known, _since(seen.known)
    wrong = []
    for one in failing:
        good, every = _answers(known, one, since)
        if every >= LEAST and good >= WELL * every and not _as_the_check(known, one, since):
            wrong.append((one, good, every))
    if not wrong:
        return
    one, good, every = wrong[0]
    status, path = one.probe_status, known.app.health_path or "a connection"
    timeouts = "within" in one.probe
    evidence: list[Proof] = [
        say.proof(
            f"The check of {each.name} says: {say.clean(each.probe)}; {units.several(each.probes_failed, 'check')} "
            f"failed in a row.",
            say.STATE,
        )
        for each, _, _ in wrong[:3]
    ]
    evidence.append(
        say.proof(
            f"In the same {units.duration(known.at - since)} {say.share(good, every)} of the real requests to "
            f"{one.name} were answered well.",
            say.RINGS,
        )
    )
    if one.probe_body:
        evidence.append(say.proof(f"The check got: {say.clean(one.probe_body)}.", say.STATE))
    unknown, cause, todo = "", "", ""
    beside, of_them = _answers(known, one, known.at - max(1, one.probes_failed) * max(1.0, known.app.health_interval))
    long = one.probes_failed >= OFTEN and of_them >= OFTEN and beside >= WELL * of_them
    sure: Certainty = VERY_LIKELY if long else LIKELY
    if timeouts:
        busy = _busy(seen, one)
        longest = max((value for _, value in say.values(known.rings.get(one.name), "p99", since)), default=None)
        wait = say.middle(value for _, value in say.values(known.rings.get(one.name), "p50", since))
        cause = (
            f"The check at {path} gets no answer within {units.duration(known.app.health_timeout)}, while real "
            f"requests are answered."
        )
        if busy is not None and busy >= 0.8:
            evidence.append(say.proof(f"{one.name} uses {busy:.2f} cores.", say.of(one.name, "activity")))
            cause += f" {one.name} is busy ({busy:.2f} cores), and the check waits behind real requests."
            sure = NOT_KNOWN
            unknown = "What it does that long."
        elif wait is not None and wait > 0.5 * known.app.health_timeout:
            evidence.append(say.proof(f"Real requests take {units.duration(wait)} (median).", say.RINGS))
            cause += f" Real requests take {units.duration(wait)} themselves: the check's limit is too short for that."
            sure = NOT_KNOWN
            unknown = "Why they do."
        elif longest is not None and longest > 0.5 * known.app.health_timeout:
            evidence.append(say.proof(f"The slowest real requests take {units.duration(longest)} (p99).", say.RINGS))
            cause += f" Some of those take {units.duration(longest)} themselves: it stands still at times."
            sure = NOT_KNOWN
            unknown = "What holds it up then."
        else:
            unknown = "What that path does that others don't: likely it asks something slow."
            sure = LIKELY
        todo = f"Let apps.{known.app.name}.health.path answer without work, or raise health.timeout."
    elif status is not None:
        sure = CERTAIN if long else LIKELY
        if not long:
            unknown = "Whether the app has just begun to fail: too few checks failed, with requests beside them."
        cause = (
            f"The check asks for {path} and gets {status}, while {units.percent(good / every)} of the real requests "
            f"are answered well."
        )
        todo = (
            f"Set apps.{known.app.name}.health.path (or health.status, health.host) to what tells whether the app "
            f"can serve."
        )
        if status >= 500 and long:
            sure = VERY_LIKELY
            unknown = "Whether the app means it: it may say that something it only partly needs is down."
    else:
        cause = f"The check at {path} fails ({say.clean(one.probe)}), while real requests are answered."
        todo = f"Look at apps.{known.app.name}.health."
    harm = any(each.admission == "ejected" for each, _, _ in wrong)
    yield Finding(
        id="probe-wrong",
        title=f"The health check of {known.app.name} fails although the app answers real requests.",
        cause=cause,
        severity="critical" if known.app.ready == 0 or (harm and len(wrong) >= max(1, known.app.wanted)) else "warning",
        certainty=sure,
        care="Instances that work are taken out by it: less is left to serve, in the end nothing.",
        app=known.app.name,
        instances=[each.name for each, _, _ in wrong],
        since=since,
        evidence=evidence,
        unknown=unknown,
        remedies=[say.look(todo, expect="The instances stay in use."), *_admit(known, wrong[0][0])],
        faults=["all-ejected", "all-unready"],
        explains=["all-ejected", "probe-failing"],
        charts=["ready", "p99"],
        weight=float(every),
    )


def _admit(known: Known, one: Instance) -> list[Remedy]:
    if one.admission != "ejected":
        return []
    return [
        say.act(
            f"Admit {one.name} now.",
            known.app.name,
            "admit",
            "It gets requests again, until its checks fail again.",
            instance=one.name,
        )
    ]


def _wrongly_passing(known: Known, blind: list[Instance]) -> Iterator[Finding]:
    since = known.at - 60.0
    wrong = []
    for one in blind:
        good, every = _answers(known, one, since)
        if every >= LEAST and every - good >= BAD * every and one.probe_ok:
            wrong.append((one, good, every))
    if not wrong:
        return
    failed = sum(every - good for _, good, every in wrong)
    every = sum(all_ for _, _, all_ in wrong)
    names = [one.name for one, _, _ in wrong]
    yield Finding(
        id="probe-blind",
        title=f"The health check of {known.app.name} passes although most real requests fail.",
        cause=f"{known.app.health_path} says that all is well, while {say.share(failed, every)} of the real "
        f"requests to "
        f"{say.listed(names)} failed in the last minute.",
        severity="warning",
        certainty=NOT_KNOWN,
        care="What can't serve stays in use, because its check does not ask for what serving needs.",
        app=known.app.name,
        instances=names,
        since=since,
        evidence=[
            say.proof(f"The last check of {names[0]}: {say.clean(wrong[0][0].probe)}.", say.STATE),
            say.proof(f"{say.share(failed, every)} of the answers in 60 s were 5xx, or none.", say.RINGS),
        ],
        unknown="Why they fail: other findings may say.",
        remedies=[
            say.later(
                f"Let {known.app.health_path} look at what each request needs, if an instance alone can lack it.",
                "Such an instance is taken out. It does not help where all lack the same: then all would be out.",
            )
        ],
        weight=failed * 0.1,
    )


def _never_right(known: Known) -> Iterator[Finding]:
    """Ejected by its check, and no real traffic to compare with: what it says is all there is."""
    out = [
        one
        for one in known.instances
        if not one.gone and one.lifecycle == "ready" and one.probe and not one.probe_ok and one.probes_failed >= 3
    ]
    since = _since(known)
    out = [one for one in out if _answers(known, one, since)[1] < LEAST]
    if not out:
        return
    one = out[0]
    evidence = [
        say.proof(f"The check of {each.name}: {say.clean(each.probe)}; {each.probes_failed} in a row.", say.STATE)
        for each in out[:3]
    ]
    if one.probe_body:
        evidence.append(say.proof(f"It got: {say.clean(one.probe_body)}.", say.STATE))
    yield Finding(
        id="probe-failing",
        title=f"The health check of {say.listed(each.name for each in out)} fails.",
        cause=f"{one.name} does not pass its check: {say.clean(one.probe)}.",
        severity="critical" if len(out) >= max(1, known.app.wanted) else "warning",
        certainty=NOT_KNOWN,
        care="It gets no requests while its check fails.",
        app=known.app.name,
        instances=[each.name for each in out],
        evidence=evidence,
        unknown="Whether the check is right: too few real requests reached it to compare.",
        remedies=[say.look("Look at where it stands.", f"triage diagnose {known.app.name}/{one.name}")],
        faults=["all-ejected", "all-unready"],
        explains=["all-ejected"],
        charts=["ready"],
    )


def _busy(seen: Seen, one: Instance) -> float | None:
    found = seen.each(Activity).get(one.name)
    if found is not None and found.samples:
        return say.mean([each.user + each.system for each in found.samples])
    return say.mean([value for _, value in say.values(seen.known.rings.get(one.name), "cpu", seen.known.at - 15)])


ANALYZER: Final = Analyzer(
    name="health",
    title="Health checks that are wrong",
    checks="Checks and real requests say the same about each instance.",
    analyze=analyze,
    wants=(Activity,),
)
