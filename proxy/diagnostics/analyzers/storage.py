"""Disks: full, nearly full, or full soon; what the app prints of it, and what the file system says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, symptoms
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    LIKELY,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Remedy,
    Rival,
    Seen,
)
from proxy.diagnostics.analyzers.stats import slope
from proxy.diagnostics.artifacts import HostReport, Known

WINDOW: Final = 900.0
FULL: Final = 0.002
"""Share that is free of a disk that counts as full; root's reserve is not counted as free."""
SHORT: Final = 0.03
SOON: Final = 3600.0


def analyze(seen: Seen) -> Iterator[Finding]:
    known, host = seen.known, seen.one(HostReport)
    found = symptoms.find(known, known.at - WINDOW)
    # What is made to be read alone (an image, a snapshot) is full from the first day.
    disks = {path: one for path, one in host.disks.items() if path not in host.read_only} if host is not None else {}
    full = {path: one for path, one in disks.items() if one[1] and (one[0] <= FULL * one[1] or one[2] == 0)}
    said = next(iter(found.get("disk-full", ())), None)
    if said is not None and said.number:
        yield _said(known, said, disks, full)
    elif full:
        yield _full(known, disks, full)
    watches = next(iter(found.get("watches", ())), None)
    if watches is not None and watches.number:
        yield _watches(known, watches)
    if not full and disks:
        yield from _soon(known, disks)


def _words(path: str, one: tuple[int, int, int | None]) -> str:
    if one[2] == 0:
        return f"{path}: no inode is free ({units.size(one[0])} of {units.size(one[1])} are)."
    return f"{path}: {units.size(one[0])} of {units.size(one[1])} are free."


def _said(
    known: Known,
    said: symptoms.Symptom,
    disks: dict[str, tuple[int, int, int | None]],
    full: dict[str, tuple[int, int, int | None]],
) -> Finding:
    last = said.said[-1]
    evidence = [
        say.proof(
            f"It printed {units.several(said.number, 'time')} in 15 min, last at {say.stamp(last.at)}: "
            f"{say.clean(last.text)}.",
            say.OUTPUT,
        )
    ]
    evidence += [say.proof(_words(path, one), "host_report") for path, one in list(full.items())[:4]]
    roomy = {path: one for path, one in disks.items() if path not in full}
    sure: Certainty = VERY_LIKELY if full else LIKELY
    against, rivals = [], []
    if not full and roomy:
        against = [say.proof(_words(path, one), "host_report") for path, one in list(roomy.items())[:4]]
        rivals = [
            Rival(
                cause="a quota, a small file system of its own (/tmp, /dev/shm), or room that was made meanwhile",
                speaks_for=["the disks that were looked at have room"],
            )
        ]
    where = f" It writes below {said.paths[-1].rpartition('/')[0] or '/'}." if said.paths else ""
    where += f" It does so at {say.clean(said.where)}." if said.where else ""
    place = f" {say.listed(full)} is full." if full else ""
    lasting = known.at - last.at > say.LATELY
    return Finding(
        id="disk-full",
        title=f"{known.app.name} can't write: no space is left on a disk.",
        cause=f"The app gets ENOSPC when it writes: {say.clean(last.text)}.{place}{where}",
        severity="warning" if lasting or (said.number < 3 and not full) else "critical",
        certainty=sure,
        care="What has to write fails; logs and databases stop or break.",
        app=known.app.name,
        instances=list(dict.fromkeys(one.instance for one in said.said if one.instance))[:8],
        since=said.said[0].at,
        until=last.at if lasting else 0.0,
        evidence=evidence,
        against=against,
        rivals=rivals,
        unknown="" if full else "Which file system is full.",
        remedies=_room(known, next(iter(full), "")),
        faults=["app-error", "instance-exited"],
        explains=[
            "app-exception",
            "app-errors",
            "uncaught-exception",
            "own-exit",
            "crash-loop",
            "fails-to-start",
            "probe-wrong",
            "probe-failing",
            "permission-denied",
        ],
        weight=float(said.number),
    )


