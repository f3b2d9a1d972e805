"""Instances that do not become ready: they end at once, listen elsewhere or not at all, or take too long.

One that is on its way and still has time is no finding: starting takes what it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    LIKELY,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Remedy,
    Seen,
)
from proxy.diagnostics.analyzers.endings import Ending, Reader
from proxy.diagnostics.analyzers.exits import RECENT, served, theirs
from proxy.diagnostics.analyzers.last_words import start, uncaught
from proxy.diagnostics.analyzers.not_ready import finding, of, stuck, too_slow
from proxy.diagnostics.artifacts import Activity, Exit, HostEvents, HostReport, Known, Sockets, Stacks

_DO: Final = {
    "port-in-use": "Find who has that port, or pass {port} in the command so that each instance gets its own.",
    "missing-module": "Install what is missing where it runs, or start it with the right interpreter and folder.",
    "missing-file": "Look at cwd and at the path that it names.",
    "missing-command": "Give the whole path of the command, or mend PATH in its environment.",
    "permission": "Let the user that it runs as do that, or choose another user or place.",
    "config": "Give it the setting that it names, in [apps.NAME.process.env] or in its own file.",
    "syntax": "Mend the file that it names.",
    "address": "Let it listen on 127.0.0.1.",
    "dependency": "Look whether what it asks at its start runs and can be reached from here.",
    "descriptors": "Raise its limit of descriptors, or find what it opens at its start.",
    "disk": "Make room on the disk.",
}


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    failed = [one for one in known.exits if not one.ours and not served(known, one) and known.at - one.at <= RECENT]
    alike = _of_served(seen)
    reader = Reader(known, seen.one(HostEvents), seen.one(HostReport))
    failed = [one for one in failed if _like(reader.read(one)) not in alike]
    if failed and _still(known, failed):
        yield _ends(seen, failed)
    for instance in (one for one in known.instances if stuck(known, one)):
        found = of(seen, instance)
        if found is not None:
            yield found
            break
    else:
        if slow := too_slow(seen):
            yield slow


def _of_served(seen: Seen) -> set[tuple[str, str]]:
    """How instances that served have ended: one that ends so a little sooner is no failed start."""
    known = seen.known
    reader = Reader(known, seen.one(HostEvents), seen.one(HostReport))
    return {_like(reader.read(one)) for one in theirs(known) if served(known, one)}


def _like(end: Ending) -> tuple[str, str]:
    return end.kind, end.mark


def _still(known: Known, failed: list[Exit]) -> bool:
    """Not if the start that came after went well."""
    ready = max((one.ready_at for one in known.instances), default=0.0)
    return failed[-1].at >= ready - 1.0 or len(failed) >= 3 or known.app.ready < known.app.wanted


def _ends(seen: Seen, failed: list[Exit]) -> Finding:
    known, last = seen.known, failed[-1]
    reader = Reader(known, seen.one(HostEvents), seen.one(HostReport))
    lines = list(last.last_lines) or reader.lines(last)
    why, error = start(lines), uncaught(lines)
    ending = reader.read(last)
    evidence = [
        say.proof(
            f"{last.instance} ended with {last.words} after {units.duration(last.lasted)}, at {say.stamp(last.at)}.",
            say.EXITS,
        )
    ]
    if len(failed) > 1:
        evidence.append(
            say.proof(f"{units.several(len(failed), 'start')} failed since {say.stamp(failed[0].at)}.", say.EXITS)
        )
    sure: Certainty = LIKELY
    unknown = ""
    if last.code == 0 and why is None and error is None:
        cause = (
            f"{last.instance} ended with exit code 0 after {units.duration(last.lasted)}, before it was ready: a "
            f"program "
            "that goes into the background (a daemon) does this, and one that has nothing to serve."
        )
        unknown = "Whether it left something running: what it left can't be told from other processes."
        left = "Start it so that it stays in the foreground (for example without --daemon)."
        remedy = say.look(left, expect="Its process stays, and Triage can see and end it.")
    elif ending.kind in ("out-of-memory", "native-crash", "killed", "heap-limit", "own-signal"):
        cause, sure, unknown = ending.cause, ending.sure, ending.unknown
        evidence += ending.evidence[1:]
        remedy = say.look("Read what it printed.", f"triage logs {known.app.name}")
    elif why is not None or error is not None:
        said = why.line if why is not None else error.words if error is not None else ""
        short = f"{why.words}: " if why is not None else ""
        where = f" at {say.clean(error.where)}" if error is not None and error.where else ""
        cause = f"{last.instance} can't start: {short}{say.clean(said)}{where}."
        sure = VERY_LIKELY
        evidence.append(say.proof(f"Its last words: {say.clean(said)}{where}.", say.OUTPUT))
        text = _DO.get(why.kind, "") if why is not None else "Mend the line that its last words name."
        remedy = say.look(text.replace("NAME", known.app.name), f"triage logs {known.app.name}")
    else:
        printed = next((one.strip() for one in reversed(lines) if one.strip()), "")
        cause = f"{last.instance} ended with {last.words} after {units.duration(last.lasted)}, before it was ready."
        sure, unknown = CERTAIN, "Why: nothing that it printed names a reason."
        evidence.append(
            say.proof(
                f"The last that it printed: {say.clean(printed)}." if printed else "It printed nothing.", say.OUTPUT
            )
        )
        remedy = say.look(
            "Start it by hand with the same command, user and environment.", " ".join(known.app.command)[:200]
        )
    return finding(
        known,
        id="fails-to-start",
        title=f"{known.app.name} does not start: it ends before it is ready.",
        cause=cause,
        certainty=sure,
        instances=list(dict.fromkeys(one.instance for one in failed))[-8:],
        since=failed[0].at,
        evidence=evidence,
        rivals=ending.rivals if ending.kind in ("out-of-memory", "native-crash") else [],
        unknown=unknown,
        remedies=[
            *_back(known, failed[0].at),
            remedy,
            say.dont(f"Don't restart {known.app.name} before that is mended.", "It ends the same way."),
        ],
        faults=["instance-exited"],
        charts=["ready", "exits"],
        weight=float(len(failed)),
    )


def _back(known: Known, since: float) -> list[Remedy]:
    change = next((one for one in reversed(known.deploys) if -5 <= since - one.at <= 900), None)
    if change is None:
        return []
    return [
        say.look(
            f"Take back what changed at {say.stamp(change.at)}: {say.clean(change.text, 100)}.",
            expect="It starts, if that change is behind it.",
        )
    ]


ANALYZER: Final = Analyzer(
    name="starting",
    title="Instances that do not become ready",
    checks="All instances that should be ready are, or are still within their usual time.",
    analyze=analyze,
    wants=(Sockets, Activity, Stacks, HostEvents, HostReport),
)
