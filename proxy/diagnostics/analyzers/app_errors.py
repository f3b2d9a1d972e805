"""5xx of the app's own: which exception stands behind them, or what it says of something that the app asks.

An exception is held to be behind the errors where it was printed while requests that failed were under way, and where
it came about as often as they did; one that the app prints all day long is not.

Longer than most: the ways to hold an exception against the errors belong together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import (
    LIKELY,
    NOT_KNOWN,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Proof,
    Remedy,
    Rival,
    Seen,
    Severity,
)
from proxy.diagnostics.analyzers.stats import wilson
from proxy.diagnostics.analyzers.symptoms import PEERS, kind_of, named, peer_of
from proxy.diagnostics.artifacts import ExceptionGroup, Known, Peer, Record, Sockets

WINDOW: Final = 900.0
LEAST: Final = 5
BUSY: Final = 2.0
"""Seconds by which a busy machine may be late with what an app printed."""
FEW: Final = 0.01
"""Share of the requests below which errors are said, but are nobody's business at night."""
_TITLES: Final = {
    "refused": "{app} fails because {peer} refuses connections",
    "unresolved": "{app} fails because the name {peer} does not resolve",
    "unreachable": "{app} fails because there is no way to {peer}",
    "lost": "{app} fails because {peer} closes its connections",
    "peer-slow": "{app} fails because {peer} does not answer in time",
    "peer-full": "{app} fails because {peer} takes no more connections",
    "pool": "{app} fails because its own pool of connections is used up",
    "permission": "{app} fails because it may not use a file",
    "readonly": "{app} fails because a file system is read-only",
    "threads": "{app} fails because it can start no more threads or processes",
    "memory": "{app} fails because it gets no more memory",
    "tls": "{app} fails because a certificate does not pass",
    "time": "{app} fails because times do not agree",
    "missing-file": "{app} fails because a file is missing",
}
_IDS: Final = {
    "refused": "dependency-down",
    "unresolved": "dependency-not-found",
    "unreachable": "dependency-down",
    "lost": "dependency-closes",
    "peer-slow": "dependency-times-out",
    "peer-full": "dependency-full",
    "pool": "pool-used-up",
    "permission": "permission-denied",
    "readonly": "read-only",
    "threads": "threads-used-up",
    "memory": "memory-refused",
    "tls": "dependency-certificate",
    "time": "times-differ",
    "missing-file": "file-missing",
}
_ELSEWHERE: Final = ("disk-full", "descriptors", "watches")
"""Kinds that analyzers of their own are about."""


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    since = known.at - WINDOW
    count = max(say.total(known.rings.get(""), "errors", since), say.faults(known, "app-error", since=since).count)
    bad = [one for one in known.records if _own_error(one) and say.ends(one) >= since]
    number = max(int(count), len(bad))
    if number < LEAST:
        return
    first = say.faults(known, "app-error", since=since).first or min((one.time for one in bad), default=since)
    began = max(since, min(first - 5.0, known.at - 60.0))  # of the time before it began nothing is to be counted
    every = max(say.requests(known, began), float(number))
    groups = _merged(one for one in known.exceptions if one.last_at >= since and not one.raised)
    matched = _printed_then(known, bad)
    anyway = _printed_then(known, [one for one in known.records if say.good(one)])
    used: set[str] = set()
    for group in sorted(groups, key=lambda one: -(one.lately or one.count)):
        times = group.lately or group.count
        share = matched.get(group.type, 0.0)
        if anyway.get(group.type, 0.0) > 0.6 * share and not 0.5 * number <= times <= 2.0 * number + 3:
            share = 0.0  # it is printed during good ones just as well
        if times < max(3, 0.2 * number) and share < 0.2:
            continue
        if len(used) >= 3 or kind_of(f"{group.type}: {group.message}") in _ELSEWHERE:
            used.add(group.fingerprint)
            continue
        used.add(group.fingerprint)
        yield _by_exception(seen, group, number, every, bad, share)
    if not used:
        yield _without(seen, number, every, bad, since)


def _merged(groups: Iterable[ExceptionGroup]) -> list[ExceptionGroup]:
    """What differs only in the frames above the place is one. SystemExit is how servers end, not an error."""
    found: dict[tuple[str, str, str], ExceptionGroup] = {}
    for one in groups:
        if one.type == "SystemExit":
            continue
        key = (one.type, one.where, kind_of(one.message))
        had = found.get(key)
        if had is None:
            found[key] = one
            continue
        found[key] = msgspec.structs.replace(
            had,
            count=had.count + one.count,
            lately=had.lately + one.lately,
            first_at=min(had.first_at, one.first_at),
            last_at=max(had.last_at, one.last_at),
            instances=list(dict.fromkeys([*had.instances, *one.instances])),
        )
    return list(found.values())


