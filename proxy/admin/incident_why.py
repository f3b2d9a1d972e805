"""Why of an incident: what it says itself, and of its main fault what the newest kept request in its span says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from proxy import units
from proxy.admin import answers, kept, views
from proxy.admin.facts import EXPLAINED_BY_EXIT
from proxy.admin.findings import Findings, Told
from proxy.control.incidents.incident import Incident
from proxy.control.incidents.signals import ALL, RANK, queue
from proxy.control.records import Filter
from proxy.control.store import NotReadable
from proxy.diagnostics import told
from proxy.diagnostics.text import BLOCKS, clean, stamp
from proxy.diagnostics.text import render as rendered
from proxy.faults import FAULTS
from proxy.link.messages import Record

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

_BEGIN: Final = ("the ", "for ", "all ", "output ", "memory ", "lines ", "kept ", "control's ", "other ", "checks ")
LOOKED_AT: Final = 200
"""Kept requests of that fault, newest first, among which the newest in the span is looked for."""
OF_REQUESTS: Final = {
    "faults": frozenset(FAULTS) - queue.REFUSED,
    "queue": queue.REFUSED,
    "crashes": EXPLAINED_BY_EXIT,
    "crash-loop": EXPLAINED_BY_EXIT,
    "down": EXPLAINED_BY_EXIT | {"all-ejected", "connect-timeout", "connect-unreachable", "dns-error", "dns-timeout"},
    "ejected": frozenset(FAULTS) - queue.REFUSED,
}
"""Signals that a failed request says more about, if it failed so."""


async def explain(gateway: Gateway, look: views.Look, incident: Incident, findings: Findings) -> dict[str, Any]:
    """The whole answer, as JSON; the shape of a request's."""
    record = await _newest(gateway, incident)
    said = await answers.why_request(gateway, look, record, findings) if record is not None else None
    found = await findings.of_incident(incident) if said is None or not said["finding"] else None
    blocks = {
        "why": _why(incident),
        "cause": _cause(gateway, incident, said, record, found),
        "lost": _lost(incident, said),
        "now": _now(gateway, look, incident),
        "done": _done(incident),
        "do": told.merged(told.do(found.finding)[:3] if found is not None else (), _do(incident, said, record)),
        "evidence": [*(_found(found) if found is not None else []), *_evidence(gateway, incident, record)],
    }
    title = _title(incident)
    return {
        "id": incident.id,
        "subject": "incident",
        "title": title,
        "certainty": found.finding.certainty if found is not None else incident.certainty,
        **blocks,
        "text": rendered(title, {name: blocks[name] for name in BLOCKS}),
        "finding": found.finding.id if found is not None else said["finding"] if said is not None else "",
        "finding_certainty": (
            found.finding.certainty if found is not None else said["finding_certainty"] if said is not None else ""
        ),
        "session": found.session if found is not None else said["session"] if said is not None else "",
        **({"request": said["request"]} if said is not None else {}),
    }


async def _newest(gateway: Gateway, incident: Incident) -> Record | None:
    """In its span, with the fault that is most frequent of those that its signal is about."""
    fitting = [name for name, _ in _ordered(incident.faults) if name in OF_REQUESTS.get(incident.signal, ())]
    if not fitting or not incident.subject.app:
        return None
    main = fitting[0]
    try:
        found, _ = await kept.page(
            gateway, Filter(app=incident.subject.app, fault=main, since=incident.began - 60.0), LOOKED_AT
        )
    except NotReadable:
        return None
    end = (incident.ended or time.time()) + 1.0
    within = [one for one in found if one.time <= end and one.time + one.total_us / 1e6 >= incident.began - 1.0]
    return within[0] if within else None


def _title(incident: Incident) -> str:
    who = f"app {clean(incident.subject.app, 20)}" if incident.subject.app else f"the {incident.subject.scope}"
    lasted = units.duration(max(0.0, (incident.ended or time.time()) - incident.began))
    span = f"{lasted}, over" if incident.ended else f"for {lasted}"
    return f"{incident.id}   {incident.severity}   {incident.signal}   {who}   {stamp(incident.began)} ({span})"


