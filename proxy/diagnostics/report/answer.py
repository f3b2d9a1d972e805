"""The first screen: the text of `why`, made of the findings and of what control knew when gathering was over.

WHY the mechanism · CAUSE what lies behind · LOST may it be repeated · NOW · DONE · DO · EVIDENCE.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from proxy import units
from proxy.diagnostics import text as screen
from proxy.diagnostics import told
from proxy.diagnostics.analyzers.contract import NOT_KNOWN, Finding
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, join, tag, words
from proxy.diagnostics.text import clean
from proxy.diagnostics.told import IDEMPOTENT
from proxy.diagnostics.verdict import roots
from proxy.faults import FAULTS, Origin
from proxy.link.messages import Record
from proxy.link.session import Ring

TROUBLED: Final = ("down", "degraded", "stopped", "held")
TELLING: Final = (
    "exited", "recycle", "recycle-done", "ejected", "admitted", "incident-opened", "incident-closed", "autoheal",
    "scaled", "deployed", "alert", "session", "restart", "failed",
)  # fmt: skip
DONE: Final = 6
MOST: Final = 6  # sentences of a block
RECENT: Final = 15.0
"""Seconds before the end of gathering within which a fault means that it still goes on."""
_COMMAND: Final = re.compile(r"^(triage|curl|grep|journalctl|systemctl|docker|kubectl|ss|dmesg|apps\.|gateway\.)\b")
LATELY: Final = 10
"""Seconds."""
_LABEL: Final = re.compile(r"^(other cause|\S+(?: \S+)?(?=\s{2}))\s+(.*)$", re.DOTALL)
_DO: Final = re.compile(r"^(now|don't|check|later|after)\s{2,}(.*)$", re.DOTALL)


def data(contents: Contents) -> Data:
    """The seven blocks, each a list of sentences, and `text`: them as 30 lines of 96 columns. `certainty` is that of
    CAUSE's first claim; "": it claims none."""
    top = contents.top
    blocks = {
        "why": _why(contents, top), "cause": _cause(contents, top), "lost": _lost(contents), "now": _now(contents, top),
        "done": _done(contents), "do": _do(contents, top), "evidence": _evidence(contents, top),
    }  # fmt: skip
    blocks = {name: [clean(one, 700) for one in lines[:MOST]] for name, lines in blocks.items()}
    title = f"{contents.known.app.state}   app {clean(contents.app, 40)}   {stamp(contents.ended)}   {contents.id}"
    certainty = top.certainty if top else ("" if _well(contents) else NOT_KNOWN)
    return {"title": title, "certainty": certainty, **blocks, "text": screen.render(title, blocks)}


def _well(contents: Contents) -> bool:
    return contents.is_known and contents.is_analyzed and contents.known.app.state not in TROUBLED


def stamp(at: float) -> str:
    """UTC to the second; "?" for what is no time."""
    try:
        return screen.stamp(at)
    except (OverflowError, OSError, ValueError):
        return "?"


def _why(contents: Contents, top: Finding | None) -> list[str]:
    said = [_sentence(top.title) if top else contents.analysis.verdict or _no_verdict(contents)]
    if top and top.care:
        said.append(_sentence(top.care))
    if felt := _felt(contents):
        said.append(felt)
    return said


def _no_verdict(contents: Contents) -> str:
    if not contents.is_analyzed:
        return "NOT KNOWN: what was gathered has not been analyzed, so there is no verdict."
    return f"Nothing was found to be wrong with {contents.app}, as far as could be seen."


def _felt(contents: Contents) -> str:
    """What clients got, by the counts of each second."""
    ring = contents.known.rings.get("")
    if ring is None:
        return ""
    requests = total(ring, "requests")
    kept = Counter(one.fault for one in contents.known.records if one.fault and one.time >= ring.start)
    faults = {name: max(sum(row), kept[name]) for name, row in ring.faults.items() if sum(row)}  # kept ones come first
    span = units.duration(ring.length)
    if not requests and not faults:
        return f"No request came in the last {span}."
    if not faults:
        return f"All of {units.several(round(requests), 'request')} in the last {span} were served without a fault."
    listed = sorted(faults.items(), key=lambda item: -item[1])
    parts = [f"{units.count(n)} {name}" for name, n in listed[:4]]
    rest = sum(n for _, n in listed[4:])
    parts += [f"{units.count(rest)} others"] if rest else []
    return (
        f"In the last {span} came {units.several(round(requests), 'request')}; "
        f"{units.several(sum(faults.values()), 'fault')}: {', '.join(parts)}."
    )


