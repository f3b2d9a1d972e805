"""Where chaos happens: a gateway with an app of three instances and two workers, on a disk that can be filled.

Always true:
  - the disk is a tmpfs in a mount namespace of this process: it is gone when this process and what it started are;
  - `whole` looks at what the gateway says and at what the kernel says: a pid that it shows lives.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from loadtests import procs
from loadtests.api import Api
from loadtests.ask import get
from loadtests.chaos_count import Killed, Window
from loadtests.lab import REPOSITORY, Failed, Lab
from loadtests.peers.triage import ENVIRONMENT, serve

INSTANCES: Final = 3
WORKERS: Final = 2
FIRST_BYTE: Final = 2.0
DISK: Final = 256 << 20  # no evidence is taken with less than 100 MB free
CLONE_NEWNS: Final = 0x00020000
MS_REC_PRIVATE: Final = 0x4000 | 0x40000
MNT_DETACH: Final = 2
_libc = ctypes.CDLL(None, use_errno=True)

CONFIG: Final = """\
[gateway]
listen = ["127.0.0.1:{port}"]
workers = {workers}
data_dir = "{data}"

[admin]
listen = "127.0.0.1:{admin}"
metrics = true

[apps.web]
timeouts = {{ first_byte = "{first_byte:g}s" }}
retries = {{ on = ["head-timeout"] }}

[apps.web.diagnose]
on = []

[apps.web.process]
command = "{python} -m loadtests.chaos_app --port {{port}} --book {book} --mode {mode}"
cwd = "{repository}"
instances = {instances}
env = {{ GENERATION = "{generation}" }}
stop = {{ timeout = "5s" }}
{user}

{health}
"""
HEALTH: Final = """\
[apps.web.health]
path = "/healthz"
interval = "1s"
timeout = "1s"
ready_within = "{:g}s"
"""


def own_disk(folder: Path, size: int = DISK) -> str:
    """Mount a tmpfs of `size` bytes there, for this process and those it starts; why not, when it can't be."""
    if os.geteuid() != 0:
        return "only root can mount a small disk"
    if _libc.unshare(CLONE_NEWNS) or _libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None):
        return f"no mount namespace: {os.strerror(ctypes.get_errno())}"
    folder.mkdir()
    if _libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()):
        return f"no tmpfs: {os.strerror(ctypes.get_errno())}"
    return ""


