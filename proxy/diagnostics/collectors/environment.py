"""Where it all runs: the gateway, the machine, and the instance's variables, limits, runtime, server and packages."""

from __future__ import annotations

import os
import platform
import pwd
import resource
import sys
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Final

import proxy
from proxy import masking, units
from proxy.diagnostics import cgroup, installed, machine, proc, servers
from proxy.diagnostics.artifacts import Environment, Runtime
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject

PROCESSES: Final = 16
RUNTIMES: Final = 6
OWN: Final = ("uvloop", "httptools", "msgspec", "aiohttp", "psutil", "py-spy")
KERNEL: Final = {
    "memory overcommit": "sys/vm/overcommit_memory", "swappiness": "sys/vm/swappiness",
    "listen backlog, most": "sys/net/core/somaxconn", "handshakes, most": "sys/net/ipv4/tcp_max_syn_backlog",
    "local ports": "sys/net/ipv4/ip_local_port_range", "reuse of TIME_WAIT": "sys/net/ipv4/tcp_tw_reuse",
    "core pattern": "sys/kernel/core_pattern", "processes, most": "sys/kernel/pid_max",
    "files, most": "sys/fs/file-max", "kernel log restricted": "sys/kernel/dmesg_restrict",
    "performance counters restricted": "sys/kernel/perf_event_paranoid",
}  # fmt: skip
SCOPES: Final = {
    "": "not there: tracing needs the same user, or root", "0": "0: tracing needs the same user, or root",
    "1": "1: tracing needs to be its parent, or named by it (diagnose = true), or root",
    "2": "2: root alone may trace", "3": "3: nobody may trace",
}  # fmt: skip


def _gateway(found: dict[str, str], subject: Subject) -> None:
    found["triage"] = proxy.__version__
    found["python"] = f"{platform.python_version()} ({sys.executable})"
    for name in OWN:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        found["user"] = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        found["user"] = str(os.geteuid())
    found["data_dir"] = subject.input.data_dir
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found["open files, most"] = f"{soft} (hard {hard})"
    pid = os.getppid()
    for _ in range(4):  # collector, session, launcher
        try:
            one, command = proc.stat(proc.PROC / str(pid)), proc.command(pid)
        except OSError:
            return
        if one.name == "triage":
            found["command"] = " ".join(masking.arguments(command))
            seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - one.started / proc.TICK
            found["runs for"] = units.duration(max(0.0, seconds))
            return
        pid = one.parent


def host(found: dict[str, str]) -> None:
    """Kernel, distribution, cores, memory and what of the kernel is set: words by name, put into `found`."""
    kernel = os.uname()
    found["kernel"] = f"{kernel.sysname} {kernel.release} {kernel.machine}"
    for line in Path("/etc/os-release").read_text().splitlines() if Path("/etc/os-release").exists() else ():
        if line.startswith("PRETTY_NAME="):
            found["distribution"] = line.partition("=")[2].strip('"')
    found["container"] = _container()
    where = cgroup.place(os.getpid())
    limit = cgroup.quota(where) if where else None
    found["cores"] = f"{machine.cores(limit):g} of {os.cpu_count()} may be used"
    memory = machine.table("meminfo")
    found["memory"] = units.size(memory.get("MemTotal", 0))
    found["swap"] = units.size(memory.get("SwapTotal", 0))
    if where is None:
        found["cgroup"] = "none can be seen"
    else:
        first = next(iter(where.folders.values()))[0]
        writable = os.access(first, os.W_OK) and not os.statvfs(first).f_flag & os.ST_RDONLY
        found["cgroup"] = f"version {where.version}, {'writable' if writable else 'read-only'}, {where.path}"
        most = cgroup.memory_limit(where)
        if most is not None:
            found["memory limit of Triage's cgroup"] = units.size(most)
    scope = machine.text("sys/kernel/yama/ptrace_scope").strip()
    found["Yama scope"] = SCOPES.get(scope, scope)
    for name, path in KERNEL.items():
        if value := machine.text(path).strip():
            found[name] = " ".join(value.split())[:200]
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if huge.exists():
        found["transparent huge pages"] = huge.read_text().partition("[")[2].partition("]")[0]
    try:
        lines = Path("/etc/resolv.conf").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    found["name servers"] = ", ".join(line.split()[1] for line in lines if line.startswith("nameserver ")) or "none"


