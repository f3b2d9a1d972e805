"""File descriptors of the app: used up, or on the way there, and what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, symptoms
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, VERY_LIKELY, Analyzer, Certainty, Finding, Proof, Seen
from proxy.diagnostics.analyzers.stats import slope
from proxy.diagnostics.artifacts import Activity, Descriptors, ProcReport, Sockets

WINDOW: Final = 900.0
AT_LIMIT: Final = 0.97
"""Share of the limit: some are held for a moment only, so the last ones are rarely seen taken."""
FEW_LEFT: Final = 3
MOMENT: Final = 32
"""So many may be taken and given back between two looks; more that are free are no lack, whatever share it is."""
SOON: Final = 1800.0


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    said = next(iter(symptoms.find(known, known.at - WINDOW).get("descriptors", ())), None)
    found = {name: one for name in _names(seen) if (one := _used(seen, name)) is not None}
    at_limit = {
        name: one
        for name, one in found.items()
        if one.limit and (one.used >= AT_LIMIT * one.limit or one.limit - one.used <= FEW_LEFT)
    }
    if at_limit or (said is not None and said.number):
        yield _used_up(seen, at_limit, found, said)
        return
    for name, one in found.items():
        if finding := _growing(seen, name, one):
            yield finding
            return


def _names(seen: Seen) -> list[str]:
    return list(dict.fromkeys([*seen.each(Activity), *seen.each(ProcReport)]))


def _used(seen: Seen, name: str) -> Descriptors | None:
    """Of the process of that instance which is nearest to its limit."""
    activity, report = seen.each(Activity).get(name), seen.each(ProcReport).get(name)
    all_of = list(activity.descriptors) if activity is not None else []
    for process in report.processes if report is not None else ():
        if process.descriptors is not None and all(one.pid != process.pid for one in all_of):
            soft = process.limits.get("Max open files", ("", ""))[0]
            all_of.append(
                Descriptors(
                    pid=process.pid,
                    used=sum(process.descriptors.values()),
                    limit=int(soft) if soft.isdigit() else None,
                    kinds=process.descriptors,
                )
            )
    return max(all_of, key=lambda one: one.used / (one.limit or 1 << 30), default=None)


def what(seen: Seen, name: str, one: Descriptors | None) -> list[Proof]:
    """What they are: kinds, connections by peer, files by folder, and what grew."""
    said: list[Proof] = []
    if one is not None and one.kinds:
        kinds = ", ".join(
            f"{units.count(number)} {kind}" for kind, number in sorted(one.kinds.items(), key=lambda item: -item[1])[:4]
        )
        said.append(say.proof(f"They are: {kinds}.", say.of(name, "proc_report")))
    if one is not None and one.growing and one.grew > 0:
        said.append(say.proof(f"{one.growing} grew by {one.grew} during the session.", say.of(name, "activity")))
    sockets = seen.each(Sockets).get(name)
    peers = (
        [each for each in sockets.samples[-1].peers if each.established + each.closing >= 10]
        if sockets is not None and sockets.samples
        else []
    )
    for each in sorted(peers, key=lambda each: -(each.established + each.closing))[:2]:
        hung = f", {each.close_wait} of them closed by it and not by the app" if each.close_wait else ""
        way = "from" if each.by == "client" else "to"
        said.append(
            say.proof(
                f"{each.established + each.closing} connections {way} "
                f"{each.address}{f' ({each.name}, by its port)' if each.name else ''}{hung}.",
                say.of(name, "sockets"),
            )
        )
    if one is not None and one.held and max(one.held.values()) >= 10:
        place, number = max(one.held.items(), key=lambda item: item[1])
        said.append(say.proof(f"{number} of them are {say.clean(place)}.", say.of(name, "activity")))
        return said
    report = seen.each(ProcReport).get(name)
    folders = Counter(
        path.rpartition("/")[0]
        for process in (report.processes if report is not None else ())
        for path in process.files
    )
    same = Counter(path for process in (report.processes if report is not None else ()) for path in process.files)
    if same and same.most_common(1)[0][1] >= 10:
        path, number = same.most_common(1)[0]
        said.append(
            say.proof(f"{number} of them are {say.clean(path)}, opened again and again.", say.of(name, "proc_report"))
        )
    elif folders and folders.most_common(1)[0][1] >= 10:
        path, number = folders.most_common(1)[0]
        said.append(say.proof(f"{number} of them are files below {say.clean(path)}.", say.of(name, "proc_report")))
    return said


def _used_up(
    seen: Seen, at_limit: dict[str, Descriptors], found: dict[str, Descriptors], said: symptoms.Symptom | None
) -> Finding:
    known = seen.known
    name = (
        next(iter(at_limit), "")
        or (said.said[-1].instance if said is not None and said.said else "")
        or next(iter(found), "")
    )
    one = at_limit.get(name) or found.get(name)
    evidence: list[Proof] = []
    none = True
    sure: Certainty = LIKELY
    cause = "The app says that it has no file descriptor left."
    if name in at_limit and one is not None:
        left = (one.limit or 0) - one.used
        none = left <= MOMENT or (said is not None and bool(said.number))
        sure = CERTAIN if none else VERY_LIKELY
        evidence.append(
            say.proof(
                f"Process {one.pid} of {name} has {units.count(one.used)} of {units.count(one.limit or 0)} "
                f"descriptors.",
                say.of(name, "activity"),
            )
        )
        how = "has used up" if none else "has nearly used up"
        cause = f"{name} {how} its file descriptors: {units.count(one.used)} of {units.count(one.limit or 0)}."
    if said is not None and said.said:
        last = said.said[-1]
        evidence.append(
            say.proof(f"It printed {units.several(said.number, 'time')} in 15 min: {say.clean(last.text)}.", say.OUTPUT)
        )
        if name not in at_limit and one is not None and one.limit:
            if one.used >= 0.6 * one.limit:
                sure = VERY_LIKELY
            evidence.append(
                say.proof(
                    f"At this moment {units.count(one.used)} of {units.count(one.limit)} are used.",
                    say.of(name, "activity"),
                )
            )
    kinds = what(seen, name, one)
    evidence += kinds
    grown = kinds[-1].text if kinds else ""
    return Finding(
        id="descriptors-used-up",
        title=f"{known.app.name} has {'no' if none else 'hardly a'} file descriptor left.",
        cause=cause + (f" {grown}" if grown else ""),
        severity="critical" if at_limit or (said is not None and said.number >= 3) else "warning",
        certainty=sure,
        care="It can't accept connections, open files or ask other services until some are closed.",
        app=known.app.name,
        instances=list(at_limit) or ([name] if name else []),
        since=said.said[0].at if said is not None and said.said else 0.0,
        evidence=evidence,
        unknown="" if kinds else "What they are: it could not be looked into.",
        remedies=[
            say.look(
                "See what they are.",
                f"ls -l /proc/{one.pid}/fd | awk '{{print $NF}}' | sort | uniq -c | sort -n | tail"
                if one is not None
                else "",
            ),
            say.act(
                f"Replace {name}.",
                known.app.name,
                "recycle",
                "It begins with few, and comes here again at the same pace.",
                instance=name,
            )
            if name
            else say.look("Replace the instance."),
            say.later(
                "Close what is opened (with, try/finally); one client for all requests instead of one each.",
                "The number stays where it is.",
            ),
            say.later("A higher limit (ulimit -n, LimitNOFILE=).", "It only helps where so many are needed at once."),
        ],
        faults=["connect-timeout", "app-error", "closed-before-head", "connect-refused", "head-timeout"],
        explains=[
            "accept-queue-full",
            "connect-times-out",
            "app-exception",
            "app-errors",
            "connection-closed",
            "probe-wrong",
            "probe-failing",
            "all-ejected",
            "descriptors-growing",
        ],
        charts=["descriptors", "connections"],
        weight=float(said.number if said is not None else 1),
    )


def _growing(seen: Seen, name: str, one: Descriptors) -> Finding | None:
    """Sustained over minutes, not with the traffic, and near enough to matter."""
    known = seen.known
    ring = known.rings.get(name)
    series = [value for _, value in say.values(ring, "descriptors")]
    if not one.limit or len(series) < 120:
        return None
    points = series[:: max(1, len(series) // 60)]
    step = len(series) / len(points)
    rate = slope(points) / step
    half = len(points) // 2
    first, second = points[half] - points[0], points[-1] - points[half]
    load = [value for _, value in say.values(ring, "in_flight")]
    busier = (
        bool(load) and (say.mean(load[len(load) // 2 :]) or 0.0) > 1.3 * (say.mean(load[: len(load) // 2]) or 0.0) + 1
    )
    if rate <= 0 or second < 0.5 * first or points[-1] < points[0] + 20 or points[-1] < 1.2 * points[0] or busier:
        return None
    left = (one.limit - one.used) / rate
    near = one.used >= 0.5 * one.limit and left <= SOON
    return Finding(
        id="descriptors-growing",
        title=f"{name} opens more and more files or connections.",
        cause=f"{name} has {units.count(one.used)} of {units.count(one.limit)} descriptors, {rate * 60:.0f} more "
        f"each minute: used up in about {units.duration(left)}. A projection.",
        severity="warning" if near else "info",
        certainty=LIKELY,
        care="At the limit it can't accept connections any more.",
        app=known.app.name,
        instances=[name],
        evidence=[
            say.proof(
                f"From {points[0]:.0f} to {points[-1]:.0f} in {units.duration(len(series))}, with no more requests "
                f"in flight.",
                say.RINGS,
            ),
            *what(seen, name, one),
        ],
        unknown="Whether it goes on so.",
        remedies=[say.later("Close what is opened (with, try/finally).", "The number stays where it is.")],
        charts=["descriptors", "connections"],
    )


ANALYZER: Final = Analyzer(
    name="descriptors",
    title="File descriptors of the app",
    checks="No process of the app is near its limit of descriptors.",
    analyze=analyze,
    wants=(Activity, ProcReport, Sockets),
)
