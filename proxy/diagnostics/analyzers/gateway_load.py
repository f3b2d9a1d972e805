"""Triage itself: its loop's lag, its own share of a request's time, its limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, stats
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    LIKELY,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Proof,
    Rival,
    Seen,
)
from proxy.diagnostics.analyzers.situation import LATELY, Situation, explains
from proxy.diagnostics.artifacts import HostReport, Known

LAG: Final = 0.2
"""Seconds that a worker's loop may be late before people feel it."""
OWN: Final = 0.2
"""Seconds of a request that are the gateway's own."""


BY_ITSELF: Final = ("gateway-overload", "descriptors-exhausted")
"""Faults by which it says that it is at a limit; a defect of its own is none."""


def _counted(known: Known, since: float, *names: str) -> say.Span:
    """Of the app, and of what reached none: the larger of the two."""
    both = [say.faults(known, *names, since=since), say.faults(known, *names, since=since, key="gateway")]
    return max(both, key=lambda one: one.count)


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known)
    known = seen.known
    since = now.at - LATELY
    refused = _counted(known, since, *BY_ITSELF)
    lags = [one.lag for one in known.workers if one.lag is not None]
    ring = now.now("lag", "gateway")
    lag = max([*lags, say.middle(ring) or 0.0], default=0.0)
    own = [one.own_us / 1e6 for one in now.recent if one.total_us]
    share = stats.quantile(own, 0.5) if len(own) >= 20 else 0.0
    late = lag >= LAG and (share >= OWN / 2 or not own)
    if refused.count < 3 and not late:
        return
    evidence: list[Proof] = []
    if refused.count:
        names = {name: _counted(known, since, name).count for name in BY_ITSELF}
        told = ", ".join(f"{units.count(count)} {name}" for name, count in names.items() if count)
        evidence.append(say.proof(f"Turned away by the gateway itself in 3 min: {told}.", say.RINGS))
    evidence.append(say.proof(f"The loops of its workers are {units.duration(lag)} late at most.", say.STATE))
    if own:
        evidence.append(say.proof(f"Its own share of a request: {units.duration(share)} in the median.", say.RECORDS))
    tight = [
        one for one in known.workers
        if one.descriptors and one.descriptors_limit and one.descriptors >= 0.9 * one.descriptors_limit
    ]  # fmt: skip
    for one in tight[:1]:
        text = f"Worker {one.slot + 1} has {one.descriptors} of {one.descriptors_limit} descriptors."
        evidence.append(say.proof(text, say.STATE))
    detail, _ = say.most(one.detail for one in now.recent if one.fault == "gateway-overload" and one.detail)
    sure: Certainty = CERTAIN if refused.count >= 3 else VERY_LIKELY if late and share >= OWN else LIKELY
    limit = f" ({say.clean(detail, 100)})" if detail else ""
    yield Finding(
        id="gateway-overload",
        title="The gateway itself is at a limit",
        cause=(
            f"Triage turned {units.several(refused.count, 'request')} away by itself in 3 min{limit}; "
            if refused.count
            else ""
        )
        + f"its workers' loops are {units.duration(lag)} late.",
        severity="critical" if refused.count >= 10 else "warning",
        certainty=sure,
        care="It hits all apps alike.",
        since=refused.first or now.harm.since,
        evidence=evidence,
        rivals=[
            Rival(
                cause="another program that takes its CPU",
                speaks_for=[] if not late else ["a late loop is seen then too"],
            )
        ],
        unknown="" if refused.count else "Whether it is its own load, or another program takes its CPU.",
        remedies=[
            say.look("See its connections, lag and descriptors.", "triage status"),
            say.later("More gateway.workers, a higher gateway.limits.connections, or ulimit -n, as the detail says."),
        ],
        faults=[
            "gateway-overload",
            "descriptors-exhausted",
            *(["slow", "client-left"] if late else []),
        ],
        explains=explains() if late else [],
        charts=["lag", "clients"],
        weight=float(refused.count),
    )


ANALYZER: Final = Analyzer(
    name="gateway_load",
    title="The gateway's own load",
    checks="The gateway was not late and turned nothing away by itself.",
    analyze=analyze,
    wants=(HostReport,),
)
