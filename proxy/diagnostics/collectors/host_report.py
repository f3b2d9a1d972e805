"""The machine: CPU and its users, memory, pressure, disks, losses of the network, clock, names that apps look up."""

from __future__ import annotations

import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proxy import masking, units
from proxy.diagnostics import bounded, cgroup, machine, net, proc
from proxy.diagnostics.artifacts import HostReport, HostSample
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject

EVERY: Final = 1.0
TOP: Final = 12
NAMES: Final = 6
PATIENCE: Final = 2.0
STEP: Final = 1.0
"""Seconds: an instance's start is noted by both clocks within this of each other."""
_HOST: Final = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\.?", re.IGNORECASE
)
_OF_A_HOST: Final = re.compile(r"(?:^|_)(?:HOST|HOSTNAME|SERVER|ENDPOINT|ADDR|ADDRESS)$", re.IGNORECASE)
"""Variables whose value is a host; those with a URL may have any name."""
_OWN: Final = frozenset({"HOSTNAME", "HOST", "SERVER_NAME"})
"""Names of this machine, or what the app listens on."""


def hosts(environment: Iterable[tuple[str, str]]) -> list[str]:
    """The names of other hosts in variables such as DATABASE_URL and REDIS_HOST: those that DNS would be asked for."""
    found: dict[str, None] = {}
    for name, value in environment:
        host = ""
        if "://" in value:
            try:
                host = urlsplit(value.strip()).hostname or ""
            except ValueError:
                continue
        elif _OF_A_HOST.search(name) and name not in _OWN:
            host = value.strip().rpartition(":")[0] if value.strip().rpartition(":")[2].isdigit() else value.strip()
        if _HOST.fullmatch(host) and host.rstrip(".").lower() != "localhost":
            found[host] = None
    return list(found)


class _Watch:
    """Looks at the machine again and again."""

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.cpu = machine.cpu()
        self.memory = machine.table("vmstat")

    def sample(self) -> HostSample:
        """Since the one before."""
        now, cpu, memory = time.monotonic(), machine.cpu(), machine.table("vmstat")
        lasted = max(1e-3, now - self.at)
        spent = [one - other for one, other in zip(cpu, self.cpu, strict=False)][:8]  # guests are in user already
        spent += [0] * (8 - len(spent))
        total = max(1, sum(spent))
        stat = machine.table("stat")
        load = machine.text("loadavg").split()
        found = HostSample(
            at=time.time(),
            busy=round((total - spent[3] - spent[4] - spent[7]) / total, 4),
            iowait=round(spent[4] / total, 4),
            steal=round(spent[7] / total, 4),
            running=stat.get("procs_running", 0),
            blocked=stat.get("procs_blocked", 0),
            load=float(load[0]) if load else 0.0,
            available=machine.table("meminfo").get("MemAvailable"),
            pressure=machine.pressure(),
        )
        grown = {name: (memory.get(name, 0) - self.memory.get(name, 0)) / lasted for name in memory}
        found.swap_in, found.swap_out = round(grown.get("pswpin", 0.0), 1), round(grown.get("pswpout", 0.0), 1)
        found.major_faults = round(grown.get("pgmajfault", 0.0), 1)
        self.at, self.cpu, self.memory = now, cpu, memory
        return found


def _used() -> dict[tuple[int, int], tuple[str, float]]:
    """Of all processes, by pid and start: name and seconds of CPU."""
    found = {}
    for name in os.listdir(proc.PROC):
        if name.isdigit():
            try:
                one = proc.stat(proc.PROC / name)
            except OSError:
                continue
            found[int(name), one.started] = (one.name, one.cpu)
    return found


def _top(before: dict[tuple[int, int], tuple[str, float]], lasted: float) -> list[tuple[str, int, float, int]]:
    rows = []
    for (pid, started), (name, cpu) in _used().items():
        cores = (cpu - before.get((pid, started), (name, 0.0))[1]) / lasted
        if cores >= 0.01:
            rows.append((masking.text(name), pid, round(cores, 3), proc.rss(pid)))
    return sorted(rows, key=lambda row: -row[2])[:TOP]


def _disks(subject: Subject, found: HostReport, missing: Counter[str]) -> None:
    """Each where the gateway or the app writes."""
    paths = dict.fromkeys(
        path for path in (subject.input.data_dir, subject.known.app.cwd, "/tmp", "/var/tmp", "/") if path
    )
    answers = bounded.calls({path: partial(os.statvfs, path) for path in paths}, PATIENCE)
    for path in paths:
        answer = answers.get(path)
        if answer is None:
            missing[f"{path}: the file system gave no answer within {PATIENCE:g} s"] = 1
        elif not isinstance(answer[0], OSError):
            one = answer[0]
            free, size = one.f_bavail * one.f_frsize, one.f_blocks * one.f_frsize
            found.disks[path] = (free, size, one.f_favail if one.f_files else None)
            if one.f_flag & os.ST_RDONLY:
                found.read_only.append(path)


