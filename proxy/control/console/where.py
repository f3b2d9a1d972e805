"""Where a program of the console runs: as whom, in which folder, with which environment and in which cgroup.

Always true:
  - nothing of Triage's own environment goes along but what an app would get, or `PLAIN` for the gateway's own;
  - an instance's is what the instance was started with, not what the config says by now.
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from proxy.config import Process
from proxy.control import command
from proxy.control.refusal import NotPossible

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

PLAIN: Final = ("PATH", "HOME", "LANG", "LC_*", "TZ")
"""Variables of Triage's own that a program in the gateway's place gets: none that could be a secret."""
USUAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MARKER: Final = "TRIAGE_INSTANCE"
_NO_SHELLS: Final = ("nologin", "false", "sync", "true", "shutdown", "halt")


@dataclass(frozen=True, slots=True)
class Where:
    """A place to run in. `words` says it to a person."""

    words: str
    env: Mapping[str, str]
    cwd: str
    user: str = ""  # to become; "": Triage's own
    name: str = ""  # of the user that it is then
    shell: str = "/bin/sh"
    app: str = ""
    instance: str = ""
    cgroups: tuple[str, ...] = ()
    folder: int = field(default=-1, compare=False)  # descriptor that stands for `cwd`; the caller's

    def inside(self, folder: int, shown: str) -> Where:
        """Likewise, but in this folder, which is open already."""
        return replace(self, folder=folder, cwd=shown)


async def of_gateway(gateway: Gateway) -> Where:
    """Triage's own user and machine."""
    return await asyncio.to_thread(_own, gateway.config_path)


def _own(config_path: str) -> Where:
    entry = _entry(os.geteuid())
    env = {name: value for name, value in os.environ.items() if any(fnmatch.fnmatchcase(name, one) for one in PLAIN)}
    folder = os.path.dirname(os.path.abspath(config_path))
    return _whole("the gateway's own place", env, folder if os.path.isdir(folder) else "/", "", entry)


async def of_app(gateway: Gateway, app: str, instance: str = "") -> Where:
    """An instance's place; without one, that of the app's first ready instance, else what its next one would get.

    Raises KeyError: there is no such app, or user; NotPossible."""
    state = gateway.apps[app]
    if state.config.process is None:
        raise NotPossible(
            "not-ours", f"Triage does not start {app}, so it has no environment of it",
            "Leave out `app` for the gateway's own.",
        )  # fmt: skip
    if not instance:
        ready = [one.name for one in state.instances.values() if one.ready_since]
        instance = ready[0] if ready else ""
    if not instance:
        env = command.environment(state.config.process, os.environ, "", 0, "")
        env.pop(_MARKER, None)
        words = f"{app}'s place, though none of its instances is ready"
        return await asyncio.to_thread(_of_process, state.config.process, env, words, app)
    one, runner = state.instances.get(instance), gateway.find_runner(instance)
    if one is None or runner is None:
        raise NotPossible("ended", f"{instance} has ended", "Name one that runs.")
    env = command.environment(runner.process, os.environ, instance, one.port, one.path)
    found = await asyncio.to_thread(_of_process, runner.process, env, f"{instance}'s place", app)
    return replace(found, instance=instance, cgroups=gateway.shared.limits.folders(instance))


def _of_process(process: Process, env: dict[str, str], words: str, app: str) -> Where:
    user = process.user if process.user and os.geteuid() == 0 else ""
    entry = (pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)) if user else _entry(os.geteuid())
    return replace(_whole(words, env, process.cwd, user, entry), app=app)


def _whole(words: str, env: dict[str, str], cwd: str, user: str, entry: pwd.struct_passwd | None) -> Where:
    """With what every program takes for granted."""
    env.setdefault("PATH", USUAL_PATH)
    if entry is not None:
        for name, value in (("HOME", entry.pw_dir), ("USER", entry.pw_name), ("LOGNAME", entry.pw_name)):
            env.setdefault(name, value)
    shell = _shell(entry)
    env["SHELL"] = shell
    return Where(words, env, cwd, user, entry.pw_name if entry is not None else user or str(os.geteuid()), shell)


def _entry(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _shell(entry: pwd.struct_passwd | None) -> str:
    """The user's own; of one that may not log in, whatever the machine has."""
    own = entry.pw_shell if entry is not None else ""
    for path in (own, "/bin/bash", "/bin/sh"):
        if path and os.path.basename(path) not in _NO_SHELLS and os.access(path, os.X_OK):
            return path
    return "/bin/sh"
