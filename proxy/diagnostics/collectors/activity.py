"""What the instance's processes do, second by second: CPU and the wait for it, faults, I/O, memory, throttling, files.

CPU and faults of a process that ended go to its parent once that has waited for it, so sums over the tree do not fall.
A thread's time is the scheduler's own (/proc/PID/task/TID/schedstat, in ns), a process's is in clock ticks.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy import masking, units
from proxy.diagnostics import cgroup, descriptors, net, proc
from proxy.diagnostics.artifacts import Activity, ActivitySample, Descriptors
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject

EVERY: Final = 1.0
THREADS: Final = 512
SWEEP: Final = 0.01
"""Of a core: a look through all of /proc for new processes comes later where it takes longer."""
HELD: Final = 8
BUSY: Final = 8


@dataclass(slots=True)
class _Thread:
    name: str
    state: str
    ran: float = 0.0  # seconds
    waited: float = 0.0
    slices: int = 0
    switches: int = 0
    forced: int = 0


@dataclass(slots=True)
class _Process:
    started: int
    used: tuple[float, float, int]  # user, system, major faults
    children: tuple[float, float, int]  # the same of children that ended and were waited for
    rss: int
    threads: int
    swap: int = 0
    read: int | None = None
    written: int | None = None
    tasks: dict[int, _Thread] = field(default_factory=dict)


@dataclass(slots=True)
class _Look:
    at: float  # monotonic
    processes: dict[int, _Process]
    counters: dict[str, float]
    scheduler: bool  # schedstat could be read
    logs: dict[str, int]


class _Watch:
    """Looks at the instance again and again."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.missing: Counter[str] = Counter()
        self.pids: list[int] = []
        self.next_sweep = 0.0
        self.where: cgroup.Place | None = None

    def look(self, before: _Look | None) -> _Look:
        """Raises ProcessLookupError when the instance has ended."""
        now = time.monotonic()
        if now >= self.next_sweep:
            self.pids = list(proc.tree(self.subject.pid, self.subject.started))
            took = time.monotonic() - now
            self.next_sweep = now + took / SWEEP
        if before is None:
            try:
                self.where = cgroup.place(self.subject.pid)
            except (FileNotFoundError, ProcessLookupError):
                raise ProcessLookupError(f"process {self.subject.pid} ended during the session") from None
        found = _Look(time.monotonic(), {}, {}, scheduler=True, logs=self._logs())
        left = THREADS
        for pid in self.pids:
            earlier = before.processes.get(pid) if before else None
            try:
                one = self._process(pid)
                if earlier is not None and earlier.started != one.started:
                    earlier = None
                left = self._threads(pid, one, earlier, left, found)
            except (FileNotFoundError, ProcessLookupError):
                if pid == self.subject.pid:
                    raise ProcessLookupError(f"process {pid} ended during the session") from None
                continue
            found.processes[pid] = one
        if self.where is not None:
            found.counters = cgroup.counters(self.where)
        return found

    def _process(self, pid: int) -> _Process:
        fields = (proc.PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        if fields[0] in "ZX":
            raise ProcessLookupError
        tick = proc.TICK
        one = _Process(
            started=int(fields[19]),
            used=(int(fields[11]) / tick, int(fields[12]) / tick, int(fields[9])),
            children=(int(fields[13]) / tick, int(fields[14]) / tick, int(fields[10])),
            rss=int(fields[21]) * proc.PAGE,
            threads=int(fields[17]),
        )
        for line in (proc.PROC / str(pid) / "status").read_text(errors="replace").splitlines():
            if line.startswith("VmSwap:"):
                one.swap = int(line.split()[1]) * 1024
        try:
            for line in (proc.PROC / str(pid) / "io").read_text().splitlines():
                name, _, value = line.partition(": ")
                if name == "read_bytes":
                    one.read = int(value)
                elif name == "write_bytes":
                    one.written = int(value)
        except PermissionError:
            self.missing["I/O: permission denied"] = 1
        return one

    def _threads(self, pid: int, one: _Process, earlier: _Process | None, left: int, found: _Look) -> int:
        """How many more may be looked at."""
        folder = f"{proc.PROC}/{pid}/task"
        for name in sorted(os.listdir(folder), key=int):
            if left <= 0:
                self.missing[f"more than {THREADS} threads: the rest was not looked at one by one"] = 1
                break
            left -= 1
            path = f"{folder}/{name}"
            try:
                before, _, after = proc.small(f"{path}/stat").rpartition(b")")
                thread = _Thread(before.partition(b"(")[2].decode(errors="replace"), after[1:2].decode())
                last = earlier.tasks.get(int(name)) if earlier else None
                self._scheduled(path, thread, after, found)
                if last is None or last.slices != thread.slices or not thread.slices:
                    _switches(path, thread)
                else:  # it has not run since
                    thread.switches, thread.forced = last.switches, last.forced
            except (FileNotFoundError, ProcessLookupError):
                continue
            one.tasks[int(name)] = thread
        return left

    def _scheduled(self, path: str, thread: _Thread, stat: bytes, found: _Look) -> None:
        try:
            ran, waited, slices = proc.small(f"{path}/schedstat").split()
            thread.ran, thread.waited, thread.slices = int(ran) / 1e9, int(waited) / 1e9, int(slices)
        except (FileNotFoundError, PermissionError) as error:
            if not os.path.exists(path):
                raise FileNotFoundError from error
            fields = stat.split()
            found.scheduler = False
            thread.ran = (int(fields[11]) + int(fields[12])) / proc.TICK
            self.missing["schedstat: this kernel has none"] = 1

    def _logs(self) -> dict[str, int]:
        found = {}
        for path in self.subject.instance.logs if self.subject.instance else ():
            try:
                found[path] = os.stat(path).st_size
            except OSError:
                continue
        return found


def _switches(path: str, thread: _Thread) -> None:
    _, _, rest = proc.small(f"{path}/status").rpartition(b"\nvoluntary_ctxt_switches:")
    counts = rest.split()  # N, its name, M
    if len(counts) >= 3:
        thread.switches, thread.forced = int(counts[0]), int(counts[2])


def _sample(before: _Look, now: _Look) -> ActivitySample:
    """Rates between two looks."""
    lasted = max(1e-3, now.at - before.at)
    found = ActivitySample(at=time.time(), processes=len(now.processes))
    waited = switches = forced = 0.0
    for pid, one in now.processes.items():
        last = _same(before, pid, one)
        found.rss += one.rss
        found.swap += one.swap
        found.threads += one.threads
        for number, thread in one.tasks.items():
            earlier = last.tasks.get(number) if last else None
            found.blocked += thread.state == "D"
            found.running += thread.state == "R"
            ran = thread.ran - (earlier.ran if earlier else 0.0)
            waited += thread.waited - (earlier.waited if earlier else 0.0)
            switches += thread.switches - (earlier.switches if earlier else 0)
            forced += thread.forced - (earlier.forced if earlier else 0)
            if ran / lasted > found.busiest:
                found.busiest, found.busiest_thread, found.busiest_id = ran / lasted, masking.text(thread.name), number
    found.user, found.system, found.major_faults = (_rate(_used(before, now, which), lasted) for which in range(3))
    found.busiest = round(found.busiest, 3)
    found.switches, found.forced = _rate(switches, lasted), _rate(forced, lasted)
    found.wait_cpu = _rate(waited, lasted) if now.scheduler else None
    found.read, found.written = _moved(before, now, "read", lasted), _moved(before, now, "written", lasted)
    found.children = _rate(sum(_same(before, pid, one) is None for pid, one in now.processes.items()), lasted)
    throttled = cgroup.throttling(now.counters, before.counters)
    if throttled is not None:
        found.throttled, found.throttled_seconds = round(throttled[0], 3), _rate(throttled[1], lasted)
    if now.logs:
        printed = sum(
            size - before.logs.get(path, 0) if size >= before.logs.get(path, 0) else size  # a new file in its place
            for path, size in now.logs.items()
        )
        found.log_bytes = _rate(printed, lasted)
    return found


def _used(before: _Look, now: _Look, which: int) -> float:
    """Of one of the three: what processes used, and what those used that ended since, as their parents tell it."""
    own = after = 0.0
    for pid, one in now.processes.items():
        last = _same(before, pid, one)
        own += one.used[which] - (last.used[which] if last else 0)
        after += one.children[which] - (last.children[which] if last else 0)
    for pid, gone in before.processes.items():
        if _same(now, pid, gone) is None:  # what it used until then is told already
            after -= gone.used[which] + gone.children[which]
    return own + max(0.0, after)


def _same(look: _Look, pid: int, one: _Process) -> _Process | None:
    other = look.processes.get(pid)
    return other if other is not None and other.started == one.started else None


def _rate(amount: float, lasted: float) -> float:
    """Never below 0: what ended takes its counts with it."""
    return round(max(0.0, amount) / lasted, 4)


def _moved(before: _Look, now: _Look, what: str, lasted: float) -> float | None:
    values = {pid: getattr(one, what) for pid, one in now.processes.items()}
    if all(value is None for value in values.values()):
        return None
    total = 0
    for pid, value in values.items():
        last = _same(before, pid, now.processes[pid])
        total += (value or 0) - ((getattr(last, what) or 0) if last else 0)
    return _rate(total, lasted)


def _opened(pids: list[int], missing: Counter[str]) -> dict[int, descriptors.Open]:
    found: dict[int, descriptors.Open] = {}
    sides: dict[int, str] = {}
    try:
        view = net.View(pids[0])
        sides = descriptors.sides_of(view)
        if view.cut:
            missing[view.note()] = 1
        view.close()
    except (OSError, IndexError):
        missing["sockets: what they lead to is not known"] = 1
    for pid in pids:
        try:
            found[pid] = descriptors.opened(pid, sides)
        except PermissionError:
            missing["descriptors: permission denied"] = 1
        except OSError:
            continue
    return found


def _limit(pid: int) -> tuple[int | None, str]:
    """Of descriptors, None: there is none; and its name."""
    try:
        soft, _ = proc.limits(pid)["max open files"]
    except (OSError, KeyError):
        return None, ""
    return (int(soft) if soft.isdigit() else None), net.comm(pid)


def _descriptors(before: dict[int, descriptors.Open], after: dict[int, descriptors.Open]) -> list[Descriptors]:
    found = []
    for pid, one in after.items():
        limit, name = _limit(pid)
        first = before.get(pid, one)
        growing, grew = descriptors.grown(first, one)
        found.append(
            Descriptors(
                pid=pid, used=one.used, limit=limit, kinds=dict(one.kinds.most_common()), growing=growing, grew=grew,
                name=name, before=first.used, held=descriptors.held(one, HELD),
            )
        )  # fmt: skip
    return found


def _busy(first: _Look, last: _Look) -> list[tuple[str, int, float]]:
    lasted = max(1e-3, last.at - first.at)
    found = []
    for pid, one in last.processes.items():
        earlier = _same(first, pid, one)
        for number, thread in one.tasks.items():
            then = earlier.tasks.get(number) if earlier else None
            cores = (thread.ran - (then.ran if then else 0.0)) / lasted
            if cores >= 0.005:
                found.append((masking.text(thread.name), number, round(cores, 3)))
    return sorted(found, key=lambda row: -row[2])[:BUSY]


def collect(subject: Subject, folder: Path) -> Activity:
    """A second at least, as rates take two looks. ProcessLookupError when the instance is gone at the first."""
    watch = _Watch(subject)
    found = Activity(at=time.time())
    first = last = watch.look(None)
    opened = _opened(watch.pids, watch.missing)
    until = last.at + max(EVERY, subject.seconds)
    ended = ""
    turn = first.at
    while last.at < until - EVERY / 2:
        turn = max(turn + EVERY, time.monotonic())
        goes_on = subject.wait(turn - time.monotonic())
        if not goes_on and time.monotonic() - last.at < EVERY / 10:
            break  # too short for a rate
        try:
            now = watch.look(last)
        except ProcessLookupError as error:
            ended = str(error)
            break
        found.samples.append(_sample(last, now))
        last = now
        if not goes_on:
            break
    found.descriptors = _descriptors(opened, _opened(watch.pids, watch.missing) or opened)
    found.changed = cgroup.grown(first.counters, last.counters)
    if watch.where is not None:
        found.cgroup = cgroup.describe(watch.where, set(watch.pids))
        found.quota = cgroup.quota(watch.where)
    found.threads_busy = _busy(first, last)
    found.note = "; ".join([*watch.missing, *([ended] if ended else [])])
    return found


COLLECTOR = Collector(
    name="activity",
    title="Activity",
    needs="/proc; descriptors and I/O of others only as root or their user",
    cost="some 20 us of CPU a thread and second; the app is not stopped",
    limit=6.0,
    most=4 * units.MIB,
    artifact=Activity,
    collect=collect,
    when="through",
    quick=True,
)
