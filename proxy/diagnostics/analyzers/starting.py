"""Instances that do not become ready: they end at once, listen elsewhere or not at all, or take too long.

One that is on its way and still has time is no finding: starting takes what it takes.

Longer than most: what keeps an instance from being ready is told apart in one place.
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
    Proof,
    Remedy,
    Rival,
    Seen,
    Severity,
)
from proxy.diagnostics.analyzers.endings import Ending, Reader
from proxy.diagnostics.analyzers.exits import RECENT, served, theirs
from proxy.diagnostics.analyzers.last_words import start, uncaught
from proxy.diagnostics.analyzers.threads import own, short
from proxy.diagnostics.artifacts import Activity, Event, Exit, HostEvents, HostReport, Instance, Known, Sockets, Stacks

SETTLED: Final = 10.0
"""Seconds for which a process must have run before where it listens says something."""
WORKS: Final = 0.015
"""Cores above which a process that does not listen is not merely waiting."""
_COMING: Final = ("starting", "warming")
_FAULTS: Final = ["all-unready", "connect-refused", "all-ejected", "held-too-long"]
_EXPLAINS: Final = ["none-ready", "not-listening", "all-ejected", "probe-wrong", "not-replaced", "crash-loop"]
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
    stuck = [one for one in known.instances if _stuck(known, one)]
    for instance in stuck:
        found = _of(seen, instance)
        if found is not None:
            yield found
            break
    else:
        if slow := _too_slow(seen):
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
    return Finding(
        id="fails-to-start",
        title=f"{known.app.name} does not start: it ends before it is ready.",
        cause=cause,
        severity=_severity(known),
        certainty=sure,
        care=_care(known),
        app=known.app.name,
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
        faults=[*_FAULTS, "instance-exited"],
        explains=_EXPLAINS,
        charts=["ready", "exits"],
        weight=float(len(failed)),
    )


# --- those that run and are not ready ----------------------------------------------------------------


def _stuck(known: Known, one: Instance) -> bool:
    """It runs, is not ready, and has had time, or its start has failed before."""
    if one.gone or not one.pid or one.kind != "process" or one.lifecycle not in _COMING:
        return False
    runs = known.at - one.started_at
    return runs >= _patience(known) or (bool(_failures(known, one)) and runs >= 3.0)


def _patience(known: Known) -> float:
    """How long a start may take before it is looked into: longer than those that went well took."""
    took = [one.ready_at - one.started_at for one in known.instances if one.ready_at > one.started_at > 0]
    within = known.app.ready_within or 60.0
    return max(min(SETTLED, within / 2), 2.0 * max(took, default=0.0)) if took else min(SETTLED, within / 2)


def _failures(known: Known, one: Instance) -> list[Event]:
    """Starts of the app that took too long, of late."""
    return [event for event in known.events if event.kind == "too-slow" and known.at - event.at <= RECENT]


def listeners(seen: Seen, one: Instance) -> list[str] | None:
    """Where it listened in all looks of the session; None: nobody could look."""
    found = seen.each(Sockets).get(one.name)
    if found is not None and found.samples:
        sets = [{each.address for each in sample.listeners} for sample in found.samples]
        return sorted(set.union(*sets))
    return list(one.listens_on) if one.listens_on else None


def reaches(addresses: list[str], address: str) -> bool:
    """Whether who connects to `address` gets to one of these."""
    if address.startswith(("unix:", "/")):
        path = address.removeprefix("unix:")
        return any(one.removeprefix("unix:") == path for one in addresses)
    number = say.port(address)
    return any(
        one in (address, f"0.0.0.0:{number}", f"[::]:{number}", f":::{number}", f"*:{number}") for one in addresses
    )


def _of(seen: Seen, one: Instance) -> Finding | None:
    known = seen.known
    where = listeners(seen, one)
    runs = known.at - one.started_at
    evidence = [
        say.proof(f"{one.name} (pid {one.pid}) has run for {units.duration(runs)} and is {one.lifecycle}.", say.STATE)
    ]
    if one.probe:
        evidence.append(say.proof(f"Its check says: {say.clean(one.probe)}.", say.STATE))
    before = _failures(known, one)
    if before:
        evidence.append(
            say.proof(f"{units.several(len(before), 'start')} took longer than ready_within lately.", say.EVENTS)
        )
    cores = _cpu(seen, one)
    if cores is not None:
        evidence.append(say.proof(f"It uses {cores:.2f} cores.", say.of(one.name, "activity")))
    if where and not reaches(where, one.address):
        return _elsewhere(seen, one, where, evidence, (bool(before) or runs >= 30.0) and not (cores or 0.0) >= 0.2)
    if where is not None and not where:
        return _nowhere(seen, one, evidence, cores)
    if where and reaches(where, one.address):
        return _unwell(known, one, evidence, cores)
    return None


def _elsewhere(seen: Seen, one: Instance, where: list[str], evidence: list[Proof], tried: bool) -> Finding:
    known = seen.known
    right = [each for each in where if say.port(each) == say.port(one.address)]
    evidence.insert(
        0,
        say.proof(
            f"Its processes listen on {say.listed(where)}; expected at {one.address}.", say.of(one.name, "sockets")
        ),
    )
    if right:
        ident, what = "wrong-address", f"the right port, but on {say.listed(right)}, where {one.address} does not lead"
        todo = "Let it listen on 127.0.0.1 (or on all addresses)."
    else:
        ident, what = "wrong-port", f"{say.listed(where)}, not {one.address}"
        todo = "Pass {port} in its command, or let it read $PORT: Triage gives each instance a port of its own."
    waits = known.at - one.started_at >= SETTLED and "refused" in one.probe and not (_cpu(seen, one) or 0.0) >= 0.2
    sure: Certainty = CERTAIN if tried or waits else LIKELY
    return Finding(
        id=ident,
        title=f"{known.app.name} listens at another place than expected.",
        cause=f"{one.name} runs, but listens on {what}.",
        severity=_severity(known),
        certainty=sure,
        care=_care(known),
        app=known.app.name,
        instances=[one.name],
        since=one.started_at,
        evidence=evidence,
        rivals=[]
        if sure == CERTAIN
        else [
            Rival(
                cause="an app that will listen at the right place later",
                against=[f"{units.duration(known.at - one.started_at)} have passed"],
            )
        ],
        remedies=[say.look(todo, f"triage logs {known.app.name}", "It becomes ready at its next start.")],
        faults=_FAULTS,
        explains=[*_EXPLAINS, "start-too-slow"],
        charts=["ready"],
    )


def _nowhere(seen: Seen, one: Instance, evidence: list[Proof], cores: float | None) -> Finding:
    known = seen.known
    evidence.insert(0, say.proof("None of its processes listens anywhere.", say.of(one.name, "sockets")))
    peers = _asked(seen, one)
    line = _stands(seen, one)
    rivals: list[Rival] = []
    sure: Certainty
    unknown = ""
    ident = "does-not-listen"
    if cores is not None and cores >= WORKS and not peers:
        ident = "start-too-slow"
        cause = f"{one.name} does not listen yet, and works on ({cores:.2f} cores): it is still starting."
        sure = LIKELY
        unknown = "How long it will take."
        todo = say.later(
            f"Raise apps.{known.app.name}.health.ready_within, or let it listen before its long work.",
            "Starts are no longer ended early.",
        )
    elif peers:
        cause = f"{one.name} does not listen yet, and waits for {say.listed(peers)}."
        sure = VERY_LIKELY if line else LIKELY
        todo = say.look(
            f"Look at {peers[0]}: is it up, does it answer from here?", expect="It goes on starting when that answers."
        )
    else:
        cause = (
            f"{one.name} runs and listens nowhere; it does not compute."
            if cores is not None
            else f"{one.name} runs and listens nowhere."
        )
        sure = CERTAIN if cores is not None and known.at - one.started_at >= SETTLED else LIKELY
        unknown = "What it waits for." if not line else ""
        todo = say.look("Look at where it stands.", f"triage diagnose {known.app.name}/{one.name}")
    if line:
        evidence.append(say.proof(f"It stands at {say.clean(line)}.", say.of(one.name, "stacks")))
        cause += f" It stands at {say.clean(line)}."
    return Finding(
        id=ident,
        title=f"{known.app.name} runs but does not listen{' yet' if ident == 'start-too-slow' else ''}.",
        cause=cause,
        severity=_severity(known),
        certainty=sure,
        care=_care(known),
        app=known.app.name,
        instances=[one.name],
        since=one.started_at,
        evidence=evidence,
        rivals=rivals,
        unknown=unknown,
        remedies=[todo],
        faults=_FAULTS,
        explains=[*_EXPLAINS, "start-too-slow"],
        charts=["ready", "cpu"],
    )


def _unwell(known: Known, one: Instance, evidence: list[Proof], cores: float | None) -> Finding | None:
    """It listens where it should, and its check does not pass."""
    if not one.probe or one.probe_ok:
        return None
    path = known.app.health_path or "(a connection)"
    status = one.probe_status
    sure: Certainty = CERTAIN if status is not None else LIKELY
    unknown = ""
    if status is not None and 300 <= status < 400:
        cause = f"The check asks for {path} and gets {say.clean(one.probe)}."
        todo = f"Set apps.{known.app.name}.health.path to what answers 2xx by itself, or let health.status accept it."
    elif status in (401, 403):
        cause = f"The check asks for {path} and gets {status}: that path wants a login."
        todo = f"Set apps.{known.app.name}.health.path to one without a login."
    elif status == 404:
        cause = f"The check asks for {path} and gets 404: the app has no such path."
        todo = f"Set apps.{known.app.name}.health.path to one that the app has."
    elif status in (400, 421):
        cause = (
            f"The check asks for {path} and gets {status}: likely the app does not accept the Host that the check "
            f"sends."
        )
        sure, todo = LIKELY, f"Set apps.{known.app.name}.health.host, or let the app accept that host."
    elif status is not None:
        cause = f"The app answers its check at {path} with {status}: it says itself that it is not ready."
        unknown = "Why it says so, unless the body of its answer does."
        todo = "Read what the check answers, and what the app printed."
    else:
        cause = f"It listens where it should, but its check at {path} fails: {say.clean(one.probe)}."
        unknown = "What it does meanwhile."
        todo = f"Look at where it stands: triage diagnose {known.app.name}/{one.name}."
    if one.probe_body:
        evidence.append(say.proof(f"The check got: {say.clean(one.probe_body)}.", say.STATE))
    return Finding(
        id="check-fails-at-start",
        title=f"{known.app.name} runs, but its health check never passes.",
        cause=cause,
        severity=_severity(known),
        certainty=sure,
        care=_care(known),
        app=known.app.name,
        instances=[one.name],
        since=one.started_at,
        evidence=evidence,
        unknown=unknown,
        remedies=[say.look(todo)],
        faults=_FAULTS,
        explains=[*_EXPLAINS, "start-too-slow"],
        charts=["ready"],
    )


def _too_slow(seen: Seen) -> Finding | None:
    """Starts were ended because they took too long, and none of them is here to be looked at."""
    known = seen.known
    slow = [event for event in known.events if event.kind == "too-slow" and known.at - event.at <= RECENT]
    if not slow or known.app.ready >= max(1, known.app.wanted):
        return None
    last = slow[-1]
    trouble = str(last.details.get("trouble", ""))
    listens = [str(each) for each in last.details.get("listens_on", ()) or ()]
    within = units.duration(known.app.ready_within)
    evidence = [say.proof(f"{say.stamp(event.at)}: {say.clean(event.text, 200)}.", say.EVENTS) for event in slow[-3:]]
    took = [one.ready_at - one.started_at for one in known.instances if one.ready_at > one.started_at > 0]
    if took:
        evidence.append(say.proof(f"Others were ready after {units.duration(max(took))} at most.", say.STATE))
    ident = "start-too-slow"
    sure: Certainty = LIKELY
    cause = f"{last.instance or known.app.name} was not ready within {within} (ready_within), and was ended."
    todo: Remedy = say.later(
        f"Raise apps.{known.app.name}.health.ready_within, if it only needs longer.", "Slow starts are waited for."
    )
    unknown = "Whether it would have become ready with more time."
    if trouble in ("wrong-port", "wrong-address") and listens:
        ident, sure, unknown = trouble, CERTAIN, ""
        cause = f"{last.instance} ran, but listened on {say.listed(listens)}, not where it was expected."
        todo = say.look(
            "Pass {port} in its command, or let it read $PORT.", expect="It becomes ready at its next start."
        )
    elif trouble == "listens-nowhere":
        ring = known.rings.get(last.instance)
        cores = say.mean(
            [value for _, value in say.values(ring, "cpu", last.at - known.app.ready_within + 2.0, last.at)]
        )
        if cores is not None and cores >= WORKS:
            evidence.append(say.proof(f"{last.instance} used {cores:.2f} cores until then: it worked on.", say.RINGS))
            cause = f"{last.instance} still worked on its start after {within} (ready_within), and was ended."
        else:
            ident, cause = "does-not-listen", f"{last.instance} ran for {within} and listened nowhere."
    return Finding(
        id=ident,
        title=f"{known.app.name} does not become ready in time.",
        cause=cause,
        severity=_severity(known),
        certainty=sure,
        care=_care(known),
        app=known.app.name,
        instances=[last.instance] if last.instance else [],
        since=slow[0].at,
        evidence=evidence,
        unknown=unknown,
        remedies=[todo],
        faults=_FAULTS,
        explains=_EXPLAINS,
        charts=["ready"],
    )


# --- shared ------------------------------------------------------------------------------------------


def _cpu(seen: Seen, one: Instance) -> float | None:
    found = seen.each(Activity).get(one.name)
    samples = [each.user + each.system for each in found.samples] if found is not None else []
    if samples:
        return say.mean(samples)
    return say.mean([value for _, value in say.values(seen.known.rings.get(one.name), "cpu", seen.known.at - 5)])


def _asked(seen: Seen, one: Instance) -> list[str]:
    """Peers that it waits for: connecting, or asked and not heard of, in the last look."""
    found = seen.each(Sockets).get(one.name)
    if found is None or not found.samples:
        return []
    peers = [each for each in found.samples[-1].peers if each.by != "client" and (each.connecting or each.asked)]
    return [f"{each.address}{f' ({each.name}, by its port)' if each.name else ''}" for each in peers]


def _stands(seen: Seen, one: Instance) -> str:
    """The innermost line of the first thread, if it is the same in all rounds."""
    found = seen.each(Stacks).get(one.name)
    places = []
    for each in found.rounds if found is not None else ():
        threads = [thread for process in each.processes for thread in process.threads if thread.frames]
        main = next(
            (thread for thread in threads if thread.name in ("MainThread", "main")), threads[0] if threads else None
        )
        if main is None:
            return ""
        places.append(short(next((frame for frame in main.frames if own(frame)), main.frames[0])))
    return places[0] if places and len(set(places)) == 1 else ""


def _severity(known: Known) -> Severity:
    return "critical" if known.app.ready == 0 else "warning"


def _care(known: Known) -> str:
    if known.app.ready == 0:
        return "Nothing serves the app: each request gets a 503."
    return f"{known.app.ready} of {known.app.wanted} instances serve; what was to replace or join them does not come."


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
