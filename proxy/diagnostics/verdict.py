"""Which finding lies behind the others, what the whole of them says in one sentence, and which one a request met.

Pure. A finding is *behind* another one when it says so (`explains`), is at least as sure or very likely, and may be
about the same instances: that something happened can be certain, and what lies behind it no more than very likely. What
has nothing behind it stands at the top level: two sicknesses at once both do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers.contract import GRAVE, NOT_KNOWN, SURE, VERY_LIKELY, Finding
from proxy.diagnostics.artifacts import Known
from proxy.link.messages import Record

MARGIN: Final = 30.0
"""Seconds around a finding in which a request may still be of it: what is first seen was there a little before."""
SLOW: Final = "slow"


def order(findings: Iterable[Finding]) -> list[Finding]:
    """Causes before what follows from them; then severity, certainty, weight. What is only info comes last."""
    best = sorted(findings, key=_rank)
    depth: dict[int, int] = {}
    left = list(range(len(best)))
    while left:
        free = [at for at in left if not any(_behind(best[by], best[at]) for by in left if by != at)]
        for at in free or left[:1]:  # a ring of causes begins with the gravest
            over = [depth[by] for by in depth if _behind(best[by], best[at])]
            depth[at] = 1 + max(over, default=-1)
        left = [at for at in left if at not in depth]
    return [best[at] for at in sorted(depth, key=lambda at: (not GRAVE[best[at].severity], depth[at], at))]


def roots(findings: Iterable[Finding]) -> list[Finding]:
    """Those above info that no other one lies behind, in order."""
    ordered = order(findings)
    return [
        one
        for at, one in enumerate(ordered)
        if GRAVE[one.severity] and not any(_behind(other, one) for other in ordered[:at])
    ]


def verdict(findings: Sequence[Finding], known: Known | None) -> tuple[str, str]:
    """One sentence or two, and the id of the first finding; "" when none is above info."""
    first = roots(findings)
    if not first:
        return _nothing(known), ""
    said = [_say(first[0])]
    others = [one for one in first[1:] if one.title != first[0].title]
    grave = [one for one in others if GRAVE[one.severity] >= GRAVE[first[0].severity]]
    if grave:
        said.append(f"Besides that: {_say(grave[0])}")
    rest = len(others) - len(grave[:1])
    if rest > 0:
        said.append(f"And {units.several(rest, 'finding')} more.")
    return " ".join(said), first[0].id


def _say(finding: Finding) -> str:
    title = finding.title.rstrip(".")
    if finding.certainty == NOT_KNOWN:
        return f"{title}. NOT KNOWN: what lies behind it."
    return f"{finding.certainty.capitalize()}: {title}."


def _nothing(known: Known | None) -> str:
    if known is None:
        return "NOT KNOWN: control's own record of the app could not be read, and nothing else told of a fault."
    app = known.app
    if app.state == "stopped":
        return f"{app.name} was stopped by hand; beyond that nothing was found."
    if app.state == "held":
        return f"The requests of {app.name} are held by hand; beyond that nothing was found."
    if app.state in ("down", "degraded"):
        return f"{app.name} is {app.state}, and no check found why. NOT KNOWN: what lies behind it."
    return f"Nothing is wrong with {app.name}, as far as could be seen."


def for_request(findings: Iterable[Finding], record: Record) -> Finding | None:
    """The finding that accounts for this request; None when none does.

    It names the request's fault (or "slow" for one that was answered), and fits its instances, time and path. Of
    several the one behind the others is it, then the one that is about fewer requests.
    """
    fitting = [one for one in order(findings) if GRAVE[one.severity] and _fits(one, record)]
    first = [one for at, one in enumerate(fitting) if not any(_behind(other, one) for other in fitting[:at])]
    return max(first, key=lambda one: 2 * bool(one.paths) + bool(one.instances), default=None)


def _fits(finding: Finding, record: Record) -> bool:
    met = {record.fault or SLOW} | {one.fault for one in record.attempts or () if one.fault}
    if not met & set(finding.faults) or (finding.app and record.app and finding.app != record.app):
        return False
    where = {record.instance} | {one.instance for one in record.attempts or ()} - {""}
    if finding.instances and where - {""} and not where & set(finding.instances):
        return False
    end = record.time + record.total_us / 1e6
    if finding.since and end < finding.since - MARGIN:
        return False
    if finding.until and record.time > finding.until + MARGIN:
        return False
    path = record.target.partition("?")[0]
    return not finding.paths or any(_same_path(one, path) for one in finding.paths)


def _same_path(told: str, path: str) -> bool:
    """`told` may begin with a method, and a part of it may be `*`."""
    mine = told.rpartition(" ")[2].partition("?")[0]
    if "*" not in mine:
        return mine == path
    ours, theirs = mine.split("/"), path.split("/")
    return len(ours) == len(theirs) and all(a in ("*", b) for a, b in zip(ours, theirs, strict=True))


def _behind(cause: Finding, other: Finding) -> bool:
    if other.id not in cause.explains or cause.id == other.id:
        return False
    if SURE[cause.certainty] < min(SURE[other.certainty], SURE[VERY_LIKELY]):
        return False
    if GRAVE[cause.severity] < min(1, GRAVE[other.severity]):
        return False
    if cause.app and other.app and cause.app != other.app:
        return False
    return not cause.instances or not other.instances or bool(set(cause.instances) & set(other.instances))


def _rank(finding: Finding) -> tuple[int, int, float, str]:
    return (-GRAVE[finding.severity], -SURE[finding.certainty], -finding.weight, finding.id)
