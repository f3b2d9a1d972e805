"""Instances that served and ended, though Triage had not asked them to: how, by what, and what it cost.

One finding for each way of ending; ends of instances that never became ready are in `starting`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    NOT_KNOWN,
    SURE,
    Analyzer,
    Finding,
    Proof,
    Remedy,
    Seen,
    Severity,
)
from proxy.diagnostics.analyzers.endings import Ending, Reader
from proxy.diagnostics.artifacts import Exit, HostEvents, HostReport, Known

RECENT: Final = 1800.0
"""Seconds: older ends are history."""
CUT: Final = "instance-recycled"
OWN: Final = "Triage stopped the instance as it was told to"
_FAULTS: Final = ("instance-exited", "closed-before-head", "reset-before-head", "connect-refused", "body-truncated")

_TITLES: Final = {
    "uncaught-exception": "{who} {end} by an error in the app that nothing catches",
    "own-exit": "{who} {end} of {its} own accord",
    "killed": "{who} {was} killed by a signal that Triage did not send",
    "killed-inside": "{who} {end}: the program inside was killed",
    "own-signal": "{who} {end} by a signal of {its} own making",
    "native-crash": "{who} {end} by a crash in native code",
    "out-of-memory": "{who} {was} killed for using all its memory",
    "heap-limit": "{who} {end}: {its} runtime's own heap is full",
    "ends-by-itself": "{who} {end} without being asked to",
    "asked-to-end": "Somebody else stops {who}",
    "cut-by-drain": "Requests were cut because they outlasted the time for draining",
}
_CARE: Final = (
    "Each end loses the requests that are on the instance and can't be sent again, and less is left to serve the rest."
)


def theirs(known: Known) -> list[Exit]:
    """Ends that Triage did not ask for, of late, oldest first."""
    return [one for one in known.exits if not one.ours and known.at - one.at <= RECENT]


def served(known: Known, ended: Exit) -> bool:
    """Whether requests had reached it before it ended."""
    return (
        ended.was_ready
        or say.total(known.rings.get(ended.instance), "requests", ended.at - ended.lasted, ended.at + 1) > 0
        or any(one.instance == ended.instance and one.time <= ended.at for one in known.records)
    )


def grouped(endings: Iterable[Ending]) -> list[list[Ending]]:
    """Those that are the same thing again, the most frequent first."""
    groups: dict[tuple[str, str], list[Ending]] = defaultdict(list)
    for one in endings:
        groups[one.kind, one.mark].append(one)
    return sorted(groups.values(), key=len, reverse=True)


def cost(known: Known, ends: Iterable[Exit]) -> list[say.Tried]:
    """Attempts that failed because of these ends."""
    found = []
    for one in say.tried(known, *_FAULTS):
        if any(end.instance == one.attempt.instance and -3.0 <= one.at - end.at <= 5.0 for end in ends):
            found.append(one)
    return found


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    reader = Reader(known, seen.one(HostEvents), seen.one(HostReport))
    ends = [reader.read(one) for one in theirs(known) if served(known, one)]
    for group in grouped(ends):
        yield _finding(known, group)
    yield from _cut_by_drain(known)


def _finding(known: Known, group: list[Ending]) -> Finding:
    last, exits = group[-1], [one.exit for one in group]
    names = list(dict.fromkeys(one.instance for one in exits))
    lost = cost(known, exits)
    gone = [one for one in lost if one.record.fault]
    evidence = list(last.evidence)
    if len(group) > 1:
        times = ", ".join(say.stamp(one.at) for one in exits[-4:])
        evidence.insert(0, say.proof(f"{len(group)} ends of this kind: {times}.", say.EXITS))
    if lost:
        made_good = len(lost) - len(gone)
        text = (
            f"{units.several(len(lost), 'attempt')} ended with it; {made_good} of them were answered by another "
            f"instance."
        )
        evidence.append(say.proof(text, say.RECORDS))
    evidence += _rounds(known, last, exits)
    who = say.listed(names)
    plural = len(names) > 1
    title = _TITLES[last.kind].format(
        who=who, end="end" if plural else "ends", was="were" if plural else "was", its="their" if plural else "its"
    )
    return Finding(
        id=last.kind,
        title=title
        + (f", {len(group)} times in {units.duration(_window(known, exits))}" if len(group) > 1 else "")
        + ".",
        cause=last.cause,
        severity=_severity(known, last, exits, bool(gone)),
        certainty=min((one.sure for one in group), key=SURE.__getitem__),
        care=_CARE,
        app=known.app.name,
        instances=names,
        since=exits[0].at,
        until=exits[-1].at if len(exits) == 1 or known.at - exits[-1].at > say.LATELY else 0.0,
        evidence=evidence,
        against=last.against,
        rivals=last.rivals,
        unknown=last.unknown,
        remedies=_remedies(known, last),
        faults=[
            "instance-exited",
            "closed-before-head",
            "reset-before-head",
            "connect-refused",
            "all-unready",
            "body-truncated",
        ],
        explains=[
            *(["suspect-request"] if last.kind in ("uncaught-exception", "own-exit") and last.sure != CERTAIN else []),
            "crash-loop",
            "not-listening",
            "connection-closed",
            "connection-reset",
            "response-truncated",
            "none-ready",
            "all-ejected",
            "stale-connections",
        ],
        charts=["exits", "memory", "ready"] if last.kind in ("out-of-memory", "heap-limit") else ["exits", "ready"],
        weight=float(len(lost) or len(group)),
    )


def _rounds(known: Known, last: Ending, exits: list[Exit]) -> list[Proof]:
    """Where each had served about as many requests when it ended: a limit of its server, or what piles up."""
    rings = [(one, known.rings[one.instance]) for one in exits if one.instance in known.rings]
    whole = [ring for one, ring in rings if ring.start <= one.at - one.lasted + 2]
    served = [say.total(ring, "requests") for ring in whole]
    if len(served) < 2 or min(served) < 20 or max(served) > 1.15 * min(served) + 5:
        return []
    text = f"Each had had about as many requests: {', '.join(units.count(each) for each in served[-5:])}."
    return [say.proof(text, say.RINGS)]


def _window(known: Known, exits: list[Exit]) -> float:
    return max(1.0, known.at - exits[0].at)


def _severity(known: Known, last: Ending, exits: list[Exit], lost: bool) -> Severity:
    app = known.app
    often = sum(1 for one in exits if known.at - one.at <= 600) >= 3
    if last.kind == "ends-by-itself" and not lost and not often and app.ready >= app.wanted:
        return "info"
    if often or app.ready == 0 or app.state == "down":
        return "critical"
    return "warning"


def _remedies(known: Known, last: Ending) -> list[Remedy]:
    app, name = known.app.name, last.exit.instance
    output = say.look("Read what it printed around its end.", f"triage logs {app}")
    requests = say.look("See which requests were on it.", f"triage requests --instance {name} --fault instance-exited")
    match last.kind:
        case "out-of-memory" | "heap-limit":
            limit = last.exit.memory_limit or 0
            raised: list[Remedy] = []
            if limit and last.kind == "out-of-memory":
                raised = [
                    say.act(
                        f"Let each instance use twice the memory ({units.size(2 * limit)}).",
                        app,
                        "scale",
                        "Fewer kills, if a request needs less than that; none, if memory grows without end.",
                        memory=units.write_size(2 * limit),
                    )
                ]
            return [
                *raised,
                requests,
                say.look("Take the largest types while memory is high.", f"triage diagnose {app} --for 30s"),
                say.later("Work in pages or streams instead of holding whole results.", "The peak falls."),
            ]
        case "killed" | "killed-inside" | "asked-to-end":
            return [
                say.look(
                    "Find who sends signals here: shell histories, cron, deploy scripts, other supervisors.",
                    "journalctl --since -15min",
                ),
                output,
                say.dont(
                    f"Don't restart {app} for it.",
                    "It was replaced already; the next signal would end the new one too.",
                ),
            ]
        case "ends-by-itself":
            return [
                output,
                say.later(
                    "Where the server has a limit of requests per process, switch it off: Triage recycles.",
                    "It ends no more by itself.",
                ),
            ]
        case "native-crash":
            return [
                say.look("Update or take out the native extension that its stack names.", f"triage logs {app}"),
                requests,
                say.later("PYTHONFAULTHANDLER=1 (Python) in its environment.", "The next crash prints where it was."),
            ]
        case _:
            pass
    return [
        output,
        requests,
        say.later(
            "Catch the error where the request is handled, and answer 500 instead.",
            "One request fails, not the process.",
        ),
        say.dont(f"Don't scale {app} up for it.", "New instances run the same code."),
    ]


def _cut_by_drain(known: Known) -> Iterator[Finding]:
    """Triage's own doing, as planned; only where requests were lost by it.

    Where a rule of autoheal replaced the instance, something was wrong with it before: that is not known from here.
    """
    found = say.faults(known, CUT, since=known.at - 900)
    if not found.count:
        return
    cut = [event for event in known.events if event.kind in ("drain-cut", "killed") and known.at - event.at <= 900]
    slow = [say.ends(one) - one.time for one in known.records if one.fault == CUT]
    evidence: list[Proof] = [
        say.proof(
            f"{units.several(found.count, 'attempt')} ended as instance-recycled since {say.stamp(found.first)}.",
            say.RINGS,
        )
    ]
    evidence += [say.proof(f"{say.stamp(event.at)}: {say.clean(event.text)}.", say.EVENTS) for event in cut[-3:]]
    names = {event.instance for event in cut} | {one.instance for one in known.records if one.fault == CUT}
    healed = [
        event for event in known.events
        if event.kind == "heal" and event.instance in names - {""} and known.at - 900 <= event.at <= found.last
    ]  # fmt: skip
    evidence += [say.proof(f"{say.stamp(event.at)}: {say.clean(event.text)}.", say.EVENTS) for event in healed[-1:]]
    if slow:
        evidence.append(say.proof(f"The longest of them had lasted {units.duration(max(slow))}.", say.RECORDS))
    yield Finding(
        id="cut-by-drain",
        title=_TITLES["cut-by-drain"] + ".",
        cause=(f"A rule of autoheal replaced {healed[-1].instance}" if healed else OWN)
        + "; these requests were not done when the time for draining had passed.",
        severity="warning",
        certainty=NOT_KNOWN if healed else CERTAIN,
        care="Who waits for a long answer gets a 502 at each deploy or recycle.",
        unknown=f"What was wrong with {healed[-1].instance} before, unless another finding says it." if healed else "",
        app=known.app.name,
        since=found.first,
        until=found.last,
        evidence=evidence,
        remedies=[
            say.look("Look again when it comes back.", f"triage diagnose {known.app.name} --for 30s")
            if healed
            else say.later(
                f"A longer apps.{known.app.name}.process.stop.timeout, or shorter requests.",
                "Long requests end by themselves.",
            ),
        ],
        faults=[CUT],
        weight=float(found.count),
    )


ANALYZER: Final = Analyzer(
    name="exits",
    title="Instances that end by themselves",
    checks="No instance that served has ended in the last half hour, unless Triage stopped it.",
    analyze=analyze,
    wants=(HostEvents, HostReport),
)
