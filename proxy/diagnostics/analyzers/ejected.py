"""Instances taken out by Triage's own rules, and apps of which none is ready: what is left when nothing says why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import NOT_KNOWN, Analyzer, Finding, Seen
from proxy.diagnostics.artifacts import Known

WINDOW: Final = 900.0


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    yield from _ejected(known)
    yield from _unready(known)


def _ejected(known: Known) -> Iterator[Finding]:
    ready = [one for one in known.instances if not one.gone and one.lifecycle == "ready"]
    out = [one for one in ready if one.admission == "ejected" and "by hand" not in one.ejection]
    found = say.faults(known, "all-ejected", since=known.at - WINDOW)
    told = [event for event in known.events if event.kind == "ejected" and known.at - event.at <= WINDOW]
    if not out and not found.count:
        return
    nothing_left = bool(found.count) or (bool(ready) and len(out) == len(ready))
    why = say.clean(out[0].ejection) if out else say.clean(told[-1].text) if told else "they could not be connected to"
    names = [one.name for one in out] or list(dict.fromkeys(event.instance for event in told if event.instance))
    yield Finding(
        id="all-ejected" if nothing_left else "ejected",
        title=f"All instances of {known.app.name} are taken out."
        if nothing_left
        else f"{say.listed(names)} {'are' if len(names) > 1 else 'is'} taken out.",
        cause=f"Triage's own rules took out {say.listed(names) or 'every instance'}: {why}.",
        severity="critical" if found.count else "warning",
        certainty=NOT_KNOWN,
        care="Nothing is left to serve: each request gets a 503."
        if nothing_left
        else "The others get its share of the requests.",
        app=known.app.name,
        instances=names,
        since=told[0].at if told else found.first,
        evidence=[
            *(
                [say.proof(f"{units.several(found.count, 'request')} found all ejected.", say.RINGS)]
                if found.count
                else []
            ),
            *(say.proof(f"{one.name}: {say.clean(one.ejection)}.", say.STATE) for one in out[:4]),
            *(say.proof(f"{say.stamp(event.at)}: {say.clean(event.text)}.", say.EVENTS) for event in told[-3:]),
        ],
        unknown="What is wrong with them, beyond the reason for which they were taken out.",
        remedies=[
            say.look("Look at one of them.", f"triage diagnose {known.app.name}"),
            say.dont("Don't admit them by hand before they are well.", "The rule takes them out again."),
        ],
        faults=["all-ejected"],
        charts=["ready"],
        weight=float(found.count),
    )


def _unready(known: Known) -> Iterator[Finding]:
    found = say.faults(known, "all-unready", since=known.at - WINDOW)
    if not found.count or (known.app.state in ("stopped", "held") or known.app.wanted == 0):
        return
    now = known.app.ready == 0
    states = [
        f"{one.name} is {one.lifecycle}{f': {say.clean(one.why)}' if one.why else ''}."
        for one in known.instances
        if not one.gone and one.lifecycle != "ready"
    ]
    yield Finding(
        id="none-ready",
        title=f"No instance of {known.app.name} {'is' if now else 'was'} ready.",
        cause=states[0]
        if states and now
        else f"{units.several(found.count, 'request')} found no instance ready, the last at {say.stamp(found.last)}.",
        severity="critical" if now else "warning",
        certainty=NOT_KNOWN,
        care="Each request waits in the queue and then gets a 503.",
        app=known.app.name,
        since=found.first,
        until=0.0 if now else found.last,
        evidence=[
            say.proof(f"{units.several(found.count, 'request')} found none ready.", say.RINGS),
            *(say.proof(text, say.STATE) for text in states[:4]),
        ],
        unknown="Why none was, unless another finding says so.",
        remedies=[say.look("See what each instance printed last.", "triage status")],
        faults=["all-unready"],
        charts=["ready", "exits"],
        weight=float(found.count),
    )


ANALYZER: Final = Analyzer(
    name="ejected",
    title="Instances that are taken out or not ready",
    checks="At least one instance was ready and in use all the time.",
    analyze=analyze,
)
