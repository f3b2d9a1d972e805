"""Workers of an app's own server (gunicorn, uWSGI, Puma, php-fpm …) that end while its first process lives on.

Triage starts only the first process, so it hears of these by what that one prints, by the kernel, and by cgroups.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

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
from proxy.diagnostics.analyzers.server_words import End, told
from proxy.diagnostics.artifacts import Activity, ExceptionGroup, HostEvent, HostEvents, Known, ProcReport

WINDOW: Final = 900.0
NEAR: Final = 5.0
"""Seconds between a line of the kernel and what a server says of the same end."""
_CRASH: Final = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT")


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    ends = list(told(known, known.at - WINDOW))
    timeouts = [one for one in ends if one.kind == "timeout"]
    if timeouts:
        killed = {one.pid for one in timeouts if one.pid}
        ends = [one for one in ends if one.kind != "timeout" and one.pid not in killed]
        yield _timeout(known, timeouts)
    groups: dict[str, list[End]] = defaultdict(list)
    for one in ends:
        groups[one.signal or one.kind].append(one)
    for group in groups.values():
        yield _ended(seen, group)
    if not ends:
        yield from _by_the_kernel(seen)


def _lost(known: Known, ends: list[End]) -> list[say.Tried]:
    faults = ("closed-before-head", "reset-before-head", "body-truncated", "app-error")
    return [
        one
        for one in say.tried(known, *faults)
        if any(end.instance == one.attempt.instance and -1.5 <= one.at - end.at <= 3.0 for end in ends)
    ]


def _stood(known: Known, ends: list[End]) -> ExceptionGroup | None:
    """Where the worker stood: gunicorn makes it raise SystemExit there, which is printed."""
    return next(
        (one for one in known.exceptions if one.type == "SystemExit" and one.where and one.last_at >= ends[0].at - 5),
        None,
    )


def _timeout(known: Known, ends: list[End]) -> Finding:
    last, lost = ends[-1], _lost(known, ends)
    shape, times = say.most(say.shape(one.record) for one in lost)
    evidence = [
        say.proof(
            f"{units.several(len(ends), 'time')} in 15 min it printed, last at {say.stamp(last.at)}: "
            f"{say.clean(last.text)}.",
            say.OUTPUT,
        )
    ]
    where = _stood(known, ends)
    cause = (
        f"The server of {known.app.name} ended its own worker because that answered nothing for longer than its limit"
    )
    kinds = 1
    if lost:
        kinds += 1
        took = say.middle((one.attempt.wait_us or one.attempt.took_us) / 1e6 for one in lost) or 0.0
        evidence.append(
            say.proof(
                f"{units.several(len(lost), 'request')} lost their connection at these moments, "
                f"after {units.duration(took)} in the middle; {times} are {shape}.",
                say.RECORDS,
            )
        )
        cause += f"; {shape} was under way" if times >= 0.6 * len(lost) else ""
    if where is not None:
        evidence.append(say.proof(f"The worker stood at {say.clean(where.where)}.", "exceptions"))
        cause += f", at {say.clean(where.where)}"
    sure: Certainty = VERY_LIKELY if kinds >= 2 else LIKELY
    return _finding(
        known,
        ends,
        lost,
        id="worker-timeout",
        title=f"The server of {known.app.name} kills its own workers: WORKER TIMEOUT."
        if "WORKER TIMEOUT" in last.text
        else f"The server of {known.app.name} kills its own workers for taking too long.",
        cause=f"{cause}: {say.clean(last.text, 100)}.",
        certainty=sure,
        care="All that is on that worker is lost, and a fresh one has to start.",
        evidence=evidence,
        unknown="" if where is not None else "Where the worker stood: its stack was not printed.",
        remedies=[
            say.look("See which requests take so long.", f"triage requests --app {known.app.name} --slower 5s"),
            say.later(
                "A longer timeout of that server (gunicorn --timeout), if requests may take so long; "
                "timeouts.first_byte of the app below it.",
                "The gateway answers 504 for the one request, and the worker lives.",
            ),
            say.later("A time limit on what that request waits for.", "It ends before the server loses patience."),
        ],
        faults=["closed-before-head", "reset-before-head", "body-truncated", "app-error", "slow"],
        paths=[shape.partition(" ")[2]] if lost and times >= 0.8 * len(lost) else [],
        explains=[
            "connection-closed",
            "connection-reset",
            "response-truncated",
            "app-exception",
            "app-errors",
            "one-bad-instance",
            "errors-rose",
            "slow-path",
            "workers-exhausted",
            "worker-ended",
            "slow",
            "timeouts",
            "slow-handler",
        ],
    )


def _finding(known: Known, ends: list[End], lost: list[say.Tried], **said: Any) -> Finding:
    """Of these ends, with what they cost."""
    last = ends[-1].at
    return Finding(
        severity=_severity(known, len(ends), len(lost)),
        app=known.app.name,
        instances=list(dict.fromkeys(one.instance for one in ends)),
        since=ends[0].at,
        until=last if known.at - last > say.LATELY else 0.0,
        weight=float(max(len(ends), len(lost))),
        **said,
    )


def _ended(seen: Seen, ends: list[End]) -> Finding:
    known, last = seen.known, ends[-1]
    lost = _lost(known, ends)
    signal = last.signal
    evidence = [
        say.proof(
            f"{units.several(len(ends), 'time')} in 15 min it printed, last at {say.stamp(last.at)}: "
            f"{say.clean(last.text)}.",
            say.OUTPUT,
        )
    ]
    ident, what, unknown = (
        "worker-ended",
        f"ended{f' by {signal}' if signal else ''}",
        "Why: its last words say no more.",
    )
    sure: Certainty = LIKELY
    rivals: list[Rival] = []
    memory = _memory(seen, ends) if signal in ("SIGKILL", "") else []
    crash = _crash(seen, ends)
    if memory:
        ident, what, unknown = "out-of-memory", "was killed by the kernel for memory", ""
        sure = VERY_LIKELY
        evidence += memory
    elif signal in _CRASH:
        ident, what, sure = "native-crash", f"crashed in native code ({signal})", VERY_LIKELY
        evidence += crash
        unknown = "" if crash else "Where it crashed."
    elif signal == "SIGKILL":
        unknown = "Who sent it: the kernel for memory, its own server after a time limit, and a person look alike."
        rivals = [
            Rival(
                cause="the kernel, for memory",
                against=["no counter or kernel line of it was found"] if seen.one(HostEvents) is not None else [],
            )
        ]
    if lost:
        text = f"{units.several(len(lost), 'request')} lost their connection at these moments."
        evidence.append(say.proof(text, say.RECORDS))
    return _finding(
        known,
        ends,
        lost,
        id=ident,
        title=f"A worker of {known.app.name}'s own server {what}"
        + (f", {len(ends)} times in 15 min." if len(ends) > 1 else "."),
        cause=f"A worker of the server in {last.instance} {what}, while its first process went on: "
        f"{say.clean(last.text)}.",
        certainty=sure,
        care="All requests that are on that worker are lost.",
        evidence=evidence,
        rivals=rivals,
        unknown=unknown,
        remedies=_remedies(known, ident),
        faults=["closed-before-head", "reset-before-head", "body-truncated"],
        explains=["connection-closed", "connection-reset", "response-truncated", "stale-connections"],
    )


def _remedies(known: Known, ident: str) -> list[Remedy]:
    logs = say.look("Read what was printed then.", f"triage logs {known.app.name}")
    if ident == "out-of-memory":
        return [
            logs,
            say.later(
                "Fewer workers per instance, or more memory for it (triage scale --memory).", "Each has more room."
            ),
        ]
    return [
        logs,
        say.look(
            "See which requests were on it.", f"triage requests --app {known.app.name} --fault closed-before-head"
        ),
    ]


def _severity(known: Known, ends: int, lost: int) -> Severity:
    every = say.requests(known, known.at - WINDOW)
    return "critical" if every and lost > 0.2 * every else "warning" if lost or ends >= 2 else "info"


def _memory(seen: Seen, ends: list[End]) -> list[Proof]:
    of = [report.cgroup for report in seen.each(ProcReport).values()]
    groups = {one.path for one in of if one is not None and one.own}
    said = [
        say.proof(f"The kernel wrote at {say.stamp(one.at)}: {say.clean(one.text, 200)}.", "host_events")
        for one in _of_the_kernel(seen, "oom-kill")
        if any(_about(one, end) for end in ends)
        or (one.where in groups and any(abs(one.at - end.at) <= NEAR for end in ends))
    ]
    return said[-2:] or _counted(seen, ends)


def _of_the_kernel(seen: Seen, kind: str) -> list[HostEvent]:
    events = seen.one(HostEvents)
    return [one for one in events.events if one.kind == kind] if events is not None else []


def _about(event: HostEvent, end: End) -> bool:
    """The process that its server named, at that time: numbers come again, and others end as well."""
    return event.pid is not None and event.pid == end.pid and abs(event.at - end.at) <= NEAR


def _counted(seen: Seen, ends: Sequence[End] = ()) -> list[Proof]:
    """Counts of the session, so of ends within it alone, where ends are given."""
    return [
        say.proof(
            f"The counter {key} of the cgroup of {name} rose by {grew:.0f} during the session.",
            say.of(name, "activity"),
        )
        for name, activity in seen.each(Activity).items()
        for key, grew in activity.changed.items()
        if grew > 0
        and key.endswith("oom_kill")
        and ": " not in key
        and activity.cgroup is not None
        and activity.cgroup.own
        and (not ends or any(name == end.instance and _within(activity, end.at) for end in ends))
    ][:1]


def _within(activity: Activity, at: float) -> bool:
    """Whether it was sampled then; the first sample is of the second before it."""
    samples = activity.samples
    return bool(samples) and samples[0].at - 2.0 <= at <= samples[-1].at + 1.0


def _crash(seen: Seen, ends: list[End]) -> list[Proof]:
    return [
        say.proof(f"The kernel wrote: {say.clean(one.text, 200)}.", "host_events")
        for one in _of_the_kernel(seen, "segfault")
        if any(_about(one, end) for end in ends)
    ][-1:]


def _by_the_kernel(seen: Seen) -> Iterator[Finding]:
    """Nothing was printed, but a counter of the instance's own cgroup, or a line about one of its processes, tells."""
    known, events = seen.known, seen.one(HostEvents)
    exited = [one.at for one in known.exits]
    seen_at = {process.pid: report.at for report in seen.each(ProcReport).values() for process in report.processes}
    began = {one.name: one.started_at for one in known.instances if one.started_at}
    groups = {
        report.cgroup.path: (name, began[name])
        for name, report in seen.each(ProcReport).items()
        if report.cgroup and report.cgroup.own and name in began
    }
    said: list[Proof] = []
    kind = ""
    names: list[str] = []
    times: list[float] = []
    for one in events.events if events is not None else ():
        name, since = groups.get(one.where, ("", 0.0))
        # A group of that name may have been another instance's before: of a Triage that ran here earlier, say.
        mine = (one.pid in seen_at and one.at >= seen_at[one.pid] - 1.0) or (bool(name) and one.at >= since)
        if (
            mine
            and known.at - one.at <= WINDOW
            and one.kind in ("oom-kill", "segfault")
            and all(abs(one.at - at) > 5 for at in exited)
        ):
            kind = kind or one.kind
            names += [name] if name else []
            times.append(one.at)
            said.append(
                say.proof(f"The kernel wrote at {say.stamp(one.at)}: {say.clean(one.text, 200)}.", "host_events")
            )
    counted = _counted(seen) if all(known.at - at > 60 for at in exited) else []
    if not said and not counted:
        return
    memory = kind != "segfault"
    yield Finding(
        id="out-of-memory" if memory else "native-crash",
        title=f"A process of {known.app.name} was killed for using all its memory."
        if memory
        else f"A process of {known.app.name} crashed in native code.",
        cause="The kernel killed a process of it for memory, while its first process went on."
        if memory
        else "A process of it crashed in native code, while its first process went on.",
        severity="warning",
        certainty=CERTAIN,
        care="All that it had in hand is lost.",
        app=known.app.name,
        instances=sorted(set(names)),
        since=times[0] if times else 0.0,
        until=times[-1] if times else 0.0,
        evidence=[*said[-3:], *counted],
        remedies=_remedies(known, "out-of-memory" if memory else ""),
        faults=["closed-before-head", "reset-before-head", "body-truncated", "app-error"],
        explains=["connection-closed", "connection-reset", "response-truncated"],
        weight=float(len(said) or 1),
    )


ANALYZER: Final = Analyzer(
    name="children",
    title="Workers of the app's own server that end",
    checks="Nothing was printed or counted of a worker or child that ended.",
    analyze=analyze,
    wants=(HostEvents, Activity, ProcReport),
)
