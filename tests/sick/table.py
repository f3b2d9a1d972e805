"""What came of all cases: a table for a terminal or a page, and the totals."""

from __future__ import annotations

from collections.abc import Sequence

from tests.sick.judge import Verdict
from tests.sick.play import Played


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "–"
    said = f"{verdict.id}, {verdict.certainty}" if verdict.id else verdict.certainty
    return f"**{verdict.verdict}**" + (f" {said}" if said else "")


def rows(played: Sequence[Played]) -> str:
    lines = [
        "| case | what was wrong | top finding of the session | `why` of one request | after gathering |",
        "|---|---|---|---|---|",
    ]
    for one in played:
        if one.skipped:
            lines.append(f"| {one.case} | {one.what} | skipped: {one.skipped} | | |")
        elif one.error:
            lines.append(f"| {one.case} | {one.what} | **failed**: {one.error[:120]} | | |")
        else:
            took = f"{one.after_gathering:.1f} s" if one.session else ""
            lines.append(f"| {one.case} | {one.what} | {_cell(one.session)} | {_cell(one.why)} | {took} |")
    return "\n".join(lines).replace("\n\n", "\n")


def totals(played: Sequence[Played], healthy: frozenset[str]) -> str:
    """Shares of right answers, and what is worst: certain and wrong."""
    sick = [one for one in played if one.case not in healthy and not one.skipped]
    well = [one for one in played if one.case in healthy and not one.skipped]
    lines = []
    for name, verdicts in (
        ("session", [one.session for one in sick if one.session]),
        ("why", [one.why for one in sick if one.why]),
    ):
        good = sum(1 for one in verdicts if one.good)
        lines.append(
            f"- right by {name}: {good} of {len(verdicts)}"
            + (f" ({100 * good / len(verdicts):.0f} %)" if verdicts else "")
            + f"; certain and wrong: {_sure(verdicts, 'certain')}; very likely and wrong: "
            f"{_sure(verdicts, 'very likely')}"
        )
    loud = [one for one in well if one.session and one.session.verdict != "right"]
    lines.append(f"- healthy apps with a finding above info: {len(loud)} of {len(well)}")
    done = [one for one in played if one.session]
    if done:
        lines.append(
            f"- from the end of gathering to the verdict: {max(one.after_gathering for one in done):.1f} s at most; "
            f"`why`: {max(one.why_took for one in played):.2f} s at most; the session's processes: "
            f"{max(one.cost[0] for one in done):.2f} cores at most"
        )
    busy = max(well, key=lambda one: one.cpu_before and one.cost[1], default=None)
    if busy and busy.cpu_before:
        lines.append(
            f"- CPU of the app per request, {busy.case}: {1000 * busy.cpu_before:.2f} ms before, "
            f"{1000 * busy.cpu_during:.2f} ms in a session"
        )
    failed = [one.case for one in played if one.error]
    skipped = [one.case for one in played if one.skipped]
    lines.append(f"- {len(played)} cases, failed to run: {len(failed)} {failed or ''}, skipped: {len(skipped)}")
    return "\n".join(lines)


def _sure(verdicts: Sequence[Verdict], certainty: str) -> int:
    return sum(1 for one in verdicts if one.verdict == "wrong" and one.certainty == certainty)
