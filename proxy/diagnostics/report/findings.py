"""Findings in order, each with what speaks for and against it, what is not known, and what can be done."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy.diagnostics.analyzers.contract import GRAVE
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, bullets, cut, fold, join, moment, quiet, tag, words

MOST: Final = 60
OPEN: Final = 12
"""Findings that are shown whole; the others are folded."""
LONG: Final = 800
ITEMS: Final = 15
CERTAIN_LOOK: Final = {"certain": "good", "very likely": "good", "likely": "busy", "not known": "calm"}
TAGS: Final = {
    "mitigation": "Mitigation: makes it better at once", "investigation": "Investigation: tells more",
    "prevention": "Prevention: so that it does not come back",
}  # fmt: skip


def data(contents: Contents) -> list[Data]:
    """As in findings.json, bounded."""
    return [_bounded(msgspec.to_builtins(one)) for one in contents.analysis.findings[:MOST]]


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return cut(value, LONG)
    if isinstance(value, list):
        return [_bounded(one) for one in value[:ITEMS]]
    if isinstance(value, dict):
        return {name: _bounded(one) for name, one in value.items()}
    return value


def html(items: list[Data]) -> Html:
    grave = [one for one in items if GRAVE.get(one["severity"])]
    info = [one for one in items if not GRAVE.get(one["severity"])]
    parts = [_finding(one) for one in grave[:OPEN]]
    if not grave:
        parts.append(quiet("None above info: no check found anything wrong."))
    parts += [fold(one["title"], _finding(one)) for one in grave[OPEN:]]
    if info:
        parts.append(fold(f"{len(info)} for information", *(_finding(one) for one in info)))
    return join(*parts)


def _finding(one: Data) -> Html:
    where = ", ".join(one["instances"][:8]) or "the app as a whole"
    span = None
    if one["since"]:
        end = join(" until ", moment(one["until"])) if one["until"] else ", and it goes on"
        span = join(" Since ", moment(one["since"]), end, ".")
    return tag(
        "article",
        tag("p", tag("span", one["severity"], class_="word severity"), " ",
            tag("span", one["certainty"], class_=f"word {CERTAIN_LOOK.get(one['certainty'], 'calm')}"),
            tag("span", f" {where}.", span, class_="quiet")),
        tag("h3", words(one["title"])), tag("p", words(one["cause"])),
        tag("p", tag("b", "Why to care. "), words(one["care"])) if one["care"] else None,
        _proofs("What was seen", one["evidence"]), _proofs("What speaks against it", one["against"]),
        _rivals(one["rivals"]),
        tag("p", tag("b", "Not known. "), words(one["unknown"])) if one["unknown"] else None,
        _remedies(one["remedies"]),
        quiet(f"By the check {one['analyzer']}, finding {one['id']}."),
        class_=f"finding {one['severity']}", id=f"finding-{one['id']}",
    )  # fmt: skip


def _proofs(title: str, proofs: list[Data]) -> Html | None:
    if not proofs:
        return None
    rows = [join(words(one["text"]), tag("small", f" ({one['source']})") if one["source"] else None) for one in proofs]
    return join(tag("h4", title), bullets(rows))


def _rivals(rivals: list[Data]) -> Html | None:
    if not rivals:
        return None
    rows = []
    for one in rivals:
        said = [f"for it: {text}" for text in one["speaks_for"]] + [f"against it: {text}" for text in one["against"]]
        rows.append(join(tag("b", words(one["cause"])), bullets(words(text) for text in said)))
    return join(tag("h4", "Other causes that would look alike"), bullets(rows))


def _remedies(remedies: list[Data]) -> Html | None:
    if not remedies:
        return None
    parts = [tag("h4", "What can be done")]
    for name, title in TAGS.items():
        found = [one for one in remedies if one["tag"] == name and not one["dont"]]
        if found:
            parts.append(tag("p", title, class_="quiet"))
            parts.append(bullets(_remedy(one) for one in found))
    if dont := [one for one in remedies if one["dont"]]:
        parts.append(tag("p", "What should not be done", class_="quiet"))
        parts.append(bullets(_remedy(one) for one in dont))
    return join(*parts)


def _remedy(one: Data) -> Html:
    return tag(
        "div", words(one["text"]), tag("div", tag("code", one["command"])) if one["command"] else None,
        tag("small", words(f"Expected: {one['expect']}")) if one["expect"] else None, class_="remedy",
    )  # fmt: skip