def total(ring: Ring, column: str) -> float:
    return sum(value for value in ring.values.get(column, ()) if value is not None)


def _cause(contents: Contents, top: Finding | None) -> list[str]:
    if top is None:
        return [_no_cause(contents)] if _well(contents) else ["NOT KNOWN."]
    said = told.cause(top)
    others = [one for one in roots(contents.analysis.findings) if one.id != top.id]
    said += [f"Besides that: {told.cause(one)[0]}" for one in others[:2]]
    if len(others) > 2:
        said.append(f"And {units.several(len(others) - 2, 'finding')} more: see below.")
    return said


def _no_cause(contents: Contents) -> str:
    checks = contents.analysis.checks
    passed = sum(one.state == "passed" for one in checks)
    open_ = sum(one.state in ("inconclusive", "failed") for one in checks)
    rest = f", {units.count(open_)} could give no answer" if open_ else ""
    return f"None was found: {units.count(passed)} of {units.several(len(checks), 'check')} passed{rest}."


# --- LOST --------------------------------------------------------------------------------------------


def _lost(contents: Contents) -> list[str]:
    """By what was sent, of the requests that are kept; how many there were in all stands in WHY."""
    failed = [one for one in contents.known.records if _failed(one)]
    ring = contents.known.rings.get("")
    counted = sum(sum(row) for row in ring.faults.values()) if ring else 0
    if not failed:
        if counted:
            return [f"NOT KNOWN: none of the {units.several(counted, 'fault')} is kept in full."]
        if not contents.is_known:
            return ["NOT KNOWN."]
        return ["Nothing: no request is known to have failed."]
    seen = [one for one in failed if one.sent or any(each.sent for each in one.attempts or ())]
    careful = [one for one in seen if one.method not in IDEMPOTENT]
    said = []
    if careful:
        methods = Counter(clean(one.method, 12) for one in careful)
        parts = " and ".join(f"{units.count(n)} {name}" for name, n in methods.most_common(3))
        said.append(
            f"{parts} of {units.several(len(failed), 'failed request')} that are kept: an instance had been given some "
            f"of each. NOT KNOWN: whether they were done. Look before anyone repeats them."
        )
    rest = len(failed) - len(careful)
    if rest and careful:
        said.append(f"The other {units.count(rest)} may be repeated.")
    elif rest and seen:
        said.append(
            f"Only answers: of {units.several(len(failed), 'failed request')} that are kept, all may be repeated."
        )
    elif rest:
        said.append("Nothing: no instance saw any of the failed requests that are kept. They are safe to repeat.")
    return said


def _failed(record: Record) -> bool:
    fault = FAULTS.get(record.fault)
    return fault is not None and fault.origin is not Origin.CLIENT and record.fault != "app-error"


# --- NOW, DONE, DO -----------------------------------------------------------------------------------


def _now(contents: Contents, top: Finding | None) -> list[str]:
    known, app = contents.known, contents.known.app
    if not contents.is_known:
        return ["NOT KNOWN: control's own record of it could not be read."]
    said = []
    ring = known.rings.get("")
    late = _last_fault(ring)
    since = f" since {stamp(top.since)}" if top and top.since else ""
    if top and not top.until and late and known.at - late <= RECENT:
        said.append(f"STILL GOING ON{since} when this was taken, at {stamp(known.at)}.{_lately(ring)}")
    elif late:
        said.append(f"The last fault was at {stamp(late)}.")
    elif top and not top.until:
        said.append(f"What was found goes on{since}; no request has failed by it yet.")
    elif top and top.until:
        said.append(f"It was over at {stamp(top.until)}.")
    verdict = app.verdict or f"{app.name} is {app.state}: {app.ready} of {app.wanted} ready."
    said.append(_sentence(verdict))
    waiting = f", {units.count(app.waiting)} wait in the queue" if app.waiting else ""
    said.append(f"{units.count(app.in_flight)} in flight{waiting}.")
    return said


