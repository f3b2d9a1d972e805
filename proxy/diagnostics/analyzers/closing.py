"""Connections that an instance closes: idle ones just as they are used, before an answer, in the middle of one.

The same end of a connection has several causes. How long it had been idle, how long after the request it came, whether
fresh connections end so too and whether the process ended tell them apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    LIKELY,
    NOT_KNOWN,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Proof,
    Rival,
    Seen,
    Severity,
)
from proxy.diagnostics.artifacts import Environment, ExceptionGroup, Known
from proxy.diagnostics.reading import traceback_line

WINDOW: Final = 900.0
LEAST: Final = 3
RACE: Final = 0.5
"""Seconds after a request was sent within which a close is one of an idle connection: it was under way already."""


def analyze(seen: Seen) -> Iterator[Finding]:
    yield from _stale(seen)
    for fault, ident in (("closed-before-head", "connection-closed"), ("reset-before-head", "connection-reset")):
        yield from _before_head(seen.known, fault, ident)
    yield from _truncated(seen.known)


def _tries(known: Known, fault: str) -> list[say.Tried]:
    """Those of late that no end of the process explains."""
    lately = [one for one in say.tried(known, fault) if one.at >= known.at - WINDOW]
    return [one for one in lately if say.ended_near(known, one.attempt.instance, one.at) is None]


def _count(known: Known, fault: str, tries: Sequence[say.Tried]) -> int:
    """By the ring, less those that an end of a process explains; never fewer than are at hand."""
    every = [one for one in say.tried(known, fault) if one.at >= known.at - WINDOW]
    number = say.faults(known, fault, since=known.at - WINDOW).count
    return max(len(tries), number - (len(every) - len(tries)))


# --- idle connections --------------------------------------------------------------------------------


def _stale(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    tries = [one for one in _tries(known, "stale-connection") if one.attempt.idle_us is not None]
    number = _count(known, "stale-connection", tries)
    lost = [one for one in tries if one.record.fault == "stale-connection"]
    again = [one for one in tries if any(_fresh_end(other) for other in one.record.attempts or ())]
    if len(tries) < LEAST or len(again) > 0.5 * len(tries):
        return
    idle = sorted((one.attempt.idle_us or 0) / 1e6 for one in tries)
    typical = say.middle(idle) or 0.0
    near = [each for each in idle if abs(each - typical) <= max(0.3, 0.15 * typical)]
    waits = [(one.attempt.wait_us or 0) / 1e6 for one in tries]
    soon = sum(1 for each in waits if each <= RACE)
    evidence = [
        say.proof(
            f"{units.several(number, 'reused connection')} closed without an answer in 15 min; {len(lost)} of those "
            f"requests failed, the others were sent again.",
            say.RINGS,
        ),
        say.proof(
            f"They had been idle for {units.duration(idle[0])} to {units.duration(idle[-1])}, in the middle "
            f"{units.duration(typical)}.",
            say.RECORDS,
        ),
        say.proof(
            f"{soon} of {len(tries)} were closed within {units.duration(RACE)} after the request was sent.", say.RECORDS
        ),
    ]
    kinds = 1
    if len(near) >= 0.7 * len(idle) and typical >= 0.2:
        kinds += 1
        evidence.append(
            say.proof(f"{len(near)} of {len(idle)} idle times lie close to {units.duration(typical)}.", say.RECORDS)
        )
    said = _setting(seen)
    if said:
        evidence.append(say.proof(said, "environment"))
    reused = sum(1 for one in known.records if one.reused)
    fresh = [one for one in known.records if not one.reused and one.tries and not one.fault]
    if fresh:
        evidence.append(
            say.proof(
                f"Of the requests at hand, {reused} went over a reused connection and {len(fresh)} good ones over a "
                f"fresh one.",
                say.RECORDS,
            )
        )
    harmful = len(lost) >= LEAST or number > 0.02 * max(1.0, say.requests(known, known.at - WINDOW))
    sure: Certainty = VERY_LIKELY if kinds >= 2 and soon >= 0.8 * len(tries) else LIKELY
    about = f" after about {units.duration(typical)}" if kinds >= 2 else ""
    what = "idle connections" if typical >= 0.1 else "connections right after an answer, and had not said so,"
    yield Finding(
        id="stale-connections",
        title=f"{known.app.name} closes {what} just as they are used again.",
        cause=f"{known.app.name} closes {what}{about}; a request that is on its way at that moment gets no answer. "
        "The process did not end.",
        severity="warning" if harmful else "info",
        certainty=sure,
        care="A request without content is sent again at once; a POST that was sent may not be, and fails.",
        app=known.app.name,
        instances=list(dict.fromkeys(one.attempt.instance for one in tries)),
        since=min(one.at for one in tries),
        evidence=evidence,
        rivals=[
            Rival(
                cause="these requests themselves",
                against=[f"{len(tries) - len(again)} of {len(tries)} went well on a fresh connection"],
            )
        ],
        remedies=[
            say.later(
                "Let the app's server keep idle connections longer than the gateway uses them (75 s and more), or "
                "say Keep-Alive: timeout=.",
                "The race ends: Triage lets go before the app does.",
            ),
            say.dont(f"Don't restart {known.app.name}.", "It is well; the same setting is in force after it."),
        ],
        faults=["stale-connection"],
        charts=["retries"],
        weight=float(number),
    )


def _fresh_end(one: object) -> bool:
    return not getattr(one, "reused", True) and getattr(one, "fault", "") in ("closed-before-head", "reset-before-head")


def _setting(seen: Seen) -> str:
    for environment in seen.each(Environment).values():
        for runtime in environment.runtimes:
            for name, value in runtime.settings.items():
                if "keep" in name and "alive" in name.replace("-", "").replace("_", "").replace("keepalive", "alive"):
                    return f"{runtime.server or runtime.name} is set to {say.clean(name)} = {say.clean(value)}."
    return ""


# --- closed or reset without an answer ---------------------------------------------------------------


def _before_head(known: Known, fault: str, ident: str) -> Iterator[Finding]:
    tries = _tries(known, fault)
    number = _count(known, fault, tries)
    lost = [one for one in tries if one.record.fault]
    if number < LEAST or not tries:
        return
    how = "resets" if ident == "connection-reset" else "closes"
    instances = list(dict.fromkeys(one.attempt.instance for one in tries))
    shape, of_shape = say.most(say.shape(one.record) for one in tries)
    good = Counter(say.shape(one) for one in known.records if say.good(one))
    only = of_shape >= 0.8 * len(tries) and not good[shape] and sum(good.values()) >= LEAST
    mostly = of_shape >= 0.8 * len(tries) and sum(good.values()) >= 10 and good[shape] < 0.5 * sum(good.values())
    waits = sorted((one.attempt.wait_us or 0) / 1e6 for one in tries)
    fresh = sum(1 for one in tries if not one.attempt.reused)
    half = sum(1 for one in tries if "bytes of a response head" in one.attempt.detail)
    evidence: list[Proof] = [
        say.proof(
            f"{units.several(number, 'attempt')} in 15 min; the process of the instance did not end then.", say.RINGS
        ),
        say.proof(f"{fresh} of {len(tries)} were on a fresh connection: no race with an idle one.", say.RECORDS),
        say.proof(
            f"It came {units.duration(waits[0])} to {units.duration(waits[-1])} after the request was sent.",
            say.RECORDS,
        ),
    ]
    if half:
        evidence.append(say.proof(f"{half} times a part of the response's head had come.", say.RECORDS))
    lines = _printed(known, tries)
    typical = say.middle(waits) or 0.0
    constant = typical >= 0.9 and len(waits) >= 5 and waits[-1] - waits[0] <= max(0.3, 0.1 * typical)
    sure: Certainty = NOT_KNOWN
    cause = f"{known.app.name} {how} connections without an answer, while its process goes on."
    unknown = "Why: nothing that it printed then says so."
    if lines:
        text, part, group = lines
        many_times = (group.lately or group.count) if group is not None else 0
        as_often = 0.5 * len(tries) <= many_times <= 3.0 * len(tries)
        sure, unknown = (VERY_LIKELY if len(tries) >= LEAST and part >= (0.2 if as_often else 0.5) else LIKELY), ""
        if part:
            evidence.append(
                say.proof(f"{units.percent(part)} of the times it printed then: {say.clean(text)}.", say.OUTPUT)
            )
        where = f" at {say.clean(group.where)}" if group is not None and group.where else ""
        if group is not None:
            many = units.several(group.lately or group.count, "time")
            evidence.append(say.proof(f"{group.type}{where} was printed {many} in 15 min.", "exceptions"))
            ident = "app-exception"  # the closing is what follows from it
        cause = f"{known.app.name} {how} the connection instead of answering, as it prints: {say.clean(text)}{where}."
    elif constant:
        sure, unknown = LIKELY, "Which limit that is."
        evidence.append(
            say.proof(f"{len(waits)} of them came about {units.duration(typical)} after the request.", say.RECORDS)
        )
        cause = (
            f"{known.app.name} gives up after about {units.duration(typical)} each time: a time limit in its "
            f"server closes the connection."
        )
    if only or mostly:
        cause += f" It concerns {shape} ({of_shape} of {len(tries)}), while other requests are answered."
        evidence.append(
            say.proof(
                f"{say.share(of_shape, len(tries))} are {shape}; {units.count(sum(good.values()) - good[shape])} "
                f"others at hand were answered well.",
                say.RECORDS,
            )
        )
        sure = LIKELY if sure == NOT_KNOWN else sure
        unknown = unknown and f"What the handler of {shape.partition(' ')[2]} does then: it prints nothing."
    elif len(instances) == 1 and len([one for one in known.instances if not one.gone]) > 1:
        evidence.append(say.proof(f"Only {instances[0]} does so.", say.RECORDS))
    yield Finding(
        id=ident,
        title=f"{known.app.name} {how} connections without answering{f' {shape}' if only or mostly else ''}.",
        cause=cause,
        severity=_severity(known, number, bool(lost)),
        certainty=sure,
        care="The request gets a 502 unless it can be sent to another instance.",
        app=known.app.name,
        instances=instances,
        since=min(one.at for one in tries),
        evidence=evidence,
        rivals=[
            Rival(
                cause="a race with the app's keep-alive time",
                against=[f"{fresh} of {len(tries)} connections were fresh"],
            ),
            Rival(
                cause="the end of a process behind its server (a worker)",
                speaks_for=[] if lines else ["its first process goes on in that case too"],
            ),
        ],
        unknown=unknown,
        remedies=[
            say.look("Read what it printed then.", f"triage logs {known.app.name}"),
            say.look("See these requests.", f"triage requests --app {known.app.name} --fault {fault}"),
        ],
        faults=[fault],
        paths=[shape.partition(" ")[2]] if only or mostly else [],
        explains=["all-ejected"],
        weight=float(number),
    )


def _printed(known: Known, tries: Sequence[say.Tried]) -> tuple[str, float, ExceptionGroup | None] | None:
    """The line that names an error, printed at these moments, in which share of them; its group, if there is one.

    A group that came about as often as these ends stands in where lines are not at hand.
    """
    found: Counter[str] = Counter()
    example: dict[str, str] = {}
    there = [one for one in tries if say.covered(known, one.attempt.instance, one.at - 1.0)][:200]
    for one in there:
        near = [line.text for line in say.printed(known, one.attempt.instance, one.at - 1.0, one.at + 0.5)]
        text = traceback_line(near)
        if text and not text.startswith("SystemExit"):  # how gunicorn ends a worker: `children` tells of it
            key = text.partition(":")[0]
            found[key] += 1
            example[key] = text
    first = min(one.at for one in tries)
    lately = [one for one in known.exceptions if not one.raised and one.last_at >= first - 5]
    groups = [one for one in lately if one.type != "SystemExit"]
    near_count = [one for one in groups if 0.4 * len(tries) <= (one.lately or one.count) <= 4 * len(tries)]
    if found:
        key, times = found.most_common(1)[0]
        if times >= 2:
            group = next((one for one in groups if one.type.rpartition(".")[2] == key.rpartition(".")[2]), None)
            return example[key], times / len(there), group
    if len(near_count) == 1 and not there:
        return f"{near_count[0].type}: {near_count[0].message}", 0.0, near_count[0]
    return None


# --- cut in the middle -------------------------------------------------------------------------------


def _truncated(known: Known) -> Iterator[Finding]:
    tries = _tries(known, "body-truncated")
    number = _count(known, "body-truncated", tries)
    if not tries or number < 2:
        return
    instances = list(dict.fromkeys(one.attempt.instance for one in tries))
    shape, of_shape = say.most(say.shape(one.record) for one in tries)
    details = [one.attempt.detail or one.record.detail for one in tries]
    declared = [text for text in details if "bytes of the content are missing" in text]
    example = next(
        (one for one in tries if "bytes of the content are missing" in (one.attempt.detail or one.record.detail)),
        tries[0],
    )
    missing = say.clean(example.attempt.detail or example.record.detail)
    evidence = [
        say.proof(
            f"{units.several(number, 'response')} ended before their end in 15 min; the process did not end then.",
            say.RINGS,
        ),
        say.proof(
            f"{say.request(example.record)}: the client had {units.size(example.record.bytes_out)}, {missing}.",
            say.RECORDS,
        ),
        say.proof(f"{say.share(of_shape, len(tries))} of them are {shape}.", say.RECORDS),
    ]
    lines = _printed(known, tries)
    amounts = set(declared)
    same = len(declared) >= max(LEAST, 0.8 * len(tries)) and len(amounts) == 1
    cause = f"{known.app.name} closes the connection in the middle of its response"
    unknown = "Why it stops there: nothing that it printed then says so."
    sure: Certainty = CERTAIN
    if same:
        cause += (
            f", each time at the same place ({say.clean(declared[0])}): the length it declares is not what it sends."
        )
        unknown = ""
        sure = VERY_LIKELY
    elif lines:
        cause += f", as it prints: {say.clean(lines[0])}."
        sure, unknown = VERY_LIKELY, ""
        evidence.append(say.proof(f"It printed then: {say.clean(lines[0])}.", say.OUTPUT))
    else:
        cause += f": {missing}."
    yield Finding(
        id="response-truncated",
        title=f"{known.app.name} does not send its responses to the end.",
        cause=cause,
        severity=_severity(known, number, True),
        certainty=sure,
        care="The client has half an answer; its connection was cut, so that it can't take it for whole.",
        app=known.app.name,
        instances=instances,
        since=min(one.at for one in tries),
        evidence=evidence,
        rivals=[
            Rival(
                cause="the end of a process behind its server (a worker) in the middle",
                speaks_for=[] if same or lines else ["it looks the same from here"],
            )
        ],
        unknown=unknown,
        remedies=[
            say.look("Read what it printed then.", f"triage logs {known.app.name}"),
            say.look(
                "Ask the instance itself.",
                f"curl -v "
                f"http://{_address(known, instances[0])}{say.clean(example.record.target.partition('?')[0], 80)} -o "
                f"/dev/null",
            ),
            say.later("Let it compute Content-Length from what it sends, or send chunks.", "Responses are whole."),
        ],
        faults=["body-truncated"],
        paths=[shape.partition(" ")[2]] if of_shape >= 0.8 * len(tries) else [],
        weight=float(number),
    )


def _address(known: Known, name: str) -> str:
    return next((one.address for one in known.instances if one.name == name and one.address), name)


def _severity(known: Known, number: int, lost: bool) -> Severity:
    every = say.requests(known, known.at - WINDOW)
    if lost and every and number > 0.2 * every:
        return "critical"
    return "warning" if lost or number > 0.02 * max(1.0, every) else "info"


ANALYZER: Final = Analyzer(
    name="closing",
    title="Connections that the app closes",
    checks="No connection was closed or reset without a whole answer, but where a process ended.",
    analyze=analyze,
    wants=(Environment,),
)
