"""The session's process: `python -m proxy.diagnostics.session FOLDER [--from analyze|report]`.

Control writes FOLDER/input.json (link/session.py) and starts it. It gathers, joins what control knew before and after,
and has analyzers and report run, each in a process of its own. Each stage reads only files: it can be run again.

Always true:
  - outcome.json is whole at every moment, and says of each step what is known by then;
  - it ends by itself: by the input's seconds, budget and `analyzing`, whatever hangs;
  - TERM ends gathering alone: what there is by then is analyzed, and the session is "cancelled".
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec

from proxy import units
from proxy.diagnostics import forks, known
from proxy.diagnostics.analyzers.contract import Analysis
from proxy.diagnostics.collectors import COLLECTORS
from proxy.diagnostics.gather import Gather, used
from proxy.diagnostics.subject import NotThere, read
from proxy.link.session import AFTER, FINDINGS, INPUT, KNOWN, OUTCOME, Input, Known, Outcome, Step
from proxy.link.spawn import name_process

LOG: Final = "session.log"
SPARE: Final = "spare.part"
SPARE_SIZES: Final = (256 * units.KIB, 32 * units.KIB, 8 * units.KIB)
"""Given up when the disk is full, so that the outcome at least can be written."""
AFTER_WITHIN: Final = 6.0
ANALYZERS: Final = 0.6
"""Share of the time for analyzing that the analyzers may take; the rest is the report's."""
BEGIN_WITHIN: Final = 0.75
"""Share of that in which analyzers begin: one that is slow must not take along what the others found."""
STAGES: Final = {
    "analyze": ("Analyzers", "proxy.diagnostics.analyze", "analyze"),
    "report": ("Report", "proxy.diagnostics.report", "write"),
}
STAGE_MOST: Final = 64 * units.MIB


class Session:
    """One run, or the later stages of one again."""

    def __init__(self, folder: Path, given: Input, stages: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.given = given
        self.stages = stages
        now = time.time()
        self.outcome = _earlier(folder) if stages else Outcome(began=now, until=now + given.seconds)
        self.cancelled = bool(stages) and self.outcome.state == "cancelled"
        self._stop = os.eventfd(0)

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: self._cancel())
        if not self.stages:
            self._reserve()
            self._gather()
            self._know(self._after() if self.given.after else None)
        elif not (self.folder / KNOWN).exists():  # the one before was killed
            self._know(self._told())
        if self.stages or self.given.analyze:
            self._analyze(self.stages or tuple(STAGES))
        self._end()

    def _cancel(self) -> None:
        if self.outcome.state in ("collecting", "wants after") and not self.stages:
            self.cancelled = True
        os.eventfd_write(self._stop, 1)

    # -- gathering -------------------------------------------------------------------------------------------

    def _gather(self) -> None:
        gather = Gather(self.folder, self.given, COLLECTORS, self._save, self._stop)
        self.outcome.steps = gather.steps
        if self.given.analyze:
            self.outcome.steps.extend(Step(name=name, title=title) for name, (title, _, _) in STAGES.items())
        gather.run()

    def _know(self, after: Known | None) -> None:
        """Both halves of what control knows, in one file."""
        joined = known.join(self.given.known, after) if self.given.after else self.given.known
        try:
            forks.write(self.folder / KNOWN, msgspec.json.encode(joined))
        except OSError as error:
            self._note(f"what control knows could not be written: {error.strerror or error}")

    def _after(self) -> Known | None:
        self.outcome.state = "wants after"
        self._save()
        end = time.monotonic() + AFTER_WITHIN
        while not (self.folder / AFTER).exists() and time.monotonic() < end:
            time.sleep(0.02)
        return self._told()

    def _told(self) -> Known | None:
        try:
            return msgspec.json.decode((self.folder / AFTER).read_bytes(), type=Known)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            self._note(f"{AFTER} could not be read: {error}")
            return None

    # -- analyzing -------------------------------------------------------------------------------------------

    def _analyze(self, stages: tuple[str, ...]) -> None:
        self.outcome.state = "analyzing"
        end = time.monotonic() + self.given.analyzing
        for name in stages:
            left = end - time.monotonic()
            share = ANALYZERS if name == "analyze" else 1.0
            self._stage(self._step(name), left * share)

    def _step(self, name: str) -> Step:
        for step in self.outcome.steps:
            if step.name == name:
                step.state, step.why, step.took, step.files = "waiting", "", 0.0, []
                return step
        step = Step(name=name, title=STAGES[name][0])
        self.outcome.steps.append(step)
        return step

    def _stage(self, step: Step, seconds: float) -> None:
        step.state = "running"
        self._save()
        before = self._files()
        most = STAGE_MOST
        if self.given.room:
            most = max(1, min(most, self.given.room - used(self.folder)))
        _, module, function = STAGES[step.name]
        more = {"seconds": max(0.0, round(seconds * BEGIN_WITHIN, 1))} if step.name == "analyze" else {}
        work = partial(_stage, module, function, self.folder, more)
        try:
            fork = forks.begin(work, time.monotonic() + max(1.0, seconds), most, memory=forks.MEMORY)
        except OSError as error:
            step.state, step.why = "failed", str(error)
            return
        ready, _, _ = select.select([fork.pidfd], [], [], max(0.0, fork.until - time.monotonic()))
        came = fork.ended() if ready else fork.kill()
        step.state, step.why, step.took = came.state, came.why, round(time.monotonic() - fork.began, 3)
        after = self._files()
        step.files = sorted(name for name, when in after.items() if before.get(name) != when)
        for path in self.folder.glob("*.part"):
            if path.name != SPARE:
                path.unlink(missing_ok=True)
        self._save()

    def _files(self) -> dict[str, int]:
        own = {OUTCOME, LOG, SPARE, f"{OUTCOME}.part"}
        return {
            path.name: path.stat().st_mtime_ns
            for path in self.folder.iterdir()
            if path.is_file() and path.name not in own and not path.name.endswith(".part")
        }

    # -- outcome ---------------------------------------------------------------------------------------------

    def _end(self) -> None:
        gathered = any(step.state == "done" for step in self.outcome.steps if step.name not in STAGES)
        analyzed = self._conclude()
        failed = [step for step in self.outcome.steps if step.name in STAGES and step.state != "done"]
        if self.cancelled:
            self.outcome.state = "cancelled"
        elif not gathered and not analyzed:
            self.outcome.state = "failed"
            self._note("nothing could be gathered")
        else:
            self.outcome.state = "done"
        for step in failed:
            self._note(f"{step.title.lower()}: {step.state}{f', {step.why}' if step.why else ''}")
        self.outcome.ended = time.time()
        (self.folder / SPARE).unlink(missing_ok=True)
        self._save()

    def _conclude(self) -> bool:
        """The verdict, for those who look at the outcome alone."""
        try:
            analysis = msgspec.json.decode((self.folder / FINDINGS).read_bytes(), type=Analysis)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError) as error:
            self._note(f"{FINDINGS} could not be read: {error}")
            return False
        self.outcome.verdict, self.outcome.top = analysis.verdict, analysis.top
        self.outcome.findings = sum(one.severity != "info" for one in analysis.findings)
        first = next((one for one in analysis.findings if one.id == analysis.top), None)
        self.outcome.certainty = first.certainty if first is not None else ""
        self.outcome.severity = first.severity if first is not None else ""
        return True

    def _note(self, why: str) -> None:
        self.outcome.why = f"{self.outcome.why}; {why}" if self.outcome.why else why

    def _save(self) -> None:
        """On a full disk what was kept for it is given up; if that does not do, the outcome before stays."""
        data = msgspec.json.encode(self.outcome)
        try:
            forks.write(self.folder / OUTCOME, data)
        except OSError as error:
            _say(f"outcome: {error}")
            (self.folder / SPARE).unlink(missing_ok=True)
            try:
                forks.write(self.folder / OUTCOME, data)
            except OSError:
                return
            self._reserve()

    def _reserve(self) -> None:
        """As much as there is."""
        for size in SPARE_SIZES:
            if self.given.room and size > self.given.room // 8:
                continue
            try:
                (self.folder / SPARE).write_bytes(bytes(size))
                return
            except OSError:
                (self.folder / SPARE).unlink(missing_ok=True)
        _say("nothing could be kept for when the disk is full")