def _environments(subject: Subject) -> list[tuple[str, str]]:
    """Variables of the instances that the session looks into, as their processes were started with them."""
    found: dict[tuple[str, str], None] = {}
    for instance in subject.known.instances:
        if instance.pid and (not subject.input.targets or instance.name in subject.input.targets):
            try:
                data = (proc.PROC / str(instance.pid) / "environ").read_bytes()
            except OSError:
                continue
            for entry in data.split(b"\0"):
                name, equals, value = entry.decode(errors="replace").partition("=")
                if equals:
                    found[name, value] = None
    return list(found)


def _resolve(names: list[str], found: HostReport) -> None:
    began = {name: partial(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM) for name in names[:NAMES]}
    answers = bounded.calls(began, PATIENCE)
    for name in began:
        answer = answers.get(name)
        if answer is None:
            found.resolver[name] = f"no answer within {PATIENCE:g} s"
        elif isinstance(answer[0], OSError):
            found.resolver[name] = answer[0].strerror or str(answer[0])
        else:
            found.resolver[name] = round(answer[1], 4)


def _clock(subject: Subject, offset: float, began: float, found: HostReport) -> None:
    """`offset`: wall against monotonic at the start. An instance's start is known by both clocks, too."""
    steps = [(_offset() - offset, began)]
    for one in subject.known.instances:
        if one.started and one.started_at and not one.gone:
            step = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - (one.started_at - one.started / proc.TICK)
            if abs(step) > STEP:
                steps.append((step, one.started_at))
    step, since = max(steps, key=lambda each: abs(each[0]))
    found.clock_step, found.clock_since = round(step, 3), since
    found.clock_synced = machine.clock_synced()


def _offset() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _of_machine(found: HostReport, missing: Counter[str]) -> None:
    """What is looked at once."""
    memory = machine.table("meminfo")
    found.memory_total, found.swap_total = memory.get("MemTotal"), memory.get("SwapTotal")
    files, limits = machine.numbers("sys/fs/file-nr"), machine.numbers("sys/net/ipv4/tcp_mem")
    if len(files) >= 3:
        found.open_files = (files[0] - files[1], files[2])
    tasks = machine.text("loadavg").split()
    most = [*machine.numbers("sys/kernel/threads-max"), *machine.numbers("sys/kernel/pid_max")]
    if len(tasks) >= 4 and most:
        found.tasks = (int(tasks[3].partition("/")[2]), min(most))
    sockets = re.search(r"^TCP:.*\bmem (\d+)", machine.text("net/sockstat"), re.M)
    if sockets and len(limits) == 3:
        found.tcp_memory = (int(sockets[1]) * proc.PAGE, limits[1] * proc.PAGE, limits[2] * proc.PAGE)
    used, top = machine.numbers("sys/net/netfilter/nf_conntrack_count"), machine.numbers(
        "sys/net/netfilter/nf_conntrack_max"
    )
    if used and top:
        found.conntrack = (used[0], top[0])
    uptime = machine.text("uptime").split()
    found.uptime = float(uptime[0]) if uptime else 0.0
    if not machine.pressure():
        missing["pressure: this kernel does not keep it"] = 1


def _namespaces(subject: Subject, missing: Counter[str]) -> None:
    ours = net.namespace(os.getpid())
    for one in subject.known.instances:
        try:
            if one.pid and net.namespace(one.pid) != ours:
                missing["network: counters are those of the gateway's namespace, the app has one of its own"] = 1
        except OSError:
            continue


def collect(subject: Subject, folder: Path) -> HostReport:
    """A second at least, as rates take two looks."""
    found, missing = HostReport(at=time.time()), Counter[str]()
    began, offset, wall = time.monotonic(), _offset(), time.time()
    where = cgroup.place(os.getpid())
    network, devices, memory = machine.network(), machine.devices(), machine.table("vmstat")
    counters = cgroup.counters(where) if where else {}
    used, watch = _used(), _Watch()
    found.cores = machine.cores(cgroup.quota(where) if where else None)
    found.memory_limit = cgroup.memory_limit(where) if where else None
    _of_machine(found, missing)
    _disks(subject, found, missing)
    _resolve(hosts(_environments(subject)), found)
    until, turn = began + max(EVERY, subject.seconds), began
    while watch.at < until - EVERY / 2:
        turn = max(turn + EVERY, time.monotonic())
        goes_on = subject.wait(turn - time.monotonic())
        if time.monotonic() - watch.at >= EVERY / 10:
            found.samples.append(watch.sample())
        if not goes_on:
            break
    lasted = max(1e-3, time.monotonic() - began)
    found.top = _top(used, lasted)
    found.network = {name: value - network.get(name, value) for name, value in machine.network().items()}
    found.devices = machine.used_devices(devices, machine.devices(), lasted)
    now = machine.table("vmstat")
    found.oom_kills = now.get("oom_kill")
    found.oom_kills_new = now.get("oom_kill", 0) - memory.get("oom_kill", 0)
    if where:
        found.changed = cgroup.grown(counters, cgroup.counters(where))
    _clock(subject, offset, wall, found)
    _namespaces(subject, missing)
    found.note = "; ".join(missing)
    return found


COLLECTOR = Collector(
    name="host_report",
    title="Machine",
    needs="/proc; of a container, what it is shown there",
    cost="a millisecond of CPU a second, and a look at all processes at its begin and end; nothing of the app",
    limit=8.0,
    most=4 * units.MIB,
    artifact=HostReport,
    collect=collect,
    of="host",
    when="through",
)