def _room(known: Known, path: str) -> list[Remedy]:
    return [
        say.look("Find what takes the room.", f"du -xh --max-depth=2 {path or '/'} | sort -h | tail -20"),
        say.look(
            "Look for files that are deleted but still open.",
            "lsof +L1",
            "A restart of who holds them gives their room back.",
        ),
        say.dont(f"Don't restart {known.app.name} before there is room.", "It may not start again."),
        say.later("Rotate what grows, and let it be told of before the disk is full.", "It does not come again."),
    ]


def _full(
    known: Known, disks: dict[str, tuple[int, int, int | None]], full: dict[str, tuple[int, int, int | None]]
) -> Finding:
    path = next(iter(full))
    return Finding(
        id="disk-full",
        title=f"The disk of {path} is full.",
        cause=_words(path, full[path]),
        severity="warning",
        certainty=CERTAIN,
        care="The next write fails.",
        app=known.app.name,
        evidence=[say.proof(_words(name, one), "host_report") for name, one in disks.items()][:6],
        unknown="Whether the app needs to write there: it printed nothing of it.",
        remedies=_room(known, path),
    )


def _watches(known: Known, said: symptoms.Symptom) -> Finding:
    last = said.said[-1]
    return Finding(
        id="watches-used-up",
        title=f"{known.app.name} can't watch more files.",
        cause=f"The limit of inotify watches of its user is used up: {say.clean(last.text)}.",
        severity="warning",
        certainty=LIKELY,
        care="What reacts to changes of files does not, or does not start.",
        app=known.app.name,
        since=said.said[0].at,
        evidence=[say.proof(f"It printed: {say.clean(last.text)}.", say.OUTPUT)],
        rivals=[Rival(cause="a full disk", against=["the text names watches"])],
        remedies=[say.look("Raise the limit.", "sysctl fs.inotify.max_user_watches fs.inotify.max_user_instances")],
        explains=["fails-to-start"],
    )


def _soon(known: Known, disks: dict[str, tuple[int, int, int | None]]) -> Iterator[Finding]:
    seen = [value for _, value in say.values(known.rings.get("host"), "disk_free")]
    every = seen[:: max(1, len(seen) // 60)] if len(seen) >= 240 else []
    step = (len(seen) / len(every)) if every else 1.0
    rate = -slope(every) / step if len(every) >= 20 else 0.0
    halves = (every[0] - every[len(every) // 2], every[len(every) // 2] - every[-1]) if every else (0.0, 0.0)
    steady = rate > 0 and min(halves) > 0.5 * max(halves) > 0
    if steady and seen[-1] / rate <= SOON:
        left = seen[-1] / rate
        yield Finding(
            id="disk-full-soon",
            title=f"The disk is full in about {units.duration(left)}, if it goes on like this.",
            cause=f"{units.size(seen[-1])} are free, {units.size(rate * 60)} less each minute: full in about "
            f"{units.duration(left)}. A projection.",
            severity="warning",
            certainty=LIKELY,
            care="Then writes fail: logs, databases, this gateway's own records.",
            app=known.app.name,
            evidence=[
                say.proof(
                    f"{units.size(every[0])} were free {units.duration(len(seen))} ago, {units.size(every[-1])} are "
                    f"now.",
                    say.RINGS,
                )
            ],
            unknown="What fills it.",
            remedies=_room(known, ""),
            charts=["disk_free"],
        )
        return
    short = {path: one for path, one in disks.items() if one[1] and one[0] <= SHORT * one[1] and one[0] < 2 * units.GB}
    if short:
        path, one = next(iter(short.items()))
        yield Finding(
            id="disk-nearly-full",
            title=f"The disk of {path} is nearly full.",
            cause=_words(path, one),
            severity="info",
            certainty=CERTAIN,
            care="When it is full, writes fail.",
            app=known.app.name,
            evidence=[say.proof(_words(name, each), "host_report") for name, each in short.items()],
            remedies=_room(known, path),
        )


ANALYZER: Final = Analyzer(
    name="storage",
    title="Full disks",
    checks="No disk is full, and nothing was printed of one.",
    analyze=analyze,
    wants=(HostReport,),
)
