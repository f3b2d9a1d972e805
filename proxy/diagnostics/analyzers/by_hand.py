"""What a person or the config decided: stopped, held, no instance, taken out by hand, a change that was refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import CERTAIN, Analyzer, Finding, Remedy, Seen, Severity
from proxy.diagnostics.artifacts import Known

WINDOW: Final = 900.0


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    app = known.app
    if app.state == "stopped" or say.faults(known, "stopped", since=known.at - say.LATELY).count:
        yield _decided(
            known,
            "stopped",
            "stopped",
            f"{app.name} is stopped by hand." if app.state == "stopped" else f"{app.name} was stopped by hand.",
            "An operator stopped it",
            "Its requests are turned away with a 503.",
            say.act(
                f"Start {app.name}.", app.name, "start", "Its instances start; requests are served once one is ready."
            ),
        )
    if app.state == "held" or say.faults(known, "held-too-long", since=known.at - say.LATELY).count:
        yield _decided(
            known,
            "held",
            "held-too-long",
            f"The requests of {app.name} are held by hand."
            if app.state == "held"
            else f"The requests of {app.name} were held by hand.",
            "An operator holds it",
            f"Requests wait up to {units.duration(app.queue_timeout)}, then get a 503.",
            say.act(f"Release {app.name}.", app.name, "release", "What waits is served at once."),
        )
    if app.wanted == 0 and app.state not in ("stopped",):
        by = (
            "An operator set its number of instances to 0"
            if _by(known, "scale", "instances", "count")
            else "The config wants no instance of it"
        )
        yield _decided(
            known,
            "no-instance",
            "no-instance",
            f"{app.name} is set to have no instance.",
            by,
            "Its requests get a 503.",
            say.act(
                "Let it have as many as the config says.",
                app.name,
                "scale",
                "They start, if the config wants any.",
                auto=True,
            ),
        )
    yield from _ejected(known)
    yield from _refused(known)


def _by(known: Known, *words: str) -> str:
    """What a person set, in words."""
    return next(
        (text for name, text in known.app.by_hand.items() if any(word in f"{name} {text}" for word in words)), ""
    )


def _decided(known: Known, ident: str, fault: str, title: str, who: str, care: str, remedy: Remedy) -> Finding:
    found = say.faults(known, fault, since=known.at - WINDOW)
    said = _by(known, *{"stopped": ("stop",), "held": ("hold", "held")}.get(ident, ("scale", "instances", "count")))
    severity: Severity = "critical" if found.count else "info"
    evidence = [say.proof(f"{units.several(found.count, 'request')} met it in 15 min.", say.RINGS)]
    if said:
        evidence.append(say.proof(f"Set: {say.clean(said)}.", say.STATE))
    evidence += [
        say.proof(f"{say.stamp(event.at)}: {say.clean(event.text)}.", say.EVENTS)
        for event in known.events[-200:]
        if event.kind in ("stop", "stopping", "hold", "held", "scale") and known.at - event.at <= 86400
    ][-2:]
    return Finding(
        id=ident,
        title=title,
        cause=f"{who}{f': {say.clean(said)}' if said else ''}.",
        severity=severity,
        certainty=CERTAIN,
        care=care,
        app=known.app.name,
        since=found.first,
        evidence=evidence,
        remedies=[remedy],
        faults=[fault],
        explains=["none-ready", "all-ejected", "fails-to-start", "start-too-slow"],
        weight=float(found.count),
    )


def _ejected(known: Known) -> Iterator[Finding]:
    out = [one for one in known.instances if not one.gone and one.admission == "ejected" and "by hand" in one.ejection]
    if not out:
        return
    names = [one.name for one in out]
    serving = [
        one for one in known.instances if not one.gone and one.lifecycle == "ready" and one.admission != "ejected"
    ]
    found = say.faults(known, "all-ejected", since=known.at - WINDOW)
    yield Finding(
        id="ejected-by-hand",
        title=f"{say.listed(names)} {'are' if len(names) > 1 else 'is'} taken out by hand.",
        cause=f"An operator ejected {say.listed(names)}: {say.clean(out[0].ejection)}. {len(serving)} others serve.",
        severity="critical" if not serving and found.count else "info",
        certainty=CERTAIN,
        care="Those get no request until somebody admits them."
        if serving
        else "Nothing is left to serve: each request gets a 503.",
        app=known.app.name,
        instances=names,
        evidence=[say.proof(f"{one.name}: {say.clean(one.ejection)}.", say.STATE) for one in out[:4]],
        remedies=[
            say.act(f"Admit {name}.", known.app.name, "admit", "It gets requests again.", instance=name)
            for name in names[:3]
        ],
        faults=["all-ejected"],
        explains=["all-ejected"],
        weight=float(found.count),
    )


def _refused(known: Known) -> Iterator[Finding]:
    if known.app.not_replaced:
        yield Finding(
            id="not-replaced",
            title=f"The new version of {known.app.name} did not take over; the old one serves on.",
            cause=f"{say.clean(known.app.not_replaced, 240)}.",
            severity="warning",
            certainty=CERTAIN,
            care="Nothing is lost by it, but what was to change has not.",
            app=known.app.name,
            evidence=[say.proof(f"{say.clean(known.app.not_replaced, 240)}.", say.STATE)],
            unknown="Why it did not start, unless another finding says so.",
            remedies=[say.look("Mend what the new one says last, then try again.", f"triage restart {known.app.name}")],
        )
    refused = [event for event in known.events if event.kind == "reload-refused" and known.at - event.at <= 3600]
    later = [event for event in known.events if event.kind == "reload" and refused and event.at > refused[-1].at]
    if refused and not later:
        yield Finding(
            id="reload-refused",
            title="The last change of the config was refused; what ran before is in force.",
            cause=f"{say.clean(refused[-1].text, 240)}.",
            severity="info",
            certainty=CERTAIN,
            care="What was to change has not.",
            evidence=[say.proof(f"{say.stamp(refused[-1].at)}: {say.clean(refused[-1].text, 240)}.", say.EVENTS)],
            remedies=[say.look("All problems of the file at once.", "triage check")],
        )


ANALYZER: Final = Analyzer(
    name="by_hand",
    title="What was decided by hand or by config",
    checks="Nothing is stopped, held, set to none, or taken out by hand, and no change was refused.",
    analyze=analyze,
)