def _own_error(one: Record) -> bool:
    return one.fault == "app-error" or (not one.fault and one.status >= 500)


def _printed_then(known: Known, records: list[Record], after: float = 0.15) -> dict[str, float]:
    """By type of exception: the share of these requests that had it printed on their instance while under way, or
    `after` seconds after that."""
    found: Counter[str] = Counter()
    types = {group.type for group in known.exceptions}
    there = [one for one in records if say.covered(known, one.instance, one.time)][:300]
    for one in there:
        near = say.printed(known, one.instance, one.time - 0.05, say.ends(one) + after)
        for name in types:
            short = name.rpartition(".")[2]
            if any(line.text.strip().startswith((name, short)) or f" {short}: " in line.text for line in near):
                found[name] += 1
    return {name: times / len(there) for name, times in found.items()}


def _only(known: Known, bad: list[Record]) -> tuple[str, int, int]:
    """The kind of request that most errors are of, how many, and how many of that kind went well."""
    shape, times = say.most(say.shape(one) for one in bad)
    return shape, times, sum(1 for one in known.records if say.good(one) and say.shape(one) == shape)


def _severity(known: Known, number: int, every: float) -> Severity:
    low, _ = wilson(min(number, int(every)), max(1, int(every)))
    if low >= 0.2:
        return "critical"
    return "warning" if low >= FEW or number >= 50 else "info"


def _by_exception(
    seen: Seen, group: ExceptionGroup, number: int, every: float, bad: list[Record], share: float
) -> Finding:
    known = seen.known
    times = group.lately or group.count
    error = f"{group.type}: {say.clean(group.message, 140)}" if group.message else group.type
    evidence: list[Proof] = [
        say.proof(
            f"{say.share(number, every)} of the requests since it began were answered with a 5xx of the app's own.",
            say.RINGS,
        ),
        say.proof(
            f"{error} at {say.clean(group.where) or 'a place that is not known'}: {units.several(times, 'time')} in "
            f"the same time.",
            "exceptions",
        ),
    ]
    kinds = 0
    if 0.5 * number <= times <= 3.0 * number + 5:
        kinds += 1
    first, last = min((one.time for one in bad), default=0.0), max((say.ends(one) for one in bad), default=0.0)
    older = group.first_at < first - 60.0 and first > known.at - WINDOW + 60.0  # it came before there were errors
    same = number >= 10 and abs(times - number) <= 0.2 * number and not older
    if same and abs(group.last_at - last) <= 5.0 and (abs(group.first_at - first) <= 5.0 or group.first_at < first):
        kinds += 1
        evidence.append(say.proof("It came as often as the errors, and last when the last of them did.", "exceptions"))
    if bad and share >= 0.5:
        kinds += 1
        evidence.append(
            say.proof(
                f"It was printed while {units.percent(share)} of the failed requests at hand were under way.",
                say.OUTPUT,
            )
        )
    shape, of_shape, well = _only(known, bad)
    only = bool(bad) and of_shape >= 0.8 * len(bad)
    if only:
        text = (
            f"{say.share(of_shape, len(bad))} of the failed requests at hand are {shape}; {well} of that kind went "
            f"well."
        )
        evidence.append(say.proof(text, say.RECORDS))
    rest = [line for line in group.sample[-6:] if not line.lstrip().startswith(("File ", "at "))]
    kind = kind_of(f"{group.type}: {group.message}") or kind_of(" ".join(group.sample[-4:]))
    against = []
    looked = any(say.covered(known, one.instance, one.time) for one in bad)
    if share < 0.2 and looked and _printed_then(known, bad, BUSY).get(group.type, 0.0) < 0.2:
        kinds = 0
        text = f"It was printed while {units.percent(share)} of the failed requests at hand were under way."
        against.append(say.proof(text, say.OUTPUT))
    sure: Certainty = VERY_LIKELY if kinds >= 2 else LIKELY
    if times < 0.5 * number:
        against.append(
            say.proof(f"It came {units.several(times, 'time')} only, for {units.count(number)} errors.", "exceptions")
        )
    peer = peer_of(f"{group.type}: {group.message}") or peer_of(" ".join(rest))
    ident = _IDS.get(kind, "app-exception")
    unknown = ""
    where = f" at {say.clean(group.where)}" if group.where else ""
    if ident == "app-exception":
        title = (
            f"{known.app.name} answers {'requests for ' + shape.partition(' ')[2] if only else 'requests'} with "
            f"errors: {group.type}{where}."
        )
        cause = f"An exception in the app: {error}{where}."
        remedies = _mend(known, group)
    else:
        what = named(peer) if peer else "something that it asks"
        title = _TITLES[kind].format(app=known.app.name, peer=what) + "."
        cause = f"The app says so itself: {error}{where}."
        if kind in PEERS and peer:
            seen_now = _peer(seen, peer)
            if seen_now is not None:
                evidence.append(say.proof(_peer_words(seen_now), "sockets"))
            unknown = f"Why {peer} does so: that can't be seen from here."
        remedies = _ask(known, kind, peer, group)
    deploy = next((one for one in reversed(known.deploys) if abs(group.first_at - one.at) <= 300), None)
    if deploy is not None:
        evidence.append(
            say.proof(
                f"It was first seen at {say.stamp(group.first_at)}; at {say.stamp(deploy.at)}: "
                f"{say.clean(deploy.text, 100)}.",
                "deploys",
            )
        )
    instances = list(dict.fromkeys(one.instance for one in bad if one.instance)) or group.instances
    return Finding(
        id=ident,
        title=title,
        cause=cause,
        severity=_severity(known, max(round(share * number), min(number, times)), every),
        certainty=sure,
        care="Each of these requests failed for whoever sent it.",
        app=known.app.name,
        instances=instances if len(instances) < len([one for one in known.instances if not one.gone]) else [],
        since=max(group.first_at, known.at - WINDOW),
        until=group.last_at if known.at - group.last_at > say.LATELY else 0.0,
        evidence=evidence,
        against=against,
        rivals=[
            Rival(
                cause="another error that prints nothing",
                against=[f"{units.several(times, 'exception')} for {units.count(number)} errors"],
            )
        ],
        unknown=unknown,
        remedies=remedies,
        faults=["app-error"],
        paths=[shape.partition(" ")[2]] if only else [],
        explains=["app-errors", "probe-blind", "probe-wrong", "probe-failing", "all-ejected"],
        charts=["errors", "requests"],
        weight=float(min(number, max(times, share * number))),
    )


