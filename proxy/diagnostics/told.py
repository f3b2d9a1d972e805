"""A finding in the blocks of an answer: what lies behind it, what to do, what it rests on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from proxy.diagnostics.analyzers.contract import CERTAIN, NOT_KNOWN, Finding, Remedy

_LABEL: Final = {"mitigation": "now", "investigation": "check", "prevention": "later"}
_ORDER: Final = ("now", "don't", "check", "after", "later")
_DONT: Final = re.compile(r"^(?:don't|do not|never) ", re.IGNORECASE)
_ABOUT: Final = re.compile(r" --(?:app|instance) \S+")
"""Whom a command is about: of two that differ in nothing else the first is enough."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that only ask (RFC 9110 §9.2.1)."""
IDEMPOTENT: Final = SAFE | {"PUT", "DELETE"}
"""Those that do the same when they come twice (§9.2.2)."""
RIVALS: Final = 2
REMEDIES: Final = 5
PROOFS: Final = 4


def cause(finding: Finding) -> list[str]:
    """Its certainty and cause, and what stays open."""
    said = [_with_certainty(finding)]
    if finding.unknown:
        open_end = finding.unknown if finding.unknown.endswith(".") else f"{finding.unknown}."
        said.append(open_end if open_end.upper().startswith(NOT_KNOWN.upper()) else f"NOT KNOWN: {low(open_end)}")
    return said


def do(finding: Finding) -> list[str]:
    """Its remedies, what helps at once first: `now    COMMAND     what it is expected to change`."""
    lines = [(_label(one), _line(one)) for one in finding.remedies]
    lines.sort(key=lambda each: _ORDER.index(each[0]))
    return [f"{label:<5}  {text}" for label, text in lines[:REMEDIES]]


def evidence(finding: Finding) -> list[str]:
    """What it rests on, one line each, with what speaks against it."""
    said = [f"{'seen':<10}  {one.text}" for one in finding.evidence[:PROOFS]]
    said += [f"{'against':<10}  {one.text}" for one in finding.against[:1]]
    out = [one for one in finding.rivals if one.against]
    return said + [f"other cause {low(one.cause.rstrip('.'))}: against, {low(one.against[0])}" for one in out[:RIVALS]]


def merged(*parts: Iterable[str]) -> list[str]:
    """Lines of DO, each command once, in the order in which they help; "nothing" only where there is nothing else."""
    lines: dict[str, str] = {}
    for line in (each for part in parts for each in part):
        lines.setdefault(_ABOUT.sub("", line[7:].partition("     ")[0]), line)
    found = list(lines.values())
    warned = [line for line in found if line.startswith("don't")]
    found = [line for line in found if line not in warned[1:]]
    real = [line for line in found if not line.startswith("now    nothing")]
    return sorted(real or found, key=lambda line: _ORDER.index(line[:5].strip()) if line[:5].strip() in _ORDER else 9)


def _with_certainty(finding: Finding) -> str:
    text = finding.cause.strip()
    if finding.certainty == NOT_KNOWN:
        return text if finding.unknown or text.upper().startswith(NOT_KNOWN.upper()) else f"NOT KNOWN: why. {text}"
    if text.lower().startswith(finding.certainty):
        return text
    mark = ":" if finding.certainty == CERTAIN else ""
    return f"{finding.certainty.capitalize()}{mark} {text}"


def _label(remedy: Remedy) -> str:
    return "don't" if remedy.dont else _LABEL[remedy.tag]


def _line(remedy: Remedy) -> str:
    text = _DONT.sub("", remedy.text) if remedy.dont else remedy.text
    if remedy.command:
        note = remedy.expect or text
        return f"{remedy.command}     {low(note.rstrip('.'))}" if note else remedy.command
    return f"{text.rstrip('.')}{f': {low(remedy.expect)}' if remedy.expect else ''}"


def low(text: str) -> str:
    """As the rest of a sentence, unless it begins with a name or an acronym."""
    return text[:1].lower() + text[1:] if text[1:2].islower() and text.split(" ", 1)[0].isalpha() else text