def _why(incident: Incident) -> list[str]:
    found = [_sentence(incident.cause)]
    if incident.requests:
        by = ", ".join(f"{units.count(n)} {name}" for name, n in _ordered(incident.faults)[:4])
        found.append(
            f"{units.count(incident.hit)} of {units.count(incident.requests)} requests in that time were hit "
            f"({units.percent(incident.share)}){f': {by}' if by else ''}."
        )
    else:
        found.append("No request came in that time, as far as is known.")
    found += [_sentence(text) for name, text in _signals(incident) if name != incident.signal][:3]
    return found


def _cause(
    gateway: Gateway, incident: Incident, said: dict[str, Any] | None, record: Record | None, drawn: Told | None
) -> list[str]:
    found: list[str] = told.cause(drawn.finding) if drawn is not None else []
    if said is not None and record is not None:
        found += said["why"][:2] + said["cause"][:3]
        found.append(f"So says {record.id}, the newest of its requests with {record.fault} that was kept.")
    elif drawn is None:
        found += _grounds(gateway, incident)
    if incident.open and incident.subject.scope == "app":
        who, words = gateway.incidents.is_it()
        if who:
            found.append(words)
    refused = next((step for step in incident.steps if "reload refused" in step.text), None)
    if refused is not None:
        found.append(f"A config was refused at {stamp(refused.at)}; what ran before runs on.")
    return found


def _found(drawn: Told) -> list[str]:
    return [*told.evidence(drawn.finding), f"report      triage report {drawn.session}     of {stamp(drawn.at)}"]


def _grounds(gateway: Gateway, incident: Incident) -> list[str]:
    """What it rests on, where no request says more."""
    state = gateway.apps.get(incident.subject.app)
    ends = [one for one in state.ended if one.name in incident.instances and not one.ours] if state is not None else []
    if incident.signal not in ("crashes", "crash-loop", "down") or not ends:
        about = next((one.about for one in ALL if one.name == incident.signal), "")
        return [f"{incident.certainty.capitalize()}: seen when {about}." if about else "An alert rule asked for it."]
    last = ends[-1]
    if last.oom != "no":
        degree = "Certain: its cgroup counted the kill" if last.oom == "certain" else "Likely: the host counted a kill"
        found = [f"{degree} for want of memory."]
    elif last.signal is not None and not last.by_itself:
        found = [f"Certain: the kernel says signal {last.signal}, and Triage had sent none. NOT KNOWN: who sent it."]
    else:
        found = [f"Certain: the kernel says {last.words}. NOT KNOWN from that alone: why."]
    if last.last_lines:
        found.append(f"{last.name} printed last: {clean(last.last_lines[-1], 160)}")
    return found


def _lost(incident: Incident, said: dict[str, Any] | None) -> list[str]:
    if not incident.hit:
        return ["Nothing is known to be lost."]
    found = [f"{units.several(incident.hit, 'request')} got an error instead of an answer; each has its own why."]
    if said is not None:
        found.append(f"Of the newest one: {said['lost'][0]}")
        found += said["lost"][1:2]
    return found


def _now(gateway: Gateway, look: views.Look, incident: Incident) -> list[str]:
    now = time.time()
    since = stamp(incident.began)
    if incident.ended:
        gap = incident.details.get("gap")
        unseen = "; Triage was not running after that" if gap else ""
        found = [f"Over: it was last seen at {stamp(incident.ended)}{unseen}."]
    elif incident.signals:
        found = [f"STILL GOING ON since {since}, {units.duration(now - incident.began)}."]
    else:
        quiet = units.duration(max(0.0, now - incident.updated))
        found = [f"Not seen for {quiet}: it is over when three checks, ten seconds apart, find nothing."]
    state = gateway.apps.get(incident.subject.app)
    if state is not None:
        line = look.verdict(state).line
        found.append(line + ("" if line.endswith(".") else "."))
    elif incident.subject.app:
        found.append(f"{incident.subject.app} is not in the config any more.")
    return found


