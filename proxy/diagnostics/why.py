"""`explain`: facts to the seven blocks of an answer, WHY to EVIDENCE. Pure.

The order never changes; each block says something for every fault, "nothing" included; LOST answers whether the
request may be repeated, by what was sent and not by the method alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from proxy import units
from proxy.diagnostics import text as screen
from proxy.diagnostics import told
from proxy.diagnostics.analyzers.contract import CERTAIN, NOT_KNOWN, SURE
from proxy.diagnostics.causes import CAUSES, Case, Cause
from proxy.diagnostics.evidence import evidence
from proxy.diagnostics.facts import Facts
from proxy.diagnostics.text import clean, stamp, target
from proxy.diagnostics.told import IDEMPOTENT, SAFE
from proxy.faults import FAULTS, Origin, Retry
from proxy.link.messages import Record

GOING_ON: Final = 15.0
"""Seconds since the last fault of the kind within which it counts as still going on."""


@dataclass(slots=True)
class Why:
    """An answer. Each block is a list of sentences; `certainty` is that of CAUSE's first claim."""

    id: str
    subject: str  # "request" | "app"
    title: str
    certainty: str
    why: list[str] = field(default_factory=list)
    cause: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    now: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    do: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    finding: str = ""  # id of the finding that CAUSE rests on
    finding_certainty: str = ""  # that of the finding, where a surer claim stands before it
    session: str = ""  # where it was found; "": in what control knows

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "text": render(self)}


def render(why: Why) -> str:
    """One screen."""
    return screen.render(why.title, {name: getattr(why, name) for name in screen.BLOCKS})


def explain(facts: Facts) -> Why:
    """About the request in `facts.record`, or about the app when there is none."""
    record = facts.record
    if record is None:
        return _of_app(facts) if facts.app is not None and not facts.id else _of_nothing_kept(facts)
    if not facts.kept:
        return _of_nothing_kept(facts)
    if record.fault not in FAULTS:
        return _of_good(facts, record)
    found = _joined(facts, CAUSES[record.fault](Case(facts, record)))
    return Why(
        record.id,
        "request",
        _title(facts, record),
        found.certainty,
        found.why,
        found.cause or ["NOT KNOWN."],
        lost(record),
        _now(facts, record),
        _done(facts, record),
        found.do,
        _grounds(facts, record),
        *_named(facts),
    )


# --- what analyzers concluded ------------------------------------------------------------------------


def _joined(facts: Facts, own: Cause) -> Cause:
    """What a fault says by itself, and the finding that accounts for it: the surer of the two comes first.

    The finding does also where the fault by itself leaves open what lies behind it.
    """
    finding = facts.finding
    if finding is None:
        return own
    theirs = told.cause(finding)
    open_end = SURE[finding.certainty] > 0 and any("NOT KNOWN" in line for line in own.cause)
    if open_end or SURE[finding.certainty] >= SURE[own.certainty]:
        more = [line for line in own.cause[:3] if not line.startswith("Certain") and "NOT KNOWN" not in line]
        cause = [*theirs, *more] if finding.certainty == CERTAIN else theirs
        return Cause(own.why, cause, told.merged(told.do(finding), own.do), finding.certainty)
    certainty = finding.certainty if own.certainty == NOT_KNOWN else own.certainty
    return Cause(own.why, [*own.cause[:2], *theirs], told.merged(own.do[:1], told.do(finding), own.do[1:]), certainty)


def _seen(facts: Facts) -> list[str]:
    story = [f"story       triage requests --story {facts.id}     all that happened to it"] if facts.story else []
    if facts.finding is None:
        return [*story, f"session     {facts.running} is under way: it may say more"] if facts.running else story
    found = [*story, *told.evidence(facts.finding)]
    if facts.session:
        found.append(f"report      triage report {facts.session}     of {stamp(facts.session_at)}")
    return found


def _grounds(facts: Facts, record: Record | None) -> list[str]:
    """How it went, then what the finding rests on, then the rest."""
    found = evidence(facts, record)
    first = sum(line.startswith(("try ", "tries ", "time ")) for line in found)
    return [*found[:first], *_seen(facts), *found[first:]]


def _named(facts: Facts) -> tuple[str, str, str]:
    found = facts.finding
    return (found.id, found.certainty, facts.session) if found is not None else ("", "", "")


