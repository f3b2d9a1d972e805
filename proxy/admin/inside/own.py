"""Handlers of the gateway and the host: versions, settings, limits, cgroup, disks, pressure; and Triage's processes."""

from __future__ import annotations

import os
import platform
import pwd
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy import config as configs
from proxy.admin.common import answer
from proxy.admin.errors import ApiProblem
from proxy.admin.inside import places, seeing
from proxy.admin.inside.reader import READER
from proxy.admin.keys import GATEWAY
from proxy.admin.times import iso
from proxy.control.inside import family
from proxy.diagnostics.inside import around, process
from proxy.diagnostics.inside.opened import Opened, shown

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

PACKAGES: Final = ("aiohttp", "uvloop", "httptools", "msgspec", "orjson", "psutil", "prometheus-client", "py-spy")
LIMITS: Final = {
    "descriptors": resource.RLIMIT_NOFILE, "processes": resource.RLIMIT_NPROC, "core": resource.RLIMIT_CORE,
    "memory": resource.RLIMIT_AS, "locked memory": resource.RLIMIT_MEMLOCK, "stack": resource.RLIMIT_STACK,
}  # fmt: skip


async def environment(request: web.Request) -> web.Response:
    return answer(await request.app[READER].read(taking(request.app[GATEWAY])))


def taking(gateway: Gateway) -> Any:
    """What reads all of it; for a thread."""
    launcher, config = gateway.launcher_pid, gateway.config
    folders = _folders(gateway)
    more = {
        "config": gateway.config_path, "data_dir": str(gateway.data_dir), "launcher": launcher, "control": os.getpid(),
        "workers": [worker.pid for worker in gateway.workers if worker.pid], "started": iso(gateway.started_at),
    }  # fmt: skip
    version = gateway.version

    def look() -> dict[str, Any]:
        shown_config = configs.shown(config)
        settings = {name: shown_config[name] for name in ("gateway", "admin")}
        return {**machine(version, folders), **more, "settings": settings}

    return look


def _folders(gateway: Gateway) -> list[str]:
    """Whose disks matter: where Triage and the apps write."""
    apps = [state.config.process.cwd for state in gateway.apps.values() if state.config.process is not None]
    return list(dict.fromkeys(str(one) for one in (gateway.data_dir, tempfile.gettempdir(), *apps) if one))[:20]


def machine(version: str, folders: Iterable[str] = ()) -> dict[str, Any]:
    """Versions, host, cgroup and limits of this process; secrets masked. For a thread: a disk may hang."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    host = around.host(folders)
    notes = list(host.pop("notes"))
    found: dict[str, Any] = {
        "version": version,
        "python": platform.python_version(),
        "implementation": f"{platform.python_implementation()} {sys.executable}",
        "kernel": host["kernel"],
        "machine": host["machine"],
        "cpus": host["cpus"],
        "usable_cpus": host["usable_cpus"],
        "load": host["load"],
        "memory": host["memory"].get("total"),
        "memory_available": host["memory"].get("available"),
        "time": iso(time.time()),
        "user": _user(),
        "cwd": _cwd(),
        "limits": {name: list(resource.getrlimit(which)) for name, which in LIMITS.items()},
        "packages": packages,
        "environment": {},
        "cgroup": None,
        "host": host,
    }
    try:
        with Opened(os.getpid()) as opened:
            found["environment"] = opened.maybe("variables", lambda: process.variables(opened)) or {}
            found["cgroup"] = opened.maybe("cgroup", lambda: around.group(os.getpid(), {os.getpid()}))
            notes += opened.notes
    except OSError as error:
        notes.append(f"its own process: {(error.strerror or str(error)).lower()}")
    return {**found, "notes": notes}


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _cwd() -> str:
    try:
        return shown(os.getcwd())
    except OSError:
        return ""


async def processes(request: web.Request) -> web.Response:
    """Triage's own tree: launcher, control, workers, sessions, instances and what they started."""
    gateway = request.app[GATEWAY]
    roles = {pid: one for pid, one in places.known_pids(gateway).items() if one[0] != "child"}
    launcher = gateway.launcher_pid

    def look() -> family.Family:
        return family.of_triage(launcher, roles)

    try:
        found = await request.app[READER].read(look)
    except ProcessLookupError:  # it is about to end
        raise ApiProblem(503, "stopping", "Triage ends", "Its launcher is gone.") from None
    return await seeing.page(request, found)
