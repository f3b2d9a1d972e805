"""The second stage of a session: reads what was gathered, asks each analyzer, writes findings.json.

It can be run again from the files of the first stage. What is missing or damaged makes the checks that need it
inconclusive; an analyzer that raises is "failed", and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from proxy.diagnostics import artifacts, forks
from proxy.diagnostics.analyzers import ANALYZERS
from proxy.diagnostics.analyzers.contract import GRAVE, SURE, Analysis, Analyzer, Check, Finding, Inconclusive, Seen
from proxy.diagnostics.artifacts import Artifact, HostEvents, HostReport, Known
from proxy.diagnostics.verdict import order, verdict
from proxy.link.session import FINDINGS, INPUT, KNOWN, OUTCOME, Input, Outcome

WHOLE: Final[dict[str, type[Artifact]]] = {
    "host_report": artifacts.HostReport,
    "host_events": artifacts.HostEvents,
    "changes": artifacts.Changes,
}
"""Artifacts of the app or the host, by the name of their collector."""
EACH: Final[dict[str, type[Artifact]]] = {
    "stacks": artifacts.Stacks,
    "activity": artifacts.Activity,
    "proc_report": artifacts.ProcReport,
    "sockets": artifacts.Sockets,
    "log_tail": artifacts.LogTail,
    "environment": artifacts.Environment,
    "types": artifacts.Types,
    "profile": artifacts.Profile,
    "memory_dump": artifacts.MemoryDump,
    "flight_recorder": artifacts.FlightRecorder,
}
"""Those of an instance."""
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of one JSON file; collectors have tighter limits, so a larger one is not theirs."""
MOVED: Final = 1.0
"""Seconds by which the clock was set, from which on times of before and after are not compared."""
AHEAD: Final = 5.0
"""Seconds: what is told while the rest of it is gathered."""


T = TypeVar("T", bound=msgspec.Struct)


class Gathered:
    """All artifacts of a session's folder, and what of them could not be read: file to reason."""

    def __init__(self) -> None:
        self.whole: dict[type[Artifact], Artifact] = {}
        self.each: dict[type[Artifact], dict[str, Artifact]] = {}
        self.damaged: dict[str, str] = {}
        self.known: Known | None = None

    def seen(self, analyzer: Analyzer, known: Known) -> Seen:
        return Seen(known, self.whole, self.each, frozenset((*analyzer.needs, *analyzer.wants)))

    def missing(self, kind: type[Artifact]) -> bool:
        return kind not in self.whole and not self.each.get(kind)


def load(folder: Path) -> Gathered:
    """What there is; never raises for what a file holds."""
    found = Gathered()
    found.known = _known(folder, found)
    for name, kind in WHOLE.items():
        one = _read(folder / f"{name}.json", kind, found)
        if one is not None:
            found.whole[kind] = one
    names = _instances(folder)
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        for name, each in EACH.items():
            one = _read(place / f"{name}.json", each, found)
            if one is not None:
                found.each.setdefault(each, {})[names.get(place.name, place.name)] = one
    _on_one_clock(found)
    return found


def _on_one_clock(found: Gathered) -> None:
    """Leaves out what has the times of another clock, once that was set: it would be held against the wrong moment.

    Lines of the kernel are told in the time of now, whenever they were written; what control wrote down before the
    clock was set back lies ahead.
    """
    host, told, known = found.whole.get(HostReport), found.whole.get(HostEvents), found.known
    if isinstance(host, HostReport) and isinstance(told, HostEvents) and abs(host.clock_step) >= MOVED:
        kept = [one for one in told.events if one.kind == "clock"]
        if left := len(told.events) - len(kept):
            note = f"the clock was set: {left} lines of before and after can't be put beside what control wrote"
            note = "; ".join(part for part in (told.note, note) if part)
            found.whole[HostEvents] = msgspec.structs.replace(told, events=kept, note=note)
    if known is not None:
        exits = [one for one in known.exits if one.at <= known.at + AHEAD]
        events = [one for one in known.events if one.at <= known.at + AHEAD]
        if left := len(known.exits) + len(known.events) - len(exits) - len(events):
            note = f"{left} exits and events left out: their times lie ahead, as the clock was set back since"
            found.known = msgspec.structs.replace(known, exits=exits, events=events, notes=[*known.notes, note])


def _known(folder: Path, found: Gathered) -> Known | None:
    known = _read(folder / KNOWN, Known, found)
    if known is None:
        given = _read(folder / INPUT, Input, found)
        known = given.known if given is not None else None
    return known


def _instances(folder: Path) -> dict[str, str]:
    """Folder to instance, as the steps of collectors tell: a folder's name is made safe and may differ."""
    outcome = _read(folder / OUTCOME, Outcome, Gathered())
    steps = outcome.steps if outcome is not None else []
    return {file.partition("/")[0]: one.instance for one in steps if one.instance for file in one.files if "/" in file}


