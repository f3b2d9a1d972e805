"""A crash loop: instances that end again and again, for the same reason, as fast as they are replaced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import SURE, Analyzer, Finding, Remedy, Seen
from proxy.diagnostics.analyzers.endings import Reader
from proxy.diagnostics.analyzers.exits import grouped
from proxy.diagnostics.artifacts import Exit, HostEvents, HostReport, Known

WINDOW: Final = 600.0
LEAST: Final = 3


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    lately = [one for one in known.exits if not one.ours and known.at - one.at <= WINDOW]
    if len(lately) < LEAST:
        return
    reader = Reader(known, seen.one(HostEvents), seen.one(HostReport))
    main = grouped(reader.read(one) for one in lately)[0]
    if len(main) < LEAST or main[0].kind in ("ends-by-itself", "asked-to-end"):
        return
    exits = [one.exit for one in main]
    last = main[-1]
    took = exits[-1].at - exits[0].at
    evidence = [
        say.proof(
            f"{len(lately)} ends in {units.duration(max(1.0, known.at - lately[0].at))}, {len(main)} of this kind.",
            say.EXITS,
        ),
        say.proof(f"They had run {', '.join(units.duration(one.lasted) for one in exits[-5:])}.", say.EXITS),
        *last.evidence[1:],
    ]
    every = f"about every {units.duration(took / (len(exits) - 1))}" if took > 1 else "at once, one after the other"
    yield Finding(
        id="crash-loop",
        title=f"{known.app.name} is in a crash loop: {len(main)} ends in "
        f"{units.duration(max(1.0, known.at - exits[0].at))}.",
        cause=f"Instances end again and again, {every}, each time by {last.words}. {_how_long(exits)}",
        severity="critical",
        certainty=min((one.sure for one in main), key=SURE.__getitem__),
        care="Each fresh instance meets the same end, so replacing it mends nothing, and requests are lost each time.",
        app=known.app.name,
        instances=list(dict.fromkeys(one.instance for one in exits))[-8:],
        since=exits[0].at,
        until=0.0 if known.at - exits[-1].at <= say.LATELY else exits[-1].at,
        evidence=evidence,
        against=last.against,
        rivals=last.rivals,
        unknown=last.unknown,
        remedies=[
            *_back(known, exits),
            say.look("Read what it printed last.", f"triage logs {known.app.name}"),
            say.dont(f"Don't restart or scale {known.app.name} for it.", "Fresh instances end the same way."),
        ],
        faults=["instance-exited", "connect-refused", "all-unready", "closed-before-head", "reset-before-head"],
        explains=["not-listening", "none-ready", "connection-closed", "connection-reset", "all-ejected"],
        charts=["exits", "ready"],
        weight=float(len(main)),
    )


def _how_long(exits: list[Exit]) -> str:
    lasted = [one.lasted for one in exits]
    if max(lasted) <= 1.3 * min(lasted) + 1.0:
        return f"Each had run for about {units.duration(say.middle(lasted) or 0.0)}."
    return f"They had run between {units.duration(min(lasted))} and {units.duration(max(lasted))}."


def _back(known: Known, exits: list[Exit]) -> list[Remedy]:
    """Where a change stands just before the first end: take it back."""
    change = next((one for one in reversed(known.deploys) if 0 <= exits[0].at - one.at <= 900), None)
    if change is None:
        return []
    text = f"Take back what changed at {say.stamp(change.at)}: {say.clean(change.text, 100)}."
    return [say.look(text, expect="The loop ends, if that change is behind it.")]


ANALYZER: Final = Analyzer(
    name="crash_loop",
    title="Crash loop",
    checks="Fewer than 3 ends of one kind in ten minutes.",
    analyze=analyze,
    wants=(HostEvents, HostReport),
)
