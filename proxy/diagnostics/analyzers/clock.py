"""The machine's clock: it was set while the session looked, or it does not agree with others'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, symptoms
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, VERY_LIKELY, Analyzer, Certainty, Finding, Seen
from proxy.diagnostics.artifacts import HostEvents, HostReport

WINDOW: Final = 900.0
STEP: Final = 1.0
"""Seconds; what a clock is slewed by is far less."""


def analyze(seen: Seen) -> Iterator[Finding]:
    known, host, events = seen.known, seen.one(HostReport), seen.one(HostEvents)
    said = next(iter(symptoms.find(known, known.at - WINDOW).get("time", ())), None)
    moved = host.clock_step if host is not None else 0.0
    told = [
        one
        for one in (events.events if events is not None else ())
        if one.kind == "clock" and known.at - one.at <= WINDOW
    ]
    stepped = abs(moved) >= STEP
    unsynced = host is not None and host.clock_synced is False
    if not stepped and not told and not (said is not None and said.number >= 5):
        return
    evidence = []
    sure: Certainty = LIKELY
    if stepped:
        sure = CERTAIN
        evidence.append(
            say.proof(
                f"The clock moved by {units.duration(abs(moved))} {'forward' if moved > 0 else 'back'} against the "
                f"monotonic one.",
                "host_report",
            )
        )
    evidence += [say.proof(f"{say.stamp(one.at)}: {say.clean(one.text)}.", "host_events") for one in told[-3:]]
    if said is not None:
        evidence.append(
            say.proof(
                f"The app printed {units.several(said.number, 'time')}: {say.clean(said.said[-1].text)}.", say.OUTPUT
            )
        )
    if unsynced:
        evidence.append(say.proof("The kernel says that the clock is not synchronised.", "host_report"))
    if stepped or told:
        cause = (
            f"The clock of this machine was moved{f' by {units.duration(abs(moved))}' if stepped else ''} while it ran."
        )
        sure = sure if stepped else VERY_LIKELY
    else:
        cause = (
            "What the app says of tokens or times points to clocks that do not agree: of this machine, or of who "
            "made them."
        )
        if not unsynced:
            evidence.append(say.proof("This machine's clock did not move while the session looked.", "host_report"))
    yield Finding(
        id="clock-step",
        title="The clock of this machine was moved."
        if stepped or told
        else "Times do not agree between the app and others.",
        cause=cause,
        severity="warning" if said is not None or abs(moved) >= 60 else "info",
        certainty=sure,
        care="Tokens, certificates and time limits are judged by it; logs show times out of order.",
        since=told[0].at if told else 0.0,
        evidence=evidence,
        unknown="" if stepped else "Which clock is wrong.",
        remedies=[say.look("See whether and how it is synchronised.", "timedatectl; chronyc tracking")],
        faults=["tls-certificate", "app-error"] if said is not None or abs(moved) >= 60 else [],
        explains=["times-differ"] if stepped else [],
    )


ANALYZER: Final = Analyzer(
    name="clock",
    title="A clock that was moved",
    checks="The machine's clock was not set while the session looked.",
    analyze=analyze,
    wants=(HostReport, HostEvents),
)
