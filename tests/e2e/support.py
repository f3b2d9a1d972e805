"""A whole Triage as a test needs it: started, asked, and ended so that nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

from proxy.cli.client import ApiError, Gateway, NotThere

ROOT: Final = Path(__file__).resolve().parents[2]
SHOP: Final = ROOT / "examples" / "shop" / "app.py"
LONG: Final = 40.0  # seconds; a deadline for what takes one or two on an ordinary machine
MARKER: Final = "TRIAGE_TEST_RUN"  # in the environment of everything that a test's Triage starts

# PR_SET_PDEATHSIG, which outlives exec: a test run that is killed takes its gateways along.
BOUND: Final = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15);"
    " os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)

HOME: Final = tempfile.TemporaryDirectory(prefix="triage-home-")
"""Empty: what a shell in the Console runs at its start is none of the files of whoever runs the tests."""

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, within: float = LONG) -> T:
    """The first true value of `condition`; an assertion that names `what` when there is none in time.

    The longer it takes the less often is looked: a call of the API costs the gateway some milliseconds.
    """
    began = time.monotonic()
    while True:
        if value := condition():
            return value
        waited = time.monotonic() - began
        assert waited < within, f"not within {within:g} s: {what}"
        time.sleep(min(max(0.02, waited / 20), 0.08))


def environment(marker: str, **more: str) -> dict[str, str]:
    """This one without what would lead the command to another gateway."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TRIAGE_", "XDG_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    return {**env, "HOME": HOME.name, "PATH": path, "PYTHONPATH": str(ROOT), MARKER: marker, **more}


def triage(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """One call of the command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "proxy.main", *args],
        cwd=cwd, env=env or environment(""), capture_output=True, text=True, timeout=LONG, check=False,
    )  # fmt: skip


def name_of(process: psutil.Process) -> str:
    """"" when it has ended meanwhile."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def marked(marker: str) -> list[psutil.Process]:
    """Every live process that has the marker in its environment. It may end while one looks: see `name_of`."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for process in psutil.process_iter():
        try:
            if wanted in Path(f"/proc/{process.pid}/environ").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


class Triage:
    """One running Triage. Every process it starts carries the marker."""

    def __init__(self, folder: Path, argv: list[str], env: dict[str, str], admin: str, data: Path) -> None:
        self.folder = folder
        self.marker = env[MARKER]
        self.env = env
        self.admin = admin
        self.data = data
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", BOUND, "-m", "proxy.main", *argv], cwd=folder, env=env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __repr__(self) -> str:
        return f"<Triage pid {self.process.pid} {self.admin}>"

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """Standard output and error so far."""
        return "\n".join(self.lines)

    # -- asking it

    def api(self, path: str, **query: Any) -> Any:
        """The decoded answer of the admin API, over its Unix socket."""
        gateway = Gateway(self.admin, timeout=LONG)
        try:
            return gateway.get(path, **query)
        finally:
            gateway.close()

    def try_api(self, path: str, **query: Any) -> Any:
        """Likewise; None while it does not answer, or refuses."""
        try:
            return self.api(path, **query)
        except (ApiError, NotThere):
            return None

    @property
    def url(self) -> str:
        """Where clients come in."""
        return str(self.api("status")["gateway"]["listen"][0])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def instances(self, app: str = "shop") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.api(f"apps/{app}/instances")["items"]
        return items

    def story(self) -> str:
        """The last events, oldest first: for a failure's message."""
        items = (self.try_api("events", limit=40) or {"items": []})["items"]
        return "".join(f"\n{one['at']:.3f} {one['kind']} {one['words']}" for one in reversed(items))

    def ready(self, app: str = "shop") -> list[dict[str, Any]]:
        return [one for one in self.instances(app) if one["lifecycle"] == "ready"]

    def workers(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.api("status")["gateway"]["workers"]
        return items

    def control(self) -> int:
        """Pid of control, by the name it gave itself."""
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if child.name() == "triage-control":
                    return child.pid
        return 0

    def cli(self, *args: str) -> subprocess.CompletedProcess[str]:
        """`triage ARGS`, told where this one is."""
        return triage(*args, "--url", self.admin, cwd=self.folder, env=self.env)

    # -- its life

    def await_ready(self) -> Triage:
        def ready() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.output}"
            return self.try_api("/readyz") is not None

        try:
            until(ready, "readiness")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}\n{self.try_api('/readyz')}") from None
        return self

    def await_exit(self, within: float = LONG) -> int:
        """Its exit code."""
        code = self.process.wait(within)
        self._reader.join(within)
        return code

    def end(self) -> None:
        """In order, then by force; nothing may be left of it. Safe to call twice."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(LONG)
                except subprocess.TimeoutExpired:
                    raise AssertionError(f"SIGTERM did not end it:\n{self.output}") from None
            self.nothing_left()
        finally:
            for process in marked(self.marker):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join(LONG)
            if self.process.stdout:
                self.process.stdout.close()

    def nothing_left(self) -> None:
        def left() -> list[str]:
            return [f"{process.pid} {name_of(process)}" for process in marked(self.marker)]

        until(lambda: not left(), f"nothing left running; there is {left()}\n{self.output}")
        zombies = [
            child.pid for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE
        ]
        assert self.pid not in zombies


def shop_config(
    *,
    instances: int = 2,
    workers: int = 2,
    app: str = "",
    process: str = "",
    gateway: str = "",
    name: str = "shop",
    admin: str = "",
    diagnose: str = "on = []",
) -> str:
    """A config of the sample shop; each of the other arguments is more lines of a table."""
    return f"""\
[gateway]
listen = ["127.0.0.1:0"]
workers = {workers}
data_dir = "var"
{gateway}

[admin]
listen = "127.0.0.1:0"
{admin}

[apps.{name}]
{app}

{process_table(name, instances, process, diagnose)}
"""


def process_table(name: str, instances: int = 2, more: str = "", diagnose: str = "on = []") -> str:
    """The tables of one app that is the shop. Where `diagnose` does not say so, no session starts by itself."""
    user = 'user = "root"' if os.geteuid() == 0 else ""
    return f"""\
[apps.{name}.diagnose]
{diagnose}

[apps.{name}.process]
command = "{sys.executable} {SHOP} --port {{port}}"
instances = {instances}
inherit_env = ["PATH", "HOME", "LANG", "TZ", "{MARKER}"]
{user}
{more}

[apps.{name}.health]
path = "/healthz"
interval = "1s"
"""


def serve(folder: Path, config: str, **env: str) -> Triage:
    """Start `triage serve` on this config; not yet ready."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(config)
    return Triage(
        folder,
        ["serve", "-c", str(folder / "config.toml")],
        environment(uuid.uuid4().hex, **env),
        f"unix:{folder}/var/run/admin.sock",
        folder / "var",
    )


def served(folder: Path, config: str) -> Iterator[Triage]:
    """For fixtures: a ready one, ended afterwards."""
    running = serve(folder, config)
    try:
        yield running.await_ready()
    finally:
        running.end()
