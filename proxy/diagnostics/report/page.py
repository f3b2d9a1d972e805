"""The document: title and verdict, the first screen, then each part under its heading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy import __version__, units
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, bullets, cut, esc, facts, join, moment, offset, tag, words
from proxy.diagnostics.report.parts import PARTS
from proxy.diagnostics.report.style import CSS

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""The page can load nothing and run nothing, wherever it is opened."""
MODES: Final = {
    "collect": "collect", "analyze": "collect and analyze", "recycle": "collect, recycle and analyze",
}  # fmt: skip


def head(contents: Contents) -> Data:
    """What stands before all parts."""
    top, given = contents.top, contents.input
    return {
        "id": contents.id, "app": contents.app, "at": contents.at, "began": contents.began, "ended": contents.ended,
        "state": contents.outcome.state, "why": contents.outcome.why,
        "verdict": contents.analysis.verdict or "There is no verdict: what was gathered has not been analyzed.",
        "top": contents.analysis.top, "certainty": top.certainty if top else "",
        "severity": top.severity if top else "", "findings_above_info": len(contents.findings),
        "targets": list(given.targets if given else ())[:20], "seconds": given.seconds if given else None,
        "mode": str(contents.session.get("mode") or ""), "trigger": _trigger(contents.asked),
        "version": __version__, "app_version": contents.known.app.version,
        "offset": offset(contents.ended),
    }  # fmt: skip


def _trigger(asked: Data) -> str:
    """Who or what began it."""
    by = str(asked.get("by") or asked.get("kind") or "")
    parts = [by, str(asked.get("reason") or asked.get("why") or "")]
    for name in ("rule", "saw", "incident", "request"):
        if asked.get(name):
            parts.append(f"{name} {asked[name]}")
    return cut("; ".join(dict.fromkeys(part for part in parts if part)), 400)


def document(data: Data, sections: Mapping[str, Html]) -> str:
    """The whole page. `sections` by part; those that are missing are not shown."""
    title = f"{data['app']}: {data['verdict']}"
    shown = [part for part in PARTS if part.name in sections]
    body = join(
        _top(data, sections, [(part.name, part.title) for part in shown if part.title]),
        *(
            tag("section", tag("h2", part.title), sections[part.name], id=part.name)
            for part in shown if part.title
        ),
        tag(
            "footer",
            f"Made by Triage {data['version']} of session {data['id']}. This page needs no network and no script; "
            "what looked like a secret in it is masked as ***, and what did not look like one is not: read it before "
            "you pass it on. The same as data: report.json beside it.",
        ),
    )  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{esc(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{esc(cut(title, 160))}</title><style>{CSS}</style></head>\n<body>{body}</body></html>\n"
    )


def _top(data: Data, sections: Mapping[str, Html], links: list[tuple[str, str]]) -> Html:
    look = data["severity"] or ("well" if data["verdict"] and data["state"] != "failed" and not data["top"] else "")
    about = [
        ("App", data["app"]), ("Looked into", ", ".join(data["targets"]) or "no instance: what is known without"),
        ("Begun", moment(data["began"], day=True)),
        ("For", units.duration(data["seconds"]) if data["seconds"] else "one quick look"),
        ("Mode", MODES.get(data["mode"], data["mode"])), ("Because of", words(data["trigger"])),
        ("Version of the app", cut(data["app_version"], 60)), ("Times are of", data["offset"]),
    ]  # fmt: skip
    state = data["state"]
    note = None
    if state in ("cancelled", "failed", "collecting"):
        why = f": {data['why']}" if data["why"] else ""
        note = tag("p", f"This session is {state}{why}. What stands here is what there was by then.", class_="note")
    return join(
        tag("header", tag("div", tag("h1", words(data["verdict"])), _certainty(data), class_=f"verdict {look}")),
        note, sections.get("answer"), facts(about),
        tag("nav", *(tag("a", title, href=f"#{name}") for name, title in links), aria_label="Parts of this page"),
    )  # fmt: skip


def _certainty(data: Data) -> Html | None:
    others = data["findings_above_info"] - 1
    if not data["top"]:
        return None
    more = f", and {units.several(others, 'finding')} beside it" if others > 0 else ""
    return tag("p", f"{data['severity']}, {data['certainty']}{more}. Session {data['id']}.", class_="quiet")


def left_out(name: str) -> Html:
    """In place of a part for which the page has no room."""
    return bullets([f"Too much to show on one page: report.json has it, under “{name}”."])
