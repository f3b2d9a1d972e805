"""One case on its feet: its app, its peers, a gateway of its own and the load; all of it ended by pid.

Folders and files have neutral names: nothing in them tells Triage what is wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from proxy.cli.client import ApiError, Gateway, NotThere
from proxy.control.ports import free_port
from tests.e2e.support import MARKER, Triage, serve
from tests.sick.case import Case
from tests.sick.load import Load

APPS: Final = Path(__file__).parent / "apps"
PEERS: Final = Path(__file__).parent / "peers.py"
SHARED: Final = ("web.py", "db.py")


class NotHere(Exception):
    """This machine can't produce the case; the text says what is missing."""


class Scene:
    """`start`, then `load`, `triage`, `api`; `end` whatever happened."""

    triage: Triage
    load: Load

    def __init__(self, case: Case) -> None:
        self.case = case
        self.folder = Path(tempfile.mkdtemp(prefix="srv-"))
        self.cwd = self.folder / "app"
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.words: dict[str, str] = {}
        self.notes: list[str] = []
        self.after: list[Callable[[], None]] = []  # what has to be undone
        self.ports: dict[str, int] = {}
        self._host = f"127.{random.randrange(2, 250)}.{random.randrange(256)}.{random.randrange(2, 250)}"

    # -- before the gateway

    def start(self) -> None:
        missing = [one for one in self.case.needs if not _there(one)]
        if missing:
            raise NotHere(f"needs {', '.join(missing)}")
        self.cwd.mkdir()
        for name in sorted({*SHARED, *re.findall(r"[a-z_]+\.(?:py|js)\b", self.case.config)}):
            if (APPS / name).exists():
                shutil.copy(APPS / name, self.cwd / name)
        self.words |= {
            "PYTHON": sys.executable,
            "BIN": str(Path(sys.executable).parent),
            "NODE": shutil.which("node") or "node",
            "CWD": str(self.cwd),
            "HOST": self._host,
            "USER": 'user = "root"' if os.geteuid() == 0 else "",
            "FREE": str(free_port(())),
        }
        for name, peer in (self.case.peers or {}).items():
            port = self._peer(name, peer.kind, peer.port, peer.delay)
            self.words |= {
                name: f"{self._host}:{port}", f"{name}_HOST": self._host, f"{name}_PORT": str(port),
            }  # fmt: skip
        if self.case.prepare:
            self.case.prepare(self)
        self.triage = serve(self.folder, self.filled(self.case.config))
        self._await_gateway()
        self.load = Load(self.triage.port, self.case.streams)

    def filled(self, text: str) -> str:
        for name, value in self.words.items():
            text = text.replace(f"@{name}@", value)
        left = re.findall(r"@[A-Z_]+@", text)
        assert not left, f"{self.case.name}: nothing for {left}"
        return text

    def copy(self, name: str, to: str = "") -> Path:
        return Path(shutil.copy(APPS / name, self.cwd / (to or name)))

    def run(self, key: str, *argv: str, env: dict[str, str] | None = None, port: int = 0) -> int:
        """A process beside the gateway, with PORT set, listening; its port."""
        port = port or free_port(())
        self.processes[key] = subprocess.Popen(
            argv, cwd=self.cwd, env={**os.environ, "PORT": str(port), **(env or {})},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        self.ports[key] = port
        return port

    def _peer(self, name: str, kind: str, port: int, delay: float) -> int:
        process = subprocess.Popen(
            [sys.executable, str(PEERS), kind, self._host, str(port), str(delay)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.processes[name] = process
        assert process.stdout
        return int(process.stdout.readline())

    def tell(self, name: str, order: str) -> None:
        """A command to a peer."""
        process = self.processes[name]
        assert process.stdin
        process.stdin.write(order + "\n")
        process.stdin.flush()

    def _await_gateway(self) -> None:
        path = "/readyz" if self.case.starts else "/healthz"
        deadline = time.monotonic() + 40
        while self.triage.try_api(path) is None:
            if self.triage.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the gateway did not start:\n{self.triage.output}")
            time.sleep(0.1)

    # -- the gateway

    def api(self, path: str, **query: Any) -> Any:
        return self.triage.api(path, **query)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        gateway = Gateway(self.triage.admin, timeout=30)
        try:
            return gateway.post(path, body or {})
        finally:
            gateway.close()

    def reload(self, old: str, new: str) -> None:
        """The config with one thing changed, in force."""
        path = self.folder / "config.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        self.post("config/reload")

    def pids(self) -> list[int]:
        """First processes of the app's instances."""
        try:
            return [one["pid"] for one in self.triage.instances("web") if one.get("pid")]
        except (ApiError, NotThere):
            return []

    def in_background(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, daemon=True).start()

    # -- its end

    def end(self) -> None:
        if hasattr(self, "load"):
            self.load.stop()
        if hasattr(self, "triage"):
            try:
                self.triage.end()
            except AssertionError as error:
                self.notes.append(f"at its end: {str(error)[:300]}")
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        for undo in self.after:
            undo()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cost:
    """CPU seconds of the session's processes and of the app's while it runs, looked at twice a second."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._seen: dict[int, float] = {}
        self._app: dict[int, tuple[float, float]] = {}
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pids = self.scene.pids()
        while not self._stop.wait(0.5):
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(self.scene.triage.pid).children():
                    if "proxy.diagnostics.session" in " ".join(child.cmdline()):
                        for one in (child, *child.children(recursive=True)):
                            self._look(one)
            for pid in pids:
                with contextlib.suppress(psutil.Error):
                    used = sum(psutil.Process(pid).cpu_times()[:2])
                    self._app[pid] = (self._app.get(pid, (used, used))[0], used)

    def _look(self, one: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            self._seen[one.pid] = sum(one.cpu_times()[:2])

    def stop(self) -> tuple[float, float]:
        """Of the session and of the app, in cores over the time."""
        self._stop.set()
        self._thread.join(5)
        took = max(0.1, time.monotonic() - self._began)
        app = sum(last - first for first, last in self._app.values())
        return sum(self._seen.values()) / took, app / took


def _there(need: str) -> bool:
    if need == "root":
        return os.geteuid() == 0
    if need == "cgroup":
        return any(
            os.access(one, os.W_OK) for one in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/cgroup.procs")
        )
    if need in ("gunicorn", "uvicorn"):
        return (Path(sys.executable).parent / need).exists()
    return shutil.which(need) is not None


__all__ = ["MARKER", "Cost", "NotHere", "Scene"]
