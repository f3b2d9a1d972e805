"""Running a session's process as control does, and reading what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import Artifact
from proxy.diagnostics.collectors import COLLECTORS
from proxy.link.session import INPUT, OUTCOME, App, Input, Instance, Known, Outcome, Step

ROOT = Path(__file__).parents[2]
A = TypeVar("A", bound=Artifact)


def instance(name: str, pid: int = 0, **more: Any) -> Instance:
    """As control knows it."""
    try:
        started = proc.stat(proc.PROC / str(pid)).started
    except OSError:
        started = 0
    return Instance(name=name, pid=pid, **{"started": started, **more})


def known(*instances: Instance, **more: Any) -> Known:
    return Known(at=time.time(), app=App(name="web", **more), instances=list(instances))


def write(folder: Path, *instances: Instance, **more: Any) -> None:
    """`more` is of Input; `app`, of App."""
    told = known(*instances, **more.pop("app", {}))
    values = {"id": "S-1", "app": "web", "at": time.time(), "after": False, "analyze": False, **more}
    given = Input(targets=[one.name for one in instances], known=told, **values)
    (folder / INPUT).write_bytes(msgspec.json.encode(given))


def begin(
    folder: Path, *instances: Instance, before: Callable[[], None] | None = None, program: Sequence[str] = (),
    env: dict[str, str] | None = None, **more: Any,
) -> subprocess.Popen[bytes]:  # fmt: skip
    write(folder, *instances, **more)
    return subprocess.Popen(
        [*(program or (sys.executable, "-P")), "-m", "proxy.diagnostics.session", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}, preexec_fn=before,
    )  # fmt: skip


def run(folder: Path, *instances: Instance, **more: Any) -> Outcome:
    """To its end."""
    with begin(folder, *instances, **more) as process:
        assert process.wait(60) == 0, log(folder)
    found = outcome(folder)
    assert found.ended >= found.began and not list(folder.rglob("*.part")), found
    return found


def again(folder: Path, stage: str) -> Outcome:
    subprocess.run(
        [sys.executable, "-P", "-m", "proxy.diagnostics.session", str(folder), "--from", stage],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=True,
    )  # fmt: skip
    return outcome(folder)


def outcome(folder: Path) -> Outcome:
    return msgspec.json.decode((folder / OUTCOME).read_bytes(), type=Outcome)


def log(folder: Path) -> str:
    return (folder / "session.log").read_text()


def step(found: Outcome, name: str, of: str = "web-1") -> Step:
    (one,) = [one for one in found.steps if (one.name, one.instance) in ((name, of), (name, ""))]
    return one


def artifact(folder: Path, kind: type[A], of: str = "web-1") -> A:
    name = next(one.name for one in COLLECTORS if one.artifact is kind)
    return msgspec.json.decode((folder / of / f"{name}.json").read_bytes(), type=kind)


def until(what: Callable[[], Any], why: str, seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, why
        time.sleep(0.01)
    return found


def alive(pid: int) -> bool:
    try:
        return proc.stat(proc.PROC / str(pid)).state not in "ZX"
    except OSError:
        return False


@contextmanager
def running(
    *argv: str, env: dict[str, str] | None = None, word: str = "ready"
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A program that prints `ready` and more words; it is killed with all that it started."""
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}, start_new_session=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            line = ""
            while not line.startswith(word):
                line = process.stdout.readline()
                assert line, "it ended before it was ready"
            yield process, line.split()[1:]
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def python(code: str) -> tuple[str, str, str]:
    """How to run it."""
    return sys.executable, "-c", code
