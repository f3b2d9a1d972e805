"""The session's process: `python -m proxy.diagnostics.collect FOLDER` runs the collectors and labels what came of each.

Control writes FOLDER/input.json and may kill this process at any time. Each collector is a process of its own, all at
once, so that one that hangs costs neither the others nor their time.

Always true:
  - outcome.json is whole at every moment, and says of each collector what is known by then;
  - an artifact's file is whole, or not there;
  - what a collector may write and how long it may take is bounded, also when it misbehaves.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from proxy.diagnostics.collectors import COLLECTORS, Collector
from proxy.diagnostics.subject import Subject, read
from proxy.link.spawn import name_process

PR_SET_PDEATHSIG: Final = 1
OUTCOME: Final = "outcome.json"
LOG: Final = "collect.log"
SPARE: Final = 0.3
"""Seconds of the budget that are kept for ending."""


@dataclass(slots=True)
class Run:
    """One collector, as it goes."""

    collector: Collector
    pid: int
    pidfd: int
    pipe: int
    began: float
    until: float
    state: str = "running"  # "running" | "done" | "failed" | "not permitted" | "not there" | "hung"
    why: str = ""
    took: float = 0.0
    files: list[str] = field(default_factory=list)


class Runner:
    """Runs them all in a folder."""

    def __init__(self, folder: Path, subject: Subject) -> None:
        self.folder = folder
        self.subject = subject
        self.began = time.time()
        self.runs: list[Run] = []

    def run(self) -> None:
        wanted = [one for one in COLLECTORS if not self.subject.collectors or one.name in self.subject.collectors]
        end = time.monotonic() + max(0.5, self.subject.budget - SPARE)
        for collector in wanted:
            self.runs.append(self._begin(collector, end))
        self._save()
        while running := [run for run in self.runs if run.state == "running"]:
            first = min(run.until for run in running)
            ready, _, _ = select.select([run.pidfd for run in running], [], [], max(0.0, first - time.monotonic()))
            for run in running:
                if run.pidfd in ready:
                    self._ended(run)
                elif time.monotonic() >= run.until:
                    self._kill(run)
            self._save()

    def _begin(self, collector: Collector, end: float) -> Run:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _collect(collector, self.subject, self.folder, write_end)
        try:
            os.setpgid(pid, pid)  # both sides do it: whoever comes first
        except OSError:
            pass
        os.close(write_end)
        now = time.monotonic()
        return Run(collector, pid, os.pidfd_open(pid), read_end, now, min(now + collector.limit, end))

    def _ended(self, run: Run) -> None:
        run.took = time.monotonic() - run.began
        _, status = os.waitpid(run.pid, 0)
        os.set_blocking(run.pipe, False)
        try:
            told = os.read(run.pipe, 65536)
        except BlockingIOError:  # something it started still has the other end
            told = b""
        self._close(run)
        if told:
            run.state, run.why = json.loads(told)
        else:
            code = os.waitstatus_to_exitcode(status)
            run.state = "failed"
            run.why = f"it ended by signal {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"
        self._clean(run)
        run.files = sorted(path.name for path in self.folder.glob(f"{run.collector.name}.*"))

    def _kill(self, run: Run) -> None:
        """It leads a group: what it started goes with it. One that hangs in the kernel is not waited for."""
        run.took = time.monotonic() - run.began
        os.killpg(run.pid, signal.SIGKILL)
        self._close(run)
        run.state, run.why = "hung", f"killed after {run.took:.1f} s"
        self._clean(run)

    def _clean(self, run: Run) -> None:
        """What it did not write to the end."""
        for part in self.folder.glob(f"{run.collector.name}.*.part"):
            part.unlink(missing_ok=True)

    def _close(self, run: Run) -> None:
        os.close(run.pipe)
        os.close(run.pidfd)

    def _save(self) -> None:
        over = all(run.state != "running" for run in self.runs)
        outcome: dict[str, Any] = {
            "form": 1,
            "state": "over" if over else "running",
            "began": self.began,
            "ended": time.time() if over else None,
            "collectors": [
                {
                    "name": run.collector.name, "title": run.collector.title, "state": run.state, "why": run.why,
                    "took": round(run.took, 3), "files": run.files,
                }
                for run in self.runs
            ],
        }  # fmt: skip
        write(self.folder / OUTCOME, json.dumps(outcome, indent=1).encode())


def _collect(collector: Collector, subject: Subject, folder: Path, pipe: int) -> NoReturn:
    """In a process of its own."""
    state, why = "failed", ""
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (collector.most, collector.most))
        artifact = collector.collect(subject, folder)
        write(folder / f"{collector.name}.json", msgspec.json.encode(artifact))
        state, why = "done", artifact.note
    except PermissionError as error:
        state, why = "not permitted", error.strerror or str(error)
    except ProcessLookupError as error:
        state, why = "not there", str(error)
    except Exception as error:
        why = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
    finally:
        os.write(pipe, json.dumps((state, why[:2000])).encode())
        os._exit(0)


def write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def main(arguments: list[str]) -> int:
    folder = Path(arguments[1])
    name_process("triage-session")
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    Runner(folder, read(folder)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