class Scene:
    """A gateway that is served, and what disturbances need to know of it."""

    def __init__(self, lab: Lab, **settings: Any) -> None:
        """`settings` are those of `configure`."""
        self.lab = lab
        self.data = lab.folder / "data"
        self.no_disk = own_disk(self.data)
        if not self.no_disk:
            lab.at_end.append(lambda: _libc.umount2(str(self.data).encode(), MNT_DETACH))
        self.book = lab.folder / "book"
        self.mode = lab.folder / "mode"
        self.book.touch()
        self.path = lab.folder / "config.toml"
        self.port, self.admin = lab.free_port(), lab.free_port()
        self.api = Api(self.admin, self.data / "admin.token")
        self.settings: dict[str, Any] = {
            "workers": WORKERS, "instances": INSTANCES, "generation": 0, "first_byte": FIRST_BYTE,
            "health": HEALTH.format(20.0),
        }  # fmt: skip
        self.noticed: list[float] = []  # seconds from a SIGKILL to the event that the instance ended
        self.configure(**settings)

    def configure(self, **settings: Any) -> None:
        """Write the config with these changes; it is not yet in force."""
        self.settings.update(settings)
        text = CONFIG.format(
            port=self.port, admin=self.admin, data=self.data, python=sys.executable, book=self.book, mode=self.mode,
            repository=REPOSITORY, user='user = "root"' if os.geteuid() == 0 else "",
            **self.settings,
        )  # fmt: skip
        made = self.path.with_suffix(".new")
        made.write_text(text)
        made.rename(self.path)

    def start(self) -> None:
        """Serve it; all is well when this returns."""
        self.process = self.lab.start(serve(self.path), core=self.lab.proxy_core, env=ENVIRONMENT)
        self.lab.wait_until(lambda: not self.wrong(), self.process, "triage")

    # --- what it looks like ----------------------------------------------------------------------------

    def instances(self) -> list[dict[str, Any]]:
        return list(self.api.get("apps/web/instances")["items"])

    def ready(self) -> list[dict[str, Any]]:
        return [one for one in self.instances() if one["lifecycle"] == "ready"]

    def workers(self) -> list[dict[str, Any]]:
        return list(self.api.get("status")["gateway"]["workers"])

    def control(self) -> int:
        """Its pid; 0 while there is none."""
        for pid in procs.tree(self.process.pid):
            if procs.name_of(pid) == "triage-control":
                return pid
        return 0

    def wrong(self) -> str:
        """What is not as it should be; "" when all is well."""
        status = self.api.maybe_get("status")
        if status is None:
            return "the admin API does not answer"
        instances = status["apps"][0]["instances"]
        for one in instances:
            if one["lifecycle"] != "ready" or one["admission"] != "admitting":
                return f"{one['id']} is {one['lifecycle']}, {one['admission']}: {one['why']}"
            if not alive(one["pid"]):
                return f"{one['id']} is shown as ready, but pid {one['pid']} has ended"
        if len(instances) != status["apps"][0]["wanted"]:
            return f"{len(instances)} of {status['apps'][0]['wanted']} instances"
        workers = status["gateway"]["workers"]
        lame = [one["id"] for one in workers if one["state"] not in ("alive", "running") or not alive(one["pid"])]
        if lame or len(workers) != self.settings["workers"]:
            return f"{len(workers)} workers, not well: {', '.join(lame) or 'none'}"
        running = [one for one in self.api.get("operations")["items"] if one["state"] == "running"]
        return f"{running[0]['act']} of {running[0]['target']} goes on" if running else ""

    def newest_event(self) -> int:
        """Its id."""
        return max((int(event["id"]) for event in self.api.get("events?limit=1")["items"]), default=0)

    def ended_at(self, name: str) -> float:
        """Unix seconds of the event that an instance ended by itself or from outside."""
        for event in self.api.events():
            if event["instance"] == name and event["kind"] == "exited":
                return self.seconds(event["time"])
        raise Failed(f"no event says that {name} ended")

    @staticmethod
    def seconds(time: str) -> float:
        """Unix seconds of a time in JSON."""
        return datetime.fromisoformat(time).timestamp()

    def until(self, condition: Callable[[], object], what: str, within: float = 30.0) -> None:
        """Wait for it; Failed when it does not come."""
        end = time.monotonic() + within
        while not condition():
            if time.monotonic() > end:
                raise Failed(f"not within {within:g} s: {what}")
            if self.process.poll() is not None:
                raise Failed(f"Triage ended with {self.process.returncode}:\n{self.lab.said(self.process)}")
            time.sleep(0.05)

    def until_whole(self, within: float = 60.0) -> None:
        """Wait until nothing is wrong; Failed with what still is."""
        said = ["?"]

        def whole() -> bool:
            said[0] = self.wrong()
            return not said[0]

        try:
            self.until(whole, "all well again", within)
        except Failed as error:
            raise Failed(f"{error}: {said[0]}") from None

    # --- what disturbances do to it --------------------------------------------------------------------

    def kill_worker(self, window: Window, number: int, victim: dict[str, Any]) -> None:
        """Signal a worker that will end of it, and note when it was gone.

        That is when the launcher has reaped it: a zombie whose threads still end has its sockets open for some ms.
        """
        at, process = time.monotonic(), Path(f"/proc/{victim['pid']}")
        os.kill(victim["pid"], number)
        self.until(lambda: not process.exists(), f"worker {victim['id']} gone")
        window.workers.append(Killed(int(victim["id"]), at, time.monotonic()))

    @contextlib.contextmanager
    def broken_starts(self, mode: str) -> Any:
        """Instances that start meanwhile are as the app's mode file says."""
        self.mode.write_text(mode)
        try:
            yield
        finally:
            self.mode.unlink()

    def done(self, path: str, **body: Any) -> None:
        """An act, to its good end."""
        found = self.api.followed(self.api.act(path, reason="chaos", **body))
        if found["state"] != "done":
            raise Failed(f"{path}: {found['state']}: {found.get('why') or found['steps'][-1:]}")

    def reload(self, **settings: Any) -> None:
        """Change the config, and have it read."""
        self.configure(**settings)
        self.done("config/reload")

    def command(self, *arguments: str, within: float = 60.0) -> None:
        """`triage ARGUMENTS`, to its good end."""
        done = subprocess.run(
            [sys.executable, "-m", "proxy.main", *arguments, "--url", f"unix:{self.data}/run/admin.sock"],
            capture_output=True, text=True, timeout=within, check=False, cwd=REPOSITORY,
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"triage {' '.join(arguments)}: {done.stdout[-300:]}{done.stderr[-300:]}")


def alive(pid: int) -> bool:
    """Whether a process runs or is stopped; not one that only waits to be reaped."""
    found = procs.stat(pid)
    return found is not None and found.state not in ("Z", "X")


def answers(port: int) -> bool:
    """Whether a GET is answered now."""
    try:
        return get(port, "/healthz", timeout=30.0).status == 200
    except OSError:
        return False


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Tell the load to stop sending."""
    process.send_signal(signal.SIGUSR1)