def _title(facts: Facts, record: Record) -> str:
    """One line of at most 96 columns; the target gives way."""
    outcome = f"{record.status or 'cut'} {record.fault or 'ok'}"
    app = f"   app {clean(record.app, 20)}" if record.app else ""
    when = f"   {stamp(record.time)}"
    method = clean(record.method, 16)
    room = screen.COLUMNS - 1 - len(f"{outcome}   {method} {app}{when}   {record.id}")
    shown = target(record.target, max(6, room))
    ago = f" ({units.duration(max(0.0, facts.now - record.time))} ago)"
    if len(shown) + len(ago) <= room:
        when += ago
    return f"{outcome}   {method} {shown}{app}{when}   {record.id}"


# --- LOST --------------------------------------------------------------------------------------------


def lost(record: Record) -> list[str]:
    """Whether something is gone, and whether it may be sent again."""
    fault = FAULTS.get(record.fault)
    method = record.method or "request"
    given = {a.instance: a.sent for a in record.attempts or () if a.sent}
    if record.sent and record.instance:
        given.setdefault(record.instance, record.sent)
    who = " and ".join(list(given)[:3]) or record.instance or "an instance"
    if fault is None:
        return ["Nothing: it was answered."]
    if record.tunnel:
        return ["The tunnel: what was under way in it in both directions. NOT KNOWN: how much of it arrived."]
    if fault.name == "app-error":
        again = "It may be repeated." if method in IDEMPOTENT else "Look before anyone repeats it."
        return [f"Nothing on the way: the app's own answer went to the client. {again}"]
    if not given and not record.sent:
        return ["Nothing: no instance saw anything of this request. It is safe to repeat."]
    amount = units.size(max(given.values(), default=record.sent))
    if record.bytes_out and fault.status is None:
        had = units.size(record.bytes_out)
        cut = f"The end of the response: the client had {had} of it, then its connection was cut."
        return [cut, _again(method, who, amount)]
    if fault.origin is Origin.CLIENT:
        return [f"The answer: the client was gone, or at fault. {_again(method, who, amount, tried=False)}"]
    if method in SAFE:
        return [f"Only an answer. {_again(method, who, amount)}"]
    return [f"This {method}. {_again(method, who, amount)}"]


def _again(method: str, who: str, amount: str, *, tried: bool = True) -> str:
    if method in SAFE:
        return f"{who} had been given it ({amount}), but a {method} is only a question: it is safe to repeat."
    if method in IDEMPOTENT:
        return (
            f"{who} had been given {amount} of it. NOT KNOWN: whether it took effect; a {method} twice has the effect "
            "of one, so it may be repeated."
        )
    careful = ", so it was not sent again: that could do its work twice" if tried else ""
    return (
        f"{who} had been given {amount} of it{careful}. NOT KNOWN: whether it was done. Look before anyone repeats it."
    )


# --- NOW and DONE ------------------------------------------------------------------------------------


def _now(facts: Facts, record: Record) -> list[str]:
    counts, app = facts.counts, facts.app
    said = []
    if counts.recent > 1 and facts.now - counts.last <= GOING_ON:
        since = f" since {stamp(counts.first)}" if counts.first else ""
        said.append(f"STILL GOING ON{since}: {units.count(counts.recent)} {record.fault} in the last 15 min.")
    elif counts.last and counts.last > record.time + record.total_us / 1e6 + 2:
        said.append(f"Not at this moment: the last {record.fault} was at {stamp(counts.last)}.")
    elif counts.recent:
        many = f", {units.count(counts.recent)} in all" if counts.recent > 1 else ""
        said.append(f"No {record.fault} since then{many}.")
    if app is not None:
        said.append(app.verdict + ("" if app.verdict.endswith(".") else "."))
    elif record.app:
        said.append(f"{record.app} is not in the config any more.")
    return said or ["The gateway is up. It was this request alone, as far as is known."]


def _done(facts: Facts, record: Record) -> list[str]:
    said = []
    tries = record.attempts or []
    if len(tries) > 1:
        path = ", then ".join(f"{t.instance} ({t.fault or t.status or 'ok'})" for t in tries[:4])
        said.append(f"It was sent {len(tries)} times: {path}.")
    fault = FAULTS.get(record.fault)
    if fault is not None:
        said.append(_why_no_more(facts, record))
    said += [f"{stamp(event.at)}  {clean(event.text, 150)}" for event in facts.events[:5]]
    return said or ["Nothing: nothing was needed."]


