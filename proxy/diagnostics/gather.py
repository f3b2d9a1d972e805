"""Running the collectors of a session: which ones on what, when each begins, and what came of it.

Always true:
  - every collector that was chosen has a step for each thing it was to look into, whatever became of it;
  - an artifact's file is whole, or not there;
  - the folder keeps to the session's room.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy import units
from proxy.diagnostics import forks, proc
from proxy.diagnostics.artifacts import Artifact
from proxy.diagnostics.collectors import Collector
from proxy.diagnostics.forks import Came, Fork
from proxy.diagnostics.subject import NotForThis, NotThere, Subject, plain
from proxy.link.session import Input, Instance, Step

AT_ONCE: Final = 4
"""Collectors that look once, at the same time; those that sample sleep most of theirs, and all run."""
LAST: Final = 1.5
"""Seconds of the budget that are kept for collectors that run once gathering is over."""
GRACE: Final = 2.0
"""Seconds that a collector has to write what it has, when it is told to end."""
GONE: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.EINVAL, errno.EACCES, errno.EPERM, errno.EIO})
"""What reading about a process that has just ended may come to."""
RESERVE: Final = 4 * units.MIB
"""Bytes of the session's room that are kept for analysis and report; a quarter where it has little."""


@dataclass(slots=True)
class Job:
    """One collector on one subject, as it goes."""

    collector: Collector
    step: Step
    place: Path
    subject: Subject
    most: int = 0
    fork: Fork | None = None


def chosen(given: Input, collectors: Iterable[Collector]) -> list[Collector]:
    if given.collectors:
        return [one for one in collectors if one.name in given.collectors]
    return [one for one in collectors if (one.default if given.seconds > 0 else one.quick)]


def places(folder: Path, instances: Iterable[str]) -> dict[str, Path]:
    """A folder for each instance; no two share one."""
    found: dict[str, Path] = {}
    for name in instances:
        where, number = folder / plain(name), 2
        while where in found.values():
            where, number = folder / f"{plain(name)}.{number}", number + 1
        found[name] = where
    return found


