"""What happened, in order: events, deploys, exits, incidents, and the session itself; as a strip and as a list."""

from __future__ import annotations

from typing import Any, Final

from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, cut, fold, join, moment, quiet, tag, words
from proxy.diagnostics.report.plot import Mark, strip

MOST: Final = 150
SHOWN: Final = 25
SPAN: Final = 3600.0
"""Seconds before the session that the strip shows at least, when something happened in them."""
LETTERS: Final = {"deploy": "D", "exit": "X", "incident": "I", "session": "S", "event": ""}


def data(contents: Contents) -> list[Data]:
    """Oldest first; the newest when there are too many, but each deploy, exit and incident before the others."""
    known = contents.known
    items: list[Data] = [
        _item(one.at, "deploy", f"{one.what}: {one.text}" + (f" (version {one.version})" if one.version else ""))
        for one in known.deploys
    ]
    items += [
        _item(one.at, "exit", f"{one.instance} ended after {one.lasted:.0f} s: {one.words}", one.instance)
        for one in known.exits
    ]
    for one in known.incidents:
        items.append(_item(one.began_at, "incident", f"{one.id} began: {one.cause} ({one.certainty})"))
        if one.ended_at:
            items.append(_item(one.ended_at, "incident", f"{one.id} was over"))
    told = {one.id for one in known.incidents}
    items += [
        _item(one.at, one.kind, one.text, one.instance)
        for one in known.events if not (one.kind.startswith("incident") and one.text.partition(" ")[0] in told)
    ]  # fmt: skip
    if not any(one.kind == "session" and contents.id in one.text for one in known.events):
        items.append(_item(contents.began, "session", f"{contents.id} began"))
    items.append(_item(contents.ended, "session", "gathering was over"))
    ours = [one for one in items if one["kind"] in LETTERS]
    others = sorted((one for one in items if one["kind"] not in LETTERS), key=lambda one: -one["at"])
    kept = ours[-MOST:] + others[: max(0, MOST - len(ours))]
    return sorted(_once(kept), key=lambda one: one["at"])


def _item(at: float, kind: str, text: str, instance: str = "") -> Data:
    return {"at": round(at, 3), "kind": cut(kind, 40), "text": cut(text, 400), "instance": cut(instance, 80)}


def _once(items: list[Data]) -> list[Data]:
    """An exit is also an event; what has the same words in the same second is told once."""
    return list({(round(one["at"]), one["text"]): one for one in reversed(items)}.values())


def html(items: list[Data]) -> Html:
    if len(items) <= 2:
        return quiet("Nothing is known to have happened beside the session itself.")
    begun = next((one["at"] for one in items if one["kind"] == "session"), items[-1]["at"])
    start = max(min(one["at"] for one in items), begun - SPAN)
    end = max(one["at"] for one in items)
    marks = [
        Mark(one["at"], LETTERS.get(one["kind"], ""), f"{one['kind']}: {one['text']}", one["kind"] in LETTERS)
        for one in items
    ]
    rows = [_row(one) for one in items]
    older = rows[:-SHOWN]
    return join(
        strip(start, end, marks),
        quiet("D deploy or change of config · X an instance ended · I incident · S this session · short: another"),
        fold(f"{len(older)} earlier ones", tag("ol", *older, class_="list")) if older else None,
        tag("ol", *rows[-SHOWN:], class_="list"),
    )  # fmt: skip


def _row(one: dict[str, Any]) -> Html:
    return tag("li", moment(one["at"]), tag("span", one["kind"], class_="kind"), tag("span", words(one["text"])))
