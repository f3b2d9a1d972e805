"""Programs with the agent in them, and a socket that hears what it tells."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "proxy" / "agent" / "path"
LONG = 30.0


def pythons() -> list[str]:
    """This interpreter, and others that are at hand: python3.N in PATH, and those that TRIAGE_TEST_PYTHONS names."""
    named = [one for one in os.environ.get("TRIAGE_TEST_PYTHONS", "").split(os.pathsep) if one]
    found = {sys.version_info[:2]: sys.executable}
    for path in [*named, *filter(None, (shutil.which(f"python3.{minor}") for minor in range(8, 16)))]:
        run = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if run.returncode == 0:
            major, minor = map(int, run.stdout.split())
            found.setdefault((major, minor), path)
    return list(found.values())


@dataclass
class Told:
    """One datagram about a place."""

    type: str
    message: str
    raised: int
    caught: int
    uncaught: int
    frames: list[list[str]]


@dataclass
class Heard:
    path: str
    hellos: list[list[str]] = field(default_factory=list)
    raised: list[Told] = field(default_factory=list)
    most: int = 0  # datagrams within one second

    def sums(self) -> dict[str, tuple[int, int, int]]:
        """Counts by `Type function`, of the innermost frame of the app's own."""
        found: dict[str, tuple[int, int, int]] = {}
        for one in self.raised:
            own = [each for each in one.frames if "/lib/python" not in each[0] and not each[0].startswith("<")]
            key = f"{one.type} {own[-1][2]}" if own else one.type
            before = found.get(key, (0, 0, 0))
            found[key] = (before[0] + one.raised, before[1] + one.caught, before[2] + one.uncaught)
        return found


@contextmanager
def listening() -> Iterator[Heard]:
    """All that comes until the block ends."""
    folder = tempfile.mkdtemp(prefix="triage-")
    path = f"{folder}/agent.sock"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    sock.settimeout(0.05)
    heard = Heard(path)
    over = threading.Event()
    seconds: dict[int, int] = {}

    def read() -> None:
        while True:
            try:
                data = sock.recv(65536)
            except TimeoutError:
                if over.is_set():
                    return
                continue
            second = int(time.monotonic())
            seconds[second] = seconds.get(second, 0) + 1
            heard.most = max(heard.most, *seconds.values())
            fields = data.decode().split("\0")
            assert fields[0] == "1"
            assert len(data) <= 8000
            if fields[1] == "hello":
                heard.hellos.append(fields)
            else:
                frames = [each.split("\x1c") for each in fields[11:]]
                heard.raised.append(Told(fields[3], fields[4], *map(int, fields[5:8]), frames))  # type: ignore[arg-type]

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield heard
    finally:
        over.set()
        reader.join(LONG)
        sock.close()
        shutil.rmtree(folder, ignore_errors=True)


def environment(path: str, **more: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRIAGE"))}
    return {**env, "PYTHONPATH": str(FOLDER), "TRIAGE_AGENT": f"{os.geteuid()}:{path}", **more}


def run(
    folder: Path, source: str, path: str, *, python: str = sys.executable, args: tuple[str, ...] = ("main.py",),
    **env: Any,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """A program with the agent, to its end."""
    (folder / "main.py").write_text(textwrap.dedent(source))
    return subprocess.run(
        [python, *args], cwd=folder, env=environment(path, **env), capture_output=True, text=True, timeout=LONG,
        check=False,
    )  # fmt: skip