def _without(seen: Seen, number: int, every: float, bad: list[Record], since: float) -> Finding:
    """Errors, and no exception that goes with them."""
    known = seen.known
    shape, of_shape, well = _only(known, bad)
    only = bool(bad) and of_shape >= 0.8 * len(bad)
    status = say.most(str(one.status) for one in bad)[0] or "5xx"
    evidence = [
        say.proof(
            f"{say.share(number, every)} of the requests since it began were answered with a 5xx of the app's own.",
            say.RINGS,
        )
    ]
    if only:
        evidence.append(
            say.proof(
                f"{say.share(of_shape, len(bad))} of the failed ones at hand are {shape}; {well} of that kind went "
                f"well.",
                say.RECORDS,
            )
        )
    said = _error_lines(known, bad)
    sure: Certainty = NOT_KNOWN
    cause = f"The app itself answers {status}{f' to {shape}' if only else ''}."
    unknown = "Why: it printed no exception while these requests were under way."
    ident, peer = "app-errors", ""
    if said:
        text, times = said
        evidence.append(
            say.proof(f"While {times} of {len(bad)} were under way it printed: {say.clean(text)}.", say.OUTPUT)
        )
        kind = kind_of(text)
        ident, peer = _IDS.get(kind, "app-errors"), peer_of(text)
        sure, unknown = LIKELY, ""
        cause = f"The app answers {status}, and prints: {say.clean(text)}."
    raised = max(
        (one for one in known.exceptions if one.raised and one.last_at >= since),
        key=lambda one: one.lately or one.count,
        default=None,
    )
    if not said and raised is not None and (raised.lately or raised.count) >= 0.5 * number:
        cause = (
            f"The app raises {raised.type}: {say.clean(raised.message)} at {say.clean(raised.where)}, catches it, "
            f"and answers {status}."
        )
        evidence.append(
            say.proof(
                f"{raised.type} was raised {units.several(raised.lately or raised.count, 'time')}, as the agent in "
                f"it says.",
                "exceptions",
            )
        )
        kind = kind_of(f"{raised.type}: {raised.message}")
        ident, peer = _IDS.get(kind, "app-exception"), peer_of(raised.message)
        sure, unknown = LIKELY, ""
    kind = next((each for each, name in _IDS.items() if name == ident), "")
    title = (
        f"{known.app.name} answers {'requests for ' + shape.partition(' ')[2] if only else 'requests'} with errors "
        f"of its own."
    )
    if kind in _TITLES:
        title = _TITLES[kind].format(app=known.app.name, peer=named(peer) if peer else "something that it asks") + "."
    return Finding(
        id=ident,
        title=title,
        cause=cause,
        severity=_severity(known, number, every),
        certainty=sure,
        care="Each of these requests failed for whoever sent it.",
        app=known.app.name,
        instances=[],
        since=min((one.time for one in bad), default=since),
        evidence=evidence,
        unknown=unknown,
        remedies=[
            say.look("See which requests.", f"triage requests --app {known.app.name} --status 5xx"),
            say.look("Read what it printed then.", f"triage logs {known.app.name}"),
            say.later(
                "Let it print the exception for each 5xx; or run the agent in it (diagnose.agent = true).",
                "The next such error has a name and a line.",
            ),
        ],
        faults=["app-error"],
        paths=[shape.partition(" ")[2]] if only else [],
        explains=["probe-blind", "probe-wrong", "all-ejected"],
        charts=["errors", "requests"],
        weight=float(number),
    )


