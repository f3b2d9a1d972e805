"""The machine: no CPU left for the app, disks or memory that make it wait, and whose doing that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import LIKELY, VERY_LIKELY, Analyzer, Certainty, Finding, Proof, Rival, Seen
from proxy.diagnostics.analyzers.situation import Situation, explains, late
from proxy.diagnostics.artifacts import Activity, HostReport, ProcReport

BUSY: Final = 0.92
"""Share of all cores."""
PRESSED: Final = 0.25
"""Share of the time in which something runnable waited (PSI)."""
WAITS: Final = 0.2
"""Seconds a second that threads of an instance were ready to run and did not; more than they ran, too."""


def analyze(seen: Seen) -> Iterator[Finding]:
    now = Situation(seen.known, seen.each(Activity))
    host = seen.one(HostReport)
    if host is None or not (now.harm.late or _starved(now)) or now.in_flight < 1:
        return
    yield from _cpu(seen, now, host)
    yield from _swap(now, host)
    yield from _disk(now, host)


def _starved(now: Situation) -> bool:
    """Its threads wait longer for a core than they run, and answers take long enough for that to matter."""
    late = (now.wait or 0.0) >= 0.1
    return late and any(
        (say.middle(one.wait_cpu or 0.0 for one in each.samples) or 0.0) >= max(WAITS, now.cores(name) or 0.0)
        for name, each in now.activity.items()
    )


def _level(host: HostReport, name: str) -> float:
    return say.middle(one.pressure.get(name, 0.0) for one in host.samples) or 0.0


def _pids(seen: Seen) -> set[int]:
    own = {one.pid for report in seen.each(ProcReport).values() for one in report.processes}
    return own | {one.pid for one in seen.known.instances if one.pid}


def _cpu(seen: Seen, now: Situation, host: HostReport) -> Iterator[Finding]:
    busy = say.middle(one.busy for one in host.samples if one.busy is not None)
    steal = say.middle(one.steal for one in host.samples if one.steal is not None) or 0.0
    some = _level(host, "cpu some")
    waits = {name: say.middle(one.wait_cpu for one in each.samples if one.wait_cpu is not None) or 0.0
             for name, each in now.activity.items()}  # fmt: skip
    waited = max(waits.values(), default=0.0)
    own = {one.name: now.cores(one.name) or 0.0 for one in now.instances}
    starved = any(wait >= WAITS and wait >= own.get(name, 0.0) for name, wait in waits.items())
    told = any(one.wait_cpu is not None for each in now.activity.values() for one in each.samples)
    if busy is None or busy + steal < BUSY or not (starved or (some >= PRESSED and not told) or steal >= 0.1):
        return
    mine = sum(own.values())
    wants = max((own.get(name, 0.0) + wait for name, wait in waits.items()), default=mine)
    pids = _pids(seen)
    gateway = {one.pid for one in now.known.workers}
    foreign: dict[str, float] = {}
    number: Counter[str] = Counter()
    for name, pid, used, _ in host.top:
        if pid not in pids and pid not in gateway:
            foreign[name] = foreign.get(name, 0.0) + used
            number[name] += 1
    first = sorted(foreign.items(), key=lambda item: -item[1])
    taken = sum(foreign.values())
    cores = host.cores or 1.0
    if mine >= 0.6 * cores and taken < 0.3 * cores:
        return  # it is the app itself: the analyzer of its CPU says so
    evidence: list[Proof] = [
        say.proof(
            f"{units.percent(busy)} of {cores:g} cores are busy; {now.name} uses {mine:.2f} cores.", "host_report"
        )
    ]
    if some:
        evidence.append(say.proof(f"For {units.percent(some)} of the time something waited for a core.", "host_report"))
    if waited:
        text = f"Its threads were ready and did not run for {units.duration(waited)} of each second."
        evidence.append(say.proof(text, "activity"))
    if steal >= 0.05:
        evidence.append(say.proof(f"{units.percent(steal)} were taken by other machines (steal).", "host_report"))
    users = say.listed(
        (f"{say.clean(name, 40)} {used:.2f}{f' ({number[name]} processes)' if number[name] > 1 else ''}"
         for name, used in first[:4]), 3,
    )  # fmt: skip
    modest = wants < 0.8  # an app that wants a core or more for itself has a part in it
    sure: Certainty = VERY_LIKELY if modest and some >= PRESSED and (starved or steal >= 0.1) else LIKELY
    if steal >= 0.1:
        ident, title = "host-saturated", "The machine below this one gives it too little CPU"
        cause = f"{units.percent(steal)} of the CPU time were taken by others below this machine (steal)."
    elif foreign and taken >= 0.3 * cores:
        ident = "host-saturated"
        title = f"Other programs, {say.clean(first[0][0], 60)} first, take the CPU of this machine"
        cause = f"Other programs use {taken:.2f} of {cores:g} cores: {users}. {now.name} itself uses {mine:.2f}."
    else:
        ident, title = "host-saturated", "This machine has no CPU left"
        cause = f"{units.percent(busy)} of {cores:g} cores are busy, and threads wait for a core."
    yield Finding(
        id=ident,
        title=title,
        cause=cause,
        severity=now.harm.severity if modest and (now.harm.slow or now.harm.hanging) else "warning",
        certainty=sure,
        care="Every request on this machine takes longer, of all apps and in the gateway too.",
        since=now.harm.since,
        evidence=[*evidence, *now.harm.proofs],
        rivals=[Rival(cause="the app's own computing", against=[f"it uses {mine:.2f} of {cores:g} cores"])],
        unknown="" if foreign else "Whose work it is: no program that uses much was seen.",
        remedies=[
            say.look("See what runs.", "top -o %CPU"),
            say.dont(f"Do not scale {now.name} up on this machine.", "More instances share the same cores."),
            say.later("A CPU limit (cgroup) or a machine of its own for what takes it."),
        ],
        faults=late("gateway-overload", "connect-timeout"),
        explains=explains("gateway-overload", "slow-handler", "slow-path", "cpu-bound", "event-loop-blocked",
                          "workers-exhausted", "one-bad-instance") if modest else [],
        charts=["cpu", "busy", "wait_p50"],
        weight=now.harm.weight,
    )  # fmt: skip


def _swap(now: Situation, host: HostReport) -> Iterator[Finding]:
    moved = say.middle(one.swap_in + one.swap_out for one in host.samples) or 0.0
    faults = {name: say.middle(one.major_faults for one in each.samples) or 0.0 for name, each in now.activity.items()}
    pressed = max(_level(host, "memory some"), _level(host, "memory full"))
    worst = max(faults, key=lambda name: faults[name], default="")
    if not ((moved >= 100 or pressed >= 0.1) and (pressed >= 0.05 or faults.get(worst, 0.0) >= 20)):
        return
    evidence = [
        say.proof(
            f"{units.count(moved)} pages/s to and from swap; memory pressure {units.percent(pressed)}.", "host_report"
        )
    ]
    if worst and faults[worst]:
        evidence.append(
            say.proof(f"{worst}: {faults[worst]:,.0f} major page faults a second.", say.of(worst, "activity"))
        )
    yield Finding(
        id="swapping",
        title="The machine is short of memory, and programs wait for pages to come back",
        cause=f"{units.count(moved)} pages/s go to and from swap, and for {units.percent(pressed)} of the "
        "time something "
        f"waited for memory{f'; {worst} most' if worst and faults[worst] >= 20 else ''}.",
        severity=now.harm.severity,
        certainty=VERY_LIKELY if pressed >= 0.1 and faults.get(worst, 0.0) >= 20 else LIKELY,
        care="What touches memory waits for a disk, thousands of times slower.",
        since=now.harm.since,
        evidence=[*evidence, *now.harm.proofs],
        remedies=[
            say.look("See who uses it.", "ps aux --sort=-rss | head"),
            say.later("More memory, or a limit for what uses most of it."),
        ],
        faults=late(),
        explains=explains("disk-bound", "slow-handler", "slow-path", "workers-exhausted", "cpu-bound"),
        charts=["memory", "memory_available", "wait_p50"],
        weight=now.harm.weight,
    )


def _disk(now: Situation, host: HostReport) -> Iterator[Finding]:
    some = max(_level(host, "io some"), _level(host, "io full"))
    waiting = say.middle(one.iowait for one in host.samples if one.iowait is not None) or 0.0
    blocked = {
        name: sum(one.blocked >= 1 for one in each.samples) / len(each.samples)
        for name, each in now.activity.items()
        if each.samples
    }
    worst = max(blocked, key=lambda name: blocked[name], default="")
    if not worst or blocked[worst] < 0.4 or max(some, waiting) < 0.1:
        return
    samples = now.activity[worst].samples
    read = say.middle(one.read or 0.0 for one in samples) or 0.0
    written = say.middle(one.written or 0.0 for one in samples) or 0.0
    own = read + written >= units.MB
    yield Finding(
        id="disk-bound",
        title=f"{worst} waits for a disk",
        cause=f"In {units.percent(blocked[worst])} of the looks threads of {worst} waited for a disk (state "
        "D); it reads "
        f"{units.size(read)}/s and writes {units.size(written)}/s, and something waited for disks "
        f"{units.percent(max(some, waiting))} of the time.",
        severity=now.harm.severity,
        certainty=VERY_LIKELY if some >= PRESSED and own else LIKELY,
        care="A thread that waits for a disk can't be stopped or hurried.",
        instances=[worst] if len(now.instances) > 1 else [],
        since=now.harm.since,
        evidence=[
            say.proof(f"State D in {units.percent(blocked[worst])} of looks.", say.of(worst, "activity")),
            say.proof(f"I/O pressure {units.percent(some)}, iowait {units.percent(waiting)}.", "host_report"),
            *now.harm.proofs,
        ],
        rivals=[
            Rival(
                cause="another program that uses the disk",
                speaks_for=[] if own else ["it reads and writes little itself"],
            )
        ],
        remedies=[
            say.look("See who reads and writes.", "iotop -o"),
            say.later("Write less (logs, fsync), in larger pieces, or to a disk of its own."),
        ],
        faults=late(),
        explains=explains("slow-handler", "slow-path", "workers-exhausted", "lock-held"),
        charts=["io_read", "io_write", "wait_p50"],
        weight=now.harm.weight,
    )


ANALYZER: Final = Analyzer(
    name="host",
    title="The machine: CPU, memory and disks",
    checks="The machine had CPU, memory and disks to spare.",
    analyze=analyze,
    needs=(HostReport,),
    wants=(Activity, ProcReport),
)