def _why_no_more(facts: Facts, record: Record) -> str:
    fault = FAULTS[record.fault]
    no = "Not sent once more" if len(record.attempts or ()) > 1 else "Not sent to another instance"
    if fault.origin is Origin.CLIENT:
        return "Nothing: there is nothing to mend on this side."
    if fault.retry is Retry.NEVER:
        return f"{no}: {fault.name} is never tried again."
    if fault.retry is Retry.SUSPECT:
        return f"{no}: it may have ended this one, and could end the next."
    if fault.retry is not Retry.ALWAYS and record.method not in IDEMPOTENT and record.sent:
        return f"{no}: a {record.method} is not, once one has had some of it."
    if fault.retry is Retry.IF_ASKED:
        return f"{no}: apps.{record.app}.retries.on does not name {fault.name}."
    if not record.replayable:
        return f"{no}: more of its content was sent than is kept for that."
    if facts.app is not None and facts.app.ready <= 1:
        return f"{no}: no other was ready."
    return f"{no}: the instances left, retries.attempts or the retry budget were used up."


# --- other answers -----------------------------------------------------------------------------------


def _of_good(facts: Facts, record: Record) -> Why:
    """Nothing failed; where did the time go?"""
    total = record.total_us / 1e6
    spent = {
        "the instance, until the head of its response": record.wait_us,
        "the body on its way": record.body_us,
        "the queue": record.queue_us,
        "connecting": (record.connect_us or 0) + (record.tls_us or 0),
        "the client's head on its way": record.head_us,
    }
    name, most = max(spent.items(), key=lambda item: item[1] or 0)
    why = [f"Nothing failed: {record.status} in {units.duration(total)}."]
    cause = ["Certain: it was answered as asked."]
    if most:
        cause = [f"Certain: {units.duration(most / 1e6)} of {units.duration(total)} went to {name}."]
    cause.append(f"Triage's own share was {units.duration(record.own_us / 1e6)}.")
    if facts.app is not None and facts.app.p50 is not None:
        p99 = f", 99 of 100 take less than {units.duration(facts.app.p99)}" if facts.app.p99 is not None else ""
        cause.append(f"The median of {record.app} is {units.duration(facts.app.p50)}{p99}.")
    found = Cause([], cause, [f"check  triage requests --app {record.app} --slower 1s     others as slow"], CERTAIN)
    if facts.finding is not None:
        theirs = told.cause(facts.finding)
        do = told.merged(told.do(facts.finding), found.do)
        found = Cause([], [*theirs, *cause], do, facts.finding.certainty)
    return Why(
        record.id, "request", _title(facts, record), found.certainty, why, found.cause, lost(record),
        _now(facts, record), _done(facts, record), found.do if facts.finding else ["now    nothing", *found.do],
        _grounds(facts, record), *_named(facts),
    )  # fmt: skip


def _of_nothing_kept(facts: Facts) -> Why:
    """An id of ours that was counted but not kept: what is known of its second, and the nearest that was kept."""
    second = float(facts.second)
    found: Why | None = None
    near = facts.record
    if near is not None and near.fault in CAUSES:
        found = explain(_as_kept(facts))
    counts = ", ".join(
        f"{n} {fault} on {where or 'no instance'} of {app or 'no app'}"
        for (app, where, fault), n in list(facts.in_second.items())[:4]
    )
    age = facts.now - second
    why = ["This request was not kept in full: good ones are not, and of a storm of faults only some are."]
    if counts:
        why.append(f"In its second were counted: {counts}.")
    elif facts.in_interval:
        about = ", ".join(f"{n} {fault} of {app}" for (app, fault), n in list(facts.in_interval.items())[:4])
        why.append(f"In the ten seconds around it were counted: {about}.")
    elif age > 900:
        why.append("Counts by the second are kept for 15 minutes, and its second is longer ago.")
    elif second < facts.counted_since:
        why.append("Control was started after its second, and counts by the second began with it.")
    else:
        why.append("In its second no fault was counted, so very likely it was answered.")
    cause = ["NOT KNOWN of this one."]
    if found is not None and near is not None and abs(near.time - second) <= 60:
        away = units.duration(abs(near.time - second))
        cause.append(f"The nearest that was kept, {near.id}, {away} away, is a {near.status or 'cut'} {near.fault}:")
        cause += found.why[:1] + found.cause[:2]
    ago = units.duration(max(0.0, age))
    title = f"not kept   worker {(facts.worker or 0) + 1}   {stamp(second)} ({ago} ago)   {facts.id}"
    verdict = facts.app.verdict if facts.app is not None else ""
    do = [f"check  grep {facts.id} in the access log     each request has a line there"]
    if near is not None:
        do.append(f"check  triage why {near.id}     the nearest that was kept")
    return Why(
        facts.id, "request", title, NOT_KNOWN, why, cause,
        ["NOT KNOWN: what an instance had of it. The access log says (sent); look before a POST is repeated."],
        [verdict or "The gateway is up."],
        ["It was counted."] if counts else ["Nothing is known to have been done for this one."],
        do,
        [f"id          made by worker {(facts.worker or 0) + 1} at {stamp(second)}, as it says itself"],
    )  # fmt: skip