def _say(text: str) -> None:
    """Into session.log, where the disk has room for it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


def _stage(module: str, function: str, folder: Path, more: dict[str, float]) -> str:
    """In a process of its own."""
    try:
        work: Callable[..., object] = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        raise NotThere(str(error)) from error
    work(folder, **more)
    return ""


def _earlier(folder: Path) -> Outcome:
    """What came of the stages before, where later ones are run again."""
    try:
        found = msgspec.json.decode((folder / OUTCOME).read_bytes(), type=Outcome)
    except (OSError, msgspec.MsgspecError) as error:
        return Outcome(began=time.time(), why=f"{OUTCOME} could not be read: {error}")
    found.why, found.ended = "", 0.0
    for step in found.steps:
        if step.state in ("waiting", "running"):
            step.state, step.why = "failed", "the session's process ended before it did"
    return found


def _input(folder: Path) -> Input | None:
    """None: there is nothing to go by, which outcome.json says then."""
    try:
        return read(folder)
    except (OSError, msgspec.MsgspecError) as error:
        now = time.time()
        failed = Outcome(state="failed", why=f"{INPUT} could not be read: {error}", began=now, ended=now)
        forks.write(folder / OUTCOME, msgspec.json.encode(failed))
        return None


def main(arguments: list[str]) -> int:
    """0: outcome.json says what came of it. 2: usage."""
    match arguments[1:]:
        case [folder]:
            stages: tuple[str, ...] = ()
        case [folder, "--from", first] if first in STAGES:
            stages = tuple(STAGES)[tuple(STAGES).index(first) :]
        case _:
            print(f"python -m proxy.diagnostics.session FOLDER [--from {'|'.join(STAGES)}]", file=sys.stderr)
            return 2
    where = Path(folder).absolute()
    name_process("triage-session")
    os.umask(0o027)
    log = os.open(where / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    given = _input(where)
    if given is not None:
        Session(where, given, stages).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
