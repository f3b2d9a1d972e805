"""Where every thread of the instance stands, in rounds: the runtime's own frames, else what the kernel says."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import msgspec

from proxy import units
from proxy.diagnostics import asleep, forks, net, proc
from proxy.diagnostics.artifacts import ProcessStacks, Round, Stacks
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.runtimes import inspector, java, kernel, native, node, python
from proxy.diagnostics.subject import Subject

PROCESSES: Final = 8
MANY: Final = 1000
"""Descriptors by which it is told who has connections."""
ROUNDS: Final = 3
APART: Final = 1.0
"""Seconds: what stands at the same place in all rounds is stuck."""
LONG: Final = 10.0
"""Seconds from which on a session has rounds in its middle and at its end too."""
ENOUGH: Final = 7 * units.MIB
"""Bytes of rounds, after which no more are taken."""


def when(seconds: float) -> list[float]:
    """At which seconds of a session of that length rounds are taken."""
    start = [number * APART for number in range(ROUNDS)]
    if seconds < LONG:
        return start
    return [base + each for base in (0.0, seconds / 2 - APART, seconds - ROUNDS * APART) for each in start]


def of(pid: int, name: str, subject: Subject) -> ProcessStacks:
    """The best that can be had of one process. What `why` says then is why there is no better.

    Raises FileNotFoundError, ProcessLookupError when it has ended.
    """
    runtime = proc.maybe_runtime(pid)
    if runtime == "node":
        instance = subject.instance
        addresses = (instance.address, *instance.listens_on) if instance is not None else ()
        inspect = subject.known.app.inspect
        return node.stacks(pid, name, inspector.ports_of(*addresses), may_open=inspect)
    found = ProcessStacks(pid=pid, name=name)
    if runtime == "python":
        found = python.stacks(pid, name)
    elif runtime == "java":
        found = java.stacks(pid, name)
    if not found.threads and runtime != "python":
        found, before = native.stacks(pid, name), found.why
        found.why = "; ".join(part for part in (before, found.why) if part)
    if found.threads:
        return found
    less = kernel.stacks(pid, name)
    less.why = "; ".join(dict.fromkeys(part for part in (found.why, less.why) if part))
    return less


def serving(tree: dict[int, proc.Stat]) -> list[int]:
    """Those that have connections first, then by threads and CPU time; the first process is never left out."""
    sockets = {pid: _sockets(pid) for pid in tree}
    root = next(iter(tree))
    order = sorted(tree, key=lambda pid: (-sockets[pid], -tree[pid].threads, -tree[pid].cpu))
    chosen = order[:PROCESSES]
    return chosen if root in chosen else [*chosen[:-1], root]


def _sockets(pid: int) -> int:
    """Descriptors that are sockets, of the first MANY; 0 where that can't be told."""
    try:
        return sum(net.inode(link) > 0 for link in net.descriptors(pid, MANY).values())
    except OSError:
        return 0


def one_round(tree: dict[int, proc.Stat], subject: Subject) -> Round:
    """One process after the other: each is stopped for a moment only."""
    found = Round(at=time.time())
    for pid in serving(tree):
        sleeps: dict[int, tuple[str, int | None]] = {}
        try:
            sleeps = _sleeps(pid)
            taken = of(pid, tree[pid].name, subject)
        except (FileNotFoundError, ProcessLookupError):
            taken = ProcessStacks(pid=pid, name=tree[pid].name, why="it ended meanwhile")
        for thread in taken.threads:
            thread.wchan, thread.fd = sleeps.get(thread.id, (None, None))
        found.processes.append(taken)
    return found


def _sleeps(pid: int) -> dict[int, tuple[str, int | None]]:
    """By thread, where in the kernel it is, and on which descriptor; one is left out where it may not be read.

    Asked before the stacks are taken: a thread that was stopped for them is on its way back to sleep for a moment.
    """
    found: dict[int, tuple[str, int | None]] = {}
    for name in os.listdir(proc.PROC / str(pid) / "task")[: kernel.THREADS]:
        try:
            place = (proc.PROC / str(pid) / "task" / name / "wchan").read_text()
            on = asleep.on(pid, int(name))
        except (OSError, ValueError):
            continue
        found[int(name)] = ("" if place == "0" else place, on[0][1] if len(on) == 1 else None)
    return found


def collect(subject: Subject, folder: Path) -> Stacks:
    """PermissionError when not one could be taken. A process that ends meanwhile leaves the rounds before."""
    tree = proc.tree(subject.pid, subject.started)
    began = time.monotonic()
    found = Stacks(at=time.time(), runtime=proc.maybe_runtime(subject.pid) or "")
    size, more = 0, ""
    for at in when(subject.seconds):
        if not subject.wait(began + at - time.monotonic()):
            break
        try:
            tree = proc.tree(subject.pid, subject.started)
        except ProcessLookupError:
            more = f"it ended within {units.duration(time.monotonic() - began)}"
            break
        found.rounds.append(one_round(tree, subject))
        size += len(msgspec.json.encode(found.rounds[-1]))
        if size + size // len(found.rounds) > ENOUGH:
            more = f"{len(found.rounds)} rounds: they take {units.size(size)}"
            break
        if any(one.threads for one in found.rounds[-1].processes):
            save(found, folder)
    found.note = note(found, len(tree), more)
    if not any(process.threads for one in found.rounds for process in one.processes):
        raise PermissionError(found.note)
    save(found, folder)
    return found


def note(found: Stacks, processes: int, more: str) -> str:
    """What is missing."""
    said = [more] if more else []
    for process in found.rounds[0].processes if found.rounds else ():
        if process.why:
            said.append(f"{process.name} (pid {process.pid}): {process.why}")
    if processes > PROCESSES:
        said.append(f"of {processes} processes {PROCESSES}")
    return "; ".join(said)


def save(found: Stacks, folder: Path) -> None:
    """What there is so far, whole: it stays when this process is killed."""
    forks.write(folder / "stacks.txt", text(found).encode())
    forks.write(folder / "stacks.json", msgspec.json.encode(found))


def text(stacks: Stacks) -> str:
    """For people."""
    lines: list[str] = []
    for number, one in enumerate(stacks.rounds, 1):
        lines.append(f"round {number} of {len(stacks.rounds)}, {one.at - stacks.rounds[0].at:.1f} s after the first")
        for process in one.processes:
            how = ", ".join(part for part in (process.how, process.why) if part)
            lines.append(f"process {process.pid} ({process.name}), {how}")
            for thread in process.threads:
                words = (("active", thread.active), ("holds the GIL", thread.gil), (thread.note, thread.note))
                marks = [word for word, there in words if there]
                lines.append(f"  thread {thread.id} {thread.name} {', '.join(marks)}".rstrip())
                for frame in thread.frames:
                    lines.append(f"    {frame.function}" + (f" ({frame.file}:{frame.line})" if frame.file else ""))
    return "\n".join(lines) + "\n"


COLLECTOR = Collector(
    name="stacks",
    title="Stacks",
    needs="Python: py-spy; Java: jcmd; Node: its inspector open; native: eu-stack. The right to trace: root, or the "
    "instance's user where Yama allows it",
    cost="three times a second apart, in 10 s and more nine times: stops a Python process of up to 4 threads for about "
    "2 ms, others not at all; Node about 5 ms where its inspector is open",
    limit=8.0,
    most=8 * units.MIB,
    artifact=Stacks,
    collect=collect,
    when="through",
    quick=True,
)