def _container() -> str:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    if Path("/run/.containerenv").exists():
        return "Podman"
    if Path("/.dockerenv").exists():
        return "Docker"
    try:
        for entry in Path("/proc/1/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"container="):
                return entry[10:].decode(errors="replace")
    except OSError:
        pass
    return "no, as far as can be seen"


def _variables(pid: int) -> dict[str, str]:
    """As the process was started with them, in the clear."""
    found = {}
    for entry in (proc.PROC / str(pid) / "environ").read_bytes().split(b"\0"):
        name, equals, value = entry.decode(errors="replace").partition("=")
        if equals:
            found[name] = value
    return found


def _runtime(pid: int, variables: dict[str, str], processes: int) -> Runtime | None:
    """None: neither its runtime nor a server can be told. Raises OSError."""
    kind = proc.maybe_runtime(pid) or ""
    command = proc.command(pid)
    try:
        cwd = os.readlink(proc.PROC / str(pid) / "cwd")
    except OSError:
        cwd = "/"
    given = servers.server(command)
    if kind in ("", "native") and given is None:
        return None
    found = Runtime(pid=pid, name=kind or "native", version=installed.version(pid, kind))
    packages: dict[str, str] = {}
    if kind == "python":
        packages = installed.distributions(installed.site_folders(pid, command, cwd, variables))
    elif kind == "node":
        script = next((word for word in command[1:] if word.endswith((".js", ".mjs", ".cjs"))), "")
        packages = installed.node_packages(pid, os.path.dirname(os.path.join(cwd, script)) if script else cwd)
    found.packages = dict(list(installed.matter(packages).items())[: installed.SHOWN])
    for name in servers.VARIABLES:
        if name in variables:
            found.settings[name] = masking.masked(name, variables[name])[:200]
    if given is not None:
        server, arguments = given
        found.server, found.server_version = server.name, packages.get(server.package.lower(), "")
        values = servers.settings(server, arguments, variables, _conf(pid, cwd, server, arguments))
        found.workers = servers.taking(values)
        found.settings |= {name: masking.text(value)[:200] for name, value in values.items()}
        if processes > 1:
            found.settings["processes now"] = str(processes)
    return found


def _conf(pid: int, cwd: str, server: servers.Server, arguments: list[str]) -> str:
    """Text of a gunicorn.conf.py; it is read, never run."""
    if server.name != "gunicorn":
        return ""
    path = servers.settings(server, arguments, {}).get("config", "gunicorn.conf.py").removeprefix("file:")
    try:
        with installed.seen_at(pid, os.path.join(cwd, path)).open(errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""


def collect(subject: Subject, folder: Path) -> Environment:
    """What may not be read of the instance is said in the note; gateway and machine are told in any case."""
    found = Environment(at=time.time())
    missing = Counter[str]()
    _gateway(found.gateway, subject)
    host(found.host)
    try:
        tree = list(proc.tree(subject.pid, subject.started))
    except ProcessLookupError as error:
        found.note = str(error)
        return found
    variables: dict[str, str] = {}
    try:
        variables = _variables(subject.pid)
        found.variables = {name: masking.masked(name, value)[:1000] for name, value in sorted(variables.items())}
    except OSError as error:
        missing[f"variables: {(error.strerror or str(error)).lower()}"] += 1
    try:
        found.limits = proc.limits(subject.pid)
    except OSError as error:
        missing[f"limits: {(error.strerror or str(error)).lower()}"] += 1
    alike: dict[tuple[str, ...], list[int]] = {}
    for pid in tree[:PROCESSES]:
        try:
            alike.setdefault((proc.maybe_exe(pid) or "", *proc.command(pid)), []).append(pid)
        except OSError:
            continue
    for pids in list(alike.values())[:RUNTIMES]:
        try:
            if (one := _runtime(pids[0], variables, len(pids))) is not None:
                found.runtimes.append(one)
        except OSError as error:
            missing[f"a runtime: {(error.strerror or str(error)).lower()}"] += 1
    if not (found.runtimes or missing):
        missing["no runtime that is known"] = 1
    if any(proc.maybe_exe(pid) is None and proc.runs(pid) for pid in tree[:PROCESSES]):
        missing["program of a process: only root or its user may see it"] = 1
    found.note = "; ".join(missing)
    return found


COLLECTOR = Collector(
    name="environment",
    title="Environment",
    needs="/proc; variables and programs of others only as root or their user",
    cost="some ten milliseconds of CPU; nothing of the app is run or imported",
    limit=6.0,
    most=2 * units.MIB,
    artifact=Environment,
    collect=collect,
)
