"""What was looked for, and what could not be looked at: steps not done, checks without an answer, notes, damage."""

from __future__ import annotations

from typing import Final

from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, bullets, cut, fold, join, quiet, tag, words

MOST: Final = 200
NOT_DONE: Final = ("failed", "hung", "not permitted", "not there", "no room", "skipped", "waiting", "running")


def data(contents: Contents) -> Data:
    return {
        state: [
            {"check": one.analyzer, "title": cut(one.title, 200), "words": cut(one.words, 400)}
            for one in contents.analysis.checks if one.state == state
        ][:MOST]
        for state in ("found", "passed", "inconclusive", "failed")
    }  # fmt: skip


def html(data: Data) -> Html:
    passed = data["passed"]
    if not any(data.values()):
        return quiet("No check was made.")
    return join(
        tag("p", f"{len(passed)} checks passed, {len(data['found'])} found something, "
                 f"{len(data['inconclusive']) + len(data['failed'])} could give no answer."),
        fold(f"The {len(passed)} checks that passed", bullets(
            join(tag("b", one["title"]), " ", words(one["words"])) for one in passed)) if passed else None,
        fold(f"The {len(data['found'])} that found something", bullets(
            join(tag("b", one["title"]), " ", words(one["words"])) for one in data["found"]
        )) if data["found"] else None,
    )  # fmt: skip


def unseen(contents: Contents) -> list[Data]:
    """Each with why."""
    found = [{"what": "A file of the session", "why": one} for one in contents.problems]
    found += [{"what": "What control knew", "why": _start(one)} for one in contents.known.notes]
    if contents.outcome.why and contents.outcome.state in ("failed", "cancelled"):
        found.append({"what": "The session", "why": f"{contents.outcome.state}: {contents.outcome.why}"})
    for step in contents.outcome.steps:
        where = f" of {step.instance}" if step.instance else ""
        what = f"{step.title or step.name}{where}"
        if step.name == "report":
            continue
        if step.state in NOT_DONE:
            found.append({"what": what, "why": f"{step.state}{': ' + step.why if step.why else '.'}"})
        elif step.why:
            found.append({"what": f"{what}, in part", "why": _start(step.why)})
    for check in contents.analysis.checks:
        if check.state in ("inconclusive", "failed"):
            found.append({"what": f"Check: {check.title}", "why": check.words or check.state})
    left = len(found) - MOST
    kept = [{"what": cut(one["what"], 200), "why": cut(one["why"], 400)} for one in found[:MOST]]
    return kept + ([{"what": "And", "why": f"{left} more."}] if left > 0 else [])


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]


def unseen_html(items: list[Data]) -> Html:
    if not items:
        return quiet("Nothing: all that was asked for could be looked at.")
    return bullets(join(tag("b", f"{one['what']}: "), words(one["why"])) for one in items)