class Gather:
    """`save` is called when a step has changed; `stop` is a descriptor that gets readable when gathering is to end."""

    def __init__(
        self, folder: Path, given: Input, collectors: Iterable[Collector], save: Callable[[], None], stop: int
    ) -> None:
        self.folder = folder
        self.given = given
        self.stopped = False
        self._save = save
        self._stop = stop
        self.steps: list[Step] = []
        self._jobs: list[Job] = []
        self._end = time.monotonic() + given.seconds + max(0.5, given.budget - 0.3)
        self._plan(list(collectors))

    def _plan(self, known: list[Collector]) -> None:
        by_name = {one.name: one for one in self.given.known.instances}
        targets = [by_name.get(name) or Instance(name=name, gone=True) for name in self.given.targets]
        places_ = places(self.folder, self.given.targets)
        for collector in chosen(self.given, known):
            if collector.of != "instance":
                self._add(collector, None, self.folder)
                continue
            for instance in targets[: collector.each]:
                self._add(collector, instance, places_[instance.name])
            if not targets:
                self._never(collector.name, collector.title, "not there", "no instance runs, or none was to look into")
        for name in self.given.collectors:
            if name not in {one.name for one in known}:
                self._never(name, name, "not there", "there is no collector of that name")

    def _add(self, collector: Collector, instance: Instance | None, place: Path) -> None:
        step = Step(name=collector.name, title=collector.title, instance=instance.name if instance else "")
        self.steps.append(step)
        seconds = self.given.seconds
        self._jobs.append(Job(collector, step, place, Subject(self.given, instance, seconds)))

    def _never(self, name: str, title: str, state: str, why: str) -> None:
        self.steps.append(Step(name=name, title=title, state=state, why=why))

    # -- running ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._save()
        while True:
            self._begin_some()
            running = [job for job in self._jobs if job.fork is not None]
            if not running:
                break
            self._save()
            self._wait(running)
        self._save()

    def _wait(self, running: list[Job]) -> None:
        forks_ = {job.fork.pidfd: job for job in running if job.fork is not None}
        first = min(job.fork.until for job in running if job.fork is not None)
        waited = [*forks_, *(() if self.stopped else (self._stop,))]
        ready, _, _ = select.select(waited, [], [], max(0.0, first - time.monotonic()))
        if self._stop in ready:
            self._end_all(running)
        for pidfd, job in forks_.items():
            assert job.fork is not None
            if pidfd in ready:
                self._over(job, job.fork.ended())
            elif time.monotonic() >= job.fork.until:
                self._over(job, job.fork.kill())

    def _end_all(self, running: list[Job]) -> None:
        """What is on its way writes what it has; what has not begun is left, but for what costs no time."""
        self.stopped = True
        for job in running:
            if job.fork is not None:
                job.fork.ask_to_end(time.monotonic() + GRACE)
        for job in self._waiting():
            if job.collector.when != "after":
                job.step.state, job.step.why = "skipped", "the session was ended before it began"
        self._end = min(self._end, time.monotonic() + GRACE + LAST)

    def _waiting(self) -> Iterator[Job]:
        return (job for job in self._jobs if job.step.state == "waiting")

    def _begin_some(self) -> None:
        """All that sample, some of those that look once, and when these are over the last ones."""
        for job in list(self._waiting()):
            if job.collector.when == "through" or (job.collector.when == "once" and self._busy("once") < AT_ONCE):
                self._begin(job, self._end - LAST)
        if any(job.collector.when != "after" and (job.fork or job.step.state == "waiting") for job in self._jobs):
            return
        for job in list(self._waiting()):
            if self._busy("after") < AT_ONCE:
                self._begin(job, self._end)

    def _busy(self, when: str) -> int:
        return sum(job.fork is not None and job.collector.when == when for job in self._jobs)

    def _begin(self, job: Job, end: float) -> None:
        now = time.monotonic()
        job.most = job.collector.most
        if self.given.room:
            left = self.given.room - self._used() - min(RESERVE, self.given.room // 4)
            job.most = min(job.most, left)
            job.subject.room = max(0, left)
            if left <= 0:
                job.step.state = "no room"
                job.step.why = f"the session's files may take {units.size(self.given.room)}, and do"
                return
        if now >= end:
            job.step.state, job.step.why = "skipped", "the session's time was over before it began"
            return
        through = self.given.seconds if job.collector.when == "through" else 0.0
        until = min(now + through + job.collector.limit, end)
        try:
            job.place.mkdir(mode=0o750, exist_ok=True)
            job.fork = forks.begin(partial(_collect, job), until, job.most)
            job.step.state = "running"
        except OSError as error:  # no processes or no descriptors are left
            job.step.state, job.step.why = forks.label(error).state, str(error)

    def _over(self, job: Job, came: Came) -> None:
        assert job.fork is not None
        step, name = job.step, job.collector.name
        step.took = round(time.monotonic() - job.fork.began, 3)
        job.fork = None
        if came.state == "no room" and job.most < job.collector.most:
            came = Came("no room", f"the session's files may take {units.size(self.given.room)}: {came.why}")
        step.state, step.why = came.state, came.why
        for part in job.place.glob(f"{name}.*.part"):  # what it did not write to the end
            part.unlink(missing_ok=True)
        files = sorted(path for path in job.place.glob(f"{name}.*") if path.is_file())
        if self.given.room and self._used() > self.given.room:
            for path in files:
                path.unlink(missing_ok=True)
            step.state, step.why = "no room", f"all files may take {units.size(self.given.room)}; this was too much"
            files = []
        step.files = [str(path.relative_to(self.folder)) for path in files]

    def _used(self) -> int:
        """Bytes of all files of the session."""
        return used(self.folder)


def used(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:
                continue  # it was renamed meanwhile
    return total


def _collect(job: Job) -> str:
    """In the collector's process."""
    job.subject.ends_on_term()
    _check_runtime(job.collector, job.subject)
    artifact = _looked(job)
    forks.write(job.place / f"{job.collector.name}.json", encoded(artifact))
    return artifact.note


def encoded(artifact: Artifact) -> bytes:
    """As JSON. Names of files, sockets and processes may be no UTF-8: what is none of it is written out then."""
    try:
        return msgspec.json.encode(artifact)
    except UnicodeEncodeError:
        return msgspec.json.encode(_utf8(msgspec.to_builtins(artifact)))


def _utf8(value: Any) -> Any:
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_utf8(key): _utf8(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_utf8(one) for one in value]
    return value


def _looked(job: Job) -> Artifact:
    """What ends in the middle is not there: its part of /proc goes file by file, and with whatever error."""
    subject = job.subject
    try:
        return job.collector.collect(subject, job.place)
    except OSError as error:
        if error.errno not in GONE or not subject.pid or proc.runs(subject.pid, subject.started):
            raise
        raise NotThere(f"process {subject.pid} ended during the session") from error


def _check_runtime(collector: Collector, subject: Subject) -> None:
    """Raises NotForThis, where it is for none of the instance's processes; ProcessLookupError."""
    if subject.instance is None or not collector.runtimes:
        return
    found = proc.runtimes(subject.pid, subject.started)
    if found and not found & set(collector.runtimes):
        raise NotForThis(f"it is for {' and '.join(collector.runtimes)}, and this is {' and '.join(sorted(found))}")