def _as_kept(facts: Facts) -> Facts:
    return Facts(
        now=facts.now, record=facts.record, app=facts.app, instance=facts.instance, exit=facts.exit,
        lines=facts.lines, malformed=facts.malformed, counts=facts.counts, lag=facts.lag,
    )  # fmt: skip


def _of_app(facts: Facts) -> Why:
    """How an app is at this moment."""
    app = facts.app
    assert app is not None
    why, cause, certainty = [app.verdict], [], CERTAIN
    trouble = [i for i in app.instances if i.lifecycle != "ready" or i.admission != "admitting" or i.failing]
    for instance in trouble[:4]:
        state = "failing" if instance.failing else instance.admission
        state = instance.lifecycle if instance.lifecycle != "ready" else state
        reason = instance.ejection or instance.why or (instance.probe if not instance.probe_ok else "")
        cause.append(f"{instance.name} is {state}{': ' + clean(reason, 160) if reason else '.'}")
    for name, number in list(app.faults.items())[:3]:
        words = FAULTS[name].words if name in FAULTS else ""
        cause.append(f"{units.count(number)} {name} in 5 min: {words}")
    if app.slots and app.in_flight >= 0.9 * app.slots:
        case = Case(facts, Record("", facts.now, 0, app=app.name, fault="queue-timeout"))
        cause += _busy_now(case)
    if app.waiting:
        oldest = f", the oldest for {units.duration(app.oldest_wait)}" if app.oldest_wait else ""
        why.append(f"{units.count(app.waiting)} requests wait for a slot{oldest}.")
    if app.not_replaced:
        late = [one for one in app.exits if f"{one[0]} did not get ready" in app.not_replaced and not one[1].ours]
        said = f"Certain: {late[-1][0]} ended with {late[-1][1].words} before it was ready. " if late else ""
        cause.insert(0, f"{said}What ran before was kept, so nothing is lost by it.")
    if not cause:
        cause = ["Nothing is wrong: all that is wanted is ready, and nothing failed in 5 min."]
        if app.state != "up":
            cause, certainty = ["NOT KNOWN beyond that."], NOT_KNOWN
    if facts.finding is not None:
        own = [line for line in cause if not line.startswith(("NOT", "Nothing is wrong"))]
        cause = [*told.cause(facts.finding), *own]
        certainty = facts.finding.certainty
    do = _do_for_app(app.name, app.state, bool(app.faults), [i.name for i in trouble])
    if app.not_replaced:
        mended = f"after  triage restart {app.name}     once the new one can start: mend what it says last"
        do = [mended, *(line for line in do if line != "now    nothing")]
    if facts.finding is not None:
        do = told.merged(told.do(facts.finding), do)
    waits = ["Nothing is known to be lost."]
    if app.faults:
        failed = units.count(sum(app.faults.values()))
        waits = [f"{failed} requests or attempts ended in a fault in 5 min; each has its own why."]
    response = ""
    if app.p50 is not None and app.p99 is not None:
        response = f", median {units.duration(app.p50)}, p99 {units.duration(app.p99)}"
    now = [f"{units.count(app.in_flight)} requests in flight, {app.per_second:,.1f}/s{response}."]
    done = [f"{stamp(event.at)}  {clean(event.text, 150)}" for event in facts.events[:6]]
    return Why(
        app.name, "app", f"{app.state}   app {app.name}   {stamp(facts.now)}", certainty, why, cause, waits, now,
        done or ["Nothing: nothing was needed of late."], do, _grounds(facts, None), *_named(facts),
    )  # fmt: skip


def _busy_now(case: Case) -> list[str]:
    found: Cause = CAUSES["queue-timeout"](case)
    return found.cause


def _do_for_app(name: str, state: str, faults: bool, trouble: list[str]) -> list[str]:
    if state == "stopped":
        return [f"now    triage start {name}     it was stopped by hand"]
    if state == "held":
        return [f"now    triage release {name}     its requests are held by hand"]
    do = []
    if faults:
        do.append(f"check  triage requests --app {name} --fault any     newest first; then triage why ID")
    do += [
        f"check  logs/instances/{instance}.log in the data folder     what it printed last" for instance in trouble[:2]
    ]
    return do or ["now    nothing"]