def _error_lines(known: Known, bad: list[Record]) -> tuple[str, int] | None:
    """A line that tells of something, printed during a third of the failed requests, and less during good ones."""
    example: dict[str, str] = {}
    there = [one for one in bad if say.covered(known, one.instance, one.time)][:200]
    good = [one for one in known.records if say.good(one) and say.covered(known, one.instance, one.time)][:200]
    found, anyway = _kinds(known, there, example), _kinds(known, good, {})
    for kind in sorted(found, key=lambda each: (each == "error", -found[each])):
        times = found[kind]
        usual = anyway[kind] / len(good) if good else 0.0
        if times >= max(2, len(there) / 3) and usual <= 0.5 * times / len(there):
            return example[kind], round(times * len(bad) / len(there))
    return None


def _kinds(known: Known, records: list[Record], example: dict[str, str]) -> Counter[str]:
    """How many of these requests had a line of each kind printed while they were under way."""
    found: Counter[str] = Counter()
    for one in records:
        kinds = set()
        for line in say.printed(known, one.instance, one.time - 0.05, say.ends(one) + 0.15):
            sounds = any(word in line.text for word in ("ERROR", "CRITICAL", "Error:", "error:", "Exception"))
            if kind := kind_of(line.text) or ("error" if sounds else ""):
                kinds.add(kind)
                example.setdefault(kind, line.text)
        found.update(kinds)
    return found


def _peer(seen: Seen, peer: str) -> Peer | None:
    for sockets in seen.each(Sockets).values():
        for sample in reversed(sockets.samples):
            found = next((one for one in sample.peers if one.address == peer), None)
            if found is not None:
                return found
    return None


def _peer_words(one: Peer) -> str:
    parts = [f"{one.established} established"]
    parts += [f"{one.connecting} that get no answer to their first packet"] if one.connecting else []
    parts += [f"{one.closing} that it closed and the app did not"] if one.closing else []
    return f"Connections of the app to {one.address}: {', '.join(parts)}."


def _mend(known: Known, group: ExceptionGroup) -> list[Remedy]:
    mend = say.look(
        f"Mend {say.clean(group.where)}." if group.where else "Find the line in its traceback.",
        f"triage exceptions {known.app.name}",
    )
    back = next((one for one in reversed(known.deploys) if 0 <= group.first_at - one.at <= 900), None)
    undo = (
        [
            say.look(
                f"Take back what changed at {say.stamp(back.at)}: {say.clean(back.text, 100)}.",
                expect="The errors end, if that change brought them.",
            )
        ]
        if back
        else []
    )
    return [
        *undo,
        mend,
        say.dont(f"Don't restart or scale {known.app.name} for it.", "The same code gives the same error."),
    ]


def _ask(known: Known, kind: str, peer: str, group: ExceptionGroup) -> list[Remedy]:
    host, _, port = peer.rpartition(":")
    where = f" at {say.clean(group.where)}" if group.where else ""
    first: Remedy
    match kind:
        case "refused" | "unreachable" | "peer-slow" | "lost":
            first = say.look(
                f"Look at {named(peer) or 'what it asks'}: does it run, does it answer from here?",
                f"nc -vz -w 3 {host} {port}" if host and port else "",
                "The errors end within seconds of its coming back.",
            )
        case "unresolved":
            first = say.look("Ask the resolver.", f"getent ahosts {host or peer}" if peer else "cat /etc/resolv.conf")
        case "peer-full":
            first = say.look(
                f"Look at who holds the connections of {named(peer) or 'the database'}; lower pool sizes, or raise "
                f"its limit.",
                expect="New connections get in. More instances of the app make it worse.",
            )
        case "pool":
            first = say.look(f"Look at what holds the pool's connections{where}.", f"triage diagnose {known.app.name}")
        case "permission" | "readonly" | "missing-file":
            first = say.look("Look at that path: owner, mode, mount.", f"triage exceptions {known.app.name}")
        case _:
            first = say.look(f"Look at{where or ' its traceback'}.", f"triage exceptions {known.app.name}")
    return [first, say.dont(f"Don't restart or scale {known.app.name} for it.", "It fails again at the same place.")]


ANALYZER: Final = Analyzer(
    name="app_errors",
    title="Errors of the app's own",
    checks="Fewer than 5 answers in 15 min were 5xx of the app's own.",
    analyze=analyze,
    wants=(Sockets,),
)
