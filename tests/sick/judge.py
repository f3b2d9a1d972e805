"""Right, wrong, or not known: an answer against the truth. Pure.

right      it names what is wrong (of two, both)
fine       true and useful, though another finding says more
half       one of two
vague      the right cause without the name that makes it useful
not known  it says so
shallow    it says what is seen, which is true, and not what lies behind it
nothing    no finding above info, no cause
wrong      something else; on a healthy app: anything above info
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.sick.case import Truth
from tests.sick.labels import STATES, labels, said

GOOD: Final = ("right", "fine")


@dataclass
class Verdict:
    verdict: str
    id: str = ""
    certainty: str = ""
    words: str = ""

    @property
    def good(self) -> bool:
        return self.verdict in GOOD

    def json(self) -> dict[str, Any]:
        return asdict(self)


def above(analysis: dict[str, Any]) -> list[dict[str, Any]]:
    """Findings above info, in order."""
    return [one for one in analysis.get("findings", []) if one["severity"] != "info"]


def of_session(analysis: dict[str, Any], truth: Truth, named: tuple[str, ...]) -> Verdict:
    """`named`: truth.names with words filled in."""
    found = above(analysis)
    if not found:
        return Verdict("right" if truth.healthy or truth.nothing else "nothing", words=analysis.get("verdict", ""))
    top = found[0]
    meant = labels(top["id"])
    verdict = Verdict("wrong", top["id"], top["certainty"], f"{top['title']} {top['cause']}")
    if truth.healthy:
        return verdict
    if meant & set(truth.right):
        verdict.verdict = "right" if not named or _names(top, named) else "vague"
        every = [labels(one["id"]) for one in found]
        if not all(any(one & set(each) for one in every) for each in truth.also):
            verdict.verdict = "half"
    elif meant & set(truth.fine):
        verdict.verdict = "fine"
    elif top["certainty"] == "not known":
        verdict.verdict = "right" if truth.unknown else "not known"
    elif top["id"] in STATES:
        verdict.verdict = "shallow"
    return verdict


def _names(finding: dict[str, Any], named: tuple[str, ...]) -> bool:
    parts = [finding["title"], finding["cause"], *finding.get("paths", []), *finding.get("instances", [])]
    parts += [one["text"] for one in finding.get("evidence", [])]
    text = " ".join(parts).lower()
    return any(name.lower() in text for name in named)


def of_why(
    answer: dict[str, Any], truth: Truth, named: tuple[str, ...], sure: Mapping[str, str] | None = None
) -> Verdict:
    """By the ids that the answer rests on; where it rests on none, by its words. `sure`: certainty of each finding: the
    answer's own is that of its first claim, which may be another one."""
    words = " ".join([*answer.get("why", []), *answer.get("cause", [])])
    text = words.lower()
    ids = [one for one in (answer.get("finding"), answer.get("cause_id")) if one]
    certainty = (sure or {}).get(answer.get("finding") or "", answer.get("certainty", ""))
    verdict = Verdict("wrong", " ".join(ids), certainty, words)
    if truth.healthy:
        verdict.verdict = "right" if not ids else "wrong"
        return verdict
    meant = set().union(*(labels(one) for one in ids)) if ids else set()

    def matches(wanted: tuple[str, ...]) -> bool:
        return bool(meant & set(wanted)) or (not answer.get("finding") and any(said(one, text) for one in wanted))

    if matches(truth.right):
        told = f"{answer.get('title', '')} {text}".lower()
        all_there = not named or any(name.lower() in told for name in named)
        verdict.verdict = "right" if all_there else "vague"
    elif matches(truth.fine):
        verdict.verdict = "fine"
    elif verdict.certainty == "not known":
        verdict.verdict = "right" if truth.unknown else "not known"
    elif answer.get("finding") in STATES or (not ids and "nothing failed" in text):
        verdict.verdict = "shallow"
    return verdict
