"""All that a report is made from, read from a session's folder. What can't be read is said, never raised."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from proxy.diagnostics import analyze
from proxy.diagnostics.analyzers.contract import GRAVE, Analysis, Finding
from proxy.diagnostics.artifacts import Artifact
from proxy.link.session import FINDINGS, INPUT, OUTCOME, App, Input, Known, Outcome

Data = dict[str, Any]
"""What JSON can hold: a part of report.json."""

SESSION: Final = "session.json"
LARGEST: Final = 64 * 1024 * 1024
T = TypeVar("T")
A = TypeVar("A", bound=Artifact)


@dataclass(slots=True)
class Contents:
    """`problems`: what could not be read, in words. `known` is empty but for the app's name when nothing told of it."""

    folder: Path
    id: str
    app: str
    known: Known
    analysis: Analysis
    at: float
    input: Input | None = None
    outcome: Outcome = field(default_factory=Outcome)
    session: Data = field(default_factory=dict)
    whole: dict[type[Artifact], Artifact] = field(default_factory=dict)
    each_: dict[type[Artifact], dict[str, Artifact]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    is_known: bool = True
    is_analyzed: bool = True

    def one(self, kind: type[A]) -> A | None:
        """Of the app or the host."""
        found = self.whole.get(kind)
        return found if isinstance(found, kind) else None

    def each(self, kind: type[A]) -> dict[str, A]:
        """By instance."""
        return {name: one for name, one in self.each_.get(kind, {}).items() if isinstance(one, kind)}

    @property
    def findings(self) -> list[Finding]:
        """Those above info, in order."""
        return [one for one in self.analysis.findings if GRAVE.get(one.severity)]

    @property
    def top(self) -> Finding | None:
        return next((one for one in self.findings if one.id == self.analysis.top), None)

    @property
    def began(self) -> float:
        return self.outcome.began or (self.input.at if self.input else 0.0) or self.at

    @property
    def ended(self) -> float:
        """Of gathering: what the report shows is of then."""
        return max(self.known.at, self.began)

    @property
    def asked(self) -> Data:
        """By whom and why; control's own record goes first."""
        trigger = self.session.get("trigger")
        return trigger if isinstance(trigger, dict) else (self.input.asked if self.input else {})


def read(folder: Path) -> Contents:
    """Never raises for what a file holds, or for one that is not there."""
    problems: list[str] = []
    given = _file(folder / INPUT, Input, problems)
    outcome = _file(folder / OUTCOME, Outcome, problems)
    session = _file(folder / SESSION, dict[str, Any], problems, needed=False)
    analysis = _file(folder / FINDINGS, Analysis, problems, needed=bool(given is None or given.analyze))
    found = analyze.load(folder)
    problems += [
        f"{name} is damaged: {why}" for name, why in found.damaged.items()
        if name not in (INPUT, OUTCOME)
    ]  # fmt: skip
    known = found.known
    app = given.app if given else known.app.name if known else str((session or {}).get("app") or "")
    if known is None:
        problems.append("What control knew of the app could not be read: there is neither known.json nor input.json.")
    return Contents(
        folder=folder, id=given.id if given else folder.name, app=app,
        known=known or Known(at=0.0, app=App(name=app)), analysis=analysis or Analysis(at=0.0), at=time.time(),
        input=given, outcome=outcome or Outcome(), session=session or {}, whole=found.whole, each_=found.each,
        problems=problems, is_known=known is not None, is_analyzed=analysis is not None,
    )  # fmt: skip


def _file(path: Path, kind: type[T], problems: list[str], *, needed: bool = True) -> T | None:
    try:
        if path.stat().st_size > LARGEST:
            problems.append(f"{path.name} is larger than any that a session writes.")
            return None
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        if needed:
            problems.append(f"{path.name} is not there.")
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        problems.append(f"{path.name} is damaged: {str(error)[:200]}")
    return None