def _read(path: Path, kind: type[T], found: Gathered) -> T | None:
    name = f"{path.parent.name}/{path.name}" if path.stem in EACH else path.name
    try:
        if path.stat().st_size > LARGEST:
            found.damaged[name] = "larger than any that a collector writes"
            return None
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        found.damaged[name] = str(error)[:200]
        return None


def analyze(
    folder: Path,
    *,
    seconds: float = 60.0,
    told: Callable[[Check], None] | None = None,
    analyzers: Iterable[Analyzer] = ANALYZERS,
) -> Analysis:
    """Writes findings.json into `folder` and returns it. `told` hears of each check as it is done.

    Analyzers that have not begun after `seconds` are left out, and said to be. Raises OSError if it can't be written.
    """
    found = load(folder)
    began = time.monotonic()
    findings: list[Finding] = []
    checks: list[Check] = []
    for analyzer in analyzers:
        if time.monotonic() - began > seconds:
            words = f"The time for analyzing, {seconds:g} s, had passed."
            check = Check(analyzer=analyzer.name, title=analyzer.title, state="inconclusive", words=words)
        else:
            check, drawn = run(analyzer, found)
            findings += drawn
        checks.append(check)
        if told is not None:
            told(check)
    findings = order(findings)
    sentence, top = verdict(findings, found.known)
    analysis = Analysis(at=time.time(), findings=findings, checks=checks, verdict=sentence, top=top)
    forks.write(folder / FINDINGS, msgspec.json.format(msgspec.json.encode(analysis), indent=1))
    return analysis


def run(analyzer: Analyzer, found: Gathered) -> tuple[Check, list[Finding]]:
    """One analyzer; whatever it raises is caught here and nowhere else."""
    check = Check(analyzer=analyzer.name, title=analyzer.title, state="passed", words=analyzer.checks)
    if found.known is None:
        words = f"What control knew could not be read{_because(KNOWN, INPUT, found=found)}."
        return msgspec.structs.replace(check, state="inconclusive", words=words), []
    missing = [kind for kind in analyzer.needs if found.missing(kind)]
    if missing:
        return msgspec.structs.replace(check, state="inconclusive", words=_missing(missing, found)), []
    began = time.monotonic()
    drawn: list[Finding] = []
    state: Literal["found", "passed", "inconclusive", "failed"] = "passed"
    words = analyzer.checks
    try:
        for one in analyzer.analyze(found.seen(analyzer, found.known)):
            drawn.append(_finished(one, analyzer.name, found.known))
    except Inconclusive as why:
        state, words = "inconclusive", str(why)
    except Exception as error:  # an analyzer's defect must not hide what the others found
        state, words = "failed", f"{type(error).__name__}: {error}"[:300]
    if state != "failed" and any(GRAVE[one.severity] for one in drawn):
        state, words = "found", "; ".join(dict.fromkeys(one.title for one in drawn))
    drawn = joined(drawn)
    took = time.monotonic() - began
    return msgspec.structs.replace(check, state=state, words=words, took=took), drawn


def joined(findings: Iterable[Finding]) -> list[Finding]:
    """The same of several instances, one finding each, as one that names them all."""
    found: dict[tuple[str, str], Finding] = {}
    for one in findings:
        mine = one.instances[0] if len(one.instances) == 1 else ""
        key = (one.id, one.title.replace(mine, "*") if mine else one.title)
        first = found.get(key)
        if first is None or not mine or not first.instances:
            found[key if first is None else (one.id, f"{one.title} {len(found)}")] = one
            continue
        first.cause += f" The same on {mine}."
        first.instances = [*first.instances, mine]
        first.evidence = [*first.evidence, *(each for each in one.evidence if each not in first.evidence)]
        first.against = [*first.against, *(each for each in one.against if each not in first.against)]
        first.certainty = max(first.certainty, one.certainty, key=lambda each: SURE[each])
        first.severity = max(first.severity, one.severity, key=lambda each: GRAVE[each])
        first.since = min((each for each in (first.since, one.since) if each), default=0.0)
        first.weight = max(first.weight, one.weight)
    return list(found.values())


def _finished(finding: Finding, analyzer: str, known: Known) -> Finding:
    finding.analyzer = analyzer
    finding.app = finding.app or known.app.name
    return finding


def _missing(kinds: Iterable[type[Artifact]], found: Gathered) -> str:
    names = {kind: name for name, kind in (*WHOLE.items(), *EACH.items())}
    said = [f"{names[kind]}{_because(*(f for f in found.damaged if names[kind] in f), found=found)}" for kind in kinds]
    return f"Not looked at: there is no {' and no '.join(said)}."


def _because(*files: str, found: Gathered) -> str:
    why = [found.damaged[file] for file in files if file in found.damaged]
    return f" (damaged: {why[0]})" if why else ""
