"""What keeps an instance that runs from being ready: it listens elsewhere or nowhere, is not well, or needs longer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    LIKELY,
    VERY_LIKELY,
    Certainty,
    Finding,
    Proof,
    Remedy,
    Rival,
    Seen,
    Severity,
)
from proxy.diagnostics.analyzers.exits import RECENT
from proxy.diagnostics.analyzers.symptoms import PEERS, kind_of
from proxy.diagnostics.analyzers.threads import WORDS, own, read, short
from proxy.diagnostics.artifacts import Activity, Event, Instance, Known, Sockets, Stacks

SETTLED: Final = 10.0
"""Seconds for which a process must have run before where it listens says something."""
WORKS: Final = 0.015
"""Cores above which a process that does not listen is not merely waiting."""
BUSY: Final = 0.2
"""Cores above which one that listens elsewhere may still be on its way."""
_COMING: Final = ("starting", "warming")
_WAITS: Final = ("socket", "connect", "dns", "sleep", "child", "file")
"""What a first thread does in an app that is not up yet."""
_FAULTS: Final = ["all-unready", "connect-refused", "all-ejected", "held-too-long"]
_EXPLAINS: Final = ["none-ready", "not-listening", "all-ejected", "probe-wrong", "not-replaced", "crash-loop"]


def stuck(known: Known, one: Instance) -> bool:
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


def of(seen: Seen, one: Instance) -> Finding | None:
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
        return _elsewhere(seen, one, where, evidence, (bool(before) or runs >= 30.0) and not (cores or 0.0) >= BUSY)
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
    waits = known.at - one.started_at >= SETTLED and "refused" in one.probe and not (_cpu(seen, one) or 0.0) >= BUSY
    coming = [] if right else _on_its_way(seen, one)
    sure: Certainty = CERTAIN if (tried or waits) and not coming else LIKELY
    return finding(
        known,
        id=ident,
        title=f"{known.app.name} listens at another place than expected.",
        cause=f"{one.name} runs, but listens on {what}.",
        certainty=sure,
        instances=[one.name],
        since=one.started_at,
        evidence=evidence,
        rivals=[]
        if sure == CERTAIN
        else [
            Rival(
                cause="an app that will listen at the right place later",
                speaks_for=coming,
                against=[f"{units.duration(known.at - one.started_at)} have passed"],
            )
        ],
        unknown="Whether that is all it listens on: it still waits for something else." if coming else "",
        remedies=[say.look(todo, f"triage logs {known.app.name}", "It becomes ready at its next start.")],
        explains=["start-too-slow"],
    )


def _on_its_way(seen: Seen, one: Instance) -> list[str]:
    """What speaks for a start that is not over: many listen for metrics or a debugger before they are up."""
    found = [f"it waits for {peer}" for peer in _asked(seen, one)[:1]]
    stacks = seen.each(Stacks).get(one.name)
    rounds = read(one.name, stacks).rounds if stacks is not None else []
    first = [at for each in rounds for at in each if at.thread[0] == at.thread[1]]
    if first and all(at.own and at.kind in _WAITS for at in first):
        found.append(f"its first thread {WORDS[first[-1].kind]} at {first[-1].place}")
    if said := _complains(seen.known, one.name, one.started_at):
        found.append(f"it printed: {said}")
    return found


def _complains(known: Known, name: str, since: float) -> str:
    """The last that it printed of something that it asks and does not get."""
    said = [line.text for line in known.lines.get(name, ()) if line.at >= since and kind_of(line.text) in PEERS]
    return say.clean(said[-1]) if said else ""


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
        refused = not one.probe or any(mark in one.probe for mark in ("refused", "no socket"))
        sure = CERTAIN if cores is not None and known.at - one.started_at >= SETTLED and refused else LIKELY
        unknown = "What it waits for." if not line else ""
        if not refused:
            rivals = [
                Rival(
                    cause="a process elsewhere that listens for it, such as a container's",
                    speaks_for=[f"its check says: {say.clean(one.probe)}"],
                )
            ]
        todo = say.look("Look at where it stands.", f"triage diagnose {known.app.name}/{one.name}")
    if line:
        evidence.append(say.proof(f"It stands at {say.clean(line)}.", say.of(one.name, "stacks")))
        cause += f" It stands at {say.clean(line)}."
    return finding(
        known,
        id=ident,
        title=f"{known.app.name} runs but does not listen{' yet' if ident == 'start-too-slow' else ''}.",
        cause=cause,
        certainty=sure,
        instances=[one.name],
        since=one.started_at,
        evidence=evidence,
        rivals=rivals,
        unknown=unknown,
        remedies=[todo],
        explains=["start-too-slow"],
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
    return finding(
        known,
        id="check-fails-at-start",
        title=f"{known.app.name} runs, but its health check never passes.",
        cause=cause,
        certainty=sure,
        instances=[one.name],
        since=one.started_at,
        evidence=evidence,
        unknown=unknown,
        remedies=[say.look(todo)],
        explains=["start-too-slow"],
    )


def too_slow(seen: Seen) -> Finding | None:
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
        said = _complains(known, last.instance, last.at - known.app.ready_within - 5.0)
        busy = (_used_until(known, last) or 0.0) >= BUSY
        on_its_way = trouble == "wrong-port" and (bool(said) or busy)
        ident, sure = trouble, LIKELY if on_its_way else CERTAIN
        unknown = "Whether it would have listened there with more time: it was not done yet." if on_its_way else ""
        cause = f"{last.instance} ran, but listened on {say.listed(listens)}, not where it was expected."
        if said:
            evidence.append(say.proof(f"It printed: {said}.", say.OUTPUT))
        todo = say.look(
            "Pass {port} in its command, or let it read $PORT.", expect="It becomes ready at its next start."
        )
    elif trouble == "listens-nowhere":
        cores = _used_until(known, last)
        if cores is not None and cores >= WORKS:
            evidence.append(say.proof(f"{last.instance} used {cores:.2f} cores until then: it worked on.", say.RINGS))
            cause = f"{last.instance} still worked on its start after {within} (ready_within), and was ended."
        else:
            ident, cause = "does-not-listen", f"{last.instance} ran for {within} and listened nowhere."
    return finding(
        known,
        id=ident,
        title=f"{known.app.name} does not become ready in time.",
        cause=cause,
        certainty=sure,
        instances=[last.instance] if last.instance else [],
        since=slow[0].at,
        evidence=evidence,
        unknown=unknown,
        remedies=[todo],
    )


# --- shared ------------------------------------------------------------------------------------------


def _used_until(known: Known, end: Event) -> float | None:
    """Cores, from its start until it was ended as too slow."""
    ring, began = known.rings.get(end.instance), end.at - known.app.ready_within + 2.0
    return say.mean([value for _, value in say.values(ring, "cpu", began, end.at)])


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


def finding(known: Known, *, faults: Iterable[str] = (), explains: Iterable[str] = (), **said: Any) -> Finding:
    """What keeps instances from being ready does the same to requests, whatever it is."""
    given = {"charts": ["ready"], **said}
    return Finding(
        severity=_severity(known),
        care=_care(known),
        app=known.app.name,
        faults=[*_FAULTS, *faults],
        explains=[*_EXPLAINS, *explains],
        **given,
    )


def _severity(known: Known) -> Severity:
    return "critical" if known.app.ready == 0 else "warning"


def _care(known: Known) -> str:
    if known.app.ready == 0:
        return "Nothing serves the app: each request gets a 503."
    return f"{known.app.ready} of {known.app.wanted} instances serve; what was to replace or join them does not come."