def _lately(ring: Ring | None) -> str:
    """How much comes and fails, by the last full seconds."""
    if ring is None or ring.length < LATELY:
        return ""
    asked = [value for value in ring.values.get("requests", [])[-LATELY:] if value is not None]
    failed = sum(sum(row[-LATELY:]) for row in ring.faults.values())
    if not asked or not failed:
        return ""
    return f" {sum(asked) / len(asked):,.1f} requests and {failed / LATELY:,.1f} faults a second."


def _last_fault(ring: Ring | None) -> float:
    if ring is None:
        return 0.0
    last = [at for row in ring.faults.values() for at, n in enumerate(row) if n]
    return float(ring.start + max(last)) if last else 0.0


def _done(contents: Contents) -> list[str]:
    asked = contents.asked
    said = []
    events = [one for one in contents.known.events if one.kind in TELLING or one.kind.startswith(("incident", "auto"))]
    recent = [one for one in events if one.at >= contents.ended - 3600][-DONE:]
    said += [f"{stamp(one.at)}  {clean(one.text, 160)}" for one in recent]
    why = str(asked.get("reason") or asked.get("why") or asked.get("by") or asked.get("kind") or "by hand")
    if not any(contents.id in one.text for one in recent):
        said.append(f"{stamp(contents.began)}  {contents.id} of {contents.app} began: {clean(why, 120)}")
    return said[-MOST:]


def _do(contents: Contents, top: Finding | None) -> list[str]:
    if top is None:
        nothing = "now    nothing" if _well(contents) else f"check  triage status {contents.app}     how it is now"
        return [nothing]
    said = told.do(top)
    others = [one for one in roots(contents.analysis.findings) if one.id != top.id]
    said += [line for one in others[:1] for line in told.do(one)[:1] if line not in said]
    return said or ["now    NOT KNOWN: no remedy is known for this one"]


def _evidence(contents: Contents, top: Finding | None) -> list[str]:
    seen = Counter(told.evidence(top) if top else ())
    said = [line if number == 1 else f"{line} ({number} times alike)" for line, number in seen.items()]
    passed = sum(one.state == "passed" for one in contents.analysis.checks)
    asked = len(contents.analysis.checks)
    if asked:
        said.append(f"{'checks':<10}  {passed} of {asked} passed; {len(contents.findings)} findings")
    return said or [f"{'none':<10}  nothing more is known"]


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


# --- HTML --------------------------------------------------------------------------------------------


def html(data: Data) -> Html:
    rows = [
        tag("div", tag("dt", name.upper()), tag("dd", _block(name, data[name])), class_=f"block block-{name}")
        for name in screen.BLOCKS if data.get(name)
    ]  # fmt: skip
    return tag("dl", *rows, class_="answer")


def _block(name: str, lines: list[str]) -> Html:
    if name == "do":
        return tag("ul", *(_do_line(line) for line in lines))
    if name == "evidence":
        return join(*(_labelled(line) for line in lines))
    return join(*(tag("p", words(line)) for line in lines))


def _labelled(line: str) -> Html:
    found = _LABEL.match(line)
    if not found:
        return tag("p", words(line))
    return tag("p", tag("span", found[1], class_="quiet"), " ", words(found[2]))


def _do_line(line: str) -> Html:
    found = _DO.match(line)
    label, rest = (found[1], found[2]) if found else ("", line)
    text, _, remark = rest.partition("     ")
    shown = tag("code", text) if _COMMAND.match(text) else words(text)
    return tag("li", tag("b", label), " " if label else None, shown,
               tag("small", words(remark.strip())) if remark.strip() else None)  # fmt: skip
