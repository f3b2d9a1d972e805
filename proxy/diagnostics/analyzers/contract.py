"""What an analyzer is, what it may see, and what it says.

Pure: from artifacts to findings; it opens nothing and asks nobody. It sees only the artifacts that it declared: asking
`Seen` for another one raises. It does not catch: its runner does, and an artifact that is missing makes its check
*inconclusive*, never passed.

Certainty is given by rule. *certain*: one direct record shows it (a kernel counter, an exit status, an errno, our own
clock or act). *very likely*: two kinds of evidence that do not depend on each other, and none against. *likely*: one.
*not known*: what happened can be said, what lies behind it can't. A wrong "certain" is the worst defect there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

import msgspec

from proxy.diagnostics.artifacts import Artifact, Known

CERTAIN: Final = "certain"
VERY_LIKELY: Final = "very likely"
LIKELY: Final = "likely"
NOT_KNOWN: Final = "not known"
Certainty = Literal["certain", "very likely", "likely", "not known"]
Severity = Literal["critical", "warning", "info"]
Tag = Literal["mitigation", "investigation", "prevention"]
SURE: Final[dict[str, int]] = {CERTAIN: 3, VERY_LIKELY: 2, LIKELY: 1, NOT_KNOWN: 0}
GRAVE: Final[dict[str, int]] = {"critical": 2, "warning": 1, "info": 0}

A = TypeVar("A", bound=Artifact)


class Proof(msgspec.Struct, kw_only=True):
    """One thing that was seen, with its number. `source`: the artifact, "stacks" or "web-7/stacks"."""

    text: str
    source: str = ""


class Rival(msgspec.Struct, kw_only=True):
    """Another cause that would look alike: what speaks for it, and what against."""

    cause: str
    speaks_for: list[str] = []
    against: list[str] = []


class Remedy(msgspec.Struct, kw_only=True):
    """What can be done. `act` and `fields` are of the admin API, where Triage can do it itself: "apps/web/scale"."""

    tag: Tag
    text: str
    command: str = ""  # to paste
    act: str = ""
    fields: dict[str, str | int | float | bool] = {}
    expect: str = ""  # what it is expected to change, and when it does not help
    dont: bool = False  # what should *not* be done


class Finding(msgspec.Struct, kw_only=True):
    """What an analyzer concluded. Sentences are plain, end with a full stop, and carry their numbers.

    `title` can be read aloud to someone who does not know Triage. `cause` is one to three sentences that stand in an
    answer to "why?" after the word of certainty: "10.0.3.12:5432 (PostgreSQL, by its port) answers slowly: …".
    `faults`: names in faults.py of the requests that it accounts for ("slow": those that were answered, late).
    `explains`: ids of other findings that follow from this one.
    """

    id: str  # "slow-dependency": one of the analyzer's
    title: str
    cause: str
    severity: Severity
    certainty: Certainty
    care: str  # why to care: what it does to requests, or will
    app: str = ""
    instances: list[str] = []  # []: the app as a whole
    since: float = 0.0  # Unix seconds of the first sign; 0.0: not known
    until: float = 0.0  # of the last; 0.0: it goes on
    evidence: list[Proof] = []
    against: list[Proof] = []
    rivals: list[Rival] = []
    unknown: str = ""  # what can't be known from here, a sentence; "" when nothing is left open
    remedies: list[Remedy] = []
    faults: list[str] = []
    paths: list[str] = []  # requests it is about, where it is about some only
    explains: list[str] = []
    charts: list[str] = []  # columns of rings that show it
    weight: float = 0.0  # among findings alike in all else, the heavier comes first: say, requests hit
    analyzer: str = ""  # set by the runner


class Undeclared(Exception):
    """An analyzer asked for an artifact that it did not declare: a defect."""


class Inconclusive(Exception):
    """Raised by an analyzer that can't say, with the reason as a sentence; findings that it gave before it count."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The artifacts of a session, as far as an analyzer declared them."""

    known: Known
    _whole: Mapping[type[Artifact], Artifact] = field(default_factory=dict)
    _each: Mapping[type[Artifact], Mapping[str, Artifact]] = field(default_factory=dict)
    _may: frozenset[type[Artifact]] = frozenset()

    def one(self, kind: type[A]) -> A | None:
        """Of the app or the host; None: it was not gathered."""
        self._check(kind)
        found = self._whole.get(kind)
        return found if isinstance(found, kind) else None

    def each(self, kind: type[A]) -> dict[str, A]:
        """By instance; those that were gathered."""
        self._check(kind)
        return {name: one for name, one in self._each.get(kind, {}).items() if isinstance(one, kind)}

    def _check(self, kind: type[Artifact]) -> None:
        if kind not in self._may:
            raise Undeclared(f"{kind.__name__} was not declared")


@dataclass(frozen=True, slots=True)
class Analyzer:
    """`needs`: without one of these (of an instance: of any) it can't say anything; `wants`: the more the better.

    Known is always there. `checks` is the sentence of a check that passed: "No thread waited for a lock in all stacks."
    """

    name: str
    title: str  # what is looked for: "Deadlock or lock starvation"
    checks: str
    analyze: Callable[[Seen], Iterable[Finding]]
    needs: tuple[type[Artifact], ...] = ()
    wants: tuple[type[Artifact], ...] = ()


class Check(msgspec.Struct, kw_only=True):
    """What came of one analyzer."""

    analyzer: str
    title: str
    state: Literal["found", "passed", "inconclusive", "failed"]
    words: str = ""  # what passed, what is missing, how it failed
    took: float = 0.0


class Analysis(msgspec.Struct, kw_only=True):
    """`findings.json`. Findings in order: the first is what lies behind the others, as far as can be told."""

    form: int = 1
    at: float
    findings: list[Finding] = []
    checks: list[Check] = []
    verdict: str = ""  # one sentence
    top: str = ""  # id of the first finding above info; "": nothing is wrong, as far as was seen
