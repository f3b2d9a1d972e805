"""A whole Triage without the admin API: the real launcher, control and workers, and small real apps."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.config import parse, worker_count
from proxy.control.reload import address_of
from proxy.link.spawn import Plan

HERE = Path(__file__).parent
APP = f"{sys.executable} {HERE / 'apps' / 'app.py'}"
DEADLINE = 30.0
START = "import json, sys; from proxy.link.spawn import become_launcher; become_launcher(json.load(open(sys.argv[1])))"


def until(what: Callable[[], Any], why: str = "", deadline: float = DEADLINE) -> Any:
    """Wait for a true answer. The longer it takes the less often is looked: a look costs control a moment."""
    began = time.monotonic()
    while True:
        found = what()
        if found:
            return found
        waited = time.monotonic() - began
        if waited > deadline:
            raise AssertionError(f"not within {deadline:g} s: {why or what}")
        time.sleep(min(max(0.03, waited / 20), 0.08))


class Triage:
    """One running gateway. `text` is the config; `{listen}` in it need not be given: it is made here."""

    def __init__(self, folder: Path, text: str, run: bool = False, within: Sequence[str] = ()) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.config.write_text(self.whole(text))
        self.socket = str(folder / "control.sock")
        config = parse(self.config.read_text(), self.config)
        plan = Plan(
            version=1,
            config_path=str(self.config),
            config_text=self.config.read_text(),
            data_dir=config.gateway.data_dir,
            listen=[address_of(listen) for listen in config.gateway.listen],
            admin={"listen": None, "socket": None},
            workers=worker_count(config.gateway),
            control=[sys.executable, "-P", str(HERE / "composed.py"), "3"],
            grace=config.gateway.timeouts.drain,
            run=run,
            log="stderr",
        )
        self.data_dir = Path(config.gateway.data_dir)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(json.dumps(plan))
        self.stderr_path = folder / "stderr"
        self.stdout_path = folder / "stdout"
        env = {**os.environ, "CONTROL_SOCKET": self.socket}
        with self.stderr_path.open("ab") as errors, self.stdout_path.open("ab") as out:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-P", "-c", START, str(folder / "plan.json")],
                stdout=out, stderr=errors, env=env,
            )  # fmt: skip

    @staticmethod
    def whole(text: str) -> str:
        gateway = "" if "[gateway]" in text else '[gateway]\nlisten = ["127.0.0.1:0"]\nworkers = 1\n'
        return f"{gateway}{text}"

    def ask(self, ask: str, **more: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(self.socket)
            sock.sendall(json.dumps({"ask": ask, **more}).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                part = sock.recv(1 << 20)
                if not part:
                    raise ConnectionResetError
                data += part
        return json.loads(data)

    def state(self) -> dict[str, Any]:
        """Waits while control is away."""

        def look() -> Any:
            assert self.process.poll() is None, f"the launcher ended: {self.errors()}"
            try:
                return self.ask("state")
            except OSError:
                return None

        found: dict[str, Any] = until(look, "control answers")
        return found

    def instances(self, app: str = "web") -> dict[str, Any]:
        found: dict[str, Any] = self.state()["apps"].get(app, {"instances": {}})["instances"]
        return found

    def ready(self, count: int, app: str = "web") -> list[str]:
        """Wait until so many are ready; their names."""

        def look() -> list[str] | None:
            names = [name for name, one in self.instances(app).items() if one["lifecycle"] == "ready"]
            return names if len(names) == count else None

        try:
            found: list[str] = until(look, f"{count} ready")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.instances(app)}; {self.errors()}") from None
        return sorted(found)

    def event(self, kind: str, text: str = "", deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait for an event."""

        def look() -> Any:
            return next((e for e in self.state()["events"] if e["kind"] == kind and text in e["text"]), None)

        found: dict[str, Any] = until(look, f"event {kind} {text}", deadline)
        return found

    def reload(self, text: str) -> dict[str, Any]:
        result: dict[str, Any] = self.ask("reload", text=self.whole(text))
        return result

    def act(self, act: str, instance: str = "", app: str = "web", **fields: Any) -> dict[str, Any]:
        """Begin it; the operation, or {"refused": kind, …}."""
        more = {key: fields.pop(key) for key in ("by", "reason", "rule") if key in fields}
        found: dict[str, Any] = self.ask("act", act=act, app=app, instance=instance, fields=fields, **more)
        return found

    def operation(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.state()["operations"][id]
        return found

    def over(self, begun: dict[str, Any], deadline: float = 60.0) -> dict[str, Any]:
        """Wait until this operation has ended; what came of it."""
        assert "id" in begun, begun

        def look() -> Any:
            found = self.operation(begun["id"])
            return found if found["state"] != "running" else None

        try:
            found: dict[str, Any] = until(look, f"{begun['act']} ends", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.operation(begun['id'])}; {self.errors()}") from None
        return found

    def port(self, listener: int = 0) -> int:
        return int(self.state()["listeners"][listener]["port"])

    def get(self, path: str = "/", port: int = 0, method: str = "GET") -> tuple[int, str]:
        url = f"http://127.0.0.1:{port or self.port()}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=DEADLINE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def errors(self) -> str:
        return self.stderr_path.read_text()[-6000:]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not stop: {self.errors()}") from None


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: Unix sockets are in it."""
    path = Path(tempfile.mkdtemp(prefix="triage-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def triage(folder: Path) -> Iterator[Callable[..., Triage]]:
    started: list[Triage] = []

    def start(text: str, **more: Any) -> Triage:
        started.append(Triage(folder, text, **more))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def app(more: str = "", health: str = "", name: str = "web", command: str = f"{APP} {{port}}") -> str:
    """The config of one app."""
    return f"""
[apps.{name}]
paths = ["/{"" if name == "web" else name}"]
diagnose = {{ on = [] }}
[apps.{name}.process]
command = '{command}'
user = "root"
stop = {{ timeout = "5s" }}
{more}
[apps.{name}.health]
path = "/healthz"
interval = "200ms"
{health}
"""
