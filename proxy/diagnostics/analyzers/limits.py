"""Requests that a limit or the routing table of the gateway turned away: what they asked for, and how many they are.

Mostly that is what limits are for. It is above info where a large share of the app's requests meets one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import CERTAIN, Analyzer, Finding, Seen, Severity
from proxy.diagnostics.artifacts import Known
from proxy.faults import FAULTS

WINDOW: Final = 900.0
LEAST: Final = 5
MANY: Final = 0.05
"""Share of the requests above which a limit is more than a guard."""
_LIMITS: Final = {
    "body-too-large": (
        "limit-body",
        "Requests are larger than max_body",
        "Raise apps.{app}.max_body, if such uploads are meant.",
    ),
    "head-too-large": (
        "limit-head",
        "Heads of requests are larger than the gateway takes",
        "Raise gateway.limits.head; most often cookies have piled up: then let the app clear them.",
    ),
    "target-too-long": (
        "limit-target",
        "Targets of requests are longer than the gateway takes",
        "Raise gateway.limits.target, or send the data as content.",
    ),
    "rate-limited": (
        "limit-rate",
        "Clients send faster than rate_limit lets them",
        "Raise apps.{app}.rate_limit, if that client is welcome.",
    ),
    "bad-request": (
        "bad-requests",
        "Clients send requests that are not valid HTTP",
        "Mend the client: the detail says which part was refused.",
    ),
    "bad-framing": (
        "bad-requests",
        "Clients send requests whose end is ambiguous",
        "Mend the client: the detail says which part was refused.",
    ),
    "client-timeout": (
        "clients-slow",
        "Clients do not send their requests in time",
        "Nothing, if it is rare: mostly a lost network.",
    ),
}


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    yield from _no_route(known)
    yield from _loops(known)
    for fault, (ident, title, todo) in _LIMITS.items():
        yield from _limit(known, fault, ident, title, todo)


def _severity(known: Known, count: int) -> Severity:
    every = say.requests(known, known.at - WINDOW)
    return "warning" if count >= 20 and every and count > MANY * (every + count) else "info"


def _limit(known: Known, fault: str, ident: str, title: str, todo: str) -> Iterator[Finding]:
    found = say.faults(known, fault, since=known.at - WINDOW)
    if found.count < LEAST:
        return
    tries = [one.record for one in say.tried(known, fault)]
    shape, of_shape = say.most(say.shape(one) for one in tries)
    client, of_client = say.most(one.client for one in tries)
    details = say.most(one.detail for one in tries if one.detail)[0]
    evidence = [
        say.proof(
            f"{units.several(found.count, 'request')} since "
            f"{say.stamp(found.first)}{f': {say.clean(details)}' if details else ''}.",
            say.RINGS,
        )
    ]
    if tries:
        evidence.append(
            say.proof(
                f"{say.share(of_shape, len(tries))} of those at hand are {shape}; {say.share(of_client, len(tries))} "
                f"come from {say.clean(client, 60)}.",
                say.RECORDS,
            )
        )
    limit = f" ({units.size(known.app.max_body)})" if fault == "body-too-large" and known.app.max_body else ""
    yield Finding(
        id=ident,
        title=f"{title}{limit}.",
        cause=f"{FAULTS[fault].words.rstrip('.')}{limit}: {units.count(found.count)} times in 15 min.",
        severity=_severity(known, found.count),
        certainty=CERTAIN,
        care=f"They are answered {FAULTS[fault].status}; the app never saw them.",
        app=known.app.name,
        since=found.first,
        until=found.last if known.at - found.last > say.LATELY else 0.0,
        evidence=evidence,
        unknown="Whether these clients are meant to do so.",
        remedies=[
            say.later(todo.format(app=known.app.name), "They pass."),
            say.look("See who sends them.", f"triage requests --app {known.app.name} --fault {fault}"),
        ],
        faults=[fault],
        paths=[shape.partition(" ")[2]] if tries and of_shape >= 0.8 * len(tries) else [],
        weight=float(found.count),
    )


def _no_route(known: Known) -> Iterator[Finding]:
    found = [one.record for one in say.tried(known, "no-route") if known.at - one.record.time <= WINDOW]
    if len(found) < LEAST:
        return
    host, of_host = say.most(one.host for one in found)
    ours = {name.lower() for name in known.app.hosts}
    mine = host.partition(":")[0].lower() in ours
    yield Finding(
        id="no-route",
        title="Requests come for which no app is responsible.",
        cause=f"No app has the host {say.clean(host, 80)} with these paths: {say.share(of_host, len(found))} of the "
        f"unrouted requests at hand ask for it.",
        severity="warning" if mine and len(found) >= 20 else "info",
        certainty=CERTAIN,
        care="They are answered 404 by the gateway; no app saw them.",
        app=known.app.name if mine else "",
        since=min(one.time for one in found),
        evidence=[
            say.proof(f"e.g. {say.request(one)} for {say.clean(one.host, 80)}.", say.RECORDS) for one in found[:3]
        ],
        unknown="Whether the client or the config has the wrong name.",
        remedies=[
            say.look(
                "Compare hosts and paths in the config with what is asked for.", "triage requests --fault no-route"
            )
        ],
        faults=["no-route"],
        weight=float(len(found)),
    )


def _loops(known: Known) -> Iterator[Finding]:
    found = say.faults(known, "loop-detected", since=known.at - WINDOW)
    if not found.count:
        return
    yield Finding(
        id="loop",
        title=f"Requests of {known.app.name} come back to this gateway.",
        cause="A request came through this gateway a second time: an address of the app leads back here, or the app "
        "sends what it gets to this gateway again.",
        severity=_severity(known, found.count),
        certainty=CERTAIN,
        care="Such a request can never be answered.",
        app=known.app.name,
        since=found.first,
        evidence=[
            say.proof(
                f"{units.several(found.count, 'request')} carried this gateway's own name in their Via field.",
                say.RINGS,
            )
        ],
        remedies=[say.look(f"Look at apps.{known.app.name}.addresses, and at what the app calls.", "triage status")],
        faults=["loop-detected"],
        weight=float(found.count),
    )


ANALYZER: Final = Analyzer(
    name="limits",
    title="Requests that limits or routing turned away",
    checks="Fewer than 5 requests in 15 min met a limit, and all had an app.",
    analyze=analyze,
)