def _done(incident: Incident) -> list[str]:
    steps = [step for step in incident.steps if step.kind in ("act", "event", "told")]
    found = [f"{stamp(step.at)}  {clean(step.text, 150)}" for step in steps[:4]]
    if len(steps) > 8:
        found.append(f"… {len(steps) - 8} more: triage incidents {incident.id}")
    found += [f"{stamp(step.at)}  {clean(step.text, 150)}" for step in steps[4:][-4:]]
    return found or ["Nothing: no rule acted, and nobody did."]


def _do(incident: Incident, said: dict[str, Any] | None, record: Record | None) -> list[str]:
    app = incident.subject.app
    found = [line for line in (said["do"] if said is not None else []) if not line.startswith("now    nothing")][:3]
    if record is not None:
        found.append(f"check  triage requests --app {app} --fault {record.fault}     those that are kept")
    found += [line.format(app=app) for line in _ADVICE.get(incident.signal, ())][: 4 - len(found[:3])]
    if incident.ended and not found:
        return ["now    nothing: it is over"]
    return found or [f"check  triage events{f' --app {app}' if app else ''}     what happened before it"]


_ADVICE: Final = {
    "crash-loop": ("check  triage logs {app}     what it prints before it ends",
                   "after  triage start {app}     tries it at once, when that is mended"),
    "crashes": ("check  triage logs {app}     what it printed before it ended",),
    "down": ("check  triage status {app}     each instance, and why",),
    "ejected": ("check  triage status {app}     what each check says",),
    "not-enough": ("check  triage status {app}     which are missing, and why",),
    "not-replaced": ("check  triage logs {app}     what the replacement prints",
                     "after  triage restart {app}     when it can start"),
    "queue": ("check  triage why {app}     what holds the slots",),
    "slow": ("check  triage requests --app {app} --slower 1s     which ones",
             "check  triage why {app}     where they wait"),
    "memory": ("now    triage scale {app} --memory SIZE     one instance at a time, no request lost",),
    "worker": ("check  journalctl, or where stderr goes     a traceback of Triage is a defect of Triage",),
    "self-check": ("check  triage status     workers, and what keeps them",),
    "shedding": ("later  gateway.limits.connections, more gateway.workers, or a higher descriptor limit",),
    "loop-lag": ("check  top     what else takes the CPU", "later  more gateway.workers"),
    "control-lag": ("check  top     what else takes the CPU",),
    "lost-evidence": ("now    make room on the disk of gateway.data_dir, or mend its permissions",),
    "certificate": ("now    renew it: the files are reread when they change",),
    "disk": ("now    make room on the disk of gateway.data_dir", "later  smaller keep.store, keep.instance_logs"),
    "disk-full": ("now    make room on the disk of gateway.data_dir: requests go on, nothing is kept",),
    "host-memory": ("check  triage status     memory of each instance", "later  process.memory for each app"),
    "host-cpu": ("check  top     what takes the CPU",),
}  # fmt: skip
assert set(_ADVICE) >= RANK.keys() - {"faults"}


def _evidence(gateway: Gateway, incident: Incident, record: Record | None) -> list[str]:
    found = [f"signals     {', '.join(incident.seen)}; each is described in docs/observing.md"]
    if incident.instances:
        found.append(f"instances   {', '.join(incident.instances[:8])}")
    if record is not None:
        found.append(f"request     {record.id}   triage why {record.id}")
    if incident.open:
        found.append(f"self-check  {gateway.self_check.last.words}")
    if incident.frozen:
        found.append(f"frozen      {incident.frozen}: the 15 min before it, second by second, and the last requests")
    told = ", ".join(incident.told) or "nobody: no alert asked for it, or it was muted"
    found.append(f"told        {told}")
    return found


def _signals(incident: Incident) -> list[tuple[str, str]]:
    return sorted(incident.signals.items(), key=lambda entry: RANK.get(entry[0], len(RANK)))


def _ordered(faults: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(faults.items(), key=lambda entry: -entry[1])


def _sentence(text: str) -> str:
    """With a capital and an end; a name in front stays as it is."""
    said = clean(text, 400)
    if said.startswith(_BEGIN):
        said = said[:1].upper() + said[1:]
    return said if said.endswith((".", "…")) else f"{said}."
